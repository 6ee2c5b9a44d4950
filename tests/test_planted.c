/* test_planted.c - do the tests see an error? Each kind is planted once, into the kernels' lists and calls,
 * into the oracle's description, and into finished results; each must be caught, and only then. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"
#include "support/attention.h"
#include "support/compare.h"
#include "support/library.h"
#include "support/planted.h"
#include "support/tensors.h"

/* A problem that gives every plant its chance. */
static oracle_problem problem(void) {
  return attention_shape("blocks=strided(2,rows=3);w=96,r=2,offset=kv,window=20:-1", 200, 4, 2, 16,
                         16, 1);
}

/* ---- in the kernels ---- */

START_TEST(kernels_with_a_plant_are_caught) {
  static const bsd_dtype dtypes[] = {BSD_F32, BSD_BF16, BSD_F16};
  plant what = (plant)(_i / 3);
  oracle_problem p = problem();
  attention_case c = {.p = &p, .dtype = dtypes[_i % 3]};
  attention_inputs inputs = attention_inputs_create(&p, c.dtype, 1, 5);
  bsd_context *context = library_context(1);
  plant_into(context, what);
  attention_result result = attention_run(context, &c, &inputs);
  char why[500];
  int good = attention_matches(&c, &p, &inputs, &result, why, sizeof why);
  int subtle = (what == PLANT_SCALE || what == PLANT_BACKWARD_SCALE) && c.dtype != BSD_F32;
  ck_assert_msg(what == PLANT_NOTHING || plant_count() > 0, "%s: nothing was planted",
                plant_names[what]);
  ck_assert_msg(good == (what == PLANT_NOTHING) || subtle, "%s: %s", plant_names[what],
                good ? "not caught" : why);
  attention_result_free(&result);
  attention_inputs_free(&inputs);
  bsd_context_destroy(context);
}
END_TEST

/* ---- in the description ---- */

static void widen_step(oracle_problem *p) {
  p->pattern.branches[0].terms[0].steps[0] = 3;
}
static void drop_a_block(oracle_problem *p) {
  p->pattern.branches[0].terms[0].rows = 2;
}
static void drop_a_branch(oracle_problem *p) {
  p->pattern.nbranches = 1;
}
static void move_the_window(oracle_problem *p) {
  p->pattern.branches[1].left = 21;
}
static void see_the_future(oracle_problem *p) {
  p->causal = 0;
}
static void other_scale(oracle_problem *p) {
  p->scale = 0.2501; /* it is 0.25 */
}
static void other_offset(oracle_problem *p) {
  p->pattern.branches[1].offset = ORACLE_MOD;
}
static void other_block(oracle_problem *p) {
  p->block = 32;
}

static void (*const changes[])(oracle_problem *) = {widen_step,      drop_a_block,   drop_a_branch,
                                                    move_the_window, see_the_future, other_scale,
                                                    other_offset,    other_block};

enum { CHANGES = sizeof changes / sizeof *changes };

START_TEST(another_description_is_caught) {
  oracle_problem p = problem(), changed = p;
  attention_case c = {.p = &p, .dtype = BSD_F32};
  attention_inputs inputs = attention_inputs_create(&p, c.dtype, 1, 5);
  bsd_context *context = library_context(1);
  attention_result result = attention_run(context, &c, &inputs);
  char why[500];
  changes[_i](&changed);
  ck_assert(!attention_matches(&c, &changed, &inputs, &result, why, sizeof why));
  attention_result_free(&result);
  attention_inputs_free(&inputs);
  bsd_context_destroy(context);
}
END_TEST

/* Counts and bytes see it too, but for a scale, and here an offset, which change neither. */
START_TEST(other_plans_are_told_apart) {
  oracle_problem p = problem(), changed = p;
  int32_t *owner = oracle_alloc(p.n, sizeof *owner);
  oracle_owners(&p, &(oracle_layout){.kind = ORACLE_CONTIGUOUS}, 3, owner);
  changes[_i](&changed);
  oracle_plan a = oracle_plan_create(&p, owner, 3, 4),
              b = oracle_plan_create(&changed, owner, 3, 4);
  oracle_counts x = oracle_count(&p), y = oracle_count(&changed);
  ck_assert(x.active_blocks != y.active_blocks || x.active_pairs != y.active_pairs ||
            a.bytes_forward != b.bytes_forward || a.bytes_backward != b.bytes_backward ||
            changes[_i] == other_scale || changes[_i] == other_offset);
  oracle_plan_free(&a);
  oracle_plan_free(&b);
  free(owner);
}
END_TEST

/* ---- in the results ---- */

enum { ROWS = 32, DIM = 16 };

typedef struct results {
  bsd_dtype dtype;
  compare_bounds bounds;
  double ref[ROWS * DIM];
  float x[ROWS * DIM]; /* ref rounded to the type */
} results;

static results rounded_results(int which) {
  static const bsd_dtype dtypes[] = {BSD_F32, BSD_BF16, BSD_F16};
  results r = {.dtype = dtypes[which % 3]};
  r.bounds = (compare_bounds){
      .dtype = r.dtype, .kind = which < 3 ? COMPARE_OUTPUT : COMPARE_GRADIENT, .keys = 100};
  float *a = tensor_normal(ROWS * DIM, 1, BSD_F32), *b = tensor_normal(ROWS * DIM, 2, BSD_F32);
  for (int e = 0; e < ROWS * DIM; e++) {
    r.ref[e] = a[e] + 1e-8 * b[e];
    r.x[e] = (float)tensor_round(r.ref[e], r.dtype);
  }
  free(a);
  free(b);
  return r;
}

static int passes(const results *r) {
  return compare_tensor(r->bounds, r->x, r->ref, ROWS, DIM, NULL).pass;
}

START_TEST(rounded_results_pass_and_wrong_ones_do_not) {
  results r = rounded_results(_i), wrong = r;
  ck_assert(passes(&r));
  wrong.x[77] = NAN;
  ck_assert(!passes(&wrong));
  wrong.x[77] = INFINITY;
  ck_assert(!passes(&wrong));
  wrong = r; /* one element beyond what it may be off */
  double factor = r.dtype == BSD_F32 ? 128 : _i < 3 ? 8 : 32;
  double rms = 0;
  for (int d = 0; d < DIM; d++)
    rms += r.ref[5 * DIM + d] * r.ref[5 * DIM + d] / DIM;
  double allowed = factor * tensor_unit(r.dtype) * (fabs(r.ref[5 * DIM]) + sqrt(rms));
  wrong.x[5 * DIM] = (float)(r.ref[5 * DIM] + 1.01 * allowed);
  ck_assert_double_gt(compare_tensor(r.bounds, wrong.x, r.ref, ROWS, DIM, NULL).element_ratio, 1);
  wrong.x[5 * DIM] = (float)(r.ref[5 * DIM] + 0.99 * allowed);
  ck_assert_double_le(compare_tensor(r.bounds, wrong.x, r.ref, ROWS, DIM, NULL).element_ratio, 1);
  wrong = r; /* all of them a little */
  for (int e = 0; e < ROWS * DIM; e++)
    wrong.x[e] *= (float)(1 + (r.dtype == BSD_F32 ? 2.5e-6 : 3 * tensor_unit(r.dtype)));
  ck_assert(!passes(&wrong));
  wrong = r; /* two rows swapped */
  memcpy(wrong.x, r.x + DIM, DIM * sizeof(float));
  memcpy(wrong.x + DIM, r.x, DIM * sizeof(float));
  ck_assert(!passes(&wrong));
}
END_TEST

START_TEST(lse_is_infinite_exactly_where_it_is) {
  double ref[4] = {1, -INFINITY, 250, 0};
  float x[4] = {1, -INFINITY, 250, 0};
  ck_assert(compare_lse(BSD_F32, x, ref, 4).pass);
  x[2] = 250.002f;
  ck_assert(compare_lse(BSD_F32, x, ref, 4).pass);
  x[2] = 250.003f;
  ck_assert(!compare_lse(BSD_F32, x, ref, 4).pass);
  ck_assert(compare_lse(BSD_F16, x, ref, 4).pass);
  x[2] = 250;
  static const float wrong[] = {-1e30f, INFINITY, NAN};
  for (int y = 0; y < 3; y++) {
    x[1] = wrong[y];
    ck_assert(!compare_lse(BSD_F32, x, ref, 4).pass);
  }
  x[1] = -INFINITY;
  x[0] = -INFINITY;
  ck_assert(!compare_lse(BSD_F32, x, ref, 4).pass);
  x[0] = NAN;
  ck_assert(!compare_lse(BSD_F32, x, ref, 4).pass);
}
END_TEST

/* A query with one key has dq = 0: judged against what its terms were. */
START_TEST(cancelled_gradients_are_judged_by_their_floor) {
  compare_bounds bounds = {.dtype = BSD_F32, .kind = COMPARE_GRADIENT, .keys = 1};
  double ref[4] = {0}, floors[1] = {1};
  float x[4] = {1e-7f, 0, 0, 0};
  ck_assert(!compare_tensor(bounds, x, ref, 1, 4, NULL).pass);
  ck_assert(compare_tensor(bounds, x, ref, 1, 4, floors).pass);
  x[0] = 1e-5f;
  ck_assert(!compare_tensor(bounds, x, ref, 1, 4, floors).pass);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("planted errors");
  TCase *tests = tcase_create("planted errors");
  tcase_set_timeout(tests, 120);
  tcase_add_loop_test(tests, kernels_with_a_plant_are_caught, 0, 3 * PLANT_COUNT);
  tcase_add_loop_test(tests, another_description_is_caught, 0, CHANGES);
  tcase_add_loop_test(tests, other_plans_are_told_apart, 0, CHANGES);
  tcase_add_loop_test(tests, rounded_results_pass_and_wrong_ones_do_not, 0, 6);
  tcase_add_test(tests, lse_is_infinite_exactly_where_it_is);
  tcase_add_test(tests, cancelled_gradients_are_judged_by_their_floor);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
