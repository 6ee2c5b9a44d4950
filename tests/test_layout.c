/* test_layout.c - layouts against a table filled straight from their definition, one entry a token. */
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layout.h"
#include "support/dice.h"
#include "support/vectors.h"

enum { RANDOM_LAYOUTS = 4000, LARGE_LAYOUTS = 400, MAX_LENGTH = 700, MAX_RANKS = 40 };

static dice rolls;

/* ---- what a layout is, by definition ------------------------------------------------------ */

typedef struct description {
  bsd_layout_spec spec;
  int64_t length, segment, block;
  int nranks;
} description;

/* The unit in tokens, as the documentation words it. */
static int64_t defined_unit(const description *d) {
  int64_t parts = d->spec.kind == BSD_LAYOUT_ZIGZAG ? 2 * (int64_t)d->nranks : d->nranks;
  if (d->spec.kind == BSD_LAYOUT_DILATED)
    return d->spec.unit;
  if (d->spec.kind == BSD_LAYOUT_CUSTOM || d->segment == 0)
    return d->block;
  return (d->length + d->segment - 1) / d->segment >= parts ? d->segment : d->block;
}

static int defined_rank(const description *d, int64_t position) {
  int64_t unit = defined_unit(d), x = position / unit, units = (d->length + unit - 1) / unit;
  int64_t ranks = d->nranks;
  switch (d->spec.kind) {
  case BSD_LAYOUT_CONTIGUOUS:
    for (int64_t p = 0; p < ranks; p++)
      if (p * units / ranks <= x && x < (p + 1) * units / ranks)
        return (int)p;
    break;
  case BSD_LAYOUT_ZIGZAG:
    for (int64_t r = 0; r < 2 * ranks; r++)
      if (r * units / (2 * ranks) <= x && x < (r + 1) * units / (2 * ranks))
        return (int)(r < ranks ? r : 2 * ranks - 1 - r);
    break;
  case BSD_LAYOUT_DILATED:
    return (int)(x / d->spec.group % ranks);
  case BSD_LAYOUT_CUSTOM:
    return d->spec.unit_ranks[x];
  default:
    break;
  }
  ck_abort_msg("position %" PRId64 " has no rank", position);
  return -1;
}

/* ---- the comparison ----------------------------------------------------------------------- */

static int32_t rank_of[MAX_LENGTH];
static int64_t local_of[MAX_LENGTH], run_of[MAX_LENGTH];

static void fill_tables(const description *d) {
  int64_t tokens[MAX_RANKS] = {0};
  for (int64_t i = 0; i < d->length; i++) {
    rank_of[i] = defined_rank(d, i);
    local_of[i] = tokens[rank_of[i]]++;
  }
  for (int64_t i = d->length - 1; i >= 0; i--) {
    int ends = i + 1 == d->length || rank_of[i] != rank_of[i + 1] ||
               (d->spec.kind == BSD_LAYOUT_CUSTOM && (i + 1) % d->block == 0);
    run_of[i] = ends ? 1 : run_of[i + 1] + 1;
  }
}

/* Check's assertions write a mark each time: in inner loops only a failure calls them. */
static void check_owner(const bsd_layout *layout, const char *what) {
  for (int64_t i = 0; i < layout->length; i++) {
    int64_t local = -1, run = -1;
    int rank = bsd_layout_owner(layout, i, &local, &run);
    if (rank != rank_of[i] || bsd_layout_owner(layout, i, NULL, NULL) != rank)
      ck_abort_msg("%s: position %" PRId64 " is on rank %d, not %d", what, i, rank, rank_of[i]);
    if (local != local_of[i] || run != run_of[i])
      ck_abort_msg("%s: position %" PRId64 ": local %" PRId64 " run %" PRId64 ", not %" PRId64
                   " %" PRId64,
                   what, i, local, run, local_of[i], run_of[i]);
  }
}

/* Positions from..to-1 must find run k. */
static void check_find(const bsd_layout *layout, int rank, int64_t from, int64_t to, int64_t k,
                       const char *what) {
  for (int64_t at = from; at < to; at++)
    if (bsd_layout_find_run(layout, rank, at) != k)
      ck_abort_msg("%s: find_run(rank %d, %" PRId64 ") is %" PRId64 ", not %" PRId64, what, rank,
                   at, bsd_layout_find_run(layout, rank, at), k);
}

/* Walks the table and the rank's runs side by side. */
static void check_runs(const bsd_layout *layout, int rank, const char *what) {
  int64_t k = 0, tokens = 0, end = 0;
  for (int64_t i = 0; i < layout->length; i++) {
    if (rank_of[i] != rank)
      continue;
    tokens++;
    if (i > 0 && rank_of[i - 1] == rank && run_of[i - 1] > 1)
      continue; /* inside a run */
    int64_t local = -1;
    bsd_position_run run = bsd_layout_run(layout, rank, k, &local);
    if (run.first != i || run.count != run_of[i] || local != local_of[i] ||
        bsd_layout_run(layout, rank, k, NULL).first != i)
      ck_abort_msg("%s: rank %d run %" PRId64 " is %" PRId64 "+%" PRId64 " at %" PRId64, what, rank,
                   k, run.first, run.count, local);
    check_find(layout, rank, end, i + run.count, k, what);
    end = i + run.count;
    k++;
  }
  check_find(layout, rank, end, layout->length + 1, k, what);
  ck_assert_msg(bsd_layout_run_count(layout, rank) == k,
                "%s: rank %d has %" PRId64 " runs, not %" PRId64, what, rank,
                bsd_layout_run_count(layout, rank), k);
  ck_assert_int_eq(bsd_layout_local_length(layout, rank), tokens);
}

static void check_against_definition(const description *d) {
  bsd_layout layout;
  bsd_error error = {0};
  char what[200], text[64];
  ck_assert_msg(bsd_layout_create(&d->spec, d->length, d->nranks, d->segment, d->block, &layout,
                                  &error) == BSD_OK,
                "%s", error.message);
  bsd_layout_format(&layout, text, sizeof text);
  snprintf(what, sizeof what, "%s n=%" PRId64 " P=%d w=%" PRId64 " block=%" PRId64, text, d->length,
           d->nranks, d->segment, d->block);
  ck_assert_int_eq(layout.unit, defined_unit(d));
  fill_tables(d);
  check_owner(&layout, what);
  for (int p = 0; p < d->nranks; p++)
    check_runs(&layout, p, what);
  ck_assert_msg(bsd_layout_is_valid(&layout), "%s: is_valid says no", what);
  bsd_layout_free(&layout);
}

static int32_t unit_ranks[MAX_LENGTH];

/* Small sizes are as likely as large ones, so that P > units, n < P and n = 1 come up often. */
static description random_description(void) {
  static const int64_t blocks[] = {1, 5, 16, 32, 64, 128, 256};
  description d = {.nranks = (int)dice_range(&rolls, 1, dice_range(&rolls, 1, MAX_RANKS)),
                   .length = dice_range(&rolls, 1, dice_range(&rolls, 1, MAX_LENGTH)),
                   .block = blocks[dice_range(&rolls, 0, 6)]};
  d.segment =
      dice_range(&rolls, 0, 2) == 0 ? 0 : dice_range(&rolls, 1, dice_range(&rolls, 1, MAX_LENGTH));
  d.spec.kind = (bsd_layout_kind)dice_range(&rolls, BSD_LAYOUT_CONTIGUOUS, BSD_LAYOUT_CUSTOM);
  d.spec.group = dice_range(&rolls, 1, dice_range(&rolls, 1, 9));
  d.spec.unit = dice_range(&rolls, 1, dice_range(&rolls, 1, 200));
  if (d.spec.kind != BSD_LAYOUT_CUSTOM)
    return d;
  d.spec.nunits = (d.length + d.block - 1) / d.block;
  d.spec.unit_ranks = unit_ranks;
  for (int64_t x = 0; x < d.spec.nunits; x++)
    unit_ranks[x] = (int32_t)dice_range(&rolls, 0, d.nranks - 1);
  return d;
}

START_TEST(random_layouts_equal_their_definition) {
  rolls.state = 0x1234567;
  for (int i = 0; i < RANDOM_LAYOUTS; i++) {
    description d = random_description();
    check_against_definition(&d);
  }
}
END_TEST

/* Too large for tables: the invariant and, at random positions, owner against runs. */
START_TEST(large_layouts_hold_their_invariant) {
  rolls.state = 99;
  for (int i = 0; i < LARGE_LAYOUTS; i++) {
    bsd_layout_spec spec = {.kind = (bsd_layout_kind)dice_range(&rolls, 1, 3),
                            .group = dice_range(&rolls, 1, 100)};
    int64_t length = dice_range(&rolls, 1, INT64_C(1) << dice_range(&rolls, 1, 62)), local, first,
            run;
    int nranks = (int)dice_range(&rolls, 1, 4096);
    spec.unit = dice_range(&rolls, 1, 1 + length / 1000);
    bsd_layout layout;
    ck_assert_int_eq(
        bsd_layout_create(&spec, length, nranks, dice_range(&rolls, 0, length), 64, &layout, NULL),
        BSD_OK);
    ck_assert(bsd_layout_is_valid(&layout));
    for (int j = 0; j < 100; j++) {
      int64_t position = dice_range(&rolls, 0, length - 1);
      int rank = bsd_layout_owner(&layout, position, &local, &run);
      int64_t k = bsd_layout_find_run(&layout, rank, position);
      bsd_position_run whole = bsd_layout_run(&layout, rank, k, &first);
      if (local - first != position - whole.first || run != whole.first + whole.count - position)
        ck_abort_msg("position %" PRId64 " of %" PRId64 " on %d ranks: owner and runs differ",
                     position, length, nranks);
    }
    bsd_layout_free(&layout);
  }
}
END_TEST

START_TEST(largest_sizes_do_not_overflow) {
  for (int kind = BSD_LAYOUT_CONTIGUOUS; kind <= BSD_LAYOUT_DILATED; kind++) {
    bsd_layout_spec spec = {
        .kind = (bsd_layout_kind)kind, .group = INT64_MAX, .unit = INT64_MAX - 1};
    bsd_layout layout;
    ck_assert_int_eq(bsd_layout_create(&spec, INT64_MAX, 4096, 1, 64, &layout, NULL), BSD_OK);
    ck_assert(bsd_layout_is_valid(&layout));
    bsd_layout_free(&layout);
  }
}
END_TEST

/* ---- known values ------------------------------------------------------------------------- */

static bsd_layout simple(bsd_layout_kind kind, int64_t length, int nranks, int64_t segment) {
  bsd_layout_spec spec = {.kind = kind, .group = 2, .unit = 10};
  bsd_layout layout;
  ck_assert_int_eq(bsd_layout_create(&spec, length, nranks, segment, 16, &layout, NULL), BSD_OK);
  return layout;
}

START_TEST(zigzag_pairs_run_p_with_its_mirror) {
  bsd_layout layout = simple(BSD_LAYOUT_ZIGZAG, 96, 3, 0); /* 6 units of 16: 0 1 2 | 2 1 0 */
  ck_assert_int_eq(bsd_layout_run_count(&layout, 0), 2);
  ck_assert_int_eq(bsd_layout_run(&layout, 0, 1, NULL).first, 80);
  ck_assert_int_eq(bsd_layout_run_count(&layout, 2), 1); /* runs 2 and 3 touch */
  ck_assert_int_eq(bsd_layout_run(&layout, 2, 0, NULL).count, 32);
  bsd_layout_free(&layout);
}
END_TEST

START_TEST(zigzag_needs_twice_the_segments) {
  bsd_layout enough = simple(BSD_LAYOUT_ZIGZAG, 60, 3, 10),
             few = simple(BSD_LAYOUT_ZIGZAG, 50, 3, 10);
  ck_assert_int_eq(enough.unit, 10);
  ck_assert_int_eq(few.unit, 16);
}
END_TEST

START_TEST(dilated_deals_groups_of_units) {
  bsd_layout layout = simple(BSD_LAYOUT_DILATED, 105, 3, 0); /* groups of 20: 0 1 2 0 1 2(5) */
  int64_t local, run;
  ck_assert_int_eq(bsd_layout_owner(&layout, 103, &local, &run), 2);
  ck_assert_int_eq(local, 23);
  ck_assert_int_eq(run, 2);
  ck_assert_int_eq(bsd_layout_local_length(&layout, 2), 25);
  bsd_layout_free(&layout);
}
END_TEST

START_TEST(format_is_the_option_text) {
  static const char *const texts[] = {"contiguous", "zigzag", "dilated:2:10"};
  char text[32];
  for (int kind = 0; kind < 3; kind++) {
    bsd_layout layout = simple((bsd_layout_kind)(kind + 1), 100, 2, 0);
    bsd_layout_format(&layout, text, sizeof text);
    ck_assert_str_eq(text, texts[kind]);
  }
  int32_t ranks[] = {1, 0};
  bsd_layout_spec spec = {.kind = BSD_LAYOUT_CUSTOM, .unit_ranks = ranks, .nunits = 2};
  bsd_layout layout;
  ck_assert_int_eq(bsd_layout_create(&spec, 20, 2, 0, 16, &layout, NULL), BSD_OK);
  bsd_layout_format(&layout, text, sizeof text);
  ck_assert_str_eq(text, "custom");
  bsd_layout_free(&layout);
}
END_TEST

START_TEST(hash_tells_layouts_apart) {
  int32_t a[] = {0, 1, 0}, b[] = {0, 1, 1};
  bsd_layout_spec specs[] = {
      {.kind = BSD_LAYOUT_CONTIGUOUS},
      {.kind = BSD_LAYOUT_ZIGZAG},
      {.kind = BSD_LAYOUT_DILATED, .group = 1, .unit = 16},
      {.kind = BSD_LAYOUT_DILATED, .group = 2, .unit = 16},
      {.kind = BSD_LAYOUT_CUSTOM, .unit_ranks = a, .nunits = 3},
      {.kind = BSD_LAYOUT_CUSTOM, .unit_ranks = b, .nunits = 3},
  };
  enum { SPECS = sizeof specs / sizeof *specs };
  uint64_t hash[2 * SPECS];
  for (int i = 0; i < 2 * SPECS; i++) {
    bsd_layout layout, again;
    int64_t length = i < SPECS ? 48 : 47;
    ck_assert_int_eq(bsd_layout_create(&specs[i % SPECS], length, 2, 0, 16, &layout, NULL), BSD_OK);
    ck_assert_int_eq(bsd_layout_create(&specs[i % SPECS], length, 2, 0, 16, &again, NULL), BSD_OK);
    hash[i] = bsd_layout_hash(&layout);
    ck_assert_uint_eq(hash[i], bsd_layout_hash(&again));
    for (int j = 0; j < i; j++)
      ck_assert_uint_ne(hash[i], hash[j]);
    bsd_layout_free(&layout);
    bsd_layout_free(&again);
  }
}
END_TEST

/* ---- refusals, and an invariant that can fail --------------------------------------------- */

static void check_refused(bsd_layout_spec spec, int64_t length, int nranks, const char *words) {
  bsd_layout layout, untouched;
  bsd_error error = {0};
  memset(&layout, 0x5a, sizeof layout);
  untouched = layout;
  ck_assert_int_eq(bsd_layout_create(&spec, length, nranks, 0, 16, &layout, &error), BSD_ERR_ARG);
  ck_assert_msg(strstr(error.message, words), "\"%s\" does not say \"%s\"", error.message, words);
  ck_assert_mem_eq(&layout, &untouched, sizeof layout);
}

START_TEST(bad_arguments_are_refused_in_words) {
  int32_t ranks[] = {0, 2}, negative[] = {-1, 0};
  bsd_layout_spec contiguous = {.kind = BSD_LAYOUT_CONTIGUOUS};
  bsd_layout_spec custom = {.kind = BSD_LAYOUT_CUSTOM, .unit_ranks = ranks, .nunits = 2};
  check_refused(contiguous, 0, 1, "length is 0");
  check_refused(contiguous, 1, 0, "nranks is 0");
  check_refused((bsd_layout_spec){.kind = BSD_LAYOUT_AUTO}, 1, 1, "kind is 0");
  check_refused((bsd_layout_spec){.kind = BSD_LAYOUT_DILATED, .unit = 1}, 9, 1, "group is 0");
  check_refused((bsd_layout_spec){.kind = BSD_LAYOUT_DILATED, .group = 1}, 9, 1, "unit is 0");
  check_refused(custom, 32, 2, "unit_ranks[1] is 2");
  check_refused(custom, 33, 3, "nunits is 2");
  custom.unit_ranks = negative;
  check_refused(custom, 32, 2, "unit_ranks[0] is -1");
  custom.unit_ranks = NULL;
  check_refused(custom, 32, 2, "unit_ranks is NULL");
}
END_TEST

START_TEST(is_valid_sees_a_broken_layout) {
  int32_t ranks[] = {1, 0, 1, 0};
  bsd_layout_spec spec = {.kind = BSD_LAYOUT_CUSTOM, .unit_ranks = ranks, .nunits = 4};
  bsd_layout layout;
  ck_assert_int_eq(bsd_layout_create(&spec, 60, 2, 0, 16, &layout, NULL), BSD_OK);
  ck_assert(bsd_layout_is_valid(&layout));
  layout.unit_local[2] = 0; /* two units in one place */
  ck_assert(!bsd_layout_is_valid(&layout));
  layout.unit_local[2] = 1;
  layout.rank_units[0] = 0; /* rank 0 claims a unit of rank 1 */
  ck_assert(!bsd_layout_is_valid(&layout));
  layout.rank_units[0] = 1;
  layout.unit_rank[3] = 7;
  ck_assert(!bsd_layout_is_valid(&layout));
  bsd_layout_free(&layout);
  bsd_layout contiguous = simple(BSD_LAYOUT_CONTIGUOUS, 100, 3, 0);
  contiguous.units = 3; /* of the 7: those behind have no rank */
  ck_assert(!bsd_layout_is_valid(&contiguous));
}
END_TEST

/* ---- vectors/plans.json ------------------------------------------------------------------- */

/* The smallest w= of a pattern text, read without the library's parser; 0 if there is none. */
static int64_t smallest_segment(const char *pattern) {
  int64_t smallest = 0;
  for (const char *at = strstr(pattern, "w="); at; at = strstr(at + 1, "w=")) {
    int starts_field = at == pattern || strchr("|;,", at[-1]);
    int64_t w = starts_field ? strtoll(at + 2, NULL, 10) : 0;
    if (w > 0 && (smallest == 0 || w < smallest))
      smallest = w;
  }
  return smallest;
}

static void check_known_layout(const vector_case *known, const vector_layout *on) {
  int zigzag = strcmp(on->layout, "zigzag") == 0;
  ck_assert(zigzag || strcmp(on->layout, "contiguous") == 0);
  bsd_layout_spec spec = {.kind = zigzag ? BSD_LAYOUT_ZIGZAG : BSD_LAYOUT_CONTIGUOUS};
  bsd_layout layout;
  ck_assert_int_eq(bsd_layout_create(&spec, known->n, on->nranks, smallest_segment(known->pattern),
                                     known->block, &layout, NULL),
                   BSD_OK);
  for (int p = 0; p < on->nranks; p++)
    ck_assert_msg(bsd_layout_local_length(&layout, p) == on->local_tokens[p],
                  "%s, %s, P %d: rank %d holds %" PRId64 " tokens", known->name, on->layout,
                  on->nranks, p, bsd_layout_local_length(&layout, p));
}

START_TEST(known_local_tokens) {
  vector_file file = vectors_load();
  ck_assert_int_gt(file.ncases, 0);
  for (int64_t i = 0; i < file.ncases; i++)
    for (int64_t j = 0; j < file.cases[i].nlayouts; j++)
      check_known_layout(&file.cases[i], &file.cases[i].layouts[j]);
  vectors_free(&file);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("layout");
  TCase *tests = tcase_create("layout");
  tcase_set_timeout(tests, 120);
  tcase_add_test(tests, random_layouts_equal_their_definition);
  tcase_add_test(tests, large_layouts_hold_their_invariant);
  tcase_add_test(tests, largest_sizes_do_not_overflow);
  tcase_add_test(tests, zigzag_pairs_run_p_with_its_mirror);
  tcase_add_test(tests, zigzag_needs_twice_the_segments);
  tcase_add_test(tests, dilated_deals_groups_of_units);
  tcase_add_test(tests, format_is_the_option_text);
  tcase_add_test(tests, hash_tells_layouts_apart);
  tcase_add_test(tests, bad_arguments_are_refused_in_words);
  tcase_add_test(tests, is_valid_sees_a_broken_layout);
  tcase_add_test(tests, known_local_tokens);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
