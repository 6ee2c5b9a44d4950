/* memory.c - host memory with checked sizes: calloc and realloc are called here and nowhere
 * else. */
#include "memory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 8 };

int bsd_mul(int64_t a, int64_t b, int64_t *out) {
  int64_t product;
  if (__builtin_mul_overflow(a, b, &product))
    return 0;
  *out = product;
  return 1;
}

int bsd_add(int64_t a, int64_t b, int64_t *out) {
  int64_t sum;
  if (__builtin_add_overflow(a, b, &sum))
    return 0;
  *out = sum;
  return 1;
}

/* Stores a pointer through the address of a pointer of any object type. */
static void store_pointer(void *address, void *value) {
  memcpy(address, &value, sizeof value);
}

bsd_status bsd_alloc(void *out, int64_t count, int64_t size, bsd_error *error) {
  int64_t bytes;
  if (count < 0 || size < 0 || !bsd_mul(count, size, &bytes) || (uint64_t)bytes > SIZE_MAX)
    return bsd_fail(error, BSD_ERR_MEMORY,
                    "an allocation of %" PRId64 " elements of %" PRId64
                    " bytes does not fit the address space",
                    count, size);
  void *memory = NULL;
  if (bytes > 0) {
    memory = calloc((size_t)count, (size_t)size);
    if (!memory)
      return bsd_fail(error, BSD_ERR_MEMORY, "an allocation of %" PRId64 " bytes failed", bytes);
  }
  store_pointer(out, memory);
  return BSD_OK;
}

bsd_status bsd_grow(void *pointer, int64_t *capacity, int64_t need, int64_t size,
                    bsd_error *error) {
  if (need <= *capacity)
    return BSD_OK;
  int64_t wanted;
  if (!bsd_mul(*capacity, 2, &wanted))
    wanted = need;
  wanted = bsd_max(bsd_max(wanted, need), FIRST_CAPACITY);
  int64_t bytes;
  if (!bsd_mul(wanted, size, &bytes) || (uint64_t)bytes > SIZE_MAX)
    return bsd_fail(error, BSD_ERR_MEMORY,
                    "an array of %" PRId64 " elements of %" PRId64
                    " bytes does not fit the address space",
                    wanted, size);
  void *old;
  memcpy(&old, pointer, sizeof old);
  void *grown = realloc(old, (size_t)bytes);
  if (!grown)
    return bsd_fail(error, BSD_ERR_MEMORY, "growing an array to %" PRId64 " bytes failed", bytes);
  store_pointer(pointer, grown);
  *capacity = wanted;
  return BSD_OK;
}

void bsd_free(void *pointer) {
  free(pointer);
}
