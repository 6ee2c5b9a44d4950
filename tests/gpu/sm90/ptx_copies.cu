/* ptx_copies.cu - the copy engine: tiles of a strided tensor in and out, its ends, plain pieces; stmatrix, and
 * arithmetic in pairs. */
#include <cuda.h>

#include <stdexcept>
#include <type_traits>

#include "../ptx_run.h"

#include "kernels/cuda/ptx.cuh"
#include "ptx_tile.cuh"

/* [BATCH][TOKENS][HEADS][dim], seen as (column, row, residue, head, batch), token = row * step + residue. */
enum { BATCH = 2, TOKENS = 150, HEADS = 3, THE_HEAD = 2, THE_BATCH = 1 };

template <typename T> static CUtensorMap make_map(T *tensor, int dim, int step) {
  cudaDriverEntryPointQueryResult found;
  void *function = nullptr;
  ptx_require(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                               cudaEnableDefault, &found),
              "cudaGetDriverEntryPointByVersion");
  const cuuint64_t row = static_cast<cuuint64_t>(HEADS) * dim * 2;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(dim), static_cast<cuuint64_t>(TOKENS / step),
                              static_cast<cuuint64_t>(step), HEADS, BATCH};
  const cuuint64_t strides[] = {row * step, row, static_cast<cuuint64_t>(dim) * 2, row * TOKENS};
  const cuuint32_t box[] = {64, 64, 1, 1, 1}, steps[] = {1, 1, 1, 1, 1};
  CUtensorMap map;
  const CUresult result = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function)(
      &map,
      std::is_same<T, __half>::value ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                     : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
      5, tensor, sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw std::runtime_error("cuTensorMapEncodeTiled failed");
  return map;
}

/* Index of an element of the tensor; -1: the row is beyond its ends. */
static int64_t element(int dim, int step, int row, int column) {
  if (row < 0 || row >= TOKENS / step)
    return -1;
  const int64_t token = static_cast<int64_t>(row) * step + step - 1; /* the last residue */
  return ((THE_BATCH * TOKENS + token) * HEADS + THE_HEAD) * dim + column;
}

static std::vector<float> tensor_values(int dim) {
  return ptx_integers(static_cast<size_t>(BATCH) * TOKENS * HEADS * dim, 100, 6);
}

/* ---- loads ---------------------------------------------------------------------------------------- */

template <typename T>
static __global__ void load(const __grid_constant__ CUtensorMap map, int dim, int row, int residue,
                            float *out) {
  __shared__ uint64_t barrier;
  char *memory = ptx_tile_memory();
  const uint32_t full = bsd_shared_address(&barrier);
  for (int i = threadIdx.x; i < 64 * dim / 2; i += blockDim.x)
    reinterpret_cast<uint32_t *>(memory)[i] = 0xffffffff;
  bsd_fence_async();
  if (threadIdx.x == 0) {
    bsd_tma_prefetch(&map);
    bsd_barrier_init(full, 1);
    bsd_barrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    bsd_barrier_expect(full, 64 * dim * 2); /* the whole box, also where it is beyond the end */
    for (int c = 0; c < dim; c += 64)
      bsd_tma_load(bsd_shared_address(memory) + c * 128, &map, full, c, row, residue, THE_HEAD,
                   THE_BATCH);
  }
  bsd_barrier_wait(full, 0);
  for (int i = threadIdx.x; i < 64 * dim; i += blockDim.x)
    out[i] =
        static_cast<float>(*reinterpret_cast<T *>(memory + ptx_tile_place(64, i / dim, i % dim)));
}

template <typename T> static ptx_report run_load(int dim, int step, int row) {
  const std::vector<float> values = tensor_values(dim);
  std::vector<float> expected;
  for (int i = 0; i < 64 * dim; i++) {
    const int64_t from = element(dim, step, row + i / dim, i % dim);
    expected.push_back(from < 0 ? 0 : values[from]);
  }
  const ptx_buffer<T> tensor(ptx_narrow<T>(values));
  const CUtensorMap map = make_map(tensor.get(), dim, step);
  return ptx_run(expected, [&](float *out) {
    load<T><<<1, 128, 64 * dim * 2 + 1024>>>(map, dim, row, step - 1, out);
  });
}

ptx_report ptx_tensor_load(int half, int dim, int step, int row) {
  return ptx_guard([=] {
    return half ? run_load<__half>(dim, step, row) : run_load<__nv_bfloat16>(dim, step, row);
  });
}

/* ---- stores --------------------------------------------------------------------------------------- */

template <typename T>
static __global__ void store(const __grid_constant__ CUtensorMap map, const T *tile, int dim,
                             int row, int residue) {
  char *memory = ptx_tile_memory();
  ptx_tile_fill(memory, tile, 64, dim);
  bsd_fence_async();
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int c = 0; c < dim; c += 64)
      bsd_tma_store(&map, bsd_shared_address(memory) + c * 128, c, row, residue, THE_HEAD,
                    THE_BATCH);
    bsd_tma_commit();
    bsd_tma_wait_read();
  }
  __syncthreads();
  /* the tile has been read: what is written into it now must not arrive */
  for (int i = threadIdx.x; i < 64 * dim / 2; i += blockDim.x)
    reinterpret_cast<uint32_t *>(memory)[i] = 0;
  if (threadIdx.x == 0)
    bsd_tma_wait();
}

template <typename T> static __global__ void widen(const T *tensor, int64_t count, float *out) {
  for (int64_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
    out[i] = static_cast<float>(tensor[i]);
}

template <typename T> static ptx_report run_store(int dim, int step, int row) {
  const std::vector<float> values = ptx_integers(64 * dim, 100, 7);
  std::vector<float> expected(tensor_values(dim).size(), NAN);
  for (int i = 0; i < 64 * dim; i++) {
    const int64_t to = element(dim, step, row + i / dim, i % dim);
    if (to >= 0)
      expected[to] = values[i];
  }
  const ptx_buffer<T> tile(ptx_narrow<T>(values)), tensor(std::vector<T>(expected.size()));
  const CUtensorMap map = make_map(tensor.get(), dim, step);
  return ptx_run(expected, [&](float *out) {
    ptx_require(cudaMemsetAsync(tensor.get(), 0xff, tensor.bytes()), "cudaMemsetAsync");
    store<T><<<1, 128, 64 * dim * 2 + 1024>>>(map, tile.get(), dim, row, step - 1);
    widen<<<64, 256>>>(tensor.get(), static_cast<int64_t>(expected.size()), out);
  });
}

ptx_report ptx_tensor_store(int half, int dim, int step, int row) {
  return ptx_guard([=] {
    return half ? run_store<__half>(dim, step, row) : run_store<__nv_bfloat16>(dim, step, row);
  });
}

/* ---- plain pieces --------------------------------------------------------------------------------- */

enum { PIECES = 8, PIECE_FLOATS = PIECES * (PIECES + 1) / 2 * 4 };

static __global__ void load_pieces(const float *from, float *out) {
  __shared__ __align__(16) float memory[PIECE_FLOATS];
  __shared__ uint64_t barrier;
  const uint32_t full = bsd_shared_address(&barrier), to = bsd_shared_address(memory);
  if (threadIdx.x == 0) {
    bsd_barrier_init(full, 1);
    bsd_barrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    bsd_barrier_expect(full, PIECE_FLOATS * 4);
    for (int i = 0, at = 0; i < PIECES; at += 16 * ++i)
      bsd_bulk_load(to + at, reinterpret_cast<const char *>(from) + at, 16 * (i + 1), full);
  }
  bsd_barrier_wait(full, 0);
  for (int i = threadIdx.x; i < PIECE_FLOATS; i += blockDim.x)
    out[i] = memory[i];
}

ptx_report ptx_bulk_load(void) {
  return ptx_guard([] {
    const std::vector<float> values = ptx_integers(PIECE_FLOATS, 1000, 8);
    const ptx_buffer<float> from(values);
    return ptx_run(values, [&](float *out) { load_pieces<<<1, 64>>>(from.get(), out); });
  });
}

/* ---- stmatrix, arithmetic in pairs ---------------------------------------------------------------- */

/* Register m of the warp holds matrix m as bsd_mma leaves it; each becomes 8 rows of 16 bytes. */
static __global__ void store_matrices(const uint32_t *words, float *out) {
  __shared__ __align__(16) __half memory[4][8][8];
  const uint32_t *w = words + 4 * threadIdx.x;
  bsd_store_matrix(bsd_shared_address(&memory[threadIdx.x / 8][threadIdx.x % 8][0]), w[0], w[1],
                   w[2], w[3]);
  __syncwarp();
  for (int i = threadIdx.x; i < 256; i += 32)
    out[i] = static_cast<float>(memory[i / 64][i / 8 % 8][i % 8]);
}

ptx_report ptx_store_matrix(void) {
  return ptx_guard([] {
    const std::vector<float> expected = ptx_integers(256, 1000, 9); /* [matrix][row][column] */
    std::vector<__half> words(256);
    for (int lane = 0; lane < 32; lane++)
      for (int m = 0; m < 4; m++)
        for (int e = 0; e < 2; e++)
          words[(4 * lane + m) * 2 + e] =
              __half(expected[64 * m + lane / 4 * 8 + lane % 4 * 2 + e]);
    const ptx_buffer<__half> from(words);
    return ptx_run(expected, [&](float *out) {
      store_matrices<<<1, 32>>>(reinterpret_cast<const uint32_t *>(from.get()), out);
    });
  });
}

enum { PAIRS = 64, ADDENDS = 40 };

static __global__ void add_pairs(float *out) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < PAIRS * ADDENDS;
       i += gridDim.x * blockDim.x)
    bsd_add_pair(out + i % PAIRS * 2, static_cast<float>(i / PAIRS), static_cast<float>(i));
}

ptx_report ptx_add_pair(void) {
  return ptx_guard([] {
    std::vector<float> expected(2 * PAIRS, 0);
    for (int i = 0; i < PAIRS * ADDENDS; i++) {
      expected[i % PAIRS * 2] += static_cast<float>(i / PAIRS);
      expected[i % PAIRS * 2 + 1] += static_cast<float>(i);
    }
    return ptx_run(expected, [](float *out) {
      ptx_require(cudaMemsetAsync(out, 0, 2 * PAIRS * sizeof(float)), "cudaMemsetAsync");
      add_pairs<<<16, 64>>>(out);
    });
  });
}

static __global__ void multiply_pairs(const __nv_bfloat16 *x, const __nv_bfloat16 *y, int count,
                                      float *out) {
  for (int i = 2 * threadIdx.x; i < count; i += 2 * blockDim.x) {
    const uint32_t word = bsd_multiply2(*reinterpret_cast<const uint32_t *>(x + i),
                                        *reinterpret_cast<const uint32_t *>(y + i),
                                        __nv_bfloat16());
    __nv_bfloat16 halves[2];
    memcpy(halves, &word, sizeof word);
    out[i] = static_cast<float>(halves[0]);
    out[i + 1] = static_cast<float>(halves[1]);
  }
}

static ptx_report run_multiply() {
  const std::vector<float> x = ptx_integers(512, 255, 10), y = ptx_integers(512, 255, 11);
  std::vector<float> products;
  for (size_t i = 0; i < x.size(); i++)
    products.push_back(x[i] * y[i]); /* exact in fp32, then rounded once */
  std::vector<float> expected;
  for (__nv_bfloat16 rounded : ptx_narrow<__nv_bfloat16>(products))
    expected.push_back(static_cast<float>(rounded));
  const ptx_buffer<__nv_bfloat16> left(ptx_narrow<__nv_bfloat16>(x)),
      right(ptx_narrow<__nv_bfloat16>(y));
  return ptx_run(expected,
                 [&](float *out) { multiply_pairs<<<1, 64>>>(left.get(), right.get(), 512, out); });
}

ptx_report ptx_multiply(void) {
  return ptx_guard(run_multiply);
}
