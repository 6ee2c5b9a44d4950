/* memory.h - the one place from which the library takes host memory, with checked sizes.
 *
 * Tests make the k-th allocation fail by wrapping malloc at link time: nothing else allocates. */
#ifndef BSD_MEMORY_H
#define BSD_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

/* count * size bytes, zeroed; *out is NULL when that is 0. Fails with MEMORY, also on overflow. */
bsd_status bsd_alloc(void *out, int64_t count, int64_t size, bsd_error *error);

/* Grows *pointer (an array of elements of `size` bytes) so that it holds at least `need` of them, by
 * at least doubling; *capacity is in elements. The new elements are not set. */
bsd_status bsd_grow(void *pointer, int64_t *capacity, int64_t need, int64_t size, bsd_error *error);

void bsd_free(void *pointer);

/* *out = a*b, *out = a+b for non-negative values; false on overflow (then *out is not set). */
int bsd_mul(int64_t a, int64_t b, int64_t *out);
int bsd_add(int64_t a, int64_t b, int64_t *out);

/* Ceiling and minimum of non-negative integers, b > 0. */
static inline int64_t bsd_ceil_div(int64_t a, int64_t b) {
  return a / b + (a % b != 0);
}
static inline int64_t bsd_min(int64_t a, int64_t b) {
  return a < b ? a : b;
}
static inline int64_t bsd_max(int64_t a, int64_t b) {
  return a > b ? a : b;
}

#endif
