/* world_mpi.c - the world of a build with MPI, under mpirun or as one process.
 *
 * Collectives are started without blocking and polled until the deadline: a peer that was killed
 * gives no MPI error on every transport, so only our own clock tells. */
#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bench/world_kind.h"
#include "src/bsdattn_mpi.h"
#ifdef HAVE_NCCL
#include "src/bsdattn_nccl.h"
#endif

enum { SPINS_BEFORE_SLEEP = 2000, SLEEP_NANOSECONDS = 50000 };

static MPI_Comm communicator(const cli_world *world) {
  return *(MPI_Comm *)world->handle;
}

static int broken(cli_world *world, cli_error *error) {
  world->broken = 1;
  return cli_fail(error, CLI_FAILED,
                  "another rank has failed, or gave no answer for more than %g s", world->deadline);
}

/* Waits for a started collective (mpi_status is what starting it gave), as world.h says. */
static int finish_request(cli_world *world, int mpi_status, MPI_Request *request,
                          cli_error *error) {
  double start = MPI_Wtime(), patience = world->deadline + (start - world->met);
  for (long spin = 0; mpi_status == MPI_SUCCESS; spin++) {
    int done = 0;
    mpi_status = MPI_Test(request, &done, MPI_STATUS_IGNORE);
    if (mpi_status == MPI_SUCCESS && done) {
      world->met = MPI_Wtime();
      return CLI_GOOD;
    }
    if (MPI_Wtime() - start > patience)
      break;
    if (spin < SPINS_BEFORE_SLEEP)
      sched_yield();
    else
      nanosleep(&(struct timespec){.tv_nsec = SLEEP_NANOSECONDS}, NULL);
  }
  return broken(world, error);
}

static int already_broken(cli_world *world, cli_error *error) {
  return world->broken ? broken(world, error) : CLI_GOOD;
}

/* This rank's number among those of its host. */
static int find_neighbours(cli_world *world, cli_error *error) {
  MPI_Comm host;
  if (MPI_Comm_split_type(communicator(world), MPI_COMM_TYPE_SHARED, world->rank, MPI_INFO_NULL,
                          &host) != MPI_SUCCESS)
    return cli_fail(error, CLI_FAILED, "MPI could not tell the ranks of this host");
  MPI_Comm_rank(host, &world->local_rank);
  MPI_Comm_size(host, &world->local_size);
  MPI_Comm_free(&host);
  return CLI_GOOD;
}

/* Gives the world a duplicate of `from`, so that nobody else's messages meet ours. */
static int adopt(cli_world *world, MPI_Comm from, cli_error *error) {
  MPI_Comm *copy = malloc(sizeof *copy);
  if (copy == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for a communicator");
  if (MPI_Comm_dup(from, copy) != MPI_SUCCESS ||
      MPI_Comm_set_errhandler(*copy, MPI_ERRORS_RETURN) != MPI_SUCCESS ||
      MPI_Comm_rank(*copy, &world->rank) != MPI_SUCCESS ||
      MPI_Comm_size(*copy, &world->size) != MPI_SUCCESS) {
    free(copy);
    return cli_fail(error, CLI_FAILED, "MPI could not duplicate a communicator");
  }
  world->handle = copy;
  world->met = MPI_Wtime();
  return find_neighbours(world, error);
}

static void release(cli_world *world) {
  if (world->handle != NULL && !world->broken)
    MPI_Comm_free(world->handle);
  free(world->handle);
  world->handle = NULL;
}

int cli_start(int *argc, char ***argv, const char *program, cli_world *world, cli_error *error) {
  *world = (cli_world){.program = program, .size = 1, .local_size = 1, .deadline = 300};
  int provided = 0;
  if (MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
    return cli_fail(error, CLI_FAILED, "MPI could not be initialised");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  /* Over TCP, MPI writes to the socket of a rank that died: that is for our deadline to say. */
  signal(SIGPIPE, SIG_IGN);
  return adopt(world, MPI_COMM_WORLD, error);
}

void cli_world_end(cli_world *world, int code) {
  int initialized = 0;
  MPI_Initialized(&initialized);
  if (!initialized)
    return;
  if (world->broken) {
    fflush(NULL);
    MPI_Abort(MPI_COMM_WORLD, code);
  }
  release(world);
  MPI_Finalize();
}

int cli_agree(cli_world *world, int code, cli_error *error) {
  if (world->broken)
    return code != CLI_GOOD ? code : already_broken(world, error);
  MPI_Request request = MPI_REQUEST_NULL;
  /* The highest code wins, among equal ones the lowest rank. */
  int64_t mine = (int64_t)code << 32 | (world->size - 1 - world->rank), worst = 0;
  int started =
      MPI_Iallreduce(&mine, &worst, 1, MPI_INT64_T, MPI_MAX, communicator(world), &request);
  int result = finish_request(world, started, &request, error);
  if (result != CLI_GOOD || worst >> 32 == CLI_GOOD)
    return result;
  int speaker = world->size - 1 - (int)(worst & INT32_MAX);
  started =
      MPI_Ibcast(error->text, sizeof error->text, MPI_CHAR, speaker, communicator(world), &request);
  finish_request(world, started, &request, error);
  return (int)(worst >> 32);
}

int cli_barrier(cli_world *world, cli_error *error) {
  if (world->broken)
    return already_broken(world, error);
  MPI_Request request = MPI_REQUEST_NULL;
  return finish_request(world, MPI_Ibarrier(communicator(world), &request), &request, error);
}

int cli_max(cli_world *world, double *values, int count, cli_error *error) {
  if (world->broken)
    return already_broken(world, error);
  MPI_Request request = MPI_REQUEST_NULL;
  int started = MPI_Iallreduce(MPI_IN_PLACE, values, count, MPI_DOUBLE, MPI_MAX,
                               communicator(world), &request);
  return finish_request(world, started, &request, error);
}

int cli_allgather(cli_world *world, const void *in, int bytes, void *out, cli_error *error) {
  if (world->broken)
    return already_broken(world, error);
  MPI_Request request = MPI_REQUEST_NULL;
  int started =
      MPI_Iallgather(in, bytes, MPI_BYTE, out, bytes, MPI_BYTE, communicator(world), &request);
  return finish_request(world, started, &request, error);
}

int cli_split(cli_world *world, int size, cli_world *part, cli_error *error) {
  if (world->broken)
    return already_broken(world, error);
  *part = (cli_world){.program = world->program, .deadline = world->deadline};
  MPI_Comm split = MPI_COMM_NULL;
  int colour = world->rank < size ? 0 : MPI_UNDEFINED;
  if (MPI_Comm_split(communicator(world), colour, world->rank, &split) != MPI_SUCCESS)
    return broken(world, error);
  int code = CLI_GOOD;
  if (split != MPI_COMM_NULL) {
    code = adopt(part, split, error);
    MPI_Comm_free(&split);
  }
  return cli_agree(world, code, error);
}

void cli_split_end(cli_world *part) {
  release(part);
}

#ifdef HAVE_NCCL
static bsd_status create_nccl(cli_world *world, bsd_error *failure) {
  return bsd_comm_create_nccl_mpi(communicator(world), world->deadline, &world->comm, failure);
}
#else
static bsd_status create_nccl(cli_world *world, bsd_error *failure) {
  (void)world;
  (void)failure;
  return BSD_ERR_UNSUPPORTED;
}
#endif

int cli_world_comm(cli_transport transport, cli_world *world, cli_error *error) {
  bsd_error failure = {0};
  bsd_status status = transport == CLI_TRANSPORT_NCCL
                          ? create_nccl(world, &failure)
                          : bsd_comm_create_mpi(communicator(world), &world->comm, &failure);
  if (status != BSD_OK)
    return cli_fail_status(error, status, failure.message);
  /* For self the communicator was made only to hear that the launcher agrees with MPI. */
  if (transport == CLI_TRANSPORT_SELF) {
    bsd_comm_destroy(world->comm);
    world->comm = NULL;
  }
  return CLI_GOOD;
}
