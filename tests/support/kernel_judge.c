/* kernel_judge.c - see kernel_judge.h. */
#include "support/kernel_judge.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/compare.h"
#include "support/tensors.h"

kernel_words kernel_describe(const kernel_case *c, const char *family, int accumulate) {
  static const char *const names[] = {"f32", "bf16", "f16"};
  kernel_words words;
  snprintf(
      words.text, sizeof words.text,
      "%s seed %llu %s D %lld block %lld tokens %lld sources %d passes %d%s B %lld H %lld/%lld",
      family, (unsigned long long)c->options.seed, names[c->options.dtype],
      (long long)c->options.dim, (long long)c->options.block, (long long)c->total,
      c->options.sources, c->options.npasses, accumulate ? " accumulated" : "", (long long)c->batch,
      (long long)c->heads, (long long)c->kv_heads);
  return words;
}

/* The local tokens of a result beside the reference; a token that is in no segment has 0. Padding must
 * still be poison. */
static void judge_tensor(const kernel_case *c, const char *words, const char *name,
                         const kernel_result *found, int64_t heads, int by_head, const double *ref,
                         const double *floors, compare_kind kind, int rounded) {
  const int64_t dim = c->options.dim, n = c->length[0], rows = c->batch * n * heads;
  const bsd_tensor strides = kernel_strides(c, heads, by_head);
  const int64_t elements = found->bytes / (int64_t)tensor_element_size(c->options.dtype);
  float *x = calloc((size_t)(rows * dim + 1), sizeof *x);
  double *expected = calloc((size_t)(rows * dim + 1), sizeof *expected);
  double *floor = calloc((size_t)rows + 1, sizeof *floor);
  char *written = calloc((size_t)elements + 1, 1);
  for (int64_t row = 0; row < rows; row++)
    for (int64_t d = 0; d < dim; d++) {
      const int64_t at = row / heads / n * strides.batch_stride +
                         row / heads % n * strides.position_stride +
                         row % heads * strides.head_stride + d;
      x[row * dim + d] = tensor_load(found->data, at, c->options.dtype);
      written[at] = 1;
    }
  for (int64_t e = 0; e < elements; e++)
    if (!written[e] && !isnan(tensor_load(found->data, e, c->options.dtype)))
      ck_abort_msg("%s: %s was written outside its rows", words, name);
  for (int64_t from = 0; from < c->batch * c->total * heads; from++) {
    const int64_t t = from / heads % c->total, b = from / heads / c->total;
    const int64_t row = (b * n + c->index[t]) * heads + from % heads;
    if (c->source[t] != 0)
      continue;
    memcpy(expected + row * dim, ref + from * dim, (size_t)dim * sizeof *ref);
    floor[row] = floors ? floors[from] : 0;
  }
  const compare_bounds bounds = {c->options.dtype, kind, rounded, c->total};
  const compare_report report =
      compare_tensor(bounds, x, expected, rows, dim, floors ? floor : NULL);
  ck_assert_msg(report.pass, "%s: %s error %.3g (%.3g of the bound), element %lld %g for %g (%.3g)",
                words, name, report.error, report.tensor_ratio, (long long)report.element,
                report.found, report.expected, report.element_ratio);
  free(x);
  free(expected);
  free(floor);
  free(written);
}

/* lse by its bound. delta (from the rounded o) roughly: its error is that of o times |do|. */
static void judge_statistics(const kernel_case *c, const kernel_results *r, const char *words) {
  const int64_t n = c->length[0], count = c->batch * c->heads * n;
  const float *lse = (const float *)(const void *)r->tensor[RESULT_LSE].data;
  const float *delta = (const float *)(const void *)r->tensor[RESULT_DELTA].data;
  double *expected = calloc((size_t)count + 1, sizeof *expected);
  for (int64_t i = 0; i < count; i++)
    expected[i] = -INFINITY;
  for (int64_t from = 0; from < c->batch * c->heads * c->total; from++) {
    const int64_t t = from % c->total, at = from / c->total * n + c->index[t];
    if (c->source[t] != 0)
      continue;
    expected[at] = c->lse[from];
    const double slack = 8 * tensor_unit(c->options.dtype) * (double)c->options.dim + 1e-5;
    if (c->lse_in[from] != -INFINITY && !(fabs(delta[at] - c->delta[from]) <= slack))
      ck_abort_msg("%s: delta %g for %g", words, (double)delta[at], c->delta[from]);
  }
  const compare_report report = compare_lse(c->options.dtype, lse, expected, count);
  ck_assert_msg(report.pass, "%s: lse %g for %g", words, report.found, report.expected);
  free(expected);
}

/* In a row of a few elements o and dv may cancel as well: no fp32 sum is exact then. */
static const double *few(const kernel_case *c, const double *floors) {
  return c->options.dim < 16 ? floors : NULL;
}

/* The families for tensor cores round probabilities to the type. */
void kernel_judge(const kernel_case *c, const kernel_family *family, const kernel_results *r,
                  const char *words) {
  const int rounded = family->kernel == BSD_KERNEL_SM80 || family->kernel == BSD_KERNEL_SM90;
  judge_statistics(c, r, words);
  judge_tensor(c, words, "o", &r->tensor[RESULT_O], c->heads, 0, c->o, few(c, c->o_floor),
               COMPARE_OUTPUT, rounded);
  judge_tensor(c, words, "dq", &r->tensor[RESULT_DQ], c->heads, 1, c->dq, c->dq_floor,
               COMPARE_GRADIENT, rounded);
  judge_tensor(c, words, "dk", &r->tensor[RESULT_DK], c->kv_heads, 0, c->dk, c->dk_floor,
               COMPARE_GRADIENT, rounded);
  judge_tensor(c, words, "dv", &r->tensor[RESULT_DV], c->kv_heads, 1, c->dv, few(c, c->dv_floor),
               COMPARE_GRADIENT, rounded);
}

void kernel_must_equal(const kernel_results *a, const kernel_results *b, const char *what,
                       const char *words) {
  static const char *const names[] = {"o", "dq", "dk", "dv", "lse", "delta"};
  for (int i = 0; i < RESULTS; i++)
    ck_assert_msg(memcmp(a->tensor[i].data, b->tensor[i].data, (size_t)a->tensor[i].bytes) == 0,
                  "%s: %s differs with %s", words, names[i], what);
}
