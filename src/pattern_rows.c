/* pattern_rows.c - evaluates block rows and columns: one row function and one column function per
 * block pattern in a table, and their union. A new block pattern is one line of the table. */
#include "pattern_rows.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "pattern_strided.h"

/* ---- runs -------------------------------------------------------------------------------- */

bsd_status bsd_runs_push(bsd_runs *runs, bsd_run run, bsd_error *error) {
  if (run.count <= 0)
    return BSD_OK;
  if (run.count == 1)
    run.step = 1;
  BSD_TRY(bsd_grow(&runs->run, &runs->capacity, runs->count + 1, sizeof run, error));
  runs->run[runs->count++] = run;
  return BSD_OK;
}

void bsd_runs_free(bsd_runs *runs) {
  bsd_free(runs->run);
  *runs = (bsd_runs){0};
}

bsd_status bsd_runs_push_range(bsd_runs *runs, int64_t first, int64_t count, bsd_error *error) {
  return bsd_runs_push(runs, (bsd_run){first, 1, count}, error);
}

bsd_status bsd_runs_push_value(bsd_runs *runs, int64_t begin, int64_t value, bsd_error *error) {
  if (runs->count == begin)
    return bsd_runs_push_range(runs, value, 1, error);
  bsd_run *last = &runs->run[runs->count - 1];
  int64_t end = last->first + (last->count - 1) * last->step;
  if (last->count == 1)
    last->step = value - end;
  if (value == end + last->step) {
    last->count++;
    return BSD_OK;
  }
  if (last->count == 2 && last->step > 1 && value == end + 1) {
    /* a, b, b+1 is better cut before b: what follows is likely to be contiguous. */
    *last = (bsd_run){last->first, 1, 1};
    return bsd_runs_push_range(runs, end, 2, error);
  }
  return bsd_runs_push_range(runs, value, 1, error);
}

uint64_t bsd_mix(uint64_t z) {
  z += UINT64_C(0x9E3779B97F4A7C15);
  z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
  return z ^ z >> 31;
}

/* ---- full, local, global ----------------------------------------------------------------- */

static bsd_status full_row(const bsd_pattern_term *term, const bsd_block_grid *grid, int64_t row,
                           bsd_runs *columns, bsd_error *error) {
  (void)term;
  return bsd_runs_push_range(columns, 0, bsd_visible_columns(grid, row), error);
}

static bsd_status full_column(const bsd_pattern_term *term, const bsd_block_grid *grid,
                              int64_t column, bsd_runs *rows, bsd_error *error) {
  (void)term;
  int64_t first = grid->causal ? column : 0;
  return bsd_runs_push_range(rows, first, grid->blocks - first, error);
}

/* How far a bound of `blocks` (-1: none) reaches where there are `there`. */
static int64_t reach(int64_t blocks, int64_t there) {
  return blocks < 0 ? there : bsd_min(blocks, there);
}

static bsd_status local_row(const bsd_pattern_term *term, const bsd_block_grid *grid, int64_t row,
                            bsd_runs *columns, bsd_error *error) {
  int64_t left = reach(term->left, row);
  int64_t right = reach(term->right, bsd_visible_columns(grid, row) - 1 - row);
  return bsd_runs_push_range(columns, row - left, left + right + 1, error);
}

static bsd_status local_column(const bsd_pattern_term *term, const bsd_block_grid *grid,
                               int64_t column, bsd_runs *rows, bsd_error *error) {
  int64_t before = reach(term->right, grid->causal ? 0 : column);
  int64_t after = reach(term->left, grid->blocks - 1 - column);
  return bsd_runs_push_range(rows, column - before, before + after + 1, error);
}

static bsd_status global_row(const bsd_pattern_term *term, const bsd_block_grid *grid, int64_t row,
                             bsd_runs *columns, bsd_error *error) {
  int64_t visible = bsd_visible_columns(grid, row);
  return bsd_runs_push_range(columns, 0,
                             row < term->count ? visible : bsd_min(term->count, visible), error);
}

static bsd_status global_column(const bsd_pattern_term *term, const bsd_block_grid *grid,
                                int64_t column, bsd_runs *rows, bsd_error *error) {
  if (column < term->count)
    return full_column(term, grid, column, rows, error);
  if (grid->causal)
    return BSD_OK;
  return bsd_runs_push_range(rows, 0, bsd_min(term->count, grid->blocks), error);
}

/* ---- dilated ----------------------------------------------------------------------------- */

static int compare_int64(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

/* The distinct steps in order: the term's own array, or a copy that *owned gets. */
static bsd_status ascending_steps(const bsd_pattern_term *term, const int64_t **steps,
                                  int64_t *count, int64_t **owned, bsd_error *error) {
  int64_t ordered = 1;
  while (ordered < term->nsteps && term->steps[ordered - 1] < term->steps[ordered])
    ordered++;
  *owned = NULL;
  *steps = term->steps;
  *count = term->nsteps;
  if (ordered == term->nsteps)
    return BSD_OK;
  BSD_TRY(bsd_alloc(owned, term->nsteps, sizeof **owned, error));
  memcpy(*owned, term->steps, (size_t)term->nsteps * sizeof **owned);
  qsort(*owned, (size_t)term->nsteps, sizeof **owned, compare_int64);
  int64_t kept = 1;
  for (int64_t i = 1; i < term->nsteps; i++)
    if ((*owned)[i] != (*owned)[kept - 1])
      (*owned)[kept++] = (*owned)[i];
  *steps = *owned;
  *count = kept;
  return BSD_OK;
}

/* centre, centre - x for each step x <= left, and centre + x for each x <= right. */
static bsd_status push_both_sides(bsd_runs *runs, int64_t centre, int64_t left, int64_t right,
                                  const int64_t *steps, int64_t count, bsd_error *error) {
  int64_t begin = runs->count;
  for (int64_t i = count - 1; i >= 0; i--)
    if (steps[i] <= left)
      BSD_TRY(bsd_runs_push_value(runs, begin, centre - steps[i], error));
  BSD_TRY(bsd_runs_push_value(runs, begin, centre, error));
  for (int64_t i = 0; i < count && steps[i] <= right; i++)
    BSD_TRY(bsd_runs_push_value(runs, begin, centre + steps[i], error));
  return BSD_OK;
}

static bsd_status dilated(const bsd_pattern_term *term, int64_t centre, int64_t left, int64_t right,
                          bsd_runs *runs, bsd_error *error) {
  const int64_t *steps;
  int64_t count, *owned;
  BSD_TRY(ascending_steps(term, &steps, &count, &owned, error));
  bsd_status status = push_both_sides(runs, centre, left, right, steps, count, error);
  bsd_free(owned);
  return status;
}

static bsd_status dilated_row(const bsd_pattern_term *term, const bsd_block_grid *grid, int64_t row,
                              bsd_runs *columns, bsd_error *error) {
  return dilated(term, row, row, bsd_visible_columns(grid, row) - 1 - row, columns, error);
}

static bsd_status dilated_column(const bsd_pattern_term *term, const bsd_block_grid *grid,
                                 int64_t column, bsd_runs *rows, bsd_error *error) {
  return dilated(term, column, grid->causal ? 0 : column, grid->blocks - 1 - column, rows, error);
}

/* ---- random ------------------------------------------------------------------------------ */

enum { FEW = 32 }; /* draws that fit the stack */

/* Adds `value` to an open-addressed set of `mask` + 1 slots (0: free); false if it was in
 * already. */
static int set_add(int64_t *slots, uint64_t mask, int64_t value) {
  uint64_t slot = bsd_mix((uint64_t)value) & mask;
  for (; slots[slot] != 0; slot = (slot + 1) & mask)
    if (slots[slot] == value + 1)
      return 0;
  slots[slot] = value + 1;
  return 1;
}

/* A few values are sorted fastest by insertion. */
static void sort_ascending(int64_t *values, int64_t count) {
  if (count > FEW) {
    qsort(values, (size_t)count, sizeof *values, compare_int64);
    return;
  }
  for (int64_t i = 1; i < count; i++) {
    int64_t value = values[i], at = i;
    for (; at > 0 && values[at - 1] > value; at--)
      values[at] = values[at - 1];
    values[at] = value;
  }
}

/* Floyd's draw of `count` distinct values below `visible`, ascending. */
static void draw_distinct(uint64_t x, int64_t visible, int64_t count, int64_t *slots, uint64_t mask,
                          int64_t *drawn) {
  for (int64_t c = 0; c < count; c++) {
    int64_t j = visible - count + c;
    unsigned __int128 product = (unsigned __int128)bsd_mix(x ^ (uint64_t)c) * (uint64_t)(j + 1);
    int64_t t = (int64_t)(product >> 64);
    if (!set_add(slots, mask, t)) {
      t = j; /* larger than all before, so not in the set */
      set_add(slots, mask, t);
    }
    drawn[c] = t;
  }
  sort_ascending(drawn, count);
}

static bsd_status random_row(const bsd_pattern_term *term, const bsd_block_grid *grid, int64_t row,
                             bsd_runs *columns, bsd_error *error) {
  int64_t visible = bsd_visible_columns(grid, row);
  if (term->count >= visible)
    return bsd_runs_push_range(columns, 0, visible, error);
  int64_t count = term->count, few[5 * FEW] = {0}, *memory = NULL;
  uint64_t mask = 2 * FEW - 1;
  if (count > FEW) {
    while ((int64_t)mask < 2 * count)
      mask = 2 * mask + 1;
    BSD_TRY(bsd_alloc(&memory, (int64_t)mask + 1 + count, sizeof *memory, error));
  }
  int64_t *slots = memory ? memory : few, *drawn = slots + mask + 1;
  uint64_t x = bsd_mix(term->seed);
  x = bsd_mix(x ^ (uint64_t)grid->head);
  x = bsd_mix(x ^ (uint64_t)grid->segment);
  x = bsd_mix(x ^ (uint64_t)row);
  draw_distinct(x, visible, count, slots, mask, drawn);
  int64_t begin = columns->count;
  bsd_status status = BSD_OK;
  for (int64_t c = 0; c < count && status == BSD_OK; c++)
    status = bsd_runs_push_value(columns, begin, drawn[c], error);
  bsd_free(memory);
  return status;
}

/* ---- csr --------------------------------------------------------------------------------- */

/* Appends the entries of list `index` of the head's matrix that are at least `least` and at most
 * `most`. */
static bsd_status csr_list(const bsd_pattern_term *term, const bsd_block_grid *grid,
                           const int64_t *ptr, const int64_t *values, int64_t index, int64_t least,
                           int64_t most, bsd_runs *runs, bsd_error *error) {
  int64_t head = term->csr_heads == 1 ? 0 : grid->head;
  if (grid->blocks > term->csr_rows)
    return bsd_fail(error, BSD_ERR_PATTERN,
                    "csr has %" PRId64 " block rows, expected at least the %" PRId64
                    " of the longest segment",
                    term->csr_rows, grid->blocks);
  if (head >= term->csr_heads)
    return bsd_fail(error, BSD_ERR_PATTERN,
                    "csr has %" PRId64 " heads, expected one or all (head %" PRId64
                    " is asked for)",
                    term->csr_heads, head);
  int64_t begin = runs->count, list = head * term->csr_rows + index;
  for (int64_t e = ptr[list]; e < ptr[list + 1] && values[e] <= most; e++)
    if (values[e] >= least)
      BSD_TRY(bsd_runs_push_value(runs, begin, values[e], error));
  return BSD_OK;
}

static bsd_status csr_row(const bsd_pattern_term *term, const bsd_block_grid *grid, int64_t row,
                          bsd_runs *columns, bsd_error *error) {
  return csr_list(term, grid, term->csr_ptr, term->csr_columns, row, 0,
                  bsd_visible_columns(grid, row) - 1, columns, error);
}

static bsd_status csr_column(const bsd_pattern_term *term, const bsd_block_grid *grid,
                             int64_t column, bsd_runs *rows, bsd_error *error) {
  return csr_list(term, grid, term->csr_column_ptr, term->csr_column_rows, column,
                  grid->causal ? column : 0, grid->blocks - 1, rows, error);
}

/* ---- the table --------------------------------------------------------------------------- */

/* Appends one block row's columns, or one block column's rows, as ascending disjoint runs. */
typedef bsd_status (*line_function)(const bsd_pattern_term *term, const bsd_block_grid *grid,
                                    int64_t line, bsd_runs *runs, bsd_error *error);

static const struct block_pattern {
  line_function row;
  line_function column; /* NULL: known only by evaluating all rows */
} block_patterns[] = {
    [BSD_TERM_FULL] = {full_row, full_column},
    [BSD_TERM_LOCAL] = {local_row, local_column},
    [BSD_TERM_DILATED] = {dilated_row, dilated_column},
    [BSD_TERM_STRIDED] = {bsd_strided_row, bsd_strided_column},
    [BSD_TERM_GLOBAL] = {global_row, global_column},
    [BSD_TERM_RANDOM] = {random_row, NULL},
    [BSD_TERM_CSR] = {csr_row, csr_column},
};

/* ---- the union of a branch's terms ------------------------------------------------------- */

/* A list of runs and the first value of it that is not merged yet. */
typedef struct run_cursor {
  const bsd_runs *runs;
  int64_t run, value;
} run_cursor;

/* The next value, beyond all others at the end. */
static int64_t cursor_value(const run_cursor *cursor) {
  if (cursor->run == cursor->runs->count)
    return INT64_MAX;
  const bsd_run *run = &cursor->runs->run[cursor->run];
  return run->first + cursor->value * run->step;
}

static void cursor_advance(run_cursor *cursor, int64_t values) {
  cursor->value += values;
  if (cursor->value < cursor->runs->run[cursor->run].count)
    return;
  cursor->run++;
  cursor->value = 0;
}

/* Moves the cursor's next values to *merged: a contiguous run as one, of a strided run those short
 * of `limit`, the other list's next value. Contiguous runs that touch become one. */
static bsd_status merge_next(run_cursor *cursor, int64_t limit, bsd_runs *merged,
                             bsd_error *error) {
  const bsd_run *run = &cursor->runs->run[cursor->run];
  int64_t first = cursor_value(cursor), count = run->count - cursor->value;
  bsd_run *open = merged->count > 0 ? &merged->run[merged->count - 1] : NULL;
  int touches = open && open->step == 1 && first <= open->first + open->count;
  if (touches) /* the values that are in the open run already, or the one that extends it */
    limit = bsd_max(first + 1, open->first + open->count);
  if (run->step > 1)
    count = bsd_min(count, (limit - 1 - first) / run->step + 1);
  cursor_advance(cursor, count);
  if (!touches)
    return bsd_runs_push(merged, (bsd_run){first, run->step, count}, error);
  open->count = bsd_max(open->count, first + (count - 1) * run->step + 1 - open->first);
  return BSD_OK;
}

/* Merges two lists of ascending disjoint runs into one. */
static bsd_status merge(const bsd_runs *a, const bsd_runs *b, bsd_runs *merged, bsd_error *error) {
  run_cursor cursors[2] = {{.runs = a}, {.runs = b}};
  merged->count = 0;
  for (;;) {
    int64_t values[2] = {cursor_value(&cursors[0]), cursor_value(&cursors[1])};
    int next = values[1] < values[0];
    if (values[next] == INT64_MAX)
      return BSD_OK;
    BSD_TRY(merge_next(&cursors[next], values[!next], merged, error));
  }
}

/* Appends runs, single values gathered into strided ones. */
static bsd_status push_gathered(bsd_runs *runs, const bsd_runs *from, bsd_error *error) {
  int64_t begin = runs->count;
  for (int64_t i = 0; i < from->count; i++) {
    bsd_run run = from->run[i];
    if (run.count == 1)
      BSD_TRY(bsd_runs_push_value(runs, begin, run.first, error));
    else
      BSD_TRY(bsd_runs_push(runs, run, error));
  }
  return BSD_OK;
}

typedef struct union_scratch {
  bsd_runs part, sum, merged;
} union_scratch;

static bsd_status evaluate_union(const bsd_pattern_branch *branch, const bsd_block_grid *grid,
                                 int64_t line, int transposed, union_scratch *scratch,
                                 bsd_runs *runs, bsd_error *error) {
  for (int64_t i = 0; i < branch->nterms; i++) {
    const bsd_pattern_term *term = &branch->terms[i];
    const struct block_pattern *pattern = &block_patterns[term->kind];
    scratch->part.count = 0;
    BSD_TRY((transposed ? pattern->column : pattern->row)(term, grid, line, &scratch->part, error));
    BSD_TRY(merge(&scratch->sum, &scratch->part, &scratch->merged, error));
    bsd_runs swapped = scratch->sum;
    scratch->sum = scratch->merged;
    scratch->merged = swapped;
  }
  return push_gathered(runs, &scratch->sum, error);
}

static bsd_status evaluate(const bsd_pattern_branch *branch, const bsd_block_grid *grid,
                           int64_t line, int transposed, bsd_runs *runs, bsd_error *error) {
  if (branch->nterms == 1) {
    const struct block_pattern *pattern = &block_patterns[branch->terms[0].kind];
    return (transposed ? pattern->column : pattern->row)(&branch->terms[0], grid, line, runs,
                                                         error);
  }
  union_scratch scratch = {0};
  bsd_status status = evaluate_union(branch, grid, line, transposed, &scratch, runs, error);
  bsd_runs_free(&scratch.part);
  bsd_runs_free(&scratch.sum);
  bsd_runs_free(&scratch.merged);
  return status;
}

bsd_status bsd_branch_row(const bsd_pattern_branch *branch, const bsd_block_grid *grid, int64_t row,
                          bsd_runs *columns, bsd_error *error) {
  return evaluate(branch, grid, row, 0, columns, error);
}

bsd_status bsd_branch_column(const bsd_pattern_branch *branch, const bsd_block_grid *grid,
                             int64_t column, bsd_runs *rows, bsd_error *error) {
  if (!bsd_branch_has_columns(branch))
    return bsd_fail(error, BSD_ERR_UNSUPPORTED,
                    "a column of a branch with random is known only by evaluating all rows");
  return evaluate(branch, grid, column, 1, rows, error);
}

int bsd_branch_has_columns(const bsd_pattern_branch *branch) {
  for (int64_t i = 0; i < branch->nterms; i++)
    if (!block_patterns[branch->terms[i].kind].column)
      return 0;
  return 1;
}

/* ---- heads that share their rows --------------------------------------------------------- */

static int csr_heads_agree(const bsd_pattern_term *term, int64_t a, int64_t b) {
  if (term->csr_heads == 1)
    return 1;
  if (a >= term->csr_heads || b >= term->csr_heads)
    return 0;
  const int64_t *ptr_a = term->csr_ptr + a * term->csr_rows;
  const int64_t *ptr_b = term->csr_ptr + b * term->csr_rows;
  for (int64_t row = 1; row <= term->csr_rows; row++)
    if (ptr_a[row] - ptr_a[0] != ptr_b[row] - ptr_b[0])
      return 0;
  int64_t entries = ptr_a[term->csr_rows] - ptr_a[0];
  return entries == 0 || memcmp(term->csr_columns + ptr_a[0], term->csr_columns + ptr_b[0],
                                (size_t)entries * sizeof *term->csr_columns) == 0;
}

static int term_heads_agree(const bsd_pattern_term *term, int64_t a, int64_t b) {
  switch (term->kind) {
  case BSD_TERM_STRIDED:
    return term->steps[a % term->nsteps] == term->steps[b % term->nsteps];
  case BSD_TERM_RANDOM:
    return 0;
  case BSD_TERM_CSR:
    return csr_heads_agree(term, a, b);
  default:
    return 1;
  }
}

int bsd_branch_heads_agree(const bsd_pattern_branch *branch, int64_t a, int64_t b) {
  if (a == b)
    return 1;
  for (int64_t i = 0; i < branch->nterms; i++)
    if (!term_heads_agree(&branch->terms[i], a, b))
      return 0;
  return 1;
}
