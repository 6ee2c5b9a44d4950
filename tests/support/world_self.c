/* world_self.c - world.h in a build without MPI: one rank. */
#include "support/world.h"

#include "support/library.h"

void world_start(int *argc, char ***argv) {
  (void)argc;
  (void)argv;
}

void world_finish(void) {
}

int world_rank(void) {
  return 0;
}

int world_size(void) {
  return 1;
}

int64_t world_least(int64_t value) {
  return value;
}

int64_t world_sum(int64_t value) {
  return value;
}

int world_agree(int good) {
  return good != 0;
}

bsd_context *world_context(int threads) {
  return library_context(threads);
}
