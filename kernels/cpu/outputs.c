/* outputs.c - whole-tensor work: clearing outputs, rounding accumulators into them, delta. */
#include <math.h>
#include <stddef.h>

#include "cpu.h"
#include "rounding.h"

static int threads_of(void *device) {
  return ((bsd_cpu_device *)device)->threads;
}

/* The place of row r of [B][heads][n], n fastest, in a tensor's memory. */
static void *row_of(const bsd_call *call, const bsd_tensor *tensor, int64_t heads, int64_t r) {
  const int64_t token = r % call->tokens, head = r / call->tokens % heads;
  const int64_t batch = r / call->tokens / heads;
  const int64_t index =
      batch * tensor->batch_stride + token * tensor->position_stride + head * tensor->head_stride;
  return (char *)tensor->data + index * bsd_dtype_bytes(call->dtype);
}

static void fill(int threads, float *to, int64_t count, float value) {
#pragma omp parallel for num_threads(threads)
  for (int64_t i = 0; i < count; i++)
    to[i] = value;
}

/* Zeros the accumulator if there is one, else the tensor. */
static void clear(int threads, const bsd_call *call, int64_t heads, float *accumulator,
                  const bsd_tensor *tensor) {
  const int64_t rows = call->batch * heads * call->tokens, dim = call->head_dim;
  if (accumulator) {
    fill(threads, accumulator, rows * dim, 0);
    return;
  }
#pragma omp parallel for num_threads(threads)
  for (int64_t r = 0; r < rows; r++) {
    void *row = row_of(call, tensor, heads, r);
    for (int64_t d = 0; d < dim; d++)
      bsd_store(call->dtype, row, d, 0);
  }
}

/* The accumulator, if there is one, rounded into the tensor. */
static void round_into(int threads, const bsd_call *call, int64_t heads, const float *accumulator,
                       const bsd_tensor *tensor) {
  if (!accumulator)
    return;
  const int64_t rows = call->batch * heads * call->tokens, dim = call->head_dim;
#pragma omp parallel for num_threads(threads)
  for (int64_t r = 0; r < rows; r++) {
    void *row = row_of(call, tensor, heads, r);
    for (int64_t d = 0; d < dim; d++)
      bsd_store(call->dtype, row, d, accumulator[r * dim + d]);
  }
}

bsd_status bsd_cpu_clear_forward(void *device, const bsd_call *call, void *stream,
                                 bsd_error *error) {
  (void)stream, (void)error;
  const int threads = threads_of(device);
  clear(threads, call, call->heads, call->acc_o, &call->o);
  float *lse = call->acc_o ? call->acc_lse : call->lse_out;
  if (lse)
    fill(threads, lse, call->batch * call->heads * call->tokens, -INFINITY);
  return BSD_OK;
}

bsd_status bsd_cpu_clear_backward(void *device, const bsd_call *call, void *stream,
                                  bsd_error *error) {
  (void)stream, (void)error;
  const int threads = threads_of(device);
  clear(threads, call, call->heads, call->acc_dq, &call->dq);
  clear(threads, call, call->kv_heads, call->acc_dk, &call->dk);
  clear(threads, call, call->kv_heads, call->acc_dv, &call->dv);
  return BSD_OK;
}

bsd_status bsd_cpu_combine(void *device, const bsd_call *call, void *stream, bsd_error *error) {
  (void)stream, (void)error;
  const int threads = threads_of(device);
  const int64_t rows = call->batch * call->heads * call->tokens;
  round_into(threads, call, call->heads, call->acc_o, &call->o);
  if (!call->lse_out || !call->acc_lse)
    return BSD_OK;
#pragma omp parallel for num_threads(threads)
  for (int64_t r = 0; r < rows; r++)
    call->lse_out[r] = call->acc_lse[r];
  return BSD_OK;
}

bsd_status bsd_cpu_finish_backward(void *device, const bsd_call *call, void *stream,
                                   bsd_error *error) {
  (void)stream, (void)error;
  const int threads = threads_of(device);
  round_into(threads, call, call->heads, call->acc_dq, &call->dq);
  round_into(threads, call, call->kv_heads, call->acc_dk, &call->dk);
  round_into(threads, call, call->kv_heads, call->acc_dv, &call->dv);
  return BSD_OK;
}

/* Sum of a*b in fp64, in order: delta cancels against dP. */
static double dot(const bsd_call *call, const void *a, const void *b) {
  double sum = 0;
  for (int64_t d = 0; d < call->head_dim; d++)
    sum += (double)bsd_load(call->dtype, a, d) * (double)bsd_load(call->dtype, b, d);
  return sum;
}

bsd_status bsd_cpu_delta(void *device, const bsd_call *call, void *stream, bsd_error *error) {
  (void)stream, (void)error;
  const int threads = threads_of(device);
  const int64_t rows = call->batch * call->heads * call->tokens;
#pragma omp parallel for num_threads(threads)
  for (int64_t r = 0; r < rows; r++) {
    const double sum = dot(call, row_of(call, &call->d_o.local, call->heads, r),
                           row_of(call, &call->o, call->heads, r));
    call->delta_out[r] = (float)(call->dlse ? sum - (double)call->dlse[r] : sum);
  }
  return BSD_OK;
}
