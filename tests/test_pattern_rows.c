/* test_pattern_rows.c - block rows against the oracle, block columns against the transpose of the
 * rows. */
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "oracle.h"
#include "pattern.h"
#include "support/dice.h"

enum { ROW_TRIALS = 12000, LARGEST_GRID = 48, MAX_TERMS = 4, MAX_STEPS = 4 };

static dice rolls;

/* ---- random branches, for the library and for the oracle ---------------------------------- */

typedef struct random_branch {
  bsd_branch branch;
  bsd_term terms[MAX_TERMS];
  oracle_term oracle[MAX_TERMS];
  int64_t steps[MAX_TERMS][MAX_STEPS];
  int64_t *csr_ptr[MAX_TERMS], *csr_columns[MAX_TERMS];
} random_branch;

static void random_csr(random_branch *r, int i, int64_t blocks) {
  bsd_term *term = &r->terms[i];
  term->csr_rows = blocks + dice_range(&rolls, 0, 3);
  term->csr_heads = dice_chance(&rolls, 50) ? 1 : 4;
  int64_t all = term->csr_rows * term->csr_heads, entries = 0;
  r->csr_ptr[i] = calloc((size_t)all + 1, sizeof(int64_t));
  r->csr_columns[i] = calloc((size_t)(all * term->csr_rows), sizeof(int64_t));
  int fill = (int)dice_range(&rolls, 0, 100);
  for (int64_t row = 0; row < all; row++) {
    for (int64_t column = 0; column < term->csr_rows; column++)
      if (dice_chance(&rolls, fill))
        r->csr_columns[i][entries++] = column;
    r->csr_ptr[i][row + 1] = entries;
  }
  term->csr_ptr = r->csr_ptr[i];
  term->csr_columns = r->csr_columns[i];
}

static int64_t random_step(int64_t blocks) {
  if (dice_chance(&rolls, 5))
    return INT64_MAX - dice_range(&rolls, 0, 2);
  return dice_range(&rolls, 1, dice_chance(&rolls, 50) ? 6 : blocks + 2);
}

static void random_term(random_branch *r, int i, int64_t blocks, int may_be_csr) {
  bsd_term *term = &r->terms[i];
  term->kind = (bsd_term_kind)dice_range(&rolls, 0, may_be_csr ? BSD_TERM_CSR : BSD_TERM_RANDOM);
  term->left = dice_chance(&rolls, 5) ? INT64_MAX : dice_range(&rolls, -1, blocks);
  term->right = dice_chance(&rolls, 5) ? INT64_MAX : dice_range(&rolls, -1, blocks);
  term->count = dice_range(&rolls, term->kind == BSD_TERM_RANDOM, blocks + 2);
  term->seed = dice_bits(&rolls);
  term->nsteps = dice_range(&rolls, 1, MAX_STEPS);
  for (int64_t s = 0; s < term->nsteps; s++)
    r->steps[i][s] = random_step(blocks);
  term->steps = r->steps[i];
  if (dice_chance(&rolls, 50))
    term->rows = dice_chance(&rolls, 5) ? INT64_MAX : dice_range(&rolls, 1, blocks + 2);
  else
    term->density = dice_range(&rolls, 1, dice_chance(&rolls, 50) ? 1000000000 : 100000000);
  if (term->kind == BSD_TERM_CSR)
    random_csr(r, i, blocks);
}

static oracle_term to_oracle(const bsd_term *term) {
  oracle_term o = {.kind = (oracle_kind)term->kind,
                   .left = bsd_min(term->left, 1000),
                   .right = bsd_min(term->right, 1000),
                   .rows = term->rows,
                   .billionths = term->density,
                   .count = term->count,
                   .seed = term->seed,
                   .csr_rows = term->csr_rows,
                   .csr_heads = term->csr_heads,
                   .csr_ptr = term->csr_ptr,
                   .csr_columns = term->csr_columns,
                   .nsteps = term->nsteps};
  for (int64_t s = 0; s < term->nsteps; s++) /* the oracle's sums are not checked for overflow */
    o.steps[s] = bsd_min(term->steps[s], 1000);
  return o;
}

/* In place: the terms point into the branch's own arrays. */
static void random_branch_make(random_branch *r, int64_t blocks, int may_be_csr) {
  memset(r, 0, sizeof *r);
  r->branch.nterms = dice_chance(&rolls, 50) ? 1 : dice_range(&rolls, 0, MAX_TERMS);
  for (int64_t i = 0; i < r->branch.nterms; i++) {
    random_term(r, (int)i, blocks, may_be_csr);
    r->oracle[i] = to_oracle(&r->terms[i]);
  }
}

static void random_branch_free(random_branch *r) {
  for (int i = 0; i < MAX_TERMS; i++) {
    free(r->csr_ptr[i]);
    free(r->csr_columns[i]);
  }
}

static bsd_pattern *pattern_of(random_branch *r) {
  bsd_pattern *pattern;
  bsd_error error;
  r->branch.terms = r->terms;
  ck_assert_int_eq(bsd_pattern_create(BSD_COMBINE_SUM, &pattern), BSD_OK);
  ck_assert_msg(bsd_pattern_add_branch(pattern, &r->branch, &error) == BSD_OK, "%s", error.message);
  ck_assert(bsd_pattern_is_valid(pattern));
  return pattern;
}

static void oracle_row(const random_branch *r, const bsd_block_grid *grid, int64_t row,
                       unsigned char *active) {
  memset(active, 0, (size_t)grid->blocks);
  for (int64_t i = 0; i < r->branch.nterms; i++)
    oracle_term_row(&r->oracle[i], row, grid->head, grid->segment, grid->blocks, grid->causal,
                    active);
  if (r->branch.nterms == 0)
    for (int64_t column = 0; column < grid->blocks; column++)
      active[column] = !grid->causal || column <= row;
}

/* ---- rows and columns --------------------------------------------------------------------- */

/* Marks the values of runs in active[0 .. blocks-1]; false if they do not ascend within it. */
static int expand(const bsd_runs *runs, int64_t blocks, unsigned char *active) {
  int64_t before = -1;
  memset(active, 0, (size_t)blocks);
  for (int64_t i = 0; i < runs->count; i++) {
    const bsd_run *run = &runs->run[i];
    if (run->count < 1 || run->step < 1)
      return 0;
    for (int64_t j = 0; j < run->count; j++) {
      int64_t value = run->first + j * run->step;
      if (value <= before || value >= blocks)
        return 0;
      active[value] = 1;
      before = value;
    }
  }
  return 1;
}

static void fail_at(const bsd_pattern *pattern, const bsd_block_grid *grid, const char *what,
                    int64_t row, int64_t column) {
  char text[600];
  if (bsd_pattern_format(pattern, text, sizeof text, NULL) != BSD_OK)
    strcpy(text, "a long pattern");
  ck_abort_msg("%s: blocks %" PRId64 " head %" PRId64 " segment %" PRId64
               " causal %d: %s differs at "
               "row %" PRId64 " column %" PRId64,
               text, grid->blocks, grid->head, grid->segment, grid->causal, what, row, column);
}

/* The first row whose columns differ from the oracle's, or grid->blocks; fills the matrix. */
static int64_t first_wrong_row(const random_branch *r, const bsd_pattern *pattern,
                               const bsd_block_grid *grid, unsigned char *matrix) {
  bsd_runs runs = {0};
  unsigned char wanted[LARGEST_GRID];
  int64_t row = 0;
  for (; row < grid->blocks; row++) {
    unsigned char *got = matrix + row * grid->blocks;
    runs.count = 0;
    if (bsd_branch_row(pattern->branches, grid, row, &runs, NULL) != BSD_OK ||
        !expand(&runs, grid->blocks, got))
      break;
    oracle_row(r, grid, row, wanted);
    if (memcmp(got, wanted, (size_t)grid->blocks) != 0)
      break;
  }
  bsd_runs_free(&runs);
  return row;
}

static void check_columns(const bsd_pattern *pattern, const bsd_block_grid *grid,
                          const unsigned char *matrix) {
  bsd_runs runs = {0};
  unsigned char rows[LARGEST_GRID];
  for (int64_t column = 0; column < grid->blocks; column++) {
    runs.count = 0;
    if (bsd_branch_column(pattern->branches, grid, column, &runs, NULL) != BSD_OK ||
        !expand(&runs, grid->blocks, rows))
      fail_at(pattern, grid, "a column", -1, column);
    for (int64_t row = 0; row < grid->blocks; row++)
      if (rows[row] != matrix[row * grid->blocks + column])
        fail_at(pattern, grid, "a column", row, column);
  }
  bsd_runs_free(&runs);
}

static void check_grid(const random_branch *r, const bsd_pattern *pattern,
                       const bsd_block_grid *grid) {
  static unsigned char matrix[LARGEST_GRID * LARGEST_GRID];
  int64_t row = first_wrong_row(r, pattern, grid, matrix);
  if (row < grid->blocks)
    fail_at(pattern, grid, "a row", row, -1);
  if (bsd_branch_has_columns(pattern->branches))
    check_columns(pattern, grid, matrix);
}

START_TEST(rows_equal_the_oracle_and_columns_are_their_transpose) {
  rolls.state = 20240601;
  for (int trial = 0; trial < ROW_TRIALS; trial++) {
    bsd_block_grid grid = {.head = dice_range(&rolls, 0, 3),
                           .segment = dice_range(&rolls, 0, 5),
                           .blocks = dice_range(&rolls, 1, LARGEST_GRID),
                           .causal = dice_chance(&rolls, 50)};
    random_branch r;
    random_branch_make(&r, grid.blocks, 1);
    bsd_pattern *pattern = pattern_of(&r);
    check_grid(&r, pattern, &grid);
    bsd_pattern_destroy(pattern);
    random_branch_free(&r);
  }
}
END_TEST

/* Every step, budget and size up to a bound: the closed forms have many edges. */
START_TEST(every_small_strided_pattern) {
  for (int64_t blocks = 1; blocks <= 13; blocks++)
    for (int64_t step = 1; step <= blocks + 1; step++)
      for (int64_t budget = 1; budget <= blocks + 20; budget++) {
        random_branch r = {.branch.nterms = 1, .steps[0][0] = step};
        r.terms[0] = (bsd_term){.kind = BSD_TERM_STRIDED, .steps = r.steps[0], .nsteps = 1};
        if (budget <= blocks)
          r.terms[0].rows = budget;
        else
          r.terms[0].density = (budget - blocks) * 50000000;
        r.oracle[0] = to_oracle(&r.terms[0]);
        bsd_pattern *pattern = pattern_of(&r);
        for (int causal = 0; causal <= 1; causal++)
          check_grid(&r, pattern, &(bsd_block_grid){.blocks = blocks, .causal = causal});
        bsd_pattern_destroy(pattern);
      }
}
END_TEST

static bsd_pattern *parsed(const char *text) {
  bsd_pattern *pattern = NULL;
  bsd_error error = {0};
  ck_assert_msg(bsd_pattern_parse(text, &pattern, &error) == BSD_OK, "'%s': %s", text,
                error.message);
  ck_assert(bsd_pattern_is_valid(pattern));
  return pattern;
}

static void check_row_text(const char *text, bsd_block_grid grid, int64_t row, const char *wanted) {
  bsd_pattern *pattern = parsed(text);
  bsd_runs runs = {0};
  char got[512] = "";
  size_t length = 0;
  ck_assert_int_eq(bsd_branch_row(pattern->branches, &grid, row, &runs, NULL), BSD_OK);
  for (int64_t i = 0; i < runs.count; i++)
    for (int64_t j = 0; j < runs.run[i].count; j++)
      length += (size_t)snprintf(got + length, sizeof got - length, "%" PRId64 " ",
                                 runs.run[i].first + j * runs.run[i].step);
  ck_assert_str_eq(got, wanted);
  bsd_runs_free(&runs);
  bsd_pattern_destroy(pattern);
}

START_TEST(random_vectors) {
  check_row_text("blocks=random(3,0)", (bsd_block_grid){.blocks = 8}, 0, "0 2 4 ");
  check_row_text("blocks=random(5,42)", (bsd_block_grid){.head = 3, .segment = 1, .blocks = 128},
                 17, "13 18 48 54 83 ");
  check_row_text("blocks=random(5,42)",
                 (bsd_block_grid){.head = 3, .segment = 1, .blocks = 128, .causal = 1}, 17,
                 "1 2 6 9 15 ");
  check_row_text("blocks=random(4,7)", (bsd_block_grid){.blocks = 16384}, 1000,
                 "1071 4466 5031 7860 ");
}
END_TEST

START_TEST(strided_order_of_candidates) {
  bsd_block_grid grid = {.blocks = 10};
  check_row_text("blocks=strided(3,rows=3)", grid, 4, "1 4 7 ");
  check_row_text("blocks=strided(3,rows=3)", grid, 1, "1 4 7 ");
  check_row_text("blocks=strided(3,rows=5)", grid, 5, "2 4 5 6 8 ");
  check_row_text("blocks=strided(3,density=0.45)", grid, 0, "0 1 3 6 9 "); /* 4.5 rounds up */
  grid.causal = 1;
  check_row_text("blocks=strided(3,rows=4)", grid, 7, "1 4 6 7 ");
  grid.head = 1;
  check_row_text("blocks=strided(3:2,rows=4)", grid, 7, "1 3 5 7 ");
}
END_TEST

static int64_t count_blocks(const char *text, int64_t blocks) {
  bsd_pattern *pattern = parsed(text);
  bsd_runs runs = {0};
  int64_t total = 0;
  for (int64_t row = 0; row < blocks; row++)
    ck_assert_int_eq(
        bsd_branch_row(pattern->branches, &(bsd_block_grid){.blocks = blocks}, row, &runs, NULL),
        BSD_OK);
  for (int64_t i = 0; i < runs.count; i++)
    total += runs.run[i].count;
  bsd_runs_free(&runs);
  bsd_pattern_destroy(pattern);
  return total;
}

START_TEST(known_counts) {
  for (int64_t blocks = 4; blocks <= 64; blocks++)
    ck_assert_int_eq(count_blocks("blocks=dilated(1:2:4)", blocks), 7 * blocks - 14);
  for (int64_t blocks = 2; blocks <= 64; blocks++)
    ck_assert_int_eq(count_blocks("blocks=local(2,2)", blocks), 5 * blocks - 6);
}
END_TEST

/* A row costs its own runs: nothing here could be expanded. */
START_TEST(rows_of_the_largest_grids) {
  static const char *const texts[] = {
      "blocks=full",
      "blocks=local(-1,3)",
      "blocks=dilated(1:9223372036854775807:1G)",
      "blocks=strided(7,density=0.25)",
      "blocks=strided(9223372036854775807,density=0.5)",
      "blocks=strided(1:2,density=0.000000001)",
      "blocks=global(3)+local(2,2)+random(5,1)",
      "blocks=local(1G,9223372036854775807)+full",
      "blocks=strided(2,density=0.1)+local(2,2)+dilated(64:1K:1M)+full",
      "blocks=strided(2,density=0.1)+local(2,2)+dilated(64:1K:1M)+global(1)",
      "blocks=random(9223372036854775807,3)",
      "blocks=strided(5,rows=9223372036854775807)",
  };
  int64_t blocks = INT64_C(1) << 57;
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    bsd_pattern *pattern = parsed(texts[i]);
    bsd_runs runs = {0};
    for (int causal = 0; causal <= 1; causal++)
      for (int place = 0; place <= 4; place++) {
        bsd_block_grid grid = {.head = place, .blocks = blocks, .causal = causal};
        int64_t row = blocks / 4 * place - (place > 0), before = -1;
        runs.count = 0;
        ck_assert_int_eq(bsd_branch_row(pattern->branches, &grid, row, &runs, NULL), BSD_OK);
        for (int64_t j = 0; j < runs.count; j++) {
          ck_assert_int_gt(runs.run[j].first, before);
          before = runs.run[j].first + (runs.run[j].count - 1) * runs.run[j].step;
        }
        ck_assert_int_lt(before, causal ? row + 1 : blocks);
        ck_assert_int_le(runs.capacity, 64);
      }
    bsd_runs_free(&runs);
    bsd_pattern_destroy(pattern);
  }
}
END_TEST

/* The lattice's closed form at a size where it cannot be counted: ask the rows at its ends. */
static int holds(const bsd_pattern *pattern, const bsd_block_grid *grid, int64_t row,
                 int64_t column) {
  bsd_runs runs = {0};
  int found = 0;
  ck_assert_int_eq(bsd_branch_row(pattern->branches, grid, row, &runs, NULL), BSD_OK);
  for (int64_t i = 0; i < runs.count; i++) {
    int64_t ahead = column - runs.run[i].first;
    found |=
        ahead >= 0 && ahead % runs.run[i].step == 0 && ahead / runs.run[i].step < runs.run[i].count;
  }
  bsd_runs_free(&runs);
  return found;
}

START_TEST(columns_of_the_largest_grids) {
  static const char *const texts[] = {"blocks=full", "blocks=strided(3:64,density=0.01)",
                                      "blocks=strided(3:64,rows=1000)", "blocks=dilated(1:1G)",
                                      "blocks=global(5)+local(1,2)"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    bsd_pattern *pattern = parsed(texts[i]);
    bsd_runs runs = {0};
    for (int variant = 0; variant < 4; variant++) {
      bsd_block_grid grid = {
          .head = variant / 2, .blocks = INT64_C(1) << 50, .causal = variant % 2};
      int64_t column = (INT64_C(1) << 49) + 12345;
      runs.count = 0;
      ck_assert_int_eq(bsd_branch_column(pattern->branches, &grid, column, &runs, NULL), BSD_OK);
      ck_assert_int_gt(runs.count, 0);
      for (int64_t j = 0; j < runs.count; j++) {
        bsd_run run = runs.run[j];
        int64_t last = run.first + (run.count - 1) * run.step;
        ck_assert(holds(pattern, &grid, run.first, column) && holds(pattern, &grid, last, column));
        if (runs.count == 1 && run.count > 1 && run.first - run.step >= 0)
          ck_assert(!holds(pattern, &grid, run.first - run.step, column));
        if (runs.count == 1 && run.count > 1 && last + run.step < grid.blocks)
          ck_assert(!holds(pattern, &grid, last + run.step, column));
      }
    }
    bsd_runs_free(&runs);
    bsd_pattern_destroy(pattern);
  }
}
END_TEST

START_TEST(columns_of_random_are_refused) {
  bsd_pattern *pattern = parsed("blocks=full+random(1,1)");
  bsd_runs runs = {0};
  ck_assert(!bsd_branch_has_columns(pattern->branches));
  ck_assert_int_eq(
      bsd_branch_column(pattern->branches, &(bsd_block_grid){.blocks = 4}, 0, &runs, NULL),
      BSD_ERR_UNSUPPORTED);
  bsd_pattern_destroy(pattern);
}
END_TEST

/* Heads said to agree have equal rows. */
START_TEST(heads_that_agree_have_equal_rows) {
  rolls.state = 99;
  int agreed = 0;
  for (int trial = 0; trial < 2000; trial++) {
    int64_t blocks = dice_range(&rolls, 1, 20), a = dice_range(&rolls, 0, 3),
            b = dice_range(&rolls, 0, 3);
    random_branch r;
    random_branch_make(&r, blocks, 1);
    bsd_pattern *pattern = pattern_of(&r);
    if (a != b && bsd_branch_heads_agree(pattern->branches, a, b)) {
      agreed++;
      unsigned char of_a[LARGEST_GRID], of_b[LARGEST_GRID];
      for (int64_t row = 0; row < blocks; row++) {
        oracle_row(&r, &(bsd_block_grid){.head = a, .blocks = blocks}, row, of_a);
        oracle_row(&r, &(bsd_block_grid){.head = b, .blocks = blocks}, row, of_b);
        ck_assert_int_eq(memcmp(of_a, of_b, (size_t)blocks), 0);
      }
    }
    bsd_pattern_destroy(pattern);
    random_branch_free(&r);
  }
  ck_assert_int_gt(agreed, 200);
  bsd_pattern *pattern = parsed("blocks=strided(1:2:1,rows=3)+dilated(3)");
  ck_assert(bsd_branch_heads_agree(pattern->branches, 0, 2));
  ck_assert(!bsd_branch_heads_agree(pattern->branches, 0, 1));
  ck_assert(bsd_branch_heads_agree(pattern->branches, 1, 4));
  bsd_pattern_destroy(pattern);
}
END_TEST

START_TEST(csr_smaller_than_the_grid_is_refused) {
  random_branch r = {.branch.nterms = 1};
  int64_t ptr[] = {0, 1, 2}, columns[] = {1, 0};
  r.terms[0] = (bsd_term){
      .kind = BSD_TERM_CSR, .csr_rows = 2, .csr_heads = 1, .csr_ptr = ptr, .csr_columns = columns};
  bsd_pattern *pattern = pattern_of(&r);
  bsd_runs runs = {0};
  bsd_error error;
  ck_assert_int_eq(
      bsd_branch_row(pattern->branches, &(bsd_block_grid){.blocks = 3}, 0, &runs, &error),
      BSD_ERR_PATTERN);
  ck_assert_int_eq(
      bsd_branch_column(pattern->branches, &(bsd_block_grid){.blocks = 3}, 0, &runs, &error),
      BSD_ERR_PATTERN);
  bsd_pattern_destroy(pattern);
}
END_TEST

/* ---- the comparison can fail -------------------------------------------------------------- */

START_TEST(a_planted_error_is_caught) {
  static unsigned char matrix[LARGEST_GRID * LARGEST_GRID];
  bsd_block_grid grid = {.blocks = 9};
  random_branch r = {.branch.nterms = 1, .steps[0][0] = 2};
  r.terms[0] = (bsd_term){.kind = BSD_TERM_STRIDED, .steps = r.steps[0], .nsteps = 1, .rows = 3};
  r.oracle[0] = to_oracle(&r.terms[0]);
  bsd_pattern *pattern = pattern_of(&r);
  ck_assert_int_eq(first_wrong_row(&r, pattern, &grid, matrix), grid.blocks);
  r.oracle[0].rows = 4;
  ck_assert_int_eq(first_wrong_row(&r, pattern, &grid, matrix), 0);
  bsd_pattern_destroy(pattern);
}
END_TEST

static TCase *add_case(Suite *suite, const char *name) {
  TCase *tests = tcase_create(name);
  tcase_set_timeout(tests, 120);
  suite_add_tcase(suite, tests);
  return tests;
}

int main(void) {
  Suite *suite = suite_create("pattern_rows");
  TCase *rows = add_case(suite, "rows");
  tcase_add_test(rows, rows_equal_the_oracle_and_columns_are_their_transpose);
  tcase_add_test(rows, every_small_strided_pattern);
  tcase_add_test(rows, random_vectors);
  tcase_add_test(rows, strided_order_of_candidates);
  tcase_add_test(rows, known_counts);
  tcase_add_test(rows, rows_of_the_largest_grids);
  tcase_add_test(rows, columns_of_the_largest_grids);
  tcase_add_test(rows, columns_of_random_are_refused);
  tcase_add_test(rows, heads_that_agree_have_equal_rows);
  tcase_add_test(rows, csr_smaller_than_the_grid_is_refused);
  tcase_add_test(rows, a_planted_error_is_caught);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
