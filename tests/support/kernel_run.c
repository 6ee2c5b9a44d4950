/* kernel_run.c - see kernel_run.h. */
#include "support/kernel_run.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "support/device.h"
#include "support/tensors.h"

enum { POISON = 0xff }; /* NaN in every type */

typedef struct device_run {
  device_memory memory;
  const kernel_case *c;
  bsd_call call;
  bsd_received received[6][CASE_SOURCES - 1];
  int64_t head_row[CASE_SOURCES - 1][16]; /* of the tensor that is being made */
} device_run;

static void must(bsd_status status, const bsd_error *error) {
  ck_assert_msg(status == BSD_OK, "%s", error->message);
}

/* ---- memory ----------------------------------------------------------------------------------- */

void device_memory_open(device_memory *memory, const bsd_backend_table *table, int threads) {
  const bsd_context_options options = {.struct_size = sizeof options, .threads = threads};
  bsd_error error;
  *memory = (device_memory){.table = table};
  must(table->open(&options, &memory->device, NULL, 0, &error), &error);
}

void device_memory_close(device_memory *memory) {
  while (memory->nmemory > 0)
    memory->table->release(memory->device, memory->memory[--memory->nmemory]);
  memory->table->close(memory->device);
}

void *device_memory_take(device_memory *memory, const void *host, int64_t bytes) {
  bsd_error error;
  void *pointer, *poison = NULL;
  must(memory->table->alloc(memory->device, bytes, &pointer, &error), &error);
  ck_assert((uintptr_t)pointer % 64 == 0);
  if (!host) {
    host = poison = malloc((size_t)bytes + 1);
    memset(poison, POISON, (size_t)bytes);
  }
  must(memory->table->copy_in(memory->device, pointer, host, bytes, NULL, &error), &error);
  free(poison);
  ck_assert_int_lt(memory->nmemory, (int64_t)(sizeof memory->memory / sizeof *memory->memory));
  memory->memory[memory->nmemory++] = pointer;
  return pointer;
}

static void *upload(device_run *run, const void *host, int64_t bytes) {
  return device_memory_take(&run->memory, host, bytes);
}

/* ---- what a call reads and writes ------------------------------------------------------------- */

/* The gaps keep the alignment that CUDA asks for where D allows it. */
bsd_tensor kernel_strides(const kernel_case *c, int64_t heads, int by_head) {
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
  bsd_operand made = {.local = kernel_strides(c, heads, which % 2)};
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
  bsd_tensor tensor = kernel_strides(run->c, heads, by_head);
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

/* ---- running it ------------------------------------------------------------------------------- */

static kernel_result download(const device_run *run, const void *from, int64_t bytes) {
  bsd_error error;
  kernel_result host = {bytes, malloc((size_t)bytes + 1)};
  must(run->memory.table->copy_out(run->memory.device, host.data, from, bytes, NULL, &error),
       &error);
  return host;
}

void kernel_results_free(kernel_results *results) {
  for (int i = 0; i < RESULTS; i++)
    free(results->tensor[i].data);
}

static void run_passes(device_run *run, const bsd_kernels *kernels, const bsd_kernel_shape *shape,
                       int accumulate) {
  const kernel_case *c = run->c;
  const bsd_call *call = &run->call;
  bsd_lists *forward, *backward;
  bsd_error error;
  must(run->memory.table->prepare(run->memory.device, kernels, shape, c->forward,
                                  c->options.npasses, &forward, &error),
       &error);
  must(run->memory.table->prepare(run->memory.device, kernels, shape, c->backward,
                                  c->options.npasses, &backward, &error),
       &error);
  must(kernels->clear_forward(run->memory.device, call, NULL, &error), &error);
  must(kernels->clear_backward(run->memory.device, call, NULL, &error), &error);
  for (int p = 0; p < c->options.npasses; p++)
    for (int stage = 0; stage < CASE_STAGES; stage++) {
      must(kernels->forward(run->memory.device, call, forward, p, stage, NULL, &error), &error);
      must(kernels->backward_dkv(run->memory.device, call, backward, p, stage, NULL, &error),
           &error);
      must(kernels->backward_dq(run->memory.device, call, forward, p, stage, NULL, &error), &error);
    }
  if (accumulate) {
    must(kernels->combine(run->memory.device, call, NULL, &error), &error);
    must(kernels->finish_backward(run->memory.device, call, NULL, &error), &error);
  }
  must(kernels->delta(run->memory.device, call, NULL, &error), &error);
  must(run->memory.table->synchronize(run->memory.device, NULL, &error), &error);
  run->memory.table->discard(run->memory.device, forward);
  run->memory.table->discard(run->memory.device, backward);
}

static bsd_kernel_shape shape_of(const kernel_case *c) {
  return (bsd_kernel_shape){.batch = c->batch,
                            .heads = c->heads,
                            .kv_heads = c->kv_heads,
                            .head_dim = c->options.dim,
                            .block = c->options.block,
                            .dtype = c->options.dtype,
                            .causal = 1,
                            .has_window = 1};
}

kernel_results kernel_run(const kernel_family *family, const kernel_case *c, int threads,
                          int accumulate) {
  device_run *run = calloc(1, sizeof *run);
  bsd_error error;
  const bsd_kernels *kernels;
  const bsd_kernel_shape shape = shape_of(c);
  device_memory_open(&run->memory, family->table, threads);
  void *device = run->memory.device;
  run->c = c;
  must(family->table->select(device, &shape, family->kernel, &kernels, &error), &error);
  fill_call(run, accumulate);
  run->call.scratch = upload(run, NULL, kernels->scratch_bytes(device, &run->call));
  run_passes(run, kernels, &shape, accumulate);
  const bsd_tensor *const tensors[] = {&run->call.o, &run->call.dq, &run->call.dk, &run->call.dv};
  kernel_results r;
  for (int i = 0; i < 4; i++)
    r.tensor[i] = download(run, tensors[i]->data, local_bytes(c, tensors[i]));
  const int64_t stats = c->batch * c->heads * c->length[0];
  r.tensor[RESULT_LSE] = download(run, run->call.lse_out, 4 * stats);
  r.tensor[RESULT_DELTA] = download(run, run->call.delta_out, 4 * stats);
  device_memory_close(&run->memory);
  free(run);
  return r;
}

/* ---- families --------------------------------------------------------------------------------- */

static const kernel_family families[KERNEL_FAMILIES] = {{NULL, BSD_KERNEL_AUTO, "cpu"},
                                                        {NULL, BSD_KERNEL_SIMT, "simt"},
                                                        {NULL, BSD_KERNEL_SM80, "sm80"},
                                                        {NULL, BSD_KERNEL_SM90, "sm90"}};

int kernel_backend_opens(const bsd_backend_table *table) {
  void *device;
  if (table->open(NULL, &device, NULL, 0, NULL) != BSD_OK)
    return 0;
  table->close(device);
  return 1;
}

int kernel_family_at(int index, const kernel_case *c, kernel_family *f) {
  const bsd_kernel_shape shape = shape_of(c);
  const bsd_kernels *kernels;
  void *device;
  *f = families[index];
  if (device_kernel() != BSD_KERNEL_AUTO && f->kernel != device_kernel())
    return 0;
  const bsd_backend id = f->kernel == BSD_KERNEL_AUTO ? BSD_BACKEND_CPU : BSD_BACKEND_CUDA;
  if (bsd_backend_find(id, NULL, &f->table, NULL) != BSD_OK ||
      f->table->open(NULL, &device, NULL, 0, NULL) != BSD_OK)
    return 0;
  const int applies = f->table->select(device, &shape, f->kernel, &kernels, NULL) == BSD_OK;
  f->table->close(device);
  return applies;
}
