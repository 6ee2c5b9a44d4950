/* world_self.c - the world of a build without MPI: one rank, nothing to wait for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/world_kind.h"
#ifdef HAVE_NCCL
#include "src/bsdattn_nccl.h"
#endif

/* Processes that a launcher says it has started, 1 if none does. */
static long launched_processes(void) {
  static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    const char *text = getenv(names[i]);
    if (text != NULL && strtol(text, NULL, 10) > 1)
      return strtol(text, NULL, 10);
  }
  return 1;
}

int cli_start(int *argc, char ***argv, const char *program, cli_world *world, cli_error *error) {
  (void)argc;
  (void)argv;
  *world = (cli_world){.program = program, .size = 1, .local_size = 1, .deadline = 300};
  long launched = launched_processes();
  if (launched > 1)
    return cli_fail(error, CLI_FAILED,
                    "the launcher started %ld processes, but this build has no MPI: run it without "
                    "a launcher, or build it with MPI",
                    launched);
  return CLI_GOOD;
}

void cli_world_end(cli_world *world, int code) {
  (void)world;
  (void)code;
}

int cli_agree(cli_world *world, int code, cli_error *error) {
  (void)world;
  (void)error;
  return code;
}

int cli_barrier(cli_world *world, cli_error *error) {
  (void)world;
  (void)error;
  return CLI_GOOD;
}

int cli_max(cli_world *world, double *values, int count, cli_error *error) {
  (void)world;
  (void)values;
  (void)count;
  (void)error;
  return CLI_GOOD;
}

int cli_allgather(cli_world *world, const void *in, int bytes, void *out, cli_error *error) {
  (void)world;
  (void)error;
  memcpy(out, in, (size_t)bytes);
  return CLI_GOOD;
}

int cli_split(cli_world *world, int size, cli_world *part, cli_error *error) {
  (void)error;
  *part = *world;
  part->size = size;
  part->comm = NULL;
  part->device = (cli_device){0};
  return CLI_GOOD;
}

void cli_split_end(cli_world *part) {
  (void)part;
}

#ifdef HAVE_NCCL
static bsd_status create_nccl(cli_world *world, bsd_error *failure) {
  ncclUniqueId id;
  ncclResult_t result = ncclGetUniqueId(&id);
  if (result == ncclSuccess)
    return bsd_comm_create_nccl_id(&id, 0, 1, world->deadline, &world->comm, failure);
  snprintf(failure->message, sizeof failure->message, "ncclGetUniqueId: %s",
           ncclGetErrorString(result));
  return BSD_ERR_BACKEND;
}
#else
static bsd_status create_nccl(cli_world *world, bsd_error *failure) {
  (void)world;
  snprintf(failure->message, sizeof failure->message, "this build has no NCCL");
  return BSD_ERR_UNSUPPORTED;
}
#endif

int cli_world_comm(cli_transport transport, cli_world *world, cli_error *error) {
  bsd_error failure = {0};
  if (transport == CLI_TRANSPORT_SELF)
    return CLI_GOOD;
  if (transport != CLI_TRANSPORT_NCCL)
    return cli_fail(error, CLI_UNUSABLE, "this build has no transport %s",
                    cli_transport_name(transport));
  bsd_status status = create_nccl(world, &failure);
  return status == BSD_OK ? CLI_GOOD : cli_fail_status(error, status, failure.message);
}
