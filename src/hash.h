/* hash.h - 64-bit hashes (XXH3) of fields that are added one by one, and of whole buffers.
 *
 * A hash depends on the values and the order in which they were added. Fields are hashed as 8 bytes
 * each, in the machine's byte order: ranks of one run share it. */
#ifndef BSD_HASH_H
#define BSD_HASH_H

#include <stddef.h>
#include <stdint.h>

/* A hash under way: plain memory, no clean-up. */
typedef struct bsd_hash {
  _Alignas(64) unsigned char state[576]; /* an XXH3_state_t */
} bsd_hash;

void bsd_hash_begin(bsd_hash *hash);
void bsd_hash_i64(bsd_hash *hash, int64_t value);
void bsd_hash_u64(bsd_hash *hash, uint64_t value);

/* By its bits, but 0.0 and -0.0 the same. */
void bsd_hash_f64(bsd_hash *hash, double value);

/* The bytes alone: add their count first where it is not fixed. */
void bsd_hash_bytes(bsd_hash *hash, const void *data, size_t bytes);

/* Length and bytes of a string; NULL is a value of its own. */
void bsd_hash_string(bsd_hash *hash, const char *text);

/* The hash of all that was added; more may be added after. */
uint64_t bsd_hash_value(const bsd_hash *hash);

/* One buffer in one call. */
uint64_t bsd_hash_buffer(const void *data, size_t bytes);

#endif
