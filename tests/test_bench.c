/* test_bench.c - the check of bsd_bench: good results pass, planted errors do not, sampled or not. */
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "bench/bench_check.h"
#include "bench/bench_check_sample.h"
#include "bench/bench_tensors.h"
#include "bench/bench_time.h"

enum { MOST_WORDS = 32 };

/* A configuration that has run once, forward and backward. */
typedef struct ran {
  bench_options options;
  bench_cases cases;
  bench_progress progress;
  bench_session session;
  bsd_problem problem;
  bsd_plan *plan;
  bsd_plan_statistics stats;
  bench_tensors tensors;
} ran;

static cli_world world;

static void must(int code, const cli_error *error) {
  ck_assert_msg(code == CLI_GOOD, "%s", error->text);
}

/* Runs what the options (words between single spaces) ask for, on the CPU. */
static ran *run(const char *options) {
  cli_error error = {""};
  ran *r = calloc(1, sizeof *r);
  char *text = strdup(options), *words[MOST_WORDS] = {"bsd_bench"};
  int count = 1;
  for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " "))
    words[count++] = word;
  must(bench_options_read(&r->options, count, words, &error), &error);
  must(bench_cases_create(&r->options, 1, &r->cases, &error), &error);
  r->progress = bench_progress_create(0, 1);
  r->session = (bench_session){.options = &r->options, .world = &world, .progress = &r->progress};
  r->options.common.backend = BSD_BACKEND_CPU;
  must(cli_context_create(&r->options.common, &world, &r->session.context, &error), &error);
  const bench_case *item = &r->cases.items[0];
  r->problem = bench_problem(&r->options, item, item->n, BSD_F32);
  r->stats.struct_size = sizeof r->stats;
  ck_assert_int_eq(bsd_plan_create(r->session.context, item->pattern, &r->problem, &r->plan),
                   BSD_OK);
  ck_assert_int_eq(bsd_plan_stats(r->plan, &r->stats), BSD_OK);
  must(bench_tensors_create(&world.device, r->plan, &r->problem, 0, 1, &r->tensors, &error),
       &error);
  must(bench_pass(&r->session, r->plan, &r->tensors, 1, &error), &error);
  must(bench_pass(&r->session, r->plan, &r->tensors, 0, &error), &error);
  free(text);
  return r;
}

static void end(ran *r) {
  bench_tensors_free(&r->tensors);
  bsd_plan_destroy(r->plan);
  cli_context_destroy(&world, r->session.context);
  bench_cases_free(&r->cases);
  bench_options_free(&r->options);
  free(r);
}

/* The check of the run against the pattern of `item`. */
static bench_check check_of(const ran *r, const bench_case *item) {
  cli_error error = {""};
  bench_check check;
  must(bench_check_run(&r->session, item, r->plan, &r->problem, &r->tensors, &r->stats, &check,
                       &error),
       &error);
  return check;
}

/* Position 0, which every check compares, of each output in turn is made wrong. */
static void expect_caught(const ran *r) {
  const char *const names[] = {"o", "lse", "dq", "dk", "dv"};
  float *const values[] = {r->tensors.o.data, r->tensors.lse, r->tensors.dq.data,
                           r->tensors.dk.data, r->tensors.dv.data};
  for (size_t x = 0; x < sizeof values / sizeof values[0]; x++) {
    float good = *values[x];
    *values[x] = good * 1.01f + 0.01f;
    ck_assert_msg(check_of(r, &r->cases.items[0]).pass == 0, "a wrong %s was not caught", names[x]);
    *values[x] = good;
  }
}

START_TEST(test_all_rows) {
  ran *r = run("-l 300 --heads 4 --kv-heads 2 --dim 8 --pattern w=64;w=256,r=2 --causal");
  bench_check check = check_of(r, &r->cases.items[0]);
  ck_assert_int_eq(check.pass, 1);
  ck_assert_int_eq(check.rows, 300);
  ck_assert_int_eq(check.keys, 300);
  ck_assert_int_eq(check.units, 2);
  expect_caught(r);
  end(r);
}
END_TEST

START_TEST(test_sample) {
  ran *r = run("-l 16000 --heads 2 --dim 8 --pattern w=64;w=512,r=8 --block 16");
  bench_check check = check_of(r, &r->cases.items[0]);
  ck_assert_int_eq(check.pass, 1);
  ck_assert_int_eq(check.rows, 64);
  ck_assert_int_eq(check.keys, 64);
  ck_assert_int_eq(check.from_library, 0);
  expect_caught(r);
  end(r);
}
END_TEST

/* A key that many queries see: the check takes the library's word for their lse, and catches as much. */
START_TEST(test_sample_from_library) {
  ran *r = run("-l 128K --preset longnet --heads 1 --dim 8");
  bench_check check = check_of(r, &r->cases.items[0]);
  ck_assert_int_eq(check.pass, 1);
  ck_assert_int_eq(check.keys, 64);
  ck_assert_int_eq(check.from_library, 1);
  expect_caught(r);
  end(r);
}
END_TEST

/* A bound on a norm means something of many rows only: what a rank may judge alone, one KV head, has enough. */
START_TEST(test_samples_are_large) {
  const struct {
    int64_t n, heads, kv_heads, block;
    double density;
  } shapes[] = {{32768, 8, 8, 128, 0.05},   {32768, 8, 8, 64, 0.05}, {8192, 8, 8, 64, 0.1},
                {8192, 8, 8, 64, 0.23},     {8192, 8, 8, 64, 0.02},  {131072, 32, 8, 64, 1},
                {1048576, 8, 1, 64, 0.005}, {16000, 2, 2, 16, 0.005}};
  for (size_t x = 0; x < sizeof shapes / sizeof shapes[0]; x++) {
    int64_t n = shapes[x].n, heads = shapes[x].heads;
    bsd_problem problem = {.batch = 1,
                           .length = n,
                           .heads = heads,
                           .kv_heads = shapes[x].kv_heads,
                           .head_dim = 64,
                           .block = shapes[x].block};
    int64_t pairs = (int64_t)(shapes[x].density * (double)heads * (double)n * (double)n);
    bench_sample sample = bench_sample_create(&problem, pairs, 1);
    ck_assert_int_lt(sample.nqueries, n);
    ck_assert_int_ge(sample.nqueries * heads / shapes[x].kv_heads, 64);
    ck_assert_int_ge(sample.nkeys, 64);
    for (int64_t y = 1; y < sample.nkeys; y++)
      ck_assert_int_gt(sample.keys[y], sample.keys[y - 1]);
    bench_sample_free(&sample);
  }
}
END_TEST

/* The library ran one branch less than it should have. */
START_TEST(test_another_pattern) {
  const char *const run_options[] = {
      "-l 16000 --heads 1 --dim 8 --pattern w=512 --pattern w=512;w=2048,r=16",
      "-l 300 --heads 1 --dim 8 --pattern w=64 --pattern w=64;w=256,r=8"};
  for (size_t x = 0; x < sizeof run_options / sizeof run_options[0]; x++) {
    ran *r = run(run_options[x]);
    ck_assert_int_eq(check_of(r, &r->cases.items[0]).pass, 1);
    ck_assert_int_eq(check_of(r, &r->cases.items[1]).pass, 0);
    end(r);
  }
}
END_TEST

int main(int argc, char **argv) {
  cli_error error = {""};
  if (cli_start(&argc, &argv, "test_bench", &world, &error) != CLI_GOOD)
    return cli_finish(&world, CLI_FAILED, &error);
  TCase *tests = tcase_create("check");
  tcase_set_timeout(tests, 120);
  tcase_add_test(tests, test_all_rows);
  tcase_add_test(tests, test_sample);
  tcase_add_test(tests, test_sample_from_library);
  tcase_add_test(tests, test_samples_are_large);
  tcase_add_test(tests, test_another_pattern);
  Suite *suite = suite_create("bench");
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_set_fork_status(runner, CK_NOFORK); /* MPI is up */
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner) != 0;
  srunner_free(runner);
  return cli_finish(&world, failed ? CLI_FAILED : CLI_GOOD, &error);
}
