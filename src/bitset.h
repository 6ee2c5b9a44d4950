/* bitset.h - sparse sets of non-negative integers: sorted 64-bit words with their index.
 *
 * A dense stretch costs 16 bytes per 64 members, a lone member 16 bytes. Built by adding runs in any
 * order, then sealed; order, membership rank and counts are asked of a sealed set only. */
#ifndef BSD_BITSET_H
#define BSD_BITSET_H

#include <stdint.h>

#include "status.h"

typedef struct bsd_bitset_word {
  int64_t index; /* members index*64 + bit */
  uint64_t bits;
} bsd_bitset_word;

typedef struct bsd_bitset {
  bsd_bitset_word *word;
  int64_t words, capacity;
  int64_t sorted_words; /* while building: this prefix is sorted and merged */
  int64_t *before;      /* sealed: members before each word */
  int64_t members;      /* sealed: size of the set */
} bsd_bitset;

/* Adds first, first + step, ... (count of them; step >= 1). */
bsd_status bsd_bitset_add_run(bsd_bitset *set, int64_t first, int64_t step, int64_t count,
                              bsd_error *error);

/* Sorts, merges and counts. */
bsd_status bsd_bitset_seal(bsd_bitset *set, bsd_error *error);

/* Number of members smaller than `value` (sealed). O(log words). */
int64_t bsd_bitset_rank(const bsd_bitset *set, int64_t value);

/* Next member after a cursor, ascending: start with {0, 0}; false at the end (sealed). */
typedef struct bsd_bitset_cursor {
  int64_t word;
  uint64_t taken; /* bits of that word already given */
} bsd_bitset_cursor;
int bsd_bitset_next(const bsd_bitset *set, bsd_bitset_cursor *cursor, int64_t *member);

void bsd_bitset_free(bsd_bitset *set);

/* States the invariant of a sealed set: words ascending, none empty, before[] their prefix counts. */
int bsd_bitset_is_valid(const bsd_bitset *set);

#endif
