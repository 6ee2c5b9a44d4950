/* test_cost.c - the cost model: counts of work in closed form, rank 0's constants on all ranks, and choices that
 * follow from what things cost. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "plan.h"
#include "support/library.h"
#include "support/suite.h"
#include "support/world.h"

/* A forward that costs `block` seconds for each active block, a backward three times that for each of the two
 * gradients' blocks, and launches. */
static void make_rates(double block, double launch, bsd_cost_rate rates[2]) {
  for (int backward = 0; backward <= 1; backward++)
    rates[backward] = (bsd_cost_rate){.kernel = "cpu",
                                      .backward = backward,
                                      .head_dim = 64,
                                      .block = 64,
                                      .launch_seconds = launch,
                                      .block_seconds = backward ? 3 * block : block};
}

static bsd_cost_model model_of(const bsd_cost_rate rates[2], double latency, double bandwidth) {
  bsd_cost_model model = {.struct_size = sizeof model, .rates = rates, .nrates = 2};
  model.host = model.network = (bsd_cost_link){latency, 0, bandwidth};
  return model;
}

static bsd_context *context_with(const bsd_cost_model *model, bsd_comm *comm) {
  bsd_context_options options = {.struct_size = sizeof options,
                                 .backend = BSD_BACKEND_CPU,
                                 .threads = 1,
                                 .comm = comm,
                                 .cost_model = model};
  bsd_context *context = NULL;
  bsd_error error = {0};
  library_expect(bsd_context_create(&options, &context, &error), NULL, error.message);
  return context;
}

static bsd_plan *plan_of(bsd_context *context, const char *text, int64_t n, int64_t dim, int rank,
                         int nranks) {
  bsd_problem problem = {.struct_size = sizeof problem, .length = n, .heads = 2, .head_dim = dim};
  bsd_pattern *pattern = library_pattern_text(text);
  bsd_plan *plan = NULL;
  library_expect(nranks > 0
                     ? bsd_plan_create_offline(context, pattern, &problem, rank, nranks, &plan)
                     : bsd_plan_create(context, pattern, &problem, &plan),
                 context, text);
  bsd_pattern_destroy(pattern);
  return plan;
}

static void expect_near(double value, double wanted) {
  ck_assert_msg(fabs(value - wanted) <= 1e-9 * wanted, "%.12g, expected %.12g", value, wanted);
}

START_TEST(predictions_are_counts_times_constants) {
  bsd_cost_rate rates[2];
  make_rates(1e-3, 0, rates);
  bsd_cost_model model = model_of(rates, 0, 1e9);
  bsd_context *context = context_with(&model, NULL);
  bsd_plan *plan = plan_of(context, "blocks=full", 640, 64, 0, 1);
  bsd_plan_statistics stats = library_stats(plan);
  expect_near(stats.predicted_forward_ms, 2 * 100);
  expect_near(stats.predicted_backward_ms, 2 * 2 * 3 * 100);
  expect_near(stats.predicted_efficiency, 1);
  bsd_plan_destroy(plan);
  plan = plan_of(context, "blocks=full", 640, 128, 0, 1); /* scaled to the wider heads */
  expect_near(library_stats(plan).predicted_forward_ms, 2 * 2 * 100);
  bsd_plan_destroy(plan);
  bsd_context_destroy(context);
}
END_TEST

START_TEST(bad_models_are_refused) {
  bsd_cost_rate rates[2];
  make_rates(1e-3, 0, rates);
  bsd_cost_model good = model_of(rates, 0, 1e9), bad[4] = {good, good, good, good};
  const char *words[4] = {"struct_size", "latency_seconds is -1", "nrates", "host_ranks"};
  bad[0].struct_size--;
  bad[1].host.latency_seconds = -1;
  bad[2].rates = NULL;
  bad[3].host_ranks = -1;
  for (int i = 0; i < 4; i++) {
    bsd_context_options options = {.struct_size = sizeof options, .cost_model = &bad[i]};
    bsd_context *context = NULL;
    bsd_error error = {0};
    ck_assert_int_eq(bsd_context_create(&options, &context, &error), BSD_ERR_ARG);
    ck_assert_msg(strstr(error.message, words[i]) != NULL, "%s", error.message);
  }
  rates[1].block_seconds = NAN;
  bsd_context_options options = {.struct_size = sizeof options, .cost_model = &good};
  bsd_context *context = NULL;
  bsd_error error = {0};
  ck_assert_int_eq(bsd_context_create(&options, &context, &error), BSD_ERR_ARG);
  ck_assert_msg(strstr(error.message, "block_seconds is nan") != NULL, "%s", error.message);
}
END_TEST

START_TEST(rank_0_counts_on_all_ranks) {
  bsd_cost_rate rates[2];
  make_rates(1e-3 * (1 + world_rank()), 0, rates);
  bsd_cost_model model = model_of(rates, 0, 1e9);
  bsd_context *world = world_context(1), *context = context_with(&model, world->comm);
  bsd_plan *plan = plan_of(context, "w=64", (int64_t)64 * 4 * world_size(), 64, 0, 0);
  bsd_plan_statistics stats = library_stats(plan);
  suite_expect(fabs(stats.predicted_forward_ms - 2 * 4) < 1e-9, "not rank 0's constants");
  bsd_plan_destroy(plan);
  bsd_context_destroy(context);
  bsd_context_destroy(world);
}
END_TEST

/* The stages that rank 0 of 8 chooses, and that they are predicted to be the fastest. */
static int stages_chosen(const bsd_cost_model *model) {
  bsd_context *context = context_with(model, NULL);
  bsd_plan *plan = plan_of(context, "blocks=local(8,0)", 8192, 64, 3, 8);
  bsd_stages options[BSD_STAGE_OPTIONS];
  int n = bsd_stage_options(8, options), count = plan->stages.count;
  const double *taken = plan->totals.seconds_worst[plan->stage_option];
  for (int o = 0; o < n; o++)
    ck_assert(taken[0] + taken[1] <=
              plan->totals.seconds_worst[o][0] + plan->totals.seconds_worst[o][1]);
  bsd_plan_destroy(plan);
  bsd_context_destroy(context);
  return count;
}

START_TEST(stages_follow_from_costs) {
  bsd_cost_rate rates[2];
  bsd_cost_model model;
  make_rates(1e-6, 1, rates); /* launches are dear, and messages cheap */
  model = model_of(rates, 0, 1e15);
  ck_assert_int_eq(stages_chosen(&model), 1);
  make_rates(1e-3, 0, rates); /* the exchange hides behind the local rows */
  model = model_of(rates, 1e-3, 1e12);
  ck_assert_int_eq(stages_chosen(&model), 2);
  make_rates(1e-6, 0, rates); /* every byte is waited for: rows that have theirs go first */
  model = model_of(rates, 0, 1e9);
  ck_assert_int_ge(stages_chosen(&model), 2);
}
END_TEST

static double predicted(int host_ranks) {
  bsd_cost_rate rates[2];
  make_rates(1e-9, 0, rates);
  bsd_cost_model model = model_of(rates, 0, 1e9);
  model.network.bytes_per_second = 1e8;
  model.host_ranks = host_ranks;
  bsd_context *context = context_with(&model, NULL);
  bsd_plan *plan = plan_of(context, "w=2048", 8192, 64, 0, 8);
  double ms = library_stats(plan).predicted_forward_ms;
  bsd_plan_destroy(plan);
  bsd_context_destroy(context);
  return ms;
}

/* Segments of 2048 tokens lie on two ranks each, of 1024 tokens. */
START_TEST(hosts_are_told_apart) {
  double same = predicted(0), pairs = predicted(2), apart = predicted(1);
  expect_near(pairs, same);
  ck_assert_msg(apart > 5 * same, "%g ms between hosts, %g inside", apart, same);
}
END_TEST

int main(int argc, char **argv) {
  TCase *tests = tcase_create("cost");
  tcase_add_test(tests, predictions_are_counts_times_constants);
  tcase_add_test(tests, bad_models_are_refused);
  tcase_add_test(tests, rank_0_counts_on_all_ranks);
  tcase_add_test(tests, stages_follow_from_costs);
  tcase_add_test(tests, hosts_are_told_apart);
  return suite_run("cost", tests, &argc, &argv);
}
