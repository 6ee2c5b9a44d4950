/* hash.c - a thin cover over XXH3, compiled in: no library to link. */
#include "hash.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

_Static_assert(sizeof(XXH3_state_t) <= sizeof(bsd_hash), "bsd_hash holds an XXH3 state");
_Static_assert(_Alignof(XXH3_state_t) <= _Alignof(bsd_hash), "bsd_hash is aligned for XXH3");

static XXH3_state_t *state_of(bsd_hash *hash) {
  return (XXH3_state_t *)(void *)hash;
}

void bsd_hash_begin(bsd_hash *hash) {
  /* The reset leaves bytes that the digest never reads; set, they let a hash be copied and
   * compared. */
  memset(hash, 0, sizeof *hash);
  XXH3_64bits_reset(state_of(hash));
}

void bsd_hash_bytes(bsd_hash *hash, const void *data, size_t bytes) {
  if (bytes > 0)
    XXH3_64bits_update(state_of(hash), data, bytes);
}

void bsd_hash_u64(bsd_hash *hash, uint64_t value) {
  bsd_hash_bytes(hash, &value, sizeof value);
}

void bsd_hash_i64(bsd_hash *hash, int64_t value) {
  bsd_hash_u64(hash, (uint64_t)value);
}

void bsd_hash_f64(bsd_hash *hash, double value) {
  if (value == 0)
    value = 0;
  bsd_hash_bytes(hash, &value, sizeof value);
}

void bsd_hash_string(bsd_hash *hash, const char *text) {
  if (!text) {
    bsd_hash_i64(hash, -1);
    return;
  }
  size_t length = strlen(text);
  bsd_hash_u64(hash, length);
  bsd_hash_bytes(hash, text, length);
}

uint64_t bsd_hash_value(const bsd_hash *hash) {
  return XXH3_64bits_digest((const XXH3_state_t *)(const void *)hash);
}

uint64_t bsd_hash_buffer(const void *data, size_t bytes) {
  return XXH3_64bits(data, bytes);
}
