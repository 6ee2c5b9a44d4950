/* survive.c - one rank is killed or stopped in an exchange; each rank writes what it then saw.
 *
 * usage: survive DIRECTORY SIGNAL VICTIM POINT DEADLINE   (under mpirun, by kill-rank.sh)
 *   SIGNAL   kill; stop: stopped for twice the deadline; pause: for half of it
 *   POINT    where in its fourth exchange the victim gets the signal: 0 before it begins, 1 begun with
 *            nothing posted, 2 half of its messages posted, 3 all posted, 4 ended, 5 after its first step
 * Each rank writes DIRECTORY/RANK: "STATUS SECONDS", the time that the last exchange took it.
 * A rank does exchanges until one fails; after a pause, or when all is well, ROUNDS of them. */
#include <mpi.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "comm/transport.h"
#include "src/bsdattn_mpi.h"

#define ROUNDS      8
#define FATAL_ROUND 3
#define BYTES       100000 /* beyond the size from which MPI asks the receiver first */
#define MAX_RANKS   8

typedef enum signal_point {
  BEFORE_BEGIN,
  BEGUN,
  HALF_POSTED,
  POSTED,
  ENDED,
  AFTER_FIRST_STEP
} signal_point;

typedef struct scenario {
  const char *directory, *signal;
  int victim;
  signal_point point;
  double deadline;
} scenario;

static unsigned char sent[MAX_RANKS][BYTES], received[MAX_RANKS][BYTES];

static void sleep_for(double seconds) {
  struct timespec pause = {(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))};
  nanosleep(&pause, NULL);
}

/* The signal, and a child that wakes this process again if it is only stopped. */
static void suffer(const scenario *scenario) {
  if (strcmp(scenario->signal, "kill") == 0)
    raise(SIGKILL);
  pid_t self = getpid();
  double seconds = scenario->deadline * (strcmp(scenario->signal, "stop") == 0 ? 2 : 0.5);
  if (fork() == 0) {
    sleep_for(seconds);
    kill(self, SIGCONT);
    _exit(0);
  }
  raise(SIGSTOP);
}

static void maybe_suffer(const bsd_comm *comm, const scenario *scenario, int round,
                         signal_point here) {
  if (round == FATAL_ROUND && comm->rank == scenario->victim && scenario->point == here)
    suffer(scenario);
}

static unsigned char content(int round, int sender, int receiver) {
  return (unsigned char)(1 + round * 64 + sender * 8 + receiver);
}

static bsd_status post_step(bsd_comm *comm, int round, int step, bsd_error *error) {
  int target = (comm->rank + step) % comm->size;
  int source = (comm->rank + comm->size - step) % comm->size;
  memset(sent[step], content(round, comm->rank, target), BYTES);
  BSD_TRY(comm->transport->recv(comm, step, source, received[step], BYTES, error));
  return comm->transport->send(comm, step, target, sent[step], BYTES, error);
}

/* A ring exchange with every other rank, in which the victim may suffer. */
static bsd_status run_round(bsd_comm *comm, const scenario *scenario, int round, bsd_error *error) {
  const bsd_exchange exchange = {.plan_hash = 1, .what = round % 2 ? "backward" : "forward"};
  maybe_suffer(comm, scenario, round, BEFORE_BEGIN);
  BSD_TRY(comm->transport->begin(comm, &exchange, error));
  maybe_suffer(comm, scenario, round, BEGUN);
  for (int step = 1; step < comm->size; step++) {
    BSD_TRY(post_step(comm, round, step, error));
    if (step == comm->size / 2)
      maybe_suffer(comm, scenario, round, HALF_POSTED);
  }
  maybe_suffer(comm, scenario, round, POSTED);
  BSD_TRY(comm->transport->end(comm, error));
  maybe_suffer(comm, scenario, round, ENDED);
  BSD_TRY(bsd_comm_wait(comm, 1, error));
  maybe_suffer(comm, scenario, round, AFTER_FIRST_STEP);
  BSD_TRY(bsd_comm_wait(comm, INT_MAX, error));
  for (int step = 1; step < comm->size; step++) {
    int source = (comm->rank + comm->size - step) % comm->size;
    for (int i = 0; i < BYTES; i++)
      if (received[step][i] != content(round, source, comm->rank))
        return bsd_fail(error, BSD_ERR_IO, "rank %d received wrong contents", comm->rank);
  }
  return BSD_OK;
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
  if (bsd_comm_create_mpi(MPI_COMM_WORLD, &comm, &error) != BSD_OK) {
    fprintf(stderr, "survive: %s\n", error.message);
    return 2;
  }
  comm->timeout = scenario.deadline;
  bsd_status status = BSD_OK;
  double began = 0;
  for (int round = 0; round < ROUNDS && status == BSD_OK; round++) {
    began = MPI_Wtime();
    status = run_round(comm, &scenario, round, &error);
  }
  int rank = comm->rank;
  double seconds = MPI_Wtime() - began;
  bsd_comm_destroy(comm);
  report(&scenario, rank, status, seconds);
  if (status == BSD_OK)
    MPI_Finalize();
  _exit(0); /* after a failure MPI_Finalize would wait for the dead */
}
