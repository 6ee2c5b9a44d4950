/* bench_dense_cblas.c - dense attention with materialised scores through CBLAS's sgemm.
 *
 * The scores of all heads are held at once, as an eager framework holds them: 4 n^2 bytes a head, and
 * as much again for their gradient. The products are CBLAS's own; softmax is a vector loop here. */
#include "bench/bench_dense.h"

#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

/* The row loops are compiled for each vector width that the processor may have. */
#if defined __x86_64__ && defined __GNUC__ && !defined __clang__
#define BENCH_VECTOR_CLONES                                                                        \
  __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#else
#define BENCH_VECTOR_CLONES
#endif

/* Of OpenBLAS; other libraries keep to their own number of threads. */
extern void openblas_set_num_threads(int threads) __attribute__((weak));
extern char *openblas_get_config(void) __attribute__((weak));

static int open_cblas(void **state, cli_error *error) {
  (void)error;
  *state = NULL;
  return CLI_GOOD;
}

static void close_cblas(void *state) {
  (void)state;
}

static void describe(const void *state, char *text, size_t size) {
  (void)state;
  snprintf(text, size, "%s", openblas_get_config != NULL ? openblas_get_config() : "CBLAS");
}

/* Where there are enough KV heads each OpenMP thread computes its own ones with a one-threaded BLAS:
 * two pools of threads that take turns would spin in each other's way. Else BLAS has all threads. */
static int share_heads(int64_t groups) {
  int threads = 1;
#ifdef _OPENMP
  threads = omp_get_max_threads();
#endif
  int share = groups >= threads;
  if (openblas_set_num_threads != NULL)
    openblas_set_num_threads(share ? 1 : threads);
  return share;
}

/* ---- rows -------------------------------------------------------------------------------- */

/* e^x for -2^21 < x <= 0 as 2^k times a polynomial of the fraction (|error| < 2e-7 relative; below 2^-126
 * it stays there). Branches would keep the loop around it from becoming vector code. */
__attribute__((always_inline)) static inline float exp_negative(float x) {
  float t = x * 1.44269504f;
  float whole = (t + 12582912.f) - 12582912.f; /* rounds: 1.5 * 2^23 has no fraction bits */
  float f = t - whole;
  float y = 1.54035304e-4f;
  y = y * f + 1.33335581e-3f;
  y = y * f + 9.61812911e-3f;
  y = y * f + 5.55041087e-2f;
  y = y * f + 2.40226507e-1f;
  y = y * f + 6.93147181e-1f;
  y = y * f + 1;
  int32_t exponent = (int32_t)whole;
  exponent = exponent < -126 ? -126 : exponent;
  union {
    int32_t bits;
    float value;
  } power = {(exponent + 127) * (1 << 23)};
  return y * power.value;
}

/* Softmax of the first `visible` of n scores in place; the others become 0. */
BENCH_VECTOR_CLONES
static void softmax_row(float *row, int64_t visible, int64_t n) {
  float largest = -INFINITY, sum = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t j = 0; j < visible; j++)
    largest = row[j] > largest ? row[j] : largest;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < visible; j++) {
    row[j] = exp_negative(row[j] - largest);
    sum += row[j];
  }
  float factor = 1 / sum;
#pragma omp simd
  for (int64_t j = 0; j < visible; j++)
    row[j] *= factor;
  memset(row + visible, 0, (size_t)(n - visible) * sizeof *row);
}

/* dscores = P (dP - delta) in place of dP, with delta = sum_j P dP of the row. */
BENCH_VECTOR_CLONES
static void gradient_row(const float *probability, float *gradient, int64_t n) {
  float delta = 0;
#pragma omp simd reduction(+ : delta)
  for (int64_t j = 0; j < n; j++)
    delta += probability[j] * gradient[j];
#pragma omp simd
  for (int64_t j = 0; j < n; j++)
    gradient[j] = probability[j] * (gradient[j] - delta);
}

/* ---- one head ---------------------------------------------------------------------------- */

/* c [rows][cols] = alpha op(a) op(b) + beta c, all row major and packed. */
static void product(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int64_t rows, int64_t cols,
                    int64_t inner, float alpha, const float *a, const float *b, float beta,
                    float *c) {
  cblas_sgemm(CblasRowMajor, ta, tb, (int)rows, (int)cols, (int)inner, alpha, a,
              (int)(ta == CblasNoTrans ? inner : rows), b, (int)(tb == CblasNoTrans ? cols : inner),
              beta, c, (int)cols);
}

/* Tensors of one query head and of its KV head. */
typedef struct head_tensors {
  const float *q, *k, *v, *d_o;
  float *o, *dq, *dk, *dv, *scores, *dscores;
} head_tensors;

static const float *read_at(const void *tensor, int64_t element) {
  return tensor != NULL ? (const float *)tensor + element : NULL;
}

static float *write_at(void *tensor, int64_t element) {
  return tensor != NULL ? (float *)tensor + element : NULL;
}

static head_tensors tensors_of(const bench_dense_call *x, int64_t group, int64_t head) {
  int64_t number = group * x->heads + head;
  int64_t kv = group * x->n * x->dim, mine = number * x->n * x->dim, square = number * x->n * x->n;
  return (head_tensors){.q = read_at(x->q, mine),
                        .k = read_at(x->k, kv),
                        .v = read_at(x->v, kv),
                        .d_o = read_at(x->d_o, mine),
                        .o = write_at(x->o, mine),
                        .dq = write_at(x->dq, mine),
                        .dk = write_at(x->dk, kv),
                        .dv = write_at(x->dv, kv),
                        .scores = write_at(x->scores, square),
                        .dscores = write_at(x->dscores, square)};
}

static void forward_head(const bench_dense_call *x, int64_t group, int64_t head) {
  const head_tensors t = tensors_of(x, group, head);
  int64_t n = x->n;
  product(CblasNoTrans, CblasTrans, n, n, x->dim, x->scale, t.q, t.k, 0, t.scores);
#pragma omp parallel for schedule(static) /* in one thread where heads are shared */
  for (int64_t i = 0; i < n; i++)
    softmax_row(t.scores + i * n, x->causal ? i + 1 : n, n);
  product(CblasNoTrans, CblasNoTrans, n, x->dim, n, 1, t.scores, t.v, 0, t.o);
}

static void backward_head(const bench_dense_call *x, int64_t group, int64_t head) {
  const head_tensors t = tensors_of(x, group, head);
  int64_t n = x->n;
  float beta = head > 0; /* heads of a group add up in dk and dv */
  product(CblasTrans, CblasNoTrans, n, x->dim, n, 1, t.scores, t.d_o, beta, t.dv);
  product(CblasNoTrans, CblasTrans, n, n, x->dim, 1, t.d_o, t.v, 0, t.dscores);
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; i++)
    gradient_row(t.scores + i * n, t.dscores + i * n, n);
  product(CblasNoTrans, CblasNoTrans, n, x->dim, n, x->scale, t.dscores, t.k, 0, t.dq);
  product(CblasTrans, CblasNoTrans, n, x->dim, n, x->scale, t.dscores, t.q, beta, t.dk);
}

static void run_heads(const bench_dense_call *call,
                      void (*pass)(const bench_dense_call *x, int64_t group, int64_t head)) {
  int share = share_heads(call->groups);
#pragma omp parallel for schedule(dynamic) if (share)
  for (int64_t group = 0; group < call->groups; group++)
    for (int64_t head = 0; head < call->heads; head++)
      pass(call, group, head);
}

static int forward(void *state, const bench_dense_call *call, cli_error *error) {
  (void)state;
  (void)error;
  run_heads(call, forward_head);
  return CLI_GOOD;
}

static int backward(void *state, const bench_dense_call *call, cli_error *error) {
  (void)state;
  (void)error;
  run_heads(call, backward_head);
  return CLI_GOOD;
}

const bench_dense_library bench_dense_on_host = {.open = open_cblas,
                                                 .close = close_cblas,
                                                 .describe = describe,
                                                 .forward = forward,
                                                 .backward = backward};
