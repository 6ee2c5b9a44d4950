/* failing_memory.h - the library's allocations, which fail on demand. For programs linked with --wrap for
 * calloc, realloc and bsd_free. */
#ifndef TESTS_FAILING_MEMORY_H
#define TESTS_FAILING_MEMORY_H

#include <stdint.h>

/* From now on the nth allocation (from 1) fails, with `for_good` all after it too; 0: none does. */
void memory_fail_at(int64_t nth, int for_good);

/* Whether one has failed since. */
int memory_failed(void);

/* Allocations since then that are not freed. */
int64_t memory_live(void);

#endif
