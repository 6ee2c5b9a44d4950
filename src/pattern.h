/* pattern.h - the mathematical object: branches of block patterns. Knows no ranks and no lengths.
 *
 * A block pattern's row is a pure function of (row I, head, segment number, mb, causal); it is given as
 * ascending, disjoint runs of columns at a cost of O(its blocks), never O(mb). */
#ifndef BSD_PATTERN_H
#define BSD_PATTERN_H

#include <stdint.h>

#include "status.h"

/* `count` values from `first` in steps of `step` >= 1. */
typedef struct bsd_run {
  int64_t first, step, count;
} bsd_run;

/* A growing array of runs, ascending and disjoint as sets where a function says so. */
typedef struct bsd_runs {
  bsd_run *run;
  int64_t count, capacity;
} bsd_runs;

bsd_status bsd_runs_push(bsd_runs *runs, bsd_run run, bsd_error *error);
void bsd_runs_free(bsd_runs *runs);

typedef struct bsd_pattern_term {
  bsd_term_kind kind;
  int64_t left, right; /* LOCAL */
  int64_t count;       /* GLOBAL g, RANDOM k */
  uint64_t seed;
  int64_t *steps; /* DILATED, STRIDED */
  int64_t nsteps;
  int64_t rows, density; /* STRIDED: one of them is 0 */
  int64_t csr_rows, csr_heads;
  int64_t *csr_ptr, *csr_columns;             /* as in bsd_term */
  int64_t *csr_column_ptr, *csr_column_rows;  /* the transpose: csr_heads * csr_rows + 1 offsets */
  uint64_t csr_hash;                          /* of M, heads, ptr and columns */
  char *csr_file;                             /* the text of csr(FILE), or NULL: from memory */
} bsd_pattern_term;

typedef struct bsd_pattern_branch {
  int64_t segment;  /* w, 0: the whole document */
  int64_t dilation; /* r >= 1 */
  bsd_offset offset;
  int has_window;
  int64_t left, right; /* -1 unlimited; both -1 without a window */
  bsd_pattern_term *terms; /* at least one */
  int64_t nterms;
} bsd_pattern_branch;

struct bsd_pattern {
  bsd_combine combine;
  bsd_pattern_branch *branches;
  int64_t nbranches;
};

/* A deep copy. */
bsd_status bsd_pattern_copy(const bsd_pattern *pattern, bsd_pattern **copy, bsd_error *error);

/* 64-bit hash of the whole content: equal for equal patterns, whatever text they came from. */
uint64_t bsd_pattern_content_hash(const bsd_pattern *pattern);

/* True if the pattern satisfies every range that bsd_pattern_add_branch checks. */
int bsd_pattern_is_valid(const bsd_pattern *pattern);

/* The place of one block row or column inside the sequence. */
typedef struct bsd_block_grid {
  int64_t head;    /* global query head */
  int64_t segment; /* segment number in its document */
  int64_t blocks;  /* mb */
  int causal;
} bsd_block_grid;

/* Appends the active columns of block row `row` (0 <= row < mb), ascending, disjoint, unique over the
 * branch's union of terms, to *columns. Windows are not applied here. Causal drops J > I.
 * Errors: MEMORY; PATTERN for csr with mb > M. */
bsd_status bsd_branch_row(const bsd_pattern_branch *branch, const bsd_block_grid *grid, int64_t row,
                          bsd_runs *columns, bsd_error *error);

/* The transpose in closed form: appends the rows whose column `column` is active, ascending and
 * unique. Only where bsd_branch_has_columns() is true; elsewhere columns are made of rows. */
bsd_status bsd_branch_column(const bsd_pattern_branch *branch, const bsd_block_grid *grid,
                             int64_t column, bsd_runs *rows, bsd_error *error);

/* False for a branch with a random term: its columns are known only by evaluating all rows. */
int bsd_branch_has_columns(const bsd_pattern_branch *branch);

/* True if the branch gives global heads a and b the same rows in every segment (steps, seeds, csr;
 * offsets are not looked at: they belong to the rows room). */
int bsd_branch_heads_agree(const bsd_pattern_branch *branch, int64_t a, int64_t b);

/* splitmix64's finaliser after adding the golden gamma: semantics of random(k, seed). */
uint64_t bsd_mix(uint64_t z);

#endif
