/* world.h - the ranks that a program runs on: start, agreement, sums, context, end.
 *
 * One of world_mpi.c (a build with MPI, with or without mpirun) and world_self.c (one rank) is
 * linked. Functions that are collective wait for the other ranks at most world->deadline seconds,
 * and as long again as this rank has worked since all last met: what takes hours here may take
 * minutes more there. After that the world is broken, every later call returns CLI_FAILED at once,
 * and cli_finish ends the job by MPI_Abort, since MPI_Finalize would hang. */
#ifndef BSD_CLI_WORLD_H
#define BSD_CLI_WORLD_H

#include "bench/device.h"

typedef struct cli_world {
  const char *program; /* for messages */
  int rank, size;
  double deadline;            /* seconds; cli_start sets 300, programs their --timeout */
  double met;                 /* when the last collective was complete, on MPI's clock */
  int broken;                 /* a peer has failed or not answered */
  void *handle;               /* the MPI communicator, NULL without MPI */
  int local_rank, local_size; /* among the ranks of this host */
  bsd_comm *comm;             /* the library's, made by cli_context_create */
  cli_device device;          /* where tensors for it lie, likewise */
} cli_world;

/* Collective, as all below but cli_finish, cli_split_end and cli_library_failed.
 * Initialises MPI where the build has it. On failure only cli_finish may follow. */
int cli_start(int *argc, char ***argv, const char *program, cli_world *world, cli_error *error);

/* Prints error's sentence on stderr if code is not CLI_GOOD (rank 0 alone; every rank if the world
 * is broken), flushes stdout, ends MPI and returns the exit status: code, or CLI_FAILED if stdout
 * could not be written. code must have been agreed on. */
int cli_finish(cli_world *world, int code, const cli_error *error);

/* The highest code of all ranks and, on every rank, the sentence of the lowest that has it. */
int cli_agree(cli_world *world, int code, cli_error *error);

int cli_barrier(cli_world *world, cli_error *error);

/* values[i] becomes the maximum over the ranks. */
int cli_max(cli_world *world, double *values, int count, cli_error *error);

/* out gets every rank's `bytes` bytes, in rank order. */
int cli_allgather(cli_world *world, const void *in, int bytes, void *out, cli_error *error);

/* Ranks 0 .. size-1 get a world of their own in *part; the others get *part with size 0, on which
 * nothing may be called but cli_split_end. */
int cli_split(cli_world *world, int size, cli_world *part, cli_error *error);
void cli_split_end(cli_world *part);

/* The library's communicator by common's transport, a context on it and the device of its tensors. Backend
 * auto is CUDA where every rank has a device; a rank takes the device of its number on its host, modulo the
 * devices. Transport auto, with more than one rank, is NCCL on CUDA where the build has it and no two ranks
 * share a device, else MPI. The ranks agree on the result. */
int cli_context_create(const cli_common *common, cli_world *world, bsd_context **context,
                       cli_error *error);

/* Destroys all three. NULL is fine. */
void cli_context_destroy(cli_world *world, bsd_context *context);

/* After a library call that failed: its sentence as the error's; a failed peer breaks the world. */
int cli_library_failed(cli_world *world, const bsd_context *context, bsd_status status,
                       cli_error *error);

#endif
