/* layout.h - position <-> (rank, local index), in closed form.
 *
 * Local order is by ascending position. A rank's tokens are runs of consecutive positions. No table of
 * n entries except custom's, which the caller brought (one rank per unit). */
#ifndef BSD_LAYOUT_H
#define BSD_LAYOUT_H

#include <stdint.h>

#include "status.h"

typedef struct bsd_layout {
  bsd_layout_kind kind; /* never AUTO */
  int64_t length;       /* n */
  int nranks;           /* P */
  int64_t unit;         /* tokens in a unit */
  int64_t units;        /* ceil(n / unit) */
  int64_t group;        /* DILATED: g */
  int32_t *unit_rank;   /* CUSTOM: rank of each unit */
  int64_t *unit_local;  /* CUSTOM: index of each unit among its rank's units */
  int64_t *rank_ptr;    /* CUSTOM: P + 1 offsets into rank_units */
  int64_t *rank_units;  /* CUSTOM: units of each rank, ascending */
} bsd_layout;

/* Makes a layout of `length` tokens over nranks. spec->kind is not AUTO. smallest_segment is the
 * smallest w > 0 of the pattern or 0 if there is none; block is the problem's (for contiguous and
 * zigzag's unit, and custom's). Errors: ARG (group, unit, nunits, a rank out of range), MEMORY. */
bsd_status bsd_layout_create(const bsd_layout_spec *spec, int64_t length, int nranks,
                             int64_t smallest_segment, int64_t block, bsd_layout *layout,
                             bsd_error *error);
void bsd_layout_free(bsd_layout *layout);

/* Rank that holds a position (0 <= position < n), its local index there (may be NULL), and the number
 * of tokens from it on, itself included, that follow consecutively in the same rank's memory and in
 * position (may be NULL). */
int bsd_layout_owner(const bsd_layout *layout, int64_t position, int64_t *local, int64_t *run);

/* Tokens of a rank. */
int64_t bsd_layout_local_length(const bsd_layout *layout, int rank);

/* Number of the rank's maximal runs of consecutive positions, and the k-th of them, ascending: its first
 * position and token count; *local is the local index of its first token. O(1) per call. (Neighbouring
 * runs may touch only in custom layouts: there a run is one unit.) */
int64_t bsd_layout_run_count(const bsd_layout *layout, int rank);
bsd_position_run bsd_layout_run(const bsd_layout *layout, int rank, int64_t k, int64_t *local);

/* Index of the rank's first run that ends after `position`; run_count if there is none. O(log). */
int64_t bsd_layout_find_run(const bsd_layout *layout, int rank, int64_t position);

/* The option's own text, "contiguous", "zigzag", "dilated:G:U", "custom". */
void bsd_layout_format(const bsd_layout *layout, char *text, size_t size);

/* Hash of everything that position -> (rank, local index) depends on. */
uint64_t bsd_layout_hash(const bsd_layout *layout);

/* States the invariant: a bijection, local order ascending, runs cover [0, n). O(n). */
int bsd_layout_is_valid(const bsd_layout *layout);

#endif
