/* test_identities.c - identities that attention must hold, and known failures of other libraries by name.
 *
 * The same suite runs on any number of ranks; rank 0 judges. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"
#include "support/attention.h"
#include "support/library.h"
#include "support/suite.h"
#include "support/tensors.h"
#include "support/world.h"

static bsd_context *context;

static void start(void) {
  context = world_context(1);
}

static void finish(void) {
  bsd_context_destroy(context);
}

static attention_case plain(const oracle_problem *p, bsd_dtype dtype) {
  return (attention_case){.p = p, .dtype = dtype, .order = ORDER_PADDED};
}

static int judge(void) { /* rank 0 has the results */
  return world_rank() == 0;
}

/* Two patterns that must give the same bits. */
static void expect_same_bits(const char *first, const char *second, int causal) {
  oracle_problem p = attention_shape(first, 150, 4, 2, 16, 16, causal),
                 q = attention_shape(second, 150, 4, 2, 16, 16, causal);
  attention_inputs inputs = attention_inputs_create(&p, BSD_F32, 1, 7);
  attention_case c = plain(&p, BSD_F32), d = plain(&q, BSD_F32);
  attention_result a = attention_run(context, &c, &inputs), b = attention_run(context, &d, &inputs);
  const char *what = "";
  suite_expect(!judge() || attention_equal(&c, &a, &b, &what), what);
  attention_result_free(&a);
  attention_result_free(&b);
  attention_inputs_free(&inputs);
}

/* ---- dense ---- */

/* The textbook's o for one query: softmax over all keys (up to i if causal). */
static void dense_row(const oracle_problem *p, const attention_inputs *in, int64_t h, int64_t i,
                      double *o) {
  int64_t D = p->dim, g = h / (p->heads / p->kv_heads);
  double sum = 0;
  memset(o, 0, (size_t)D * sizeof *o);
  for (int64_t j = 0; j < (p->causal ? i + 1 : p->n); j++) {
    double s = 0;
    for (int64_t d = 0; d < D; d++)
      s += (double)in->q[(i * p->heads + h) * D + d] * in->k[(j * p->kv_heads + g) * D + d];
    double weight = exp(s / sqrt((double)D));
    sum += weight;
    for (int64_t d = 0; d < D; d++)
      o[d] += weight * in->v[(j * p->kv_heads + g) * D + d];
  }
  for (int64_t d = 0; d < D; d++)
    o[d] /= sum;
}

START_TEST(full_is_dense) {
  oracle_problem p = attention_shape("blocks=full", 150, 4, 2, 16, 32, _i);
  attention_inputs inputs = attention_inputs_create(&p, BSD_F32, 0, 11);
  attention_case c = plain(&p, BSD_F32);
  c.forward_only = 1;
  attention_result result = attention_run(context, &c, &inputs);
  int good = 1;
  double o[16];
  for (int64_t i = 0; judge() && i < p.n; i++)
    for (int64_t h = 0; h < p.heads; h++) {
      dense_row(&p, &inputs, h, i, o);
      for (int64_t d = 0; d < p.dim; d++)
        good &= fabs(((float *)result.o)[(i * p.heads + h) * p.dim + d] - o[d]) < 2e-6;
    }
  suite_expect(good, "full is not dense attention");
  attention_result_free(&result);
  attention_inputs_free(&inputs);
}
END_TEST

START_TEST(one_segment_is_dense) {
  expect_same_bits("blocks=full", "w=150", _i);
  expect_same_bits("blocks=full", "w=4000,r=1", _i);
  expect_same_bits("blocks=full", "blocks=local(-1,-1)", _i);
  expect_same_bits("blocks=full", "blocks=strided(3,density=1)+global(1)", _i);
}
END_TEST

START_TEST(an_open_window_is_none) {
  expect_same_bits("w=100,r=2,blocks=local(2,1)", "w=100,r=2,blocks=local(2,1),window=-1:-1", _i);
  expect_same_bits("w=100,r=2,blocks=local(2,1)", "w=100,r=2,blocks=local(2,1),window=500:500", _i);
}
END_TEST

START_TEST(ones_give_ones) {
  static const bsd_dtype dtypes[] = {BSD_F32, BSD_BF16, BSD_F16};
  bsd_dtype dtype = dtypes[_i];
  oracle_problem p =
      attention_shape("w=64;w=0,r=3,offset=kv;blocks=strided(2,rows=2)", 200, 4, 2, 40, 16, 0);
  attention_inputs inputs = attention_inputs_create(&p, dtype, 0, 13);
  for (int64_t e = 0; e < attention_key_elements(&p); e++)
    inputs.v[e] = 1;
  attention_case c = plain(&p, dtype);
  c.forward_only = 1;
  attention_result result = attention_run(context, &c, &inputs);
  int good = 1;
  for (int64_t e = 0; judge() && e < attention_query_elements(&p); e++)
    good &= fabs(tensor_load(result.o, e, dtype) - 1) <= fmax(2 * tensor_unit(dtype), 1e-6);
  suite_expect(good, "V = 1 does not give O = 1");
  attention_result_free(&result);
  attention_inputs_free(&inputs);
}
END_TEST

/* ---- branches ---- */

/* o and lse of three branches' results, merged by exp(lse) in fp64, against those of all together. */
static int merge_is(const oracle_problem *p, const attention_result *all,
                    const attention_result *part) {
  for (int64_t row = 0; row < p->n * p->heads; row++) {
    int64_t at = row % p->heads * p->n + row / p->heads;
    double sum = 0;
    for (int x = 0; x < 3; x++)
      sum += exp((double)part[x].lse[at]);
    if (!(fabs(all->lse[at] - log(sum)) < 1e-5))
      return 0;
    for (int64_t e = row * p->dim; e < (row + 1) * p->dim; e++) {
      double o = 0;
      for (int x = 0; x < 3; x++)
        o += exp((double)part[x].lse[at]) * ((float *)part[x].o)[e] / sum;
      if (!(fabs(((float *)all->o)[e] - o) < 3e-6))
        return 0;
    }
  }
  return 1;
}

/* One softmax over the multiset = branch outputs merged by their weights exp(lse). Also a merge left out on
 * the sparse path over ranks (long-context-attention 176). */
START_TEST(merged_branches_are_one_softmax) {
  static const char *const parts[] = {"w=40", "w=120,r=2", "blocks=strided(3,rows=2),window=60:60"};
  oracle_problem whole = attention_shape("w=40;w=120,r=2;blocks=strided(3,rows=2),window=60:60",
                                         170, 4, 2, 16, 16, _i);
  attention_inputs inputs = attention_inputs_create(&whole, BSD_F32, 0, 17);
  attention_case c = plain(&whole, BSD_F32);
  c.forward_only = 1;
  attention_result all = attention_run(context, &c, &inputs), part[3];
  oracle_problem p[3];
  for (int x = 0; x < 3; x++) {
    p[x] = attention_shape(parts[x], 170, 4, 2, 16, 16, _i);
    c.p = &p[x];
    part[x] = attention_run(context, &c, &inputs);
  }
  int good = !judge() || merge_is(&whole, &all, part);
  suite_expect(good, "merged branches are not the softmax over the multiset");
  attention_result_free(&all);
  for (int x = 0; x < 3; x++)
    attention_result_free(&part[x]);
  attention_inputs_free(&inputs);
}
END_TEST

/* A branch given twice counts its keys twice: o stays, lse grows by log 2. */
START_TEST(a_branch_twice_adds_log_2) {
  oracle_problem once = attention_shape("w=50,r=2", 130, 2, 2, 8, 16, 1),
                 twice = attention_shape("w=50,r=2;w=50,r=2", 130, 2, 2, 8, 16, 1);
  attention_inputs inputs = attention_inputs_create(&once, BSD_F32, 0, 19);
  attention_case c = plain(&once, BSD_F32), d = plain(&twice, BSD_F32);
  attention_result a = attention_run(context, &c, &inputs), b = attention_run(context, &d, &inputs);
  int good = 1;
  for (int64_t e = 0; judge() && e < once.n * once.heads; e++)
    good &= isinf(a.lse[e]) ? a.lse[e] == b.lse[e] : fabs(b.lse[e] - a.lse[e] - log(2)) < 1e-5;
  for (int64_t e = 0; judge() && e < attention_query_elements(&once); e++)
    good &= fabs(((float *)a.o)[e] - ((float *)b.o)[e]) < 1e-6;
  suite_expect(good, "doubling a branch does not add log 2 to lse alone");
  attention_result_free(&a);
  attention_result_free(&b);
  attention_inputs_free(&inputs);
}
END_TEST

/* ---- documents ---- */

static float *rows_of(const float *x, int64_t first, int64_t count, int64_t width) {
  float *rows = oracle_alloc(count * width, sizeof *rows);
  memcpy(rows, x + first * width, (size_t)(count * width) * sizeof *rows);
  return rows;
}

/* Elements of a packed tensor's document equal those of the document alone, to the bit. */
static int same_rows(const void *packed, const void *alone, int64_t first, int64_t count,
                     int64_t width) {
  return memcmp((const float *)packed + first * width, alone,
                (size_t)(count * width) * sizeof(float)) == 0;
}

static int document_alone(const oracle_problem *whole, const attention_inputs *inputs,
                          const attention_result *packed, int64_t first, int64_t end) {
  oracle_problem p = *whole;
  int64_t n = end - first, width = p.heads * p.dim, kv = p.kv_heads * p.dim;
  p.cu_seqlens = NULL;
  p.documents = 0;
  p.n = n;
  attention_inputs in = {rows_of(inputs->q, first, n, width), rows_of(inputs->k, first, n, kv),
                         rows_of(inputs->v, first, n, kv), rows_of(inputs->d_o, first, n, width),
                         NULL};
  attention_case c = plain(&p, BSD_F32);
  attention_result alone = attention_run(context, &c, &in);
  int good = 1;
  if (judge())
    good = same_rows(packed->o, alone.o, first, n, width) &&
           same_rows(packed->dq, alone.dq, first, n, width) &&
           same_rows(packed->dk, alone.dk, first, n, kv) &&
           same_rows(packed->dv, alone.dv, first, n, kv);
  for (int64_t h = 0; judge() && h < p.heads; h++)
    good &= memcmp(packed->lse + h * whole->n + first, alone.lse + h * n,
                   (size_t)n * sizeof(float)) == 0;
  attention_result_free(&alone);
  attention_inputs_free(&in);
  return good;
}

START_TEST(a_packed_document_is_the_document_alone) {
  static const int64_t offsets[] = {0, 70, 70, 71, 200};
  static const char *const texts[] = {"w=48;w=96,r=3", "blocks=random(2,5)+local(1,0)",
                                      "blocks=strided(2:3,density=0.3),window=30:10",
                                      "r=4,offset=group"};
  oracle_problem p = attention_shape(texts[_i % 4], 200, 4, 2, 16, 16, _i / 4);
  p.cu_seqlens = offsets;
  p.documents = 4;
  attention_inputs inputs = attention_inputs_create(&p, BSD_F32, 0, 23);
  attention_case c = plain(&p, BSD_F32);
  attention_result packed = attention_run(context, &c, &inputs);
  for (int64_t d = 0; d < p.documents; d++)
    if (offsets[d] < offsets[d + 1])
      suite_expect(document_alone(&p, &inputs, &packed, offsets[d], offsets[d + 1]),
                   "a packed document differs from the document alone");
  attention_result_free(&packed);
  attention_inputs_free(&inputs);
}
END_TEST

/* ---- what is not seen does not matter ---- */

START_TEST(the_future_changes_nothing) {
  static const char *const texts[] = {"blocks=full", "w=64;w=0,r=3",
                                      "blocks=strided(2,rows=3)+random(2,9)"};
  oracle_problem p = attention_shape(texts[_i], 180, 4, 2, 16, 32, 1);
  attention_inputs inputs = attention_inputs_create(&p, BSD_F32, 0, 29);
  attention_case c = plain(&p, BSD_F32);
  c.forward_only = 1;
  attention_result before = attention_run(context, &c, &inputs);
  int64_t t = 101, kv = p.kv_heads * p.dim, width = p.heads * p.dim;
  for (int64_t e = t * kv; e < (t + 1) * kv; e++) {
    inputs.k[e] += 3;
    inputs.v[e] -= 5;
  }
  attention_result after = attention_run(context, &c, &inputs);
  int good = 1;
  if (judge())
    good = memcmp(before.o, after.o, (size_t)(t * width) * sizeof(float)) == 0 &&
           memcmp((float *)before.o + t * width, (float *)after.o + t * width,
                  (size_t)width * sizeof(float)) != 0;
  suite_expect(good, "a later key changed an earlier output, or its own output not at all");
  attention_result_free(&before);
  attention_result_free(&after);
  attention_inputs_free(&inputs);
}
END_TEST

/* Which (KV head, key) some query sees; which (head, query) sees some key. */
static void find_seen(const oracle_problem *p, unsigned char *keys, unsigned char *queries) {
  int32_t *m = oracle_alloc(p->n, sizeof *m);
  for (int64_t h = 0; h < p->heads; h++)
    for (int64_t i = 0; i < p->n; i++) {
      oracle_query_row(p, h, i, m);
      for (int64_t j = 0; j < p->n; j++)
        if (m[j]) {
          keys[j * p->kv_heads + h / (p->heads / p->kv_heads)] = 1;
          queries[i * p->heads + h] = 1;
        }
    }
  free(m);
}

static int64_t poison(float *x, const unsigned char *seen, int64_t rows, int64_t dim, float value) {
  int64_t poisoned = 0;
  for (int64_t e = 0; e < rows * dim; e++)
    if (!seen[e / dim]) {
      x[e] = value;
      poisoned++;
    }
  return poisoned;
}

static int zero_where_unseen(const void *x, const unsigned char *seen, int64_t rows, int64_t dim) {
  for (int64_t e = 0; e < rows * dim; e++)
    if (!seen[e / dim] && ((const float *)x)[e] != 0)
      return 0;
  return 1;
}

START_TEST(nan_in_what_is_unseen_reaches_nothing) {
  static const char *const texts[] = {
      "w=90,r=3,offset=kv", "combine=heads|w=50,r=4,offset=group;w=64,r=2",
      "w=100,r=2,offset=kv,blocks=strided(2,rows=1),window=0:-1", "r=8;r=8,blocks=local(0,0)"};
  oracle_problem p = attention_shape(texts[_i / 2], 190, 4, 2, 16, 16, _i % 2);
  int64_t rows = p.n * p.heads, key_rows = p.n * p.kv_heads;
  unsigned char *keys = oracle_alloc(key_rows, 1), *queries = oracle_alloc(rows, 1);
  find_seen(&p, keys, queries);
  attention_inputs inputs = attention_inputs_create(&p, BSD_F32, 1, 31);
  attention_case c = plain(&p, BSD_F32);
  attention_result clean = attention_run(context, &c, &inputs);
  int64_t poisoned = poison(inputs.k, keys, key_rows, p.dim, NAN);
  poison(inputs.v, keys, key_rows, p.dim, INFINITY);
  poisoned += poison(inputs.q, queries, rows, p.dim, NAN);
  poison(inputs.d_o, queries, rows, p.dim, INFINITY);
  attention_result dirty = attention_run(context, &c, &inputs);
  const char *what = "no key or query was unseen";
  int good = poisoned > 0;
  if (judge()) {
    good &= attention_equal(&c, &clean, &dirty, &what);
    good &= zero_where_unseen(dirty.dk, keys, key_rows, p.dim) &&
            zero_where_unseen(dirty.dv, keys, key_rows, p.dim) &&
            zero_where_unseen(dirty.dq, queries, rows, p.dim) &&
            zero_where_unseen(dirty.o, queries, rows, p.dim);
  }
  suite_expect(good, what);
  attention_result_free(&clean);
  attention_result_free(&dirty);
  attention_inputs_free(&inputs);
  free(keys);
  free(queries);
}
END_TEST

/* Makes row `row` of x NaN. */
static void spoil(float *x, int64_t row, int64_t dim) {
  for (int64_t d = 0; d < dim; d++)
    x[row * dim + d] = NAN;
}

/* Whether all of o and lse is NaN of each query that sees key j, and of query `spoilt`; `seeing` of them. */
static int seers_are_nan(const oracle_problem *p, bsd_dtype dtype, const attention_result *result,
                         int64_t j, int64_t spoilt, int64_t *seeing) {
  int32_t *m = oracle_alloc(p->n, sizeof *m);
  int good = 1;
  for (int64_t h = 0; h < p->heads; h++)
    for (int64_t i = 0; i < p->n; i++) {
      oracle_query_row(p, h, i, m);
      if (!m[j] && i != spoilt)
        continue;
      ++*seeing;
      good &= isnan(result->lse[h * p->n + i]);
      for (int64_t d = 0; d < p->dim; d++)
        good &= isnan(tensor_load(result->o, (i * p->heads + h) * p->dim + d, dtype));
    }
  free(m);
  return good;
}

START_TEST(nan_in_what_is_seen_is_not_hidden) {
  static const char *const texts[] = {"blocks=local(1,1)", "w=64;w=330,r=3,offset=kv",
                                      "w=330,r=3;blocks=full"};
  oracle_problem p = attention_shape(texts[_i / 2], 330, 4, 2, 64, 64, 0); /* as sm90 wants it */
  bsd_dtype dtype = _i % 2 ? BSD_BF16 : BSD_F32;
  attention_inputs inputs = attention_inputs_create(&p, dtype, 0, 37);
  attention_case c = plain(&p, dtype);
  c.forward_only = 1;
  const int64_t j = 84, i = 300;
  for (int64_t kv = 0; kv < p.kv_heads; kv++)
    spoil(inputs.k, j * p.kv_heads + kv, p.dim);
  for (int64_t h = 0; h < p.heads; h++)
    spoil(inputs.q, i * p.heads + h, p.dim);
  attention_result result = attention_run(context, &c, &inputs);
  int64_t seeing = 0;
  int good = !judge() || (seers_are_nan(&p, dtype, &result, j, i, &seeing) && seeing > p.heads);
  suite_expect(good, "a query of NaN, or that sees a key of NaN, has finite results");
  attention_result_free(&result);
  attention_inputs_free(&inputs);
}
END_TEST

int main(int argc, char **argv) {
  TCase *tests = tcase_create("identities");
  tcase_set_timeout(tests, 120);
  tcase_add_checked_fixture(tests, start, finish);
  tcase_add_loop_test(tests, full_is_dense, 0, 2);
  tcase_add_loop_test(tests, one_segment_is_dense, 0, 2);
  tcase_add_loop_test(tests, an_open_window_is_none, 0, 2);
  tcase_add_loop_test(tests, ones_give_ones, 0, 3);
  tcase_add_loop_test(tests, merged_branches_are_one_softmax, 0, 2);
  tcase_add_test(tests, a_branch_twice_adds_log_2);
  tcase_add_loop_test(tests, a_packed_document_is_the_document_alone, 0, 8);
  tcase_add_loop_test(tests, the_future_changes_nothing, 0, 3);
  tcase_add_loop_test(tests, nan_in_what_is_unseen_reaches_nothing, 0, 8);
  tcase_add_loop_test(tests, nan_in_what_is_seen_is_not_hidden, 0, 6);
  return suite_run("identities", tests, &argc, &argv);
}
