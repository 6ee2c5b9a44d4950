/* bench_dense_softmax.cu - softmax of materialised scores and its gradient: a block of threads a row.
 *
 * Arithmetic is fp32 whatever the type. A row is read twice, the second time out of the caches, and written
 * once, in vectors of 16 bytes where its length allows that. Bound by memory. */
#include "bench/bench_dense_softmax.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace {

enum { THREADS = 256, WARPS = THREADS / 32 };

template <typename T, int WIDTH> struct alignas(sizeof(T) * WIDTH) vector { T x[WIDTH]; };

__device__ __forceinline__ float to_float(float x) {
  return x;
}
__device__ __forceinline__ float to_float(__half x) {
  return __half2float(x);
}
__device__ __forceinline__ float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ __forceinline__ void store(float &to, float x) {
  to = x;
}
__device__ __forceinline__ void store(__half &to, float x) {
  to = __float2half_rn(x);
}
__device__ __forceinline__ void store(__nv_bfloat16 &to, float x) {
  to = __float2bfloat16_rn(x);
}

/* A maximum and the sum of exp(x - maximum). Of nothing: -inf and 0. */
struct partial {
  float largest, sum;
};

__device__ __forceinline__ partial merge(partial a, partial b) {
  const float largest = fmaxf(a.largest, b.largest);
  if (largest == -INFINITY)
    return a;
  return {largest, a.sum * __expf(a.largest - largest) + b.sum * __expf(b.largest - largest)};
}

/* Over the block; the result is every thread's. */
__device__ partial merge_all(partial mine) {
  __shared__ partial of_warp[WARPS];
  for (int distance = 16; distance > 0; distance /= 2)
    mine = merge(mine, {__shfl_xor_sync(0xffffffffu, mine.largest, distance),
                        __shfl_xor_sync(0xffffffffu, mine.sum, distance)});
  if (threadIdx.x % 32 == 0)
    of_warp[threadIdx.x / 32] = mine;
  __syncthreads();
  mine = of_warp[0];
  for (int w = 1; w < WARPS; w++)
    mine = merge(mine, of_warp[w]);
  return mine;
}

__device__ float add_all(float mine) {
  __shared__ float of_warp[WARPS];
  for (int distance = 16; distance > 0; distance /= 2)
    mine += __shfl_xor_sync(0xffffffffu, mine, distance);
  if (threadIdx.x % 32 == 0)
    of_warp[threadIdx.x / 32] = mine;
  __syncthreads();
  mine = 0;
  for (int w = 0; w < WARPS; w++)
    mine += of_warp[w];
  return mine;
}

template <typename T, int WIDTH>
__global__ void __launch_bounds__(THREADS) softmax_rows(T *scores, int64_t n, int causal) {
  const int64_t row = blockIdx.x, visible = causal ? row % n + 1 : n;
  auto *line = reinterpret_cast<vector<T, WIDTH> *>(scores + row * n);
  partial seen = {-INFINITY, 0};
  for (int64_t at = threadIdx.x; at * WIDTH < visible; at += THREADS) {
    const vector<T, WIDTH> piece = line[at];
    partial here = {-INFINITY, 0};
    for (int i = 0; i < WIDTH; i++)
      if (at * WIDTH + i < visible)
        here.largest = fmaxf(here.largest, to_float(piece.x[i]));
    for (int i = 0; i < WIDTH; i++)
      if (at * WIDTH + i < visible)
        here.sum += __expf(to_float(piece.x[i]) - here.largest);
    seen = merge(seen, here);
  }
  seen = merge_all(seen);
  const float factor = 1 / seen.sum;
  for (int64_t at = threadIdx.x; at < n / WIDTH; at += THREADS) {
    vector<T, WIDTH> piece = line[at];
    for (int i = 0; i < WIDTH; i++)
      store(piece.x[i],
            at * WIDTH + i < visible ? factor * __expf(to_float(piece.x[i]) - seen.largest) : 0.f);
    line[at] = piece;
  }
}

template <typename T, int WIDTH>
__global__ void __launch_bounds__(THREADS)
    gradient_rows(const T *probabilities, T *dscores, int64_t n) {
  const int64_t row = blockIdx.x;
  const auto *p = reinterpret_cast<const vector<T, WIDTH> *>(probabilities + row * n);
  auto *ds = reinterpret_cast<vector<T, WIDTH> *>(dscores + row * n);
  float sum = 0;
  for (int64_t at = threadIdx.x; at < n / WIDTH; at += THREADS) {
    const vector<T, WIDTH> a = p[at], b = ds[at];
    for (int i = 0; i < WIDTH; i++)
      sum += to_float(a.x[i]) * to_float(b.x[i]);
  }
  const float delta = add_all(sum);
  for (int64_t at = threadIdx.x; at < n / WIDTH; at += THREADS) {
    const vector<T, WIDTH> a = p[at];
    vector<T, WIDTH> b = ds[at];
    for (int i = 0; i < WIDTH; i++)
      store(b.x[i], to_float(a.x[i]) * (to_float(b.x[i]) - delta));
    ds[at] = b;
  }
}

/* ---- launches --------------------------------------------------------------------------------- */

template <typename T>
void softmax(void *scores, int64_t rows, int64_t n, int causal, cudaStream_t stream) {
  enum { WIDTH = 16 / sizeof(T) };
  const unsigned blocks = static_cast<unsigned>(rows);
  if (n % WIDTH == 0)
    softmax_rows<T, WIDTH><<<blocks, THREADS, 0, stream>>>(static_cast<T *>(scores), n, causal);
  else
    softmax_rows<T, 1><<<blocks, THREADS, 0, stream>>>(static_cast<T *>(scores), n, causal);
}

template <typename T>
void gradient(const void *probabilities, void *dscores, int64_t rows, int64_t n,
              cudaStream_t stream) {
  enum { WIDTH = 16 / sizeof(T) };
  const T *p = static_cast<const T *>(probabilities);
  const unsigned blocks = static_cast<unsigned>(rows);
  if (n % WIDTH == 0)
    gradient_rows<T, WIDTH><<<blocks, THREADS, 0, stream>>>(p, static_cast<T *>(dscores), n);
  else
    gradient_rows<T, 1><<<blocks, THREADS, 0, stream>>>(p, static_cast<T *>(dscores), n);
}

} // namespace

cudaError_t bench_softmax_rows(bsd_dtype dtype, void *scores, int64_t rows, int64_t n, int causal,
                               cudaStream_t stream) {
  if (dtype == BSD_F32)
    softmax<float>(scores, rows, n, causal, stream);
  else if (dtype == BSD_F16)
    softmax<__half>(scores, rows, n, causal, stream);
  else
    softmax<__nv_bfloat16>(scores, rows, n, causal, stream);
  return cudaGetLastError();
}

cudaError_t bench_softmax_gradient_rows(bsd_dtype dtype, const void *probabilities, void *dscores,
                                        int64_t rows, int64_t n, cudaStream_t stream) {
  if (dtype == BSD_F32)
    gradient<float>(probabilities, dscores, rows, n, stream);
  else if (dtype == BSD_F16)
    gradient<__half>(probabilities, dscores, rows, n, stream);
  else
    gradient<__nv_bfloat16>(probabilities, dscores, rows, n, stream);
  return cudaGetLastError();
}
