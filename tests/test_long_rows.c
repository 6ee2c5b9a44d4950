/* test_long_rows.c - rows of more than 32K keys, and of more queries, against a sample of the oracle's rows. */
#include <stdlib.h>
#include <string.h>

#include "oracle.h"
#include "support/attention.h"
#include "support/compare.h"
#include "support/library.h"
#include "support/suite.h"
#include "support/tensors.h"

enum { LENGTH = 36001, HEADS = 1, DIM = 16, SAMPLES = 12, KEY_SAMPLES = 6 };

/* Rows that see all keys, and rows that see few; keys that all queries see, and keys that few see. */
static const int64_t queries[SAMPLES] = {0,    1,     31,    63,    64,    65,
                                         1000, 18000, 35000, 35967, 35968, 36000};
static const int64_t keys[KEY_SAMPLES] = {0, 63, 64, 20000, 35968, 36000};

/* The sampled rows of a tensor [n][heads][D], as floats. */
static float *sample(const void *tensor, const int64_t *rows, int64_t count, int64_t heads,
                     bsd_dtype dtype) {
  int64_t width = heads * DIM;
  float *x = oracle_alloc(count * width, sizeof *x);
  for (int64_t y = 0; y < count * width; y++)
    x[y] = tensor_load(tensor, rows[y / width] * width + y % width, dtype);
  return x;
}

static void judge(const char *name, const void *tensor, const int64_t *rows, int64_t count,
                  int64_t heads, bsd_dtype dtype, compare_kind kind, const double *ref,
                  const double *floors) {
  compare_bounds bounds = {.dtype = dtype, .kind = kind, .keys = LENGTH};
  float *x = sample(tensor, rows, count, heads, dtype);
  compare_report report = compare_tensor(bounds, x, ref, count * heads, DIM, floors);
  ck_assert_msg(report.pass,
                "%s: tensor %.3g, element %.3g of what they may be off (%g, expected %g)", name,
                report.tensor_ratio, report.element_ratio, report.found, report.expected);
  free(x);
}

static void check_queries(const oracle_problem *p, const oracle_inputs *in,
                          const attention_result *result, bsd_dtype dtype) {
  double o[SAMPLES * HEADS * DIM], dq[SAMPLES * HEADS * DIM], lse[SAMPLES * HEADS];
  double floors[SAMPLES * HEADS];
  float found[SAMPLES * HEADS];
  for (int x = 0; x < SAMPLES; x++)
    for (int h = 0; h < HEADS; h++) {
      int row = x * HEADS + h;
      oracle_query(p, in, 0, h, queries[x], o + row * DIM, lse + row, dq + row * DIM, floors + row);
      found[row] = result->lse[h * LENGTH + queries[x]];
    }
  ck_assert(compare_lse(dtype, found, lse, SAMPLES * HEADS).pass);
  judge("o", result->o, queries, SAMPLES, HEADS, dtype, COMPARE_OUTPUT, o, NULL);
  judge("dq", result->dq, queries, SAMPLES, HEADS, dtype, COMPARE_GRADIENT, dq, floors);
}

static void check_keys(const oracle_problem *p, const oracle_inputs *in,
                       const attention_result *result, bsd_dtype dtype) {
  double dk[KEY_SAMPLES * DIM], dv[KEY_SAMPLES * DIM], floors[KEY_SAMPLES];
  oracle_cache cache = oracle_cache_create(p);
  for (int x = 0; x < KEY_SAMPLES; x++)
    oracle_key(p, in, &cache, 0, 0, keys[x], dk + x * DIM, dv + x * DIM, floors + x);
  oracle_cache_free(&cache);
  judge("dk", result->dk, keys, KEY_SAMPLES, 1, dtype, COMPARE_GRADIENT, dk, floors);
  judge("dv", result->dv, keys, KEY_SAMPLES, 1, dtype, COMPARE_GRADIENT, dv, NULL);
}

START_TEST(rows_beyond_32K_hold_the_bounds) {
  static const bsd_dtype dtypes[] = {BSD_F32, BSD_BF16};
  oracle_problem p = attention_shape("blocks=global(1)", LENGTH, HEADS, 1, DIM, 64, 0);
  attention_case c = {.p = &p, .dtype = dtypes[_i]};
  attention_inputs inputs = attention_inputs_create(&p, c.dtype, 1, 91);
  oracle_inputs in = attention_oracle_inputs(&inputs);
  bsd_context *context = library_context(1);
  attention_result result = attention_run(context, &c, &inputs);
  check_queries(&p, &in, &result, c.dtype);
  if (c.dtype == BSD_F32) /* in one type: the oracle needs all queries for it */
    check_keys(&p, &in, &result, c.dtype);
  attention_result_free(&result);
  attention_inputs_free(&inputs);
  bsd_context_destroy(context);
}
END_TEST

int main(int argc, char **argv) {
  TCase *tests = tcase_create("long rows");
  tcase_set_timeout(tests, 120);
  tcase_add_loop_test(tests, rows_beyond_32K_hold_the_bounds, 0, 2);
  return suite_run("long rows", tests, &argc, &argv);
}
