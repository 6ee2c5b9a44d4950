/* world.h - the ranks that a suite runs on: one, or those that mpirun started.
 *
 * The same suite runs on any number of them. A test that compares on one rank ends with world_agree(), so
 * that all ranks pass or fail together and none is left waiting in a collective call. */
#ifndef TESTS_WORLD_H
#define TESTS_WORLD_H

#include <stdint.h>

#include "bsdattn.h"

/* MPI is started only if a launcher started this program. */
void world_start(int *argc, char ***argv);
void world_finish(void);

int world_rank(void);
int world_size(void);

/* The smallest of the ranks' values; waits politely. Collective. */
int64_t world_least(int64_t value);
/* Their sum. Collective. */
int64_t world_sum(int64_t value);

/* True if it is true on all ranks. Collective. */
int world_agree(int good);

/* A CPU context over all ranks; the communicator lives until world_finish. Collective. */
bsd_context *world_context(int threads);

#endif
