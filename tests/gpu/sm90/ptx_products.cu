/* ptx_products.cu - wgmma: descriptors, major-ness, where A lies, the accumulator, and it as A again. */
#include "../ptx_run.h"

#include "kernels/cuda/ptx.cuh"
#include "ptx_tile.cuh"

/* A of k16 step k from a row-major matrix in memory, two neighbours a register. */
template <typename T>
static __device__ void load_operand(uint32_t (&a)[4], const T *matrix, int depth, int k) {
  const int row = 16 * (threadIdx.x / 32) + threadIdx.x % 32 / 4;
  const int column = 16 * k + 2 * (threadIdx.x % 4);
  for (int i = 0; i < 4; i++)
    a[i] = *reinterpret_cast<const uint32_t *>(matrix + (row + i % 2 * 8) * depth + column +
                                               i / 2 * 8);
}

/* The same from tiles in shared memory. */
static __device__ void load_matrices(uint32_t (&a)[4], uint32_t tiles, int k) {
  const int lane = threadIdx.x % 32, row = 16 * (threadIdx.x / 32) + lane % 16;
  bsd_load_matrix(a, tiles + ptx_tile_place(64, row, 16 * k + 8 * (lane / 16)));
}

template <int N> static __device__ void write_accumulator(float *out, const float (&d)[N / 2]) {
  const int row = 16 * (threadIdx.x / 32) + threadIdx.x % 32 / 4, column = 2 * (threadIdx.x % 4);
#pragma unroll
  for (int i = 0; i < N / 2; i++)
    out[(row + i / 2 % 2 * 8) * N + i / 4 * 8 + column + i % 2] = d[i];
}

/* Descriptor of B for k16 step k: from one to the next 32 bytes in a row and a tile of 64 columns after four,
 * or, read along its rows, 16 rows. */
template <int N, int D, int TransposeB>
static __device__ uint64_t operand_b(uint32_t tiles, int k) {
  const int at = TransposeB ? k * 2048 : k / 4 * N * 128 + k % 4 * 32;
  return bsd_descriptor(bsd_descriptor_low(tiles + at, TransposeB ? D * 128 : 0));
}

template <typename T, int N, int D, int TransposeB, ptx_operand A>
static __global__ void __launch_bounds__(128) multiply(const T *a, const T *b, float *out) {
  char *memory = ptx_tile_memory();
  const uint32_t own = bsd_shared_address(memory), streamed = own + D * 128;
  uint32_t kept[D / 16][4];
  float d[N / 2];
  ptx_tile_fill(memory, a, 64, D);
  ptx_tile_fill(memory + D * 128, b, TransposeB ? D : N, TransposeB ? N : D);
  bsd_fence_async();
  __syncthreads();
#pragma unroll
  for (int k = 0; k < D / 16; k++)
    if (A == PTX_REGISTERS)
      load_operand(kept[k], a, D, k);
    else
      load_matrices(kept[k], own, k);
#pragma unroll
  for (int i = 0; i < N / 2; i++)
    d[i] = NAN; /* which the first product overwrites */
#pragma unroll
  for (int pass = 0; pass < 2; pass++) {
    bsd_wgmma_fence();
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
      const uint64_t right = operand_b<N, D, TransposeB>(streamed, k);
      const uint32_t left = own + k / 4 * 8192 + k % 4 * 32;
      if constexpr (A == PTX_SHARED)
        bsd_wgmma_ss<TransposeB>(d, bsd_descriptor(bsd_descriptor_low(left, 0)), right,
                                 pass + k > 0, T());
      else
        bsd_wgmma_rs<TransposeB>(d, kept[k], right, pass + k > 0, T());
    }
    bsd_wgmma_commit();
    bsd_wgmma_wait<0>();
    bsd_hold(d);
  }
  write_accumulator<N>(out, d);
}

template <typename T, int N, int D, int TransposeB, ptx_operand A> static ptx_report run_product() {
  const std::vector<float> a = ptx_integers(64 * D, 8, 1), b = ptx_integers(D * N, 8, 2);
  std::vector<float> expected = ptx_multiply_matrices(a, b, 64, D, N);
  for (float &x : expected)
    x *= 2;
  const ptx_buffer<T> left(ptx_narrow<T>(a));
  const ptx_buffer<T> right(ptx_narrow<T>(TransposeB ? b : ptx_transpose(b, D, N)));
  const int bytes = (64 + N) * D * 2 + 1024;
  ptx_require(cudaFuncSetAttribute(multiply<T, N, D, TransposeB, A>,
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
              "cudaFuncSetAttribute");
  return ptx_run(expected, [&](float *out) {
    multiply<T, N, D, TransposeB, A><<<4, 128, bytes>>>(left.get(), right.get(), out);
  });
}

template <typename T, int N, int D, int TransposeB>
static ptx_report choose_operand(ptx_operand a) {
  /* ptx.cuh has no product of shared A with 128 columns: the kernels have no use for it */
  if constexpr (N == 64)
    if (a == PTX_SHARED)
      return run_product<T, N, D, TransposeB, PTX_SHARED>();
  return a == PTX_REGISTERS ? run_product<T, N, D, TransposeB, PTX_REGISTERS>()
                            : run_product<T, N, D, TransposeB, PTX_MATRICES>();
}

template <typename T, int N>
static ptx_report choose_depth(int depth, int transposed_b, ptx_operand a) {
  if (depth == 64)
    return transposed_b ? choose_operand<T, N, 64, 1>(a) : choose_operand<T, N, 64, 0>(a);
  return transposed_b ? choose_operand<T, N, 128, 1>(a) : choose_operand<T, N, 128, 0>(a);
}

template <typename T>
static ptx_report choose_columns(int columns, int depth, int transposed_b, ptx_operand a) {
  return columns == 64 ? choose_depth<T, 64>(depth, transposed_b, a)
                       : choose_depth<T, 128>(depth, transposed_b, a);
}

ptx_report ptx_product(int half, int columns, int depth, int transposed_b, ptx_operand a) {
  return ptx_guard([=] {
    return half ? choose_columns<__half>(columns, depth, transposed_b, a)
                : choose_columns<__nv_bfloat16>(columns, depth, transposed_b, a);
  });
}

/* ---- the accumulator as A ------------------------------------------------------------------------- */

/* out [64][N] = (a [64][64] times b [64][64] transposed, rounded to the type) times c [64][N]. */
template <typename T, int N>
static __global__ void __launch_bounds__(128)
    multiply_twice(const T *a, const T *b, const T *c, float *out) {
  char *memory = ptx_tile_memory();
  const uint32_t tiles = bsd_shared_address(memory);
  float s[32], d[N / 2];
  uint32_t kept[4][4];
  ptx_tile_fill(memory, a, 64, 64);
  ptx_tile_fill(memory + 8192, b, 64, 64);
  ptx_tile_fill(memory + 16384, c, 64, N);
  bsd_fence_async();
  __syncthreads();
  bsd_wgmma_fence();
#pragma unroll
  for (int k = 0; k < 4; k++)
    bsd_wgmma_ss<0>(s, bsd_descriptor(bsd_descriptor_low(tiles + 32 * k, 0)),
                    operand_b<64, 64, 0>(tiles + 8192, k), k > 0, T());
  bsd_wgmma_commit();
  bsd_wgmma_wait<0>();
  bsd_hold(s);
#pragma unroll
  for (int i = 0; i < 16; i++)
    kept[i / 4][i % 4] = bsd_pack2(s[2 * i], s[2 * i + 1], T());
  bsd_hold(kept);
  bsd_wgmma_fence();
#pragma unroll
  for (int k = 0; k < 4; k++)
    bsd_wgmma_rs<1>(d, kept[k], operand_b<N, 64, 1>(tiles + 16384, k), k > 0, T());
  bsd_wgmma_commit();
  bsd_wgmma_wait<0>();
  bsd_hold(d);
  write_accumulator<N>(out, d);
}

template <typename T, int N> static ptx_report run_twice() {
  /* sums of 64 products of -1, 0 and 1 are exact in both types */
  const std::vector<float> a = ptx_integers(64 * 64, 1, 3), b = ptx_integers(64 * 64, 1, 4);
  const std::vector<float> c = ptx_integers(64 * N, 8, 5);
  const std::vector<float> expected =
      ptx_multiply_matrices(ptx_multiply_matrices(a, b, 64, 64, 64), c, 64, 64, N);
  const ptx_buffer<T> first(ptx_narrow<T>(a)), second(ptx_narrow<T>(ptx_transpose(b, 64, 64)));
  const ptx_buffer<T> third(ptx_narrow<T>(c));
  return ptx_run(expected, [&](float *out) {
    multiply_twice<T, N>
        <<<4, 128, 16384 + 128 * N + 1024>>>(first.get(), second.get(), third.get(), out);
  });
}

template <typename T> static ptx_report choose_twice(int columns) {
  return columns == 64 ? run_twice<T, 64>() : run_twice<T, 128>();
}

ptx_report ptx_accumulator_as_operand(int half, int columns) {
  return ptx_guard(
      [=] { return half ? choose_twice<__half>(columns) : choose_twice<__nv_bfloat16>(columns); });
}
