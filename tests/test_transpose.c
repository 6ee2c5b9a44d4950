/* test_transpose.c - columns that are made of rows: ranks that send one another rows make the very plans that
 * each makes alone, and rows that cannot be are refused. Runs on one rank or several. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "plan.h"
#include "support/library.h"
#include "support/random_problem.h"
#include "support/same_share.h"
#include "support/scale.h"
#include "support/suite.h"
#include "support/world.h"

/* ---- the same plans ---- */

/* A random problem, of whose branches at least one has random blocks. */
static random_problem *problem_with_random_blocks(uint64_t seed, random_limits limits) {
  random_problem *problem = random_problem_create(seed, limits);
  dice d = {oracle_mix(seed)};
  oracle_pattern *pattern = &problem->p.pattern;
  oracle_branch *branch = &pattern->branches[dice_range(&d, 0, pattern->nbranches - 1)];
  oracle_term *term = &branch->terms[dice_range(&d, 0, branch->nterms - 1)];
  *term =
      (oracle_term){.kind = ORACLE_RANDOM, .count = dice_range(&d, 1, 40), .seed = dice_bits(&d)};
  return problem;
}

static void check_same(bsd_plan *together, bsd_plan *alone, const char *described) {
  char text[4200];
  const char *what;
  uint64_t hashes[2];
  bsd_plan_statistics stats = library_stats(alone); /* finds the totals */
  bsd_plan_hash(together, &hashes[0]);
  bsd_plan_hash(alone, &hashes[1]);
  int same = same_share(together->share, alone->share, &what);
  if (same && hashes[0] != hashes[1])
    what = "hash";
  else if (same && memcmp(&together->totals, &alone->totals, sizeof alone->totals) != 0)
    what = "totals";
  else if (same && strcmp(together->layout_text, stats.layout) != 0)
    what = "layout";
  else if (same)
    what = NULL;
  snprintf(text, sizeof text, "%s: %s", what ? what : "", described);
  suite_expect(what == NULL, text);
}

static void check_problem(bsd_context *context, bsd_context *own, const random_problem *problem,
                          bsd_layout_kind kind) {
  random_layout layout = random_layout_create(&problem->p, kind, world_size(), problem->seed);
  bsd_pattern *pattern = library_pattern(&problem->p.pattern);
  bsd_problem wanted = library_problem(&problem->p, problem->dtype, layout.spec);
  bsd_plan *together, *alone;
  char described[4096];
  library_expect(bsd_plan_create(context, pattern, &wanted, &together), context, "bsd_plan_create");
  library_expect(bsd_plan_create_offline(own, pattern, &wanted, world_rank(), world_size(), &alone),
                 own, "bsd_plan_create_offline");
  check_same(together, alone, random_problem_describe(problem, described, sizeof described));
  bsd_plan_destroy(together);
  bsd_plan_destroy(alone);
  bsd_pattern_destroy(pattern);
  random_layout_free(&layout);
}

static void check_problems(uint64_t seed, int64_t count, random_limits limits) {
  bsd_context *context = world_context(1), *own = library_context(1);
  for (int64_t x = 0; x < count; x++) {
    random_problem *problem = problem_with_random_blocks(seed + (uint64_t)x, limits);
    check_problem(context, own, problem, (bsd_layout_kind)(x % 5));
    random_problem_free(problem);
  }
  bsd_context_destroy(context);
  bsd_context_destroy(own);
}

START_TEST(ranks_together_plan_as_each_alone) {
  check_problems(80000, test_count(300), (random_limits){.largest_n = 400});
}
END_TEST

START_TEST(many_blocks_do_too) {
  check_problems(90000, test_count(20), (random_limits){.largest_n = 20000});
}
END_TEST

/* ---- rows that cannot be ---- */

typedef struct receiver { /* a share that is begun, and the records that would finish it */
  bsd_task *task;
  bsd_layout layout;
  bsd_share *share;
  bsd_row_records records;
} receiver;

/* Rank 1 of 3: segments of 4 blocks of 16 tokens, of which it holds some in part. */
static void make_receiver(receiver *r) {
  bsd_pattern *pattern = library_pattern_text("w=60,blocks=random(2,5);blocks=local(1,1)");
  bsd_problem problem = {.struct_size = sizeof problem,
                         .length = 300,
                         .heads = 2,
                         .head_dim = 8,
                         .block = 16,
                         .layout = {.kind = BSD_LAYOUT_DILATED, .group = 1, .unit = 24}};
  *r = (receiver){.records = {.from = 2}};
  ck_assert_int_eq(bsd_task_create(pattern, &problem, &r->task, NULL), BSD_OK);
  ck_assert_int_eq(bsd_layout_create(&problem.layout, 300, 3, 60, 16, &r->layout, NULL), BSD_OK);
  ck_assert(bsd_share_needs_rows(r->task));
  ck_assert_int_eq(bsd_share_begin(r->task, &r->layout, 1, &r->share, NULL), BSD_OK);
  ck_assert_int_eq(bsd_share_evaluate_rows(r->share, &r->records, NULL), BSD_OK);
  bsd_pattern_destroy(pattern);
}

static void free_receiver(receiver *r) {
  bsd_free(r->records.word);
  bsd_share_destroy(r->share);
  bsd_layout_free(&r->layout);
  bsd_task_destroy(r->task);
}

/* Finishes the share; a failure must name the sender. */
static bsd_status finish(receiver *r) {
  bsd_error error = {.message = ""};
  bsd_status status = bsd_share_finish(r->share, &r->records, 1, &error);
  ck_assert_msg(status == BSD_OK || (status == BSD_ERR_PEER && strstr(error.message, "rank 2 ")),
                "%s", error.message);
  if (status == BSD_OK)
    ck_assert(bsd_share_is_valid(r->share));
  return status;
}

START_TEST(damaged_records_are_refused_or_harmless) {
  static const int64_t damage[] = {INT64_MIN, -1, 0, 1, 2, 1000, INT64_MAX};
  int64_t refused = 0, words = 1;
  for (int64_t at = 0; at < words; at++)
    for (int x = 0; x < 7; x++) {
      receiver r;
      make_receiver(&r);
      words = r.records.count;
      r.records.word[at] = damage[x];
      refused += finish(&r) != BSD_OK;
      free_receiver(&r);
    }
  ck_assert_int_gt(refused, 4 * words); /* three of the values may be right somewhere */
}
END_TEST

START_TEST(records_cut_short_or_sent_twice_are_refused) {
  receiver r;
  make_receiver(&r);
  ck_assert_int_eq(finish(&r), BSD_OK);
  free_receiver(&r);
  make_receiver(&r);
  r.records.count--;
  ck_assert_int_eq(finish(&r), BSD_ERR_PEER);
  free_receiver(&r);
  make_receiver(&r);
  bsd_row_records twice[2] = {r.records, r.records};
  ck_assert_int_eq(bsd_alloc(&twice[1].word, r.records.count, sizeof(int64_t), NULL), BSD_OK);
  memcpy(twice[1].word, r.records.word, (size_t)r.records.count * sizeof(int64_t));
  ck_assert_int_eq(bsd_share_finish(r.share, twice, 2, NULL), BSD_ERR_PEER);
  bsd_free(twice[1].word);
  free_receiver(&r);
}
END_TEST

int main(int argc, char **argv) {
  setenv("BSD_STAGES", "2", 1); /* what a plan made alone takes: part of the hash */
  TCase *tests = tcase_create("transpose");
  tcase_set_timeout(tests, 300);
  tcase_add_test(tests, ranks_together_plan_as_each_alone);
  tcase_add_test(tests, many_blocks_do_too);
  tcase_add_test(tests, damaged_records_are_refused_or_harmless);
  tcase_add_test(tests, records_cut_short_or_sent_twice_are_refused);
  return suite_run("transpose", tests, &argc, &argv);
}
