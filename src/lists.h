/* lists.h - block lists: what a plan hands to kernels. Plain data, no pointers to other rooms.
 *
 * A *tile* is a block of up to `block` gathered tokens of one segment; slot s holds gathered token t0 + s.
 * Its tokens lie in one or more *fragments*: arithmetic progressions of token indices in one *source*.
 * Source 0 is the caller's local tensor, source s >= 1 the s-th received message of the pass. Slots that
 * no fragment covers are missing: they hold no token of this rank (own side) and are zero and masked.
 *
 * A list joins own tiles (rows) to the other side's tiles: forward and dq have query rows and key
 * blocks; dk/dv have key rows and query blocks. Entries are runs of tile numbers, ascending. */
#ifndef BSD_LISTS_H
#define BSD_LISTS_H

#include <stdint.h>

#define BSD_MAX_STAGES 3

typedef struct bsd_fragment {
  int64_t first;  /* token index of the first token in its source */
  int64_t step;   /* token indices from one slot to the next */
  int32_t source; /* 0 local, s >= 1 a received message */
  int16_t slot;   /* tile slot of the first token */
  int16_t count;  /* tokens, >= 1 */
} bsd_fragment;

typedef struct bsd_tile {
  int64_t t0;          /* gathered index, in its segment, of slot 0: block number * block */
  int64_t fragment;    /* its first fragment in the list's array */
  int32_t nfragments;
  int32_t tokens;      /* slots that the segment has: block, less only in the segment's last block */
} bsd_tile;

typedef struct bsd_entry { /* tiles first, first + step, ... */
  int32_t first, step, count;
} bsd_entry;

typedef struct bsd_list {
  int branch;
  int causal;               /* a pair (t, u) counts only if u <= t */
  int64_t left, right;      /* and t - left <= u <= t + right; -1 unlimited (t query, u key) */
  int whole_segments;       /* dilation 1: every position is in the branch */
  int64_t nheads;           /* query heads (local numbers) that this list serves, ascending */
  const int32_t *heads;
  int64_t nrows;            /* own tiles, ordered by stage, then by segment and block number */
  const bsd_tile *rows;
  const bsd_fragment *row_fragments; /* source 0 only */
  const int64_t *row_ptr;   /* nrows + 1 offsets into entries */
  const bsd_entry *entries;
  int64_t nblocks;          /* the other side's tiles */
  const bsd_tile *blocks;
  const bsd_fragment *fragments;
  int64_t nfragments, nrow_fragments;
  int64_t stage_first[BSD_MAX_STAGES + 1]; /* rows of stage s: stage_first[s] .. stage_first[s+1]-1 */
} bsd_list;

/* Lists that may run at once: no two of them write the same (head, token). Passes run in order. */
typedef struct bsd_pass {
  int64_t nlists;
  bsd_list *lists;
  int rows_are_keys; /* dk, dv: own tiles are keys, the other side's are queries */
} bsd_pass;

#endif
