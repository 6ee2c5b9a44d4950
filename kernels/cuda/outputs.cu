/* outputs.cu - whole-tensor work that all families share: clearing, rounding accumulators, delta.
 *
 * Rows of D elements are numbered [B*heads][n]: grid.y walks the heads, grid.x the tokens' vectors of eight
 * elements. Every kernel is bound by memory. */
#include "elements.cuh"
#include "launch.cuh"
#include "overlap.cuh"
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

/* The inner product of eight elements in 16-bit types, or in f32. */
__device__ __forceinline__ double product_of(const uint4 (&x)[1], const uint4 (&y)[1],
                                             bsd_dtype dtype) {
  float a[8], b[8], sum = 0;
  bsd_widen_vector(x[0], dtype, a);
  bsd_widen_vector(y[0], dtype, b);
  for (int i = 0; i < 8; i++)
    sum += a[i] * b[i];
  return sum;
}

__device__ __forceinline__ double product_of(uint4 x, uint4 y) {
  return static_cast<double>(__uint_as_float(x.x)) * static_cast<double>(__uint_as_float(y.x)) +
         static_cast<double>(__uint_as_float(x.y)) * static_cast<double>(__uint_as_float(y.y)) +
         static_cast<double>(__uint_as_float(x.z)) * static_cast<double>(__uint_as_float(y.z)) +
         static_cast<double>(__uint_as_float(x.w)) * static_cast<double>(__uint_as_float(y.w));
}
__device__ __forceinline__ double product_of(const uint4 (&x)[2], const uint4 (&y)[2], bsd_dtype) {
  return product_of(x[0], y[0]) + product_of(x[1], y[1]);
}

/* Rows of all heads and tokens in the order in which they lie in memory: neighbours differ in their head if heads
 * are inner, else in their token. */
struct row_order {
  int64_t rows, inner; /* of a batch entry; of them, in the inner dimension */
  int heads_are_inner;
};

/* delta = sum_d do o - dlse. 2^shift threads, at least D/8, work on a row, each on ROWS rows at once, so that
 * enough loads are under way. Vectors: of 16 bytes in eight elements. f32 is summed in fp64: delta cancels against
 * dP. */
template <int Vectors>
__global__ void __launch_bounds__(THREADS)
    delta_rows(const rows_shape shape, const row_order order, const bsd_tensor d_o,
               const bsd_tensor o, const float *dlse, float *delta, int shift) {
  constexpr int ROWS = 4 / Vectors;
  const int slots = THREADS >> shift, lane = threadIdx.x & ((1 << shift) - 1);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * slots * ROWS + (threadIdx.x >> shift);
  bsd_grid_wait();
  bsd_grid_launch_next();
  for (int64_t batch = blockIdx.y; batch < shape.batch; batch += gridDim.y) {
    int64_t at[ROWS];
    uint4 a[ROWS][Vectors] = {}, b[ROWS][Vectors] = {};
    int64_t outer = first / order.inner, inner = first - outer * order.inner;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      const int64_t head = order.heads_are_inner ? inner : outer;
      const int64_t token = order.heads_are_inner ? outer : inner;
      at[i] =
          first + i * slots < order.rows ? (batch * shape.heads + head) * shape.tokens + token : -1;
      if (at[i] >= 0 && lane < shape.head_dim / 8) {
        const char *x = bsd_tensor_row(d_o, token, batch, head, 2 * Vectors);
        const char *y = bsd_tensor_row(o, token, batch, head, 2 * Vectors);
#pragma unroll
        for (int v = 0; v < Vectors; v++) {
          a[i][v] = __ldg(reinterpret_cast<const uint4 *>(x) + lane * Vectors + v);
          b[i][v] =
              __ldcs(reinterpret_cast<const uint4 *>(y) + lane * Vectors + v); /* not read again */
        }
      }
      inner += slots;
      if (inner >= order.inner) {
        const int64_t wraps = inner / order.inner;
        outer += wraps;
        inner -= wraps * order.inner;
      }
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      double sum = product_of(a[i], b[i], shape.dtype);
      for (int distance = 1 << shift >> 1; distance > 0; distance /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, distance);
      if (lane == 0 && at[i] >= 0)
        delta[at[i]] = static_cast<float>(dlse ? sum - static_cast<double>(dlse[at[i]]) : sum);
    }
  }
}

/* ---- launches --------------------------------------------------------------------------------- */

/* Whether this build's machine code for the device waits for the kernel before (overlap.cuh). */
int can_overlap(const void *device) {
#ifdef HAVE_SM90
  return static_cast<const bsd_cuda_device *>(device)->capability == 90;
#else
  (void)device;
  return 0;
#endif
}

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
  const int heads_are_inner = call->d_o.local.head_stride < call->d_o.local.position_stride;
  const row_order order = {shape.heads * shape.tokens, heads_are_inner ? shape.heads : shape.tokens,
                           heads_are_inner};
  const int vectors = shape.dtype == BSD_F32 ? 2 : 1;
  int shift = 0;
  while (1 << shift < shape.head_dim / 8)
    shift++;
  const int64_t rows = (THREADS >> shift) * (4 / vectors); /* of a CTA */
  const bsd_cuda_grid grid = {(order.rows + rows - 1) / rows,
                              shape.batch < MAX_GRID_Y ? shape.batch : MAX_GRID_Y, THREADS, 0,
                              can_overlap(device)};
  return bsd_launch(device, "delta_rows", vectors == 1 ? delta_rows<1> : delta_rows<2>, grid,
                    stream, error, shape, order, call->d_o.local, call->o, call->dlse,
                    call->delta_out, shift);
}
