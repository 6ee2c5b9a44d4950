/* test_kernels.c - conformance of every backend's kernel table with kernels.h.
 *
 * Random calls (support/kernel_case.h) run on every backend that opens a device. All memory is poisoned
 * with NaN first; what comes out is judged against the fp64 reference and, for other thread numbers and
 * repeats, against the first run bit by bit. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "support/compare.h"
#include "support/device.h"
#include "support/kernel_case.h"
#include "support/scale.h"
#include "support/tensors.h"

enum { POISON = 0xff }; /* NaN in every type */

/* ---- one call on one device ------------------------------------------------------------------- */

/* A kernel family of a backend; the CPU has one. */
typedef struct family {
  const bsd_backend_table *table;
  bsd_kernel kernel;
  const char *name;
} family;

static const family families[] = {{NULL, BSD_KERNEL_AUTO, "cpu"},
                                  {NULL, BSD_KERNEL_SIMT, "simt"},
                                  {NULL, BSD_KERNEL_SM80, "sm80"},
                                  {NULL, BSD_KERNEL_SM90, "sm90"}};
enum { FAMILIES = sizeof families / sizeof families[0] };

typedef struct device_run {
  const bsd_backend_table *table;
  void *device;
  const kernel_case *c;
  bsd_call call;
  void *memory[96]; /* of the device, released at the end */
  int64_t nmemory;
  bsd_received received[6][CASE_SOURCES - 1];
  int64_t head_row[CASE_SOURCES - 1][16]; /* of the tensor that is being made */
} device_run;

typedef struct host_tensor { /* what lies in device memory, as bytes */
  int64_t bytes;
  unsigned char *data;
} host_tensor;

static void must(bsd_status status, const bsd_error *error) {
  ck_assert_msg(status == BSD_OK, "%s", error->message);
}

/* Device memory filled with the bytes at `host`, or with poison. */
static void *upload(device_run *run, const void *host, int64_t bytes) {
  bsd_error error;
  void *pointer, *poison = NULL;
  must(run->table->alloc(run->device, bytes, &pointer, &error), &error);
  ck_assert((uintptr_t)pointer % 64 == 0);
  if (!host) {
    host = poison = malloc((size_t)bytes + 1);
    memset(poison, POISON, (size_t)bytes);
  }
  must(run->table->copy_in(run->device, pointer, host, bytes, NULL, &error), &error);
  free(poison);
  ck_assert(run->nmemory < 96);
  run->memory[run->nmemory++] = pointer;
  return pointer;
}

/* Where (batch, local index, head) of a local tensor begins: [B][n][H][D] with gaps, or [B][H][n][D]. The
 * gaps keep the alignment that CUDA asks for where D allows it. */
static bsd_tensor local_strides(const kernel_case *c, int64_t heads, int by_head) {
  const int64_t dim = c->options.dim, n = c->length[0] + 1, gap = dim % 8 == 0 ? 8 : 5;
  bsd_tensor tensor = {NULL, 0, 0, 0};
  tensor.position_stride = by_head ? dim : heads * dim + gap;
  tensor.head_stride = by_head ? n * dim : dim;
  tensor.batch_stride = by_head ? heads * n * dim + gap : n * tensor.position_stride;
  return tensor;
}

static int64_t local_bytes(const kernel_case *c, const bsd_tensor *tensor) {
  return (c->batch * tensor->batch_stride + 8) * (int64_t)tensor_element_size(c->options.dtype);
}

/* The tokens of one tensor that lie in `source`; values [B][total][heads][D]. */
static void fill_source(const kernel_case *c, const float *values, int64_t heads, int source,
                        bsd_tensor strides, void *to) {
  const int64_t dim = c->options.dim;
  for (int64_t b = 0; b < c->batch; b++)
    for (int64_t t = 0; t < c->total; t++)
      for (int64_t h = 0; h < heads && c->source[t] == source; h++)
        for (int64_t d = 0; d < dim; d++)
          tensor_store(to,
                       b * strides.batch_stride + c->index[t] * strides.position_stride +
                           h * strides.head_stride + d,
                       values[((b * c->total + t) * heads + h) * dim + d], c->options.dtype);
}

/* Lays out message `source` and notes its head rows. */
static bsd_received *message(device_run *run, int which, int source, int64_t heads) {
  const kernel_case *c = run->c;
  bsd_received *received = &run->received[which][source - 1];
  int64_t *head_row = run->head_row[source - 1];
  for (int64_t h = 0; h < heads; h++)
    head_row[h] = 2 + h * (c->length[source] + 1);
  received->head_row = upload(run, head_row, heads * (int64_t)sizeof *head_row);
  received->batch_rows = 3 + heads * (c->length[source] + 1);
  return received;
}

static bsd_operand operand(device_run *run, int which, const float *values, int64_t heads) {
  const kernel_case *c = run->c;
  const int64_t dim = c->options.dim;
  bsd_operand made = {.local = local_strides(c, heads, which % 2)};
  const int64_t bytes = local_bytes(c, &made.local);
  unsigned char *host = malloc((size_t)bytes);
  memset(host, POISON, (size_t)bytes);
  fill_source(c, values, heads, 0, made.local, host);
  made.local.data = upload(run, host, bytes);
  free(host);
  for (int s = 1; s < CASE_SOURCES; s++) {
    bsd_received *received = message(run, which, s, heads);
    const int64_t size = (int64_t)tensor_element_size(c->options.dtype);
    const int64_t all = (c->batch * received->batch_rows + 1) * dim * size;
    const bsd_tensor strides = {NULL, received->batch_rows * dim, dim, (c->length[s] + 1) * dim};
    host = malloc((size_t)all);
    memset(host, POISON, (size_t)all);
    fill_source(c, values, heads, s, strides, host + 2 * dim * size);
    received->data = upload(run, host, all);
    free(host);
  }
  made.received = upload(run, run->received[which], sizeof run->received[which]);
  return made;
}

static bsd_operand_f32 statistic(device_run *run, int which, const double *values) {
  const kernel_case *c = run->c;
  bsd_operand_f32 made = {NULL, NULL};
  for (int s = 0; s < CASE_SOURCES; s++) {
    bsd_received *received = s > 0 ? message(run, which, s, c->heads) : NULL;
    const int64_t batch_rows = received ? received->batch_rows : c->heads * c->length[0];
    const int64_t bytes = (c->batch * batch_rows + 1) * 4;
    float *host = malloc((size_t)bytes);
    memset(host, POISON, (size_t)bytes);
    for (int64_t row = 0; row < c->batch * c->heads * c->total; row++) {
      const int64_t t = row % c->total, h = row / c->total % c->heads;
      const int64_t first = received ? run->head_row[s - 1][h] : h * c->length[0];
      if (c->source[t] == s)
        host[row / c->total / c->heads * batch_rows + first + c->index[t]] = (float)values[row];
    }
    void *data = upload(run, host, bytes);
    free(host);
    if (received)
      received->data = data;
    else
      made.local = data;
  }
  made.received = upload(run, run->received[which], sizeof run->received[which]);
  return made;
}

static bsd_tensor output(device_run *run, int64_t heads, int by_head) {
  bsd_tensor tensor = local_strides(run->c, heads, by_head);
  tensor.data = upload(run, NULL, local_bytes(run->c, &tensor));
  return tensor;
}

static void fill_call(device_run *run, int accumulate) {
  const kernel_case *c = run->c;
  bsd_call *call = &run->call;
  const int64_t stats = c->batch * c->heads * c->length[0];
  *call = (bsd_call){.batch = c->batch,
                     .heads = c->heads,
                     .kv_heads = c->kv_heads,
                     .head_dim = c->options.dim,
                     .tokens = c->length[0],
                     .block = c->options.block,
                     .dtype = c->options.dtype,
                     .scale = c->scale};
  call->q = operand(run, 0, c->q, c->heads);
  call->k = operand(run, 1, c->k, c->kv_heads);
  call->v = operand(run, 2, c->v, c->kv_heads);
  call->d_o = operand(run, 3, c->d_o, c->heads);
  call->lse = statistic(run, 4, c->lse_in);
  call->delta = statistic(run, 5, c->delta);
  call->o = output(run, c->heads, 0);
  call->dq = output(run, c->heads, 1);
  call->dk = output(run, c->kv_heads, 0);
  call->dv = output(run, c->kv_heads, 1);
  call->lse_out = upload(run, NULL, 4 * stats);
  call->delta_out = upload(run, NULL, 4 * stats);
  double *dlse = calloc((size_t)(c->batch * c->heads * c->total + 1), sizeof *dlse);
  for (int64_t i = 0; i < c->batch * c->heads * c->total; i++)
    dlse[i] = c->dlse[i];
  call->dlse = statistic(run, 5, dlse).local;
  free(dlse);
  if (accumulate) {
    const int64_t dim = c->options.dim, keys = c->batch * c->kv_heads * c->length[0];
    call->acc_o = upload(run, NULL, 4 * stats * dim);
    call->acc_lse = upload(run, NULL, 4 * stats);
    call->acc_dq = upload(run, NULL, 4 * stats * dim);
    call->acc_dk = upload(run, NULL, 4 * keys * dim);
    call->acc_dv = upload(run, NULL, 4 * keys * dim);
  }
}

/* ---- results ---------------------------------------------------------------------------------- */

enum { O, DQ, DK, DV, LSE, DELTA, RESULTS };

typedef struct results {
  host_tensor tensor[RESULTS];
} results;

static host_tensor download(const device_run *run, const void *from, int64_t bytes) {
  bsd_error error;
  host_tensor host = {bytes, malloc((size_t)bytes + 1)};
  must(run->table->copy_out(run->device, host.data, from, bytes, NULL, &error), &error);
  return host;
}

static void free_results(results *r) {
  for (int i = 0; i < RESULTS; i++)
    free(r->tensor[i].data);
}

static void run_passes(device_run *run, const bsd_kernels *kernels, const bsd_kernel_shape *shape,
                       int accumulate) {
  const kernel_case *c = run->c;
  const bsd_call *call = &run->call;
  bsd_lists *forward, *backward;
  bsd_error error;
  must(run->table->prepare(run->device, kernels, shape, c->forward, c->options.npasses, &forward,
                           &error),
       &error);
  must(run->table->prepare(run->device, kernels, shape, c->backward, c->options.npasses, &backward,
                           &error),
       &error);
  must(kernels->clear_forward(run->device, call, NULL, &error), &error);
  must(kernels->clear_backward(run->device, call, NULL, &error), &error);
  for (int p = 0; p < c->options.npasses; p++)
    for (int stage = 0; stage < CASE_STAGES; stage++) {
      must(kernels->forward(run->device, call, forward, p, stage, NULL, &error), &error);
      must(kernels->backward_dq(run->device, call, forward, p, stage, NULL, &error), &error);
      must(kernels->backward_dkv(run->device, call, backward, p, stage, NULL, &error), &error);
    }
  if (accumulate) {
    must(kernels->combine(run->device, call, NULL, &error), &error);
    must(kernels->finish_backward(run->device, call, NULL, &error), &error);
  }
  must(kernels->delta(run->device, call, NULL, &error), &error);
  must(run->table->synchronize(run->device, NULL, &error), &error);
  run->table->discard(run->device, forward);
  run->table->discard(run->device, backward);
}

static bsd_kernel_shape shape_of(const kernel_case *c) {
  return (bsd_kernel_shape){.heads = c->heads,
                            .kv_heads = c->kv_heads,
                            .head_dim = c->options.dim,
                            .block = c->options.block,
                            .dtype = c->options.dtype,
                            .causal = 1,
                            .has_window = 1};
}

static results run_case(const family *f, const kernel_case *c, int threads, int accumulate) {
  const bsd_backend_table *table = f->table;
  device_run *run = calloc(1, sizeof *run);
  bsd_error error;
  const bsd_kernels *kernels;
  const bsd_kernel_shape shape = shape_of(c);
  const bsd_context_options options = {.struct_size = sizeof options, .threads = threads};
  run->table = table;
  run->c = c;
  must(table->open(&options, &run->device, NULL, 0, &error), &error);
  must(table->select(run->device, &shape, f->kernel, &kernels, &error), &error);
  fill_call(run, accumulate);
  run->call.scratch = upload(run, NULL, kernels->scratch_bytes(run->device, &run->call));
  run_passes(run, kernels, &shape, accumulate);
  const bsd_tensor *const tensors[] = {&run->call.o, &run->call.dq, &run->call.dk, &run->call.dv};
  results r;
  for (int i = 0; i < 4; i++)
    r.tensor[i] = download(run, tensors[i]->data, local_bytes(c, tensors[i]));
  const int64_t stats = c->batch * c->heads * c->length[0];
  r.tensor[LSE] = download(run, run->call.lse_out, 4 * stats);
  r.tensor[DELTA] = download(run, run->call.delta_out, 4 * stats);
  while (run->nmemory > 0)
    table->release(run->device, run->memory[--run->nmemory]);
  table->close(run->device);
  free(run);
  return r;
}

/* ---- judging ---------------------------------------------------------------------------------- */

static char case_text[256];

static void describe(const kernel_case *c, const char *backend, int accumulate) {
  static const char *const names[] = {"f32", "bf16", "f16"};
  snprintf(
      case_text, sizeof case_text,
      "%s seed %llu %s D %lld block %lld tokens %lld sources %d passes %d%s B %lld H %lld/%lld",
      backend, (unsigned long long)c->options.seed, names[c->options.dtype],
      (long long)c->options.dim, (long long)c->options.block, (long long)c->total,
      c->options.sources, c->options.npasses, accumulate ? " accumulated" : "", (long long)c->batch,
      (long long)c->heads, (long long)c->kv_heads);
}

/* The local tokens of a result beside the reference; a token that is in no segment has 0. Padding must
 * still be poison. */
static void judge_tensor(const kernel_case *c, const char *name, const host_tensor *found,
                         int64_t heads, int by_head, const double *ref, const double *floors,
                         compare_kind kind, int rounded) {
  const int64_t dim = c->options.dim, n = c->length[0], rows = c->batch * n * heads;
  const bsd_tensor strides = local_strides(c, heads, by_head);
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
      ck_abort_msg("%s: %s was written outside its rows", case_text, name);
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
                case_text, name, report.error, report.tensor_ratio, (long long)report.element,
                report.found, report.expected, report.element_ratio);
  free(x);
  free(expected);
  free(floor);
  free(written);
}

/* lse by its bound. delta (from the rounded o) roughly: its error is that of o times |do|. */
static void judge_statistics(const kernel_case *c, const results *r) {
  const int64_t n = c->length[0], count = c->batch * c->heads * n;
  const float *lse = (const float *)(const void *)r->tensor[LSE].data;
  const float *delta = (const float *)(const void *)r->tensor[DELTA].data;
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
      ck_abort_msg("%s: delta %g for %g", case_text, (double)delta[at], c->delta[from]);
  }
  const compare_report report = compare_lse(c->options.dtype, lse, expected, count);
  ck_assert_msg(report.pass, "%s: lse %g for %g", case_text, report.found, report.expected);
  free(expected);
}

/* In a row of a few elements o and dv may cancel as well: no fp32 sum is exact then. */
static const double *few(const kernel_case *c, const double *floors) {
  return c->options.dim < 16 ? floors : NULL;
}

/* The families for tensor cores round probabilities to the type. */
static void judge(const kernel_case *c, const family *f, const results *r) {
  const int rounded = f->kernel == BSD_KERNEL_SM80 || f->kernel == BSD_KERNEL_SM90;
  judge_statistics(c, r);
  judge_tensor(c, "o", &r->tensor[O], c->heads, 0, c->o, few(c, c->o_floor), COMPARE_OUTPUT,
               rounded);
  judge_tensor(c, "dq", &r->tensor[DQ], c->heads, 1, c->dq, c->dq_floor, COMPARE_GRADIENT, rounded);
  judge_tensor(c, "dk", &r->tensor[DK], c->kv_heads, 0, c->dk, c->dk_floor, COMPARE_GRADIENT,
               rounded);
  judge_tensor(c, "dv", &r->tensor[DV], c->kv_heads, 1, c->dv, few(c, c->dv_floor),
               COMPARE_GRADIENT, rounded);
}

static void must_equal(const results *a, const results *b, const char *what) {
  static const char *const names[] = {"o", "dq", "dk", "dv", "lse", "delta"};
  for (int i = 0; i < RESULTS; i++)
    ck_assert_msg(memcmp(a->tensor[i].data, b->tensor[i].data, (size_t)a->tensor[i].bytes) == 0,
                  "%s: %s differs with %s", case_text, names[i], what);
}

/* ---- tests ------------------------------------------------------------------------------------ */

static int opens(const bsd_backend_table *table) {
  void *device;
  if (table->open(NULL, &device, NULL, 0, NULL) != BSD_OK)
    return 0;
  table->close(device);
  return 1;
}

/* The index-th family if its backend opens a device and it runs the case's shape. */
static int family_at(int index, const kernel_case *c, family *f) {
  const bsd_kernel_shape shape = shape_of(c);
  const bsd_kernels *kernels;
  void *device;
  *f = families[index];
  if (device_kernel() != BSD_KERNEL_AUTO && f->kernel != device_kernel())
    return 0;
  const bsd_backend id = f->kernel == BSD_KERNEL_AUTO ? BSD_BACKEND_CPU : BSD_BACKEND_CUDA;
  if (bsd_backend_find(id, &f->table, NULL) != BSD_OK ||
      f->table->open(NULL, &device, NULL, 0, NULL) != BSD_OK)
    return 0;
  const int applies = f->table->select(device, &shape, f->kernel, &kernels, NULL) == BSD_OK;
  f->table->close(device);
  return applies;
}

static void run_and_judge(const case_options *options, int accumulate, int threads) {
  kernel_case *c = kernel_case_make(options);
  family f;
  for (int i = 0; i < FAMILIES; i++) {
    if (!family_at(i, c, &f))
      continue;
    describe(c, f.name, accumulate);
    results r = run_case(&f, c, threads, accumulate);
    judge(c, &f, &r);
    free_results(&r);
  }
  kernel_case_free(c);
}

static const int64_t dims[] = {1, 3, 20, 32, 64, 80, 128, 256};
static const int64_t blocks[] = {16, 32, 64, 128, 256};
enum { DIMS = sizeof dims / sizeof dims[0], BLOCKS = sizeof blocks / sizeof blocks[0] };

static case_options options_for(uint64_t seed, int64_t dim, int64_t block, bsd_dtype dtype) {
  uint64_t state = seed;
  const int64_t small = dim * block > 4096 ? 2 : 4;
  return (case_options){.seed = seed,
                        .dtype = dtype,
                        .dim = dim,
                        .block = block,
                        .tokens = 1 + case_draw(&state, small * (block < 64 ? 64 : block)),
                        .sources = (int)(1 + case_draw(&state, CASE_SOURCES)),
                        .npasses = (int)(1 + case_draw(&state, CASE_PASSES)),
                        .density = 0.2 * (double)case_draw(&state, 6)};
}

/* Every dtype, head dimension and block size, alone and with accumulators. */
START_TEST(results_keep_their_bounds) {
  const bsd_dtype dtype = (bsd_dtype)(_i % 3);
  for (int64_t x = 0; x < test_count(DIMS * BLOCKS); x++) {
    const int64_t d = x % DIMS, b = (x / DIMS + x) % BLOCKS;
    const uint64_t seed = (uint64_t)(1 + _i + 3 * x);
    const case_options options = options_for(seed, dims[d], blocks[b], dtype);
    run_and_judge(&options, options.npasses > 1 || seed % 2, 1 + (int)(seed % 3));
  }
}
END_TEST

/* Rows of more blocks than a chunk, and all keys for every query. */
START_TEST(long_rows_keep_their_bounds) {
  const case_options long_row = {.seed = 77,
                                 .dtype = BSD_F32,
                                 .dim = 16,
                                 .block = 16,
                                 .tokens = 900,
                                 .sources = 2,
                                 .npasses = 1,
                                 .density = 1};
  run_and_judge(&long_row, 0, 2);
}
END_TEST

START_TEST(bits_do_not_depend_on_threads_or_repeats) {
  for (int64_t i = 0; i < test_count(12); i++) {
    const uint64_t seed = 1000 + (uint64_t)i;
    const case_options options =
        options_for(seed, dims[i % DIMS], blocks[i % BLOCKS], (bsd_dtype)(i % 3));
    kernel_case *c = kernel_case_make(&options);
    family f;
    for (int x = 0; x < FAMILIES; x++) {
      if (!family_at(x, c, &f))
        continue;
      const int accumulate = options.npasses > 1;
      describe(c, f.name, accumulate);
      results first = run_case(&f, c, 1, accumulate);
      for (int threads = 1; threads <= 3; threads++) {
        results again = run_case(&f, c, threads, accumulate);
        must_equal(&first, &again, "another number of threads or a repeat");
        free_results(&again);
      }
      free_results(&first);
    }
    kernel_case_free(c);
  }
}
END_TEST

/* The CPU backend's instruction sets are kernels of their own. */
START_TEST(every_instruction_set_keeps_the_bounds) {
  static const char *const sets[] = {"baseline", "avx2", "avx512"};
  const bsd_backend_table *table;
  setenv("BSD_CPU_ISA", sets[_i], 1);
  if (bsd_backend_find(BSD_BACKEND_CPU, &table, NULL) == BSD_OK && opens(table))
    for (int64_t i = 0; i < test_count(2 * DIMS); i++) {
      const case_options options =
          options_for(2000 + (uint64_t)i, dims[i % DIMS], blocks[i % BLOCKS], (bsd_dtype)(i % 3));
      run_and_judge(&options, options.npasses > 1, 2);
    }
  unsetenv("BSD_CPU_ISA");
}
END_TEST

START_TEST(the_cpu_refuses_what_it_lacks) {
  const bsd_backend_table *table;
  const bsd_kernel_shape shape = {
      .heads = 1, .kv_heads = 1, .head_dim = 64, .block = 64, .dtype = BSD_F32};
  const bsd_kernels *kernels = NULL;
  bsd_error error;
  void *device;
  char text[80];
  ck_assert_int_eq(bsd_backend_find(BSD_BACKEND_CPU, &table, &error), BSD_OK);
  ck_assert_int_eq(table->open(NULL, &device, text, sizeof text, &error), BSD_OK);
  ck_assert_msg(strncmp(text, "CPU, ", 5) == 0, "description is '%s'", text);
  ck_assert_int_eq(table->select(device, &shape, BSD_KERNEL_SM80, &kernels, &error),
                   BSD_ERR_UNSUPPORTED);
  ck_assert_ptr_null(kernels);
  ck_assert_ptr_nonnull(strstr(error.message, "sm80"));
  ck_assert_int_eq(table->select(device, &shape, BSD_KERNEL_AUTO, &kernels, &error), BSD_OK);
  ck_assert_str_eq(kernels->forward_name, "cpu");
  ck_assert_str_eq(kernels->backward_name, "cpu");
  table->release(device, NULL);
  table->close(device);
  ck_assert_int_eq(bsd_backend_find((bsd_backend)9, &table, &error), BSD_ERR_UNSUPPORTED);
  ck_assert_int_eq(bsd_backend_find(BSD_BACKEND_AUTO, &table, &error), BSD_OK);
}
END_TEST

/* Two heads of one class and one of another, from a tensor with gaps. */
START_TEST(pack_gathers_rows_in_order) {
  enum { HEADS = 3, TOKENS = 20, DIM = 5, ROWS = 8 };
  static const bsd_pack_run runs[] = {{1, 3, 4, 0}, {14, 1, 2, 4}, {2, 2, 1, 0}, {19, 1, 1, 1}};
  static const int64_t class_ptr[] = {0, 2, 4}, head_row[] = {1, 20, 10};
  static const int32_t run_class[] = {0, 1, 0};
  static const int64_t expected[HEADS][6] = {
      {1, 4, 7, 10, 14, 15}, {2, 19, -1, -1, -1, -1}, {1, 4, 7, 10, 14, 15}};
  float from[2][TOKENS][HEADS][DIM + 1], to[2 * 30 * DIM + 30];
  for (size_t i = 0; i < sizeof from / sizeof(float); i++)
    (&from[0][0][0][0])[i] = (float)i;
  for (const bsd_backend_table *const *table = bsd_backends(); *table; table++) {
    if (!opens(*table))
      continue;
    device_run run = {.table = *table};
    bsd_error error;
    must((*table)->open(NULL, &run.device, NULL, 0, &error), &error);
    const bsd_tensor tensor = {upload(&run, from, sizeof from), TOKENS * HEADS * (DIM + 1),
                               HEADS * (DIM + 1), DIM + 1};
    const bsd_pack pack = {HEADS,
                           upload(&run, run_class, sizeof run_class),
                           upload(&run, class_ptr, sizeof class_ptr),
                           upload(&run, runs, sizeof runs),
                           30,
                           upload(&run, head_row, sizeof head_row)};
    void *packed = upload(&run, NULL, sizeof to);
    must((*table)->pack(run.device, &pack, 2, &tensor, DIM, 4, packed, NULL, &error), &error);
    must((*table)->copy_out(run.device, to, packed, sizeof to, NULL, &error), &error);
    for (int b = 0; b < 2; b++)
      for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < 6 && expected[h][i] >= 0; i++)
          ck_assert(memcmp(to + (b * 30 + head_row[h] + i) * DIM, from[b][expected[h][i]][h],
                           DIM * sizeof(float)) == 0);
    ck_assert(isnan(to[0]) && isnan(to[22 * DIM]));
    while (run.nmemory > 0)
      (*table)->release(run.device, run.memory[--run.nmemory]);
    (*table)->close(run.device);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("kernels");
  TCase *tests = tcase_create("conformance");
  tcase_set_timeout(tests, 600);
  tcase_add_loop_test(tests, results_keep_their_bounds, 0, 3);
  tcase_add_test(tests, long_rows_keep_their_bounds);
  tcase_add_test(tests, bits_do_not_depend_on_threads_or_repeats);
  tcase_add_loop_test(tests, every_instruction_set_keeps_the_bounds, 0, 3);
  tcase_add_test(tests, the_cpu_refuses_what_it_lacks);
  tcase_add_test(tests, pack_gathers_rows_in_order);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_ENV);
  const int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
