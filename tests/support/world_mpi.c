/* world_mpi.c - world.h over MPI. */
#include "support/world.h"

#include <bsdattn_mpi.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef HAVE_NCCL
#include <bsdattn_nccl.h>
#endif

#include "support/device.h"
#include "support/library.h"

static int ranks = 1, rank = 0;
static bsd_comm *comm; /* NULL: not started by a launcher */

static const char *const launchers[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"};

static bsd_status create_mpi(bsd_comm **made, bsd_error *error) {
  return bsd_comm_create_mpi(MPI_COMM_WORLD, made, error);
}

#ifdef HAVE_NCCL
static bsd_status create_nccl(bsd_comm **made, bsd_error *error) {
  return bsd_comm_create_nccl_mpi(MPI_COMM_WORLD, 60, made, error);
}
#else
#define create_nccl create_mpi
#endif

static bsd_status create(bsd_comm **made, bsd_error *error) {
  const char *transport = getenv("BSD_TEST_TRANSPORT");
  return transport != NULL && strcmp(transport, "nccl") == 0 ? create_nccl(made, error)
                                                             : create_mpi(made, error);
}

void world_start(int *argc, char ***argv) {
  int launched = 0;
  for (size_t x = 0; x < sizeof launchers / sizeof *launchers; x++)
    launched |= getenv(launchers[x]) != NULL;
  if (!launched)
    return;
  int level;
  MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &level);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  bsd_error error = {0};
  bsd_status status = create(&comm, &error);
  if (status != BSD_OK)
    fprintf(stderr, "creating the communicator: %s\n", error.message);
  library_expect(status, NULL, "creating the communicator");
}

void world_finish(void) {
  if (!comm)
    return;
  bsd_comm_destroy(comm);
  MPI_Finalize();
}

int world_rank(void) {
  return rank;
}

int world_size(void) {
  return ranks;
}

/* Polls with naps: the rank that works needs the processor more than those that wait for it. */
static int64_t reduce(int64_t value, MPI_Op operation) {
  if (!comm)
    return value;
  int64_t result = value;
  MPI_Request request;
  MPI_Iallreduce(&value, &result, 1, MPI_INT64_T, operation, MPI_COMM_WORLD, &request);
  for (int done = 0; !done;) {
    MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    nanosleep(&(struct timespec){.tv_nsec = done ? 0 : 100000}, NULL);
  }
  return result;
}

int64_t world_least(int64_t value) {
  return reduce(value, MPI_MIN);
}

int64_t world_sum(int64_t value) {
  return reduce(value, MPI_SUM);
}

int world_agree(int good) {
  return world_least(good != 0) != 0;
}

bsd_context *world_context(int threads) {
  bsd_context_options options = {.struct_size = sizeof options,
                                 .backend = device_backend(),
                                 .kernel = device_kernel(),
                                 .threads = threads,
                                 .comm = comm,
                                 .timeout_seconds = 60};
  bsd_context *context = NULL;
  bsd_error error = {0};
  bsd_status status = bsd_context_create(&options, &context, &error);
  if (status != BSD_OK)
    fprintf(stderr, "bsd_context_create: %s\n", error.message);
  library_expect(status, NULL, "bsd_context_create");
  return context;
}
