/* test_dense.c - the dense baseline of bsd_bench against the oracle, on the host and on a GPU. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/bench_dense.h"
#include "oracle.h"
#include "support/device.h"
#include "support/suite.h"
#include "support/tensors.h"

enum { SKIPPED = 77 };

/* What the materialised scores may cost: each is rounded to the type, so are the probabilities. */
static double most_error(bsd_dtype dtype) {
  return dtype == BSD_F32 ? 1e-5 : dtype == BSD_F16 ? 4e-3 : 3e-2;
}

static const bench_dense_library *library;
static void *state;
static cli_device device;

/* ---- memory of the library's device ------------------------------------------------------------ */

static void must(int code, const cli_error *error) {
  ck_assert_msg(code == CLI_GOOD, "%s", error->text);
}

/* A tensor of the type with the values x, or NaN where x is NULL. */
static void *push(const float *x, int64_t count, bsd_dtype dtype) {
  cli_error error = {""};
  size_t width = tensor_element_size(dtype);
  void *memory, *host = oracle_alloc(count, width);
  for (int64_t i = 0; i < count; i++)
    tensor_store(host, i, x != NULL ? x[i] : NAN, dtype);
  must(cli_device_alloc(&device, count * (int64_t)width, &memory, &error), &error);
  must(cli_device_write(&device, memory, host, count * (int64_t)width, &error), &error);
  free(host);
  return memory;
}

/* ||x - ref|| / ||ref|| of a tensor, which is freed. Of one key dq and dk are 0: not less than 1e-3 an
 * element counts for ||ref||. */
static double error_of(void *memory, const double *ref, int64_t count, bsd_dtype dtype) {
  cli_error error = {""};
  size_t width = tensor_element_size(dtype);
  void *host = oracle_alloc(count, width);
  double off = 0, all = 0;
  must(cli_device_read(&device, host, memory, count * (int64_t)width, &error), &error);
  for (int64_t i = 0; i < count; i++) {
    double found = tensor_load(host, i, dtype);
    off += (found - ref[i]) * (found - ref[i]);
    all += ref[i] * ref[i];
  }
  free(host);
  cli_device_free(&device, memory);
  return sqrt(off / fmax(all, 1e-6 * (double)count));
}

/* ---- the oracle's answer, in the baseline's order ---------------------------------------------- */

/* One head of the oracle's [n][heads][D], as [n][D]. */
static void take_head(const double *from, int64_t n, int64_t heads, int64_t head, int64_t dim,
                      double *to) {
  for (int64_t x = 0; x < n * dim; x++)
    to[x] = from[(x / dim * heads + head) * dim + x % dim];
}

static float *by_heads(const float *from, int64_t n, int64_t heads, int64_t dim) {
  float *to = oracle_alloc(n * heads * dim, sizeof *to);
  for (int64_t h = 0; h < heads; h++)
    for (int64_t x = 0; x < n * dim; x++)
      to[h * n * dim + x] = from[(x / dim * heads + h) * dim + x % dim];
  return to;
}

static double *expected_by_heads(double *from, int64_t n, int64_t heads, int64_t dim) {
  double *to = oracle_alloc(n * heads * dim, sizeof *to);
  for (int64_t h = 0; h < heads; h++)
    take_head(from, n, heads, h, dim, to + h * n * dim);
  free(from);
  return to;
}

typedef struct answer {
  double *o, *dq, *dk, *dv;
} answer;

static answer answer_of(const oracle_problem *p, const oracle_inputs *in) {
  int64_t queries = p->n * p->heads * p->dim, keys = p->n * p->kv_heads * p->dim;
  oracle_outputs out = {.o = oracle_alloc(queries, sizeof(double)),
                        .dq = oracle_alloc(queries, sizeof(double)),
                        .dk = oracle_alloc(keys, sizeof(double)),
                        .dv = oracle_alloc(keys, sizeof(double))};
  oracle_attention(p, in, &out);
  return (answer){expected_by_heads(out.o, p->n, p->heads, p->dim),
                  expected_by_heads(out.dq, p->n, p->heads, p->dim),
                  expected_by_heads(out.dk, p->n, p->kv_heads, p->dim),
                  expected_by_heads(out.dv, p->n, p->kv_heads, p->dim)};
}

/* ---- one case ---------------------------------------------------------------------------------- */

static void *push_input(const float *x, const oracle_problem *p, int64_t heads, bsd_dtype dtype) {
  float *packed = by_heads(x, p->n, heads, p->dim);
  void *memory = push(packed, p->n * heads * p->dim, dtype);
  free(packed);
  return memory;
}

static void judge(const char *name, void *memory, double *ref, int64_t count, bsd_dtype dtype) {
  double error = error_of(memory, ref, count, dtype);
  ck_assert_msg(error <= most_error(dtype), "%s is off by %g", name, error);
  free(ref);
}

static void check(int64_t n, int64_t heads, int64_t kv_heads, int64_t dim, int causal,
                  bsd_dtype dtype) {
  cli_error error = {""};
  oracle_problem p = {.batch = 1,
                      .n = n,
                      .heads = heads,
                      .kv_heads = kv_heads,
                      .dim = dim,
                      .block = 64,
                      .causal = causal};
  int64_t queries = n * heads * dim, keys = n * kv_heads * dim, squares = heads * n * n;
  ck_assert(oracle_parse("blocks=full", &p.pattern));
  oracle_inputs in = {.q = tensor_normal(queries, 1, dtype),
                      .k = tensor_normal(keys, 2, dtype),
                      .v = tensor_normal(keys, 3, dtype),
                      .d_o = tensor_normal(queries, 4, dtype)};
  answer ref = answer_of(&p, &in);
  void *q = push_input(in.q, &p, heads, dtype), *k = push_input(in.k, &p, kv_heads, dtype);
  void *v = push_input(in.v, &p, kv_heads, dtype), *d_o = push_input(in.d_o, &p, heads, dtype);
  void *workspace;
  must(cli_device_alloc(&device, library->workspace_bytes, &workspace, &error), &error);
  bench_dense_call call = {.device = &device,
                           .dtype = dtype,
                           .groups = kv_heads,
                           .heads = heads / kv_heads,
                           .n = n,
                           .dim = dim,
                           .causal = causal,
                           .scale = 1 / sqrtf((float)dim),
                           .q = q,
                           .k = k,
                           .v = v,
                           .d_o = d_o,
                           .o = push(NULL, queries, dtype),
                           .dq = push(NULL, queries, dtype),
                           .dk = push(NULL, keys, dtype),
                           .dv = push(NULL, keys, dtype),
                           .scores = push(NULL, squares, dtype),
                           .dscores = push(NULL, squares, dtype),
                           .workspace = workspace};
  must(library->forward(state, &call, &error), &error);
  must(library->backward(state, &call, &error), &error);
  judge("o", call.o, ref.o, queries, dtype);
  judge("dq", call.dq, ref.dq, queries, dtype);
  judge("dk", call.dk, ref.dk, keys, dtype);
  judge("dv", call.dv, ref.dv, keys, dtype);
  void *used[] = {q, k, v, d_o, call.scores, call.dscores, workspace};
  for (size_t i = 0; i < sizeof used / sizeof used[0]; i++)
    cli_device_free(&device, used[i]);
  const void *made[] = {in.q, in.k, in.v, in.d_o};
  for (size_t i = 0; i < sizeof made / sizeof made[0]; i++)
    free((void *)(uintptr_t)made[i]);
}

/* Rows in whole vectors and not, rows longer than a block of threads, heads that share keys. */
static void check_all(bsd_dtype dtype) {
  for (int causal = 0; causal <= 1; causal++) {
    check(200, 2, 2, 16, causal, dtype);
    check(77, 4, 2, 24, causal, dtype);
    check(1, 1, 1, 8, causal, dtype);
    check(640, 3, 1, 64, causal, dtype);
  }
}

START_TEST(test_f32) {
  check_all(BSD_F32);
}
END_TEST

START_TEST(test_16_bit) {
  if (!library->any_dtype)
    return;
  check_all(BSD_BF16);
  check_all(BSD_F16);
}
END_TEST

int main(int argc, char **argv) {
  cli_error error = {""};
  int on_gpu = device_backend() == BSD_BACKEND_CUDA;
  library = on_gpu ? &bench_dense_on_cuda : &bench_dense_on_host;
  int code = cli_device_open(on_gpu, 0, &device, &error);
  if (code == CLI_GOOD)
    code = library->open(&state, &error);
  if (code != CLI_GOOD) {
    printf("skipped: %s\n", error.text);
    return SKIPPED;
  }
  TCase *tests = tcase_create("dense");
  tcase_set_timeout(tests, 60);
  tcase_add_test(tests, test_f32);
  tcase_add_test(tests, test_16_bit);
  int failed = suite_run("dense", tests, &argc, &argv);
  library->close(state);
  cli_device_close(&device);
  return failed;
}
