/* survive.c - one rank is killed or stopped; each rank writes what it then saw.
 *
 * usage: survive DIRECTORY SIGNAL VICTIM POINT DEADLINE   (under mpirun, by kill-rank.sh)
 *   SIGNAL   kill; stop: stopped for twice the deadline; pause: for half of it
 *   POINT    where the victim gets it, see signal_point: 0 to 5 in an exchange, 6 and 7 in a forward and in
 *            a backward
 * Each rank writes DIRECTORY/RANK: "STATUS SECONDS", the time that the last round took it. */
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "src/bsdattn_mpi.h"
#ifdef HAVE_NCCL
#include "src/bsdattn_nccl.h"
#endif
#include "survive.h"

static void sleep_for(double seconds) {
  struct timespec pause = {(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))};
  nanosleep(&pause, NULL);
}

/* How long a rank that is only stopped stays so. */
static double pause_seconds(const scenario *scenario) {
  return scenario->deadline * (strcmp(scenario->signal, "stop") == 0 ? 2 : 0.5);
}

void suffer(const scenario *scenario) {
  if (strcmp(scenario->signal, "kill") == 0)
    raise(SIGKILL);
  pid_t parent = getpid();
  if (fork() == 0) {
    sleep_for(pause_seconds(scenario));
    kill(parent, SIGCONT);
    _exit(0);
  }
  raise(SIGSTOP);
}

void suffer_later(const scenario *scenario, double seconds) {
  int kills = strcmp(scenario->signal, "kill") == 0;
  pid_t parent = getpid();
  if (fork() != 0)
    return;
  sleep_for(seconds);
  kill(parent, kills ? SIGKILL : SIGSTOP);
  if (!kills) {
    sleep_for(pause_seconds(scenario));
    kill(parent, SIGCONT);
  }
  _exit(0);
}

static void report(const scenario *scenario, int rank, bsd_status status, double seconds) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%d", scenario->directory, rank);
  FILE *file = fopen(path, "w");
  if (!file)
    _exit(2);
  fprintf(file, "%d %.3f\n", status, seconds);
  fclose(file);
}

#ifdef HAVE_NCCL
/* BSD_TEST_TRANSPORT=nccl takes NCCL in place of MPI. */
static bsd_status create_comm(bsd_comm **comm, bsd_error *error) {
  const char *transport = getenv("BSD_TEST_TRANSPORT");
  return transport != NULL && strcmp(transport, "nccl") == 0
             ? bsd_comm_create_nccl_mpi(MPI_COMM_WORLD, 60, comm, error)
             : bsd_comm_create_mpi(MPI_COMM_WORLD, comm, error);
}
#else
static bsd_status create_comm(bsd_comm **comm, bsd_error *error) {
  return bsd_comm_create_mpi(MPI_COMM_WORLD, comm, error);
}
#endif

int main(int argc, char **argv) {
  bsd_comm *comm;
  bsd_error error = {.message = ""};
  signal(SIGPIPE, SIG_IGN); /* over TCP, MPI writes to the dead rank's socket */
  MPI_Init(&argc, &argv);
  if (argc != 6) {
    fprintf(stderr, "usage: survive DIRECTORY SIGNAL VICTIM POINT DEADLINE\n");
    return 2;
  }
  const scenario scenario = {.directory = argv[1],
                             .signal = argv[2],
                             .victim = atoi(argv[3]),
                             .point = (signal_point)atoi(argv[4]),
                             .deadline = atof(argv[5])};
  if (create_comm(&comm, &error) != BSD_OK) {
    fprintf(stderr, "survive: %s\n", error.message);
    return 2;
  }
  double seconds = 0;
  int rank = comm->rank;
  bsd_status status = scenario.point < IN_FORWARD
                          ? run_exchanges(comm, &scenario, &seconds, &error)
                          : run_attention(comm, &scenario, &seconds, &error);
  bsd_comm_destroy(comm);
  report(&scenario, rank, status, seconds);
  if (status == BSD_OK)
    MPI_Finalize();
  else
    fprintf(stderr, "survive: %s\n", error.message);
  _exit(0); /* after a failure MPI_Finalize would wait for the dead */
}
