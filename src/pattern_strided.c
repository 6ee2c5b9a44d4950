/* pattern_strided.c - strided(R, budget): rows and columns in closed form.
 *
 * Row I with step d takes its first k(I) candidates. Those on the lattice come first: I, I-d, I+d,
 * I-2d, I+2d, ... (a side that has run out is skipped), then the neighbours off the lattice, again
 * nearest and left first. So a row is a stretch of the lattice, or the whole lattice and a stretch
 * of neighbours. */
#include "pattern_strided.h"

#include "memory.h"
#include "pattern_rows.h"

#define BILLION INT64_C(1000000000)

/* One row: what its candidates are and how many of them it takes. */
typedef struct strided_row {
  int64_t step;
  int64_t lattice_left, lattice_right;     /* candidates I -/+ a*d, a >= 1 */
  int64_t neighbour_left, neighbour_right; /* candidates off the lattice */
  int64_t budget;                          /* k(I) <= all of them and the diagonal */
} strided_row;

static int64_t step_of(const bsd_pattern_term *term, const bsd_block_grid *grid) {
  return term->steps[grid->head % term->nsteps];
}

/* round(p * visible / 10^9), half up, in exact integers. */
static int64_t density_share(int64_t density, int64_t visible) {
  if (visible <= UINT32_MAX) /* 2 * 10^9 * 2^32 + 10^9 < 2^64 */
    return (int64_t)((2 * (uint64_t)density * (uint64_t)visible + BILLION) / (2 * BILLION));
  unsigned __int128 doubled = (unsigned __int128)2 * (uint64_t)density * (uint64_t)visible;
  return (int64_t)((doubled + BILLION) / (2 * BILLION));
}

static int64_t budget_of(const bsd_pattern_term *term, int64_t visible) {
  if (term->rows > 0)
    return bsd_min(term->rows, visible);
  return bsd_max(1, density_share(term->density, visible));
}

static strided_row row_of(const bsd_pattern_term *term, const bsd_block_grid *grid, int64_t row) {
  int64_t left = row, right = grid->causal ? 0 : grid->blocks - 1 - row;
  strided_row made = {.step = step_of(term, grid)};
  made.lattice_left = left / made.step;
  made.lattice_right = right / made.step;
  made.neighbour_left = left - made.lattice_left;
  made.neighbour_right = right - made.lattice_right;
  made.budget = budget_of(term, left + right + 1);
  return made;
}

/* What the budget leaves for neighbours; negative if it ends on the lattice. */
static int64_t fill_of(const strided_row *row) {
  return row->budget - 1 - row->lattice_left - row->lattice_right;
}

/* How the first `taken` of left, right, left, right, ... divide, with so many of each there. */
static void share_sides(int64_t taken, int64_t left, int64_t right, int64_t *taken_left,
                        int64_t *taken_right) {
  *taken_right = bsd_min(right, taken / 2);
  *taken_left = bsd_min(left, taken - *taken_right);
  *taken_right = taken - *taken_left;
}

/* Distance of the u-th neighbour off the lattice, the u-th positive integer that d does not
 * divide. */
static int64_t neighbour_distance(int64_t u, int64_t step) {
  return u == 0 ? 0 : u + (u - 1) / (step - 1);
}

bsd_status bsd_strided_row(const bsd_pattern_term *term, const bsd_block_grid *grid, int64_t row,
                           bsd_runs *columns, bsd_error *error) {
  strided_row here = row_of(term, grid, row);
  int64_t step = here.step, fill = fill_of(&here), left, right;
  if (fill <= 0) {
    share_sides(here.budget - 1, here.lattice_left, here.lattice_right, &left, &right);
    return bsd_runs_push(columns, (bsd_run){row - left * step, step, left + right + 1}, error);
  }
  share_sides(fill, here.neighbour_left, here.neighbour_right, &left, &right);
  left = neighbour_distance(left, step);
  right = neighbour_distance(right, step);
  int64_t lattice_left = here.lattice_left - left / step;
  int64_t lattice_right = here.lattice_right - right / step;
  BSD_TRY(
      bsd_runs_push(columns, (bsd_run){row - here.lattice_left * step, step, lattice_left}, error));
  BSD_TRY(bsd_runs_push_range(columns, row - left, left + right + 1, error));
  if (lattice_right == 0)
    return BSD_OK;
  return bsd_runs_push(columns, (bsd_run){row + (right / step + 1) * step, step, lattice_right},
                       error);
}

/* ---- columns ----------------------------------------------------------------------------- */

/* The rows J + a*d that hold column J on their lattice: -below <= a <= above, and from <= a <=
 * to. */
typedef struct lattice_rows {
  int64_t below, above;
  int64_t from, to;
} lattice_rows;

/* Row J + a*d (a >= 1) has J as candidate number a + min(a-1, those to its right) and row J - a*d
 * as number a + min(a, those to its left), which with A (B) such rows are min(2a-1, A) and min(2a,
 * B). */
static lattice_rows lattice_of_constant(int64_t budget, int64_t rows_above, int64_t rows_below) {
  return (lattice_rows){
      .above = budget > rows_above ? rows_above : budget / 2,
      .below = budget > rows_below ? rows_below : (budget - 1) / 2,
      .from = 1,
      .to = 0,
  };
}

/* Causal with a density p: row J + a*d has J as number a and takes k(J + a*d) candidates, of which
 * the unrounded share grows by p*d per a. If that is at most 1, a overtakes k once; if it is more,
 * k stays ahead of a from some a on. (The diagonal is there whatever the share is.) */
static lattice_rows lattice_of_causal_density(const bsd_pattern_term *term, int64_t step,
                                              int64_t column, int64_t rows_above) {
  int grows_slowly = step <= BILLION / term->density;
  int64_t low = 0,
          high = rows_above; /* a = low is known to behave as 0, everything beyond high not */
  if (!grows_slowly && density_share(term->density, column + 1) > 0)
    return (lattice_rows){.above = rows_above, .from = 1, .to = 0};
  while (low < high) {
    int64_t a = low + (high - low + 1) / 2;
    int holds = a < density_share(term->density, column + a * step + 1);
    if (holds == grows_slowly)
      low = a;
    else
      high = a - 1;
  }
  if (grows_slowly)
    return (lattice_rows){.above = low, .from = 1, .to = 0};
  return (lattice_rows){.from = low + 1, .to = rows_above};
}

static lattice_rows lattice_of(const bsd_pattern_term *term, const bsd_block_grid *grid,
                               int64_t column) {
  int64_t step = step_of(term, grid), rows_above = (grid->blocks - 1 - column) / step;
  if (!grid->causal)
    return lattice_of_constant(budget_of(term, grid->blocks), rows_above, column / step);
  if (term->rows > 0)
    return (lattice_rows){.above = bsd_min(rows_above, term->rows - 1), .from = 1, .to = 0};
  return lattice_of_causal_density(term, step, column, rows_above);
}

/* No row from `column` on (causal), or none at all, takes more neighbours than this. */
static int64_t largest_fill(const bsd_pattern_term *term, const bsd_block_grid *grid,
                            int64_t column) {
  int64_t step = step_of(term, grid), last = grid->blocks - 1;
  if (!grid->causal) /* a row has (mb-1) div d lattice candidates or one more, with the diagonal */
    return budget_of(term, grid->blocks) - bsd_max(1, last / step);
  if (term->rows > 0)
    return bsd_min(term->rows, grid->blocks) - 1 - column / step;
  /* p*I + 1/2 - I/d bounds the fill and is linear in I: the larger of its ends, rounded up. */
  strided_row first = row_of(term, grid, column), end = row_of(term, grid, last);
  return bsd_max(fill_of(&first), fill_of(&end)) + 2;
}

/* Whether `row` holds `column`: the candidate's number in the row's order is below the budget. */
static int row_holds(const bsd_pattern_term *term, const bsd_block_grid *grid, int64_t row,
                     int64_t column) {
  strided_row here = row_of(term, grid, row);
  int64_t distance = row < column ? column - row : row - column;
  int64_t a = distance / here.step;
  if (distance == 0)
    return 1;
  if (a * here.step == distance)
    return a + (column < row ? bsd_min(a - 1, here.lattice_right) : bsd_min(a, here.lattice_left)) <
           here.budget;
  int64_t u = distance - a; /* the u-th neighbour on its side */
  int64_t before =
      column < row ? bsd_min(u - 1, here.neighbour_right) : bsd_min(u, here.neighbour_left);
  return u - 1 + before < fill_of(&here);
}

/* The lattice rows J + a*d with from <= a <= to. */
static bsd_status push_lattice(bsd_runs *rows, int64_t column, int64_t step, int64_t from,
                               int64_t to, bsd_error *error) {
  if (from > to)
    return BSD_OK;
  return bsd_runs_push(rows, (bsd_run){column + from * step, step, to - from + 1}, error);
}

bsd_status bsd_strided_column(const bsd_pattern_term *term, const bsd_block_grid *grid,
                              int64_t column, bsd_runs *rows, bsd_error *error) {
  int64_t step = step_of(term, grid), first_row = grid->causal ? column : 0;
  if (term->rows >= grid->blocks || term->density == BILLION)
    return bsd_runs_push_range(rows, first_row, grid->blocks - first_row, error);
  lattice_rows lattice = lattice_of(term, grid, column);
  int64_t fill = step == 1 ? 0 : largest_fill(term, grid, column);
  if (fill <= 0) {
    BSD_TRY(push_lattice(rows, column, step, -lattice.below, lattice.above, error));
    return push_lattice(rows, column, step, lattice.from, lattice.to, error);
  }
  /* Beyond the distance of the largest fill there is the lattice alone; within it each row is
   * asked. */
  int64_t reach = neighbour_distance(bsd_min(fill, grid->blocks), step);
  int64_t low = bsd_max(first_row, column - reach);
  int64_t high = bsd_min(grid->blocks - 1, column + reach);
  int64_t inside_below = (column - low) / step, inside_above = (high - column) / step;
  BSD_TRY(push_lattice(rows, column, step, -lattice.below, -inside_below - 1, error));
  int64_t begin = rows->count;
  for (int64_t row = low; row <= high; row++)
    if (row_holds(term, grid, row, column))
      BSD_TRY(bsd_runs_push_value(rows, begin, row, error));
  BSD_TRY(push_lattice(rows, column, step, inside_above + 1, lattice.above, error));
  return push_lattice(rows, column, step, bsd_max(lattice.from, inside_above + 1), lattice.to,
                      error);
}
