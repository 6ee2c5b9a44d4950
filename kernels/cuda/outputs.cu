/* outputs.cu - whole-tensor work that all families share: clearing, rounding accumulators, delta.
 *
 * Rows of D elements are numbered [B*heads][n]: grid.y walks the heads, grid.x the tokens' vectors of eight
 * elements. Every kernel is bound by memory. */
#include "elements.cuh"
#include "launch.cuh"
#include "tiles.cuh"

namespace {

enum { THREADS = 256, MAX_GRID_Y = 65535 };

struct rows_shape {
  int64_t batch, heads, tokens;
  int head_dim;
  bsd_dtype dtype;
};

rows_shape shape_of(const bsd_call *call, int64_t heads) {
  return {call->batch, heads, call->tokens, static_cast<int>(call->head_dim), call->dtype};
}

/* A grid for `each` threads per (batch, head). */
bsd_cuda_grid grid_of(const rows_shape &shape, int64_t each) {
  const int64_t rows = shape.batch * shape.heads;
  return {(each + THREADS - 1) / THREADS, rows < MAX_GRID_Y ? rows : MAX_GRID_Y, THREADS, 0, 0};
}

__device__ __forceinline__ int64_t thread_index() {
  return static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
}

/* The tensor = 0, or, with an accumulator [B][heads][n][D], that rounded to the type. */
__global__ void __launch_bounds__(THREADS)
    write_rows(const rows_shape shape, const float *accumulator, const bsd_tensor to) {
  const int vectors = shape.head_dim / 8;
  const int64_t token = thread_index() / vectors;
  const int vector = static_cast<int>(thread_index() - token * vectors);
  if (token >= shape.tokens)
    return;
  for (int64_t row = blockIdx.y; row < shape.batch * shape.heads; row += gridDim.y) {
    float values[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    if (accumulator)
      bsd_load_eight(reinterpret_cast<const char *>(accumulator +
                                                    (row * shape.tokens + token) * shape.head_dim),
                     vector, BSD_F32, values);
    char *line = bsd_tensor_row(to, token, row / shape.heads, row % shape.heads,
                                bsd_element_bytes(shape.dtype));
    bsd_store_four(line, 2 * vector, shape.dtype, values);
    bsd_store_four(line, 2 * vector + 1, shape.dtype, values + 4);
  }
}

__global__ void __launch_bounds__(THREADS) fill(float *to, int64_t count, float value) {
  for (int64_t i = thread_index(); i < count; i += static_cast<int64_t>(gridDim.x) * THREADS)
    to[i] = value;
}

/* delta = sum_d do o - dlse. `lanes` threads (a power of two, at least D/8) work on a row. f32 is summed in
 * fp64: delta cancels against dP. */
__global__ void __launch_bounds__(THREADS)
    delta_rows(const rows_shape shape, const bsd_tensor d_o, const bsd_tensor o, const float *dlse,
               float *delta, int lanes) {
  const int64_t token = thread_index() / lanes;
  const int lane = static_cast<int>(thread_index() - token * lanes);
  const int element = bsd_element_bytes(shape.dtype);
  for (int64_t row = blockIdx.y; row < shape.batch * shape.heads; row += gridDim.y) {
    double sum = 0;
    if (token < shape.tokens && lane < shape.head_dim / 8) {
      float a[8], b[8];
      bsd_load_eight(bsd_tensor_row(d_o, token, row / shape.heads, row % shape.heads, element),
                     lane, shape.dtype, a);
      bsd_load_eight(bsd_tensor_row(o, token, row / shape.heads, row % shape.heads, element), lane,
                     shape.dtype, b);
      if (shape.dtype == BSD_F32) {
        for (int i = 0; i < 8; i++)
          sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
      } else {
        float part = 0;
        for (int i = 0; i < 8; i++)
          part += a[i] * b[i];
        sum = part;
      }
    }
    for (int distance = lanes / 2; distance > 0; distance /= 2)
      sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    if (lane == 0 && token < shape.tokens) {
      const int64_t at = row * shape.tokens + token;
      delta[at] = static_cast<float>(dlse ? sum - static_cast<double>(dlse[at]) : sum);
    }
  }
}

/* ---- launches --------------------------------------------------------------------------------- */

bsd_status run_fill(void *device, float *to, int64_t count, float value, void *stream,
                    bsd_error *error) {
  const int64_t blocks = (count + THREADS - 1) / THREADS;
  const bsd_cuda_grid grid = {blocks < 4096 ? blocks : 4096, 1, THREADS, 0, 0};
  return bsd_launch(device, "fill", fill, grid, stream, error, to, count, value);
}

bsd_status run_write(void *device, const bsd_call *call, int64_t heads, const float *accumulator,
                     const bsd_tensor *to, void *stream, bsd_error *error) {
  const rows_shape shape = shape_of(call, heads);
  return bsd_launch(device, "write_rows", write_rows,
                    grid_of(shape, shape.tokens * (shape.head_dim / 8)), stream, error, shape,
                    accumulator, *to);
}

/* Zeros the accumulator if there is one, else the tensor. */
bsd_status clear(void *device, const bsd_call *call, int64_t heads, float *accumulator,
                 const bsd_tensor *tensor, void *stream, bsd_error *error) {
  if (accumulator)
    return run_fill(device, accumulator, call->batch * heads * call->tokens * call->head_dim, 0,
                    stream, error);
  return run_write(device, call, heads, nullptr, tensor, stream, error);
}

/* Rounds the accumulator into the tensor if there is one. */
bsd_status round_into(void *device, const bsd_call *call, int64_t heads, const float *accumulator,
                      const bsd_tensor *tensor, void *stream, bsd_error *error) {
  return accumulator ? run_write(device, call, heads, accumulator, tensor, stream, error) : BSD_OK;
}

} // namespace

bsd_status bsd_cuda_clear_forward(void *device, const bsd_call *call, void *stream,
                                  bsd_error *error) {
  float *lse = call->acc_o ? call->acc_lse : call->lse_out;
  BSD_TRY(clear(device, call, call->heads, call->acc_o, &call->o, stream, error));
  if (lse)
    return run_fill(device, lse, call->batch * call->heads * call->tokens, -INFINITY, stream,
                    error);
  return BSD_OK;
}

bsd_status bsd_cuda_clear_backward(void *device, const bsd_call *call, void *stream,
                                   bsd_error *error) {
  BSD_TRY(clear(device, call, call->heads, call->acc_dq, &call->dq, stream, error));
  BSD_TRY(clear(device, call, call->kv_heads, call->acc_dk, &call->dk, stream, error));
  return clear(device, call, call->kv_heads, call->acc_dv, &call->dv, stream, error);
}

bsd_status bsd_cuda_combine(void *device, const bsd_call *call, void *stream, bsd_error *error) {
  const int64_t rows = call->batch * call->heads * call->tokens;
  BSD_TRY(round_into(device, call, call->heads, call->acc_o, &call->o, stream, error));
  if (call->lse_out && call->acc_lse && rows > 0)
    return bsd_cuda_check(cudaMemcpyAsync(call->lse_out, call->acc_lse, rows * sizeof(float),
                                          cudaMemcpyDeviceToDevice,
                                          static_cast<cudaStream_t>(stream)),
                          "copying lse", error);
  return BSD_OK;
}

bsd_status bsd_cuda_finish_backward(void *device, const bsd_call *call, void *stream,
                                    bsd_error *error) {
  BSD_TRY(round_into(device, call, call->heads, call->acc_dq, &call->dq, stream, error));
  BSD_TRY(round_into(device, call, call->kv_heads, call->acc_dk, &call->dk, stream, error));
  return round_into(device, call, call->kv_heads, call->acc_dv, &call->dv, stream, error);
}

bsd_status bsd_cuda_delta(void *device, const bsd_call *call, void *stream, bsd_error *error) {
  const rows_shape shape = shape_of(call, call->heads);
  int lanes = 1;
  while (lanes < shape.head_dim / 8)
    lanes *= 2;
  return bsd_launch(device, "delta_rows", delta_rows, grid_of(shape, shape.tokens * lanes), stream,
                    error, shape, call->d_o.local, call->o, call->dlse, call->delta_out, lanes);
}
