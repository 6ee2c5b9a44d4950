/* test_validity.c - the invariants that plans' structures state of themselves, over random plans, and that a
 * broken structure is told from a whole one. */
#include <check.h>
#include <stdlib.h>

#include "plan.h"
#include "support/library.h"
#include "support/random_problem.h"
#include "support/scale.h"
#include "support/suite.h"

static bsd_plan *plan_of(const random_problem *problem, bsd_layout_kind kind, int rank, int nranks,
                         bsd_context *context) {
  random_layout layout = random_layout_create(&problem->p, kind, nranks, problem->seed);
  bsd_pattern *pattern = library_pattern(&problem->p.pattern);
  bsd_problem wanted = library_problem(&problem->p, problem->dtype, layout.spec);
  bsd_plan *plan;
  library_expect(bsd_plan_create_offline(context, pattern, &wanted, rank, nranks, &plan), context,
                 "bsd_plan_create_offline");
  bsd_pattern_destroy(pattern);
  random_layout_free(&layout);
  return plan;
}

/* Lists and schedule under one way of cutting the exchange. */
static void check_stages(const bsd_plan *plan, const bsd_stages *stages, const char *described) {
  bsd_schedule schedule = plan->schedule;
  bsd_plan_lists lists = {0};
  bsd_schedule_cut(&schedule, stages);
  ck_assert_msg(bsd_schedule_is_valid(&schedule, plan->share), "schedule in %d stages: %s",
                stages->count, described);
  ck_assert_int_eq(bsd_plan_lists_create(plan->share, &schedule, &plan->arrivals, &lists, NULL),
                   BSD_OK);
  ck_assert_msg(bsd_plan_lists_is_valid(&lists, plan->share, &schedule), "lists in %d stages: %s",
                stages->count, described);
  bsd_plan_lists_free(&lists, plan->share->nlists);
}

static void check_plan(const bsd_plan *plan, const random_problem *problem) {
  char text[4096];
  const char *described = random_problem_describe(problem, text, sizeof text);
  bsd_stages options[BSD_STAGE_OPTIONS];
  int n = bsd_stage_options(plan->nranks, options);
  ck_assert_msg(bsd_share_is_valid(plan->share), "share: %s", described);
  for (int o = 0; o < n; o++)
    check_stages(plan, &options[o], described);
}

START_TEST(random_plans_hold_their_invariants) {
  static const bsd_layout_kind kinds[] = {BSD_LAYOUT_CONTIGUOUS, BSD_LAYOUT_ZIGZAG,
                                          BSD_LAYOUT_DILATED, BSD_LAYOUT_CUSTOM};
  random_limits limits = {.largest_n = 300, .work = 0};
  bsd_context *context = library_context(1);
  for (int64_t x = 0; x < test_count(300); x++) {
    random_problem *problem = random_problem_create((uint64_t)(50000 + x), limits);
    int nranks = 1 + (int)(x % 7);
    for (int rank = 0; rank < nranks; rank++) {
      bsd_plan *plan = plan_of(problem, kinds[x % 4], rank, nranks, context);
      check_plan(plan, problem);
      bsd_plan_destroy(plan);
    }
    random_problem_free(problem);
  }
  bsd_context_destroy(context);
}
END_TEST

/* Of thousands of ranks, a few, and a few of the ways of cutting. */
START_TEST(thousands_of_ranks_hold_their_invariants) {
  static const bsd_layout_kind kinds[] = {BSD_LAYOUT_CONTIGUOUS, BSD_LAYOUT_ZIGZAG,
                                          BSD_LAYOUT_DILATED, BSD_LAYOUT_CUSTOM};
  static const int ranks[] = {64, 500, 1024, 4096};
  random_limits limits = {.largest_n = 6000, .work = 0};
  bsd_context *context = library_context(1);
  for (int64_t x = 0; x < test_count(60); x++) {
    random_problem *problem = random_problem_create((uint64_t)(60000 + x), limits);
    int nranks = ranks[x % 4];
    for (int part = 0; part < 3; part++) {
      bsd_plan *plan = plan_of(problem, kinds[x / 4 % 4], (nranks - 1) * part / 2, nranks, context);
      check_plan(plan, problem);
      bsd_plan_destroy(plan);
    }
    random_problem_free(problem);
  }
  bsd_context_destroy(context);
}
END_TEST

/* Dense attention on two ranks: every query needs the other rank's keys. */
static bsd_plan *dense_plan(bsd_context *context) {
  bsd_pattern *pattern = library_pattern_text("w=64;blocks=full");
  bsd_problem problem = {.struct_size = sizeof problem,
                         .length = 256,
                         .heads = 2,
                         .head_dim = 8,
                         .layout = {.kind = BSD_LAYOUT_CONTIGUOUS}};
  bsd_plan *plan;
  library_expect(bsd_plan_create_offline(context, pattern, &problem, 0, 2, &plan), context,
                 "dense");
  bsd_pattern_destroy(pattern);
  return plan;
}

START_TEST(a_broken_structure_is_found) {
  bsd_context *context = library_context(1);
  bsd_plan *plan = dense_plan(context);
  bsd_side *side = &plan->share->lists[plan->share->nlists - 1].side[BSD_ROWS];
  bsd_bitset *set = &plan->share->peers[0].kv_receive[0];
  bsd_plan_lists lists = {0};
  bsd_list *list;

  ck_assert(bsd_share_is_valid(plan->share));
  side->fragments[0].slot++;
  ck_assert(!bsd_share_is_valid(plan->share));
  side->fragments[0].slot--;
  side->entries[0].count++;
  ck_assert(!bsd_share_is_valid(plan->share));
  side->entries[0].count--;
  set->before[set->words - 1]++;
  ck_assert(!bsd_bitset_is_valid(set) && !bsd_share_is_valid(plan->share));
  set->before[set->words - 1]--;
  ck_assert(bsd_share_is_valid(plan->share));

  ck_assert(bsd_schedule_is_valid(&plan->schedule, plan->share));
  plan->schedule.steps[0].receive_bytes[BSD_FORWARD]--;
  ck_assert(!bsd_schedule_is_valid(&plan->schedule, plan->share));
  plan->schedule.steps[0].receive_bytes[BSD_FORWARD]++;

  ck_assert_int_eq(
      bsd_plan_lists_create(plan->share, &plan->schedule, &plan->arrivals, &lists, NULL), BSD_OK);
  ck_assert(bsd_plan_lists_is_valid(&lists, plan->share, &plan->schedule));
  list = &lists.rows[1].lists[0];
  list->stage_first[1]++; /* a row that needs the other rank's keys runs before they arrive */
  ck_assert(!bsd_plan_lists_is_valid(&lists, plan->share, &plan->schedule));
  bsd_plan_lists_free(&lists, plan->share->nlists);
  bsd_plan_destroy(plan);
  bsd_context_destroy(context);
}
END_TEST

int main(int argc, char **argv) {
  TCase *tests = tcase_create("validity");
  tcase_set_timeout(tests, 300);
  tcase_add_test(tests, random_plans_hold_their_invariants);
  tcase_add_test(tests, thousands_of_ranks_hold_their_invariants);
  tcase_add_test(tests, a_broken_structure_is_found);
  return suite_run("validity", tests, &argc, &argv);
}
