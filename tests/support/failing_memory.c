/* failing_memory.c - see failing_memory.h. */
#include "support/failing_memory.h"

#include <stddef.h>

static int64_t live;      /* allocations not freed */
static int64_t countdown; /* allocations until one fails; 0: none will */
static int all_after;     /* whether all after it fail too */
static int failed;

void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void __real_bsd_free(void *pointer);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void __wrap_bsd_free(void *pointer);

void memory_fail_at(int64_t nth, int for_good) {
  countdown = nth;
  all_after = for_good;
  failed = 0;
  live = 0;
}

int memory_failed(void) {
  return failed;
}

int64_t memory_live(void) {
  return live;
}

static int fails_now(void) {
  if (failed && all_after)
    return 1;
  if (countdown == 0 || --countdown > 0)
    return 0;
  failed = 1;
  return 1;
}

void *__wrap_calloc(size_t count, size_t size) {
  void *memory = fails_now() ? NULL : __real_calloc(count, size);
  live += memory != NULL;
  return memory;
}

void *__wrap_realloc(void *old, size_t size) {
  void *memory = fails_now() ? NULL : __real_realloc(old, size);
  live += memory != NULL && old == NULL;
  return memory;
}

void __wrap_bsd_free(void *pointer) {
  live -= pointer != NULL;
  __real_bsd_free(pointer);
}
