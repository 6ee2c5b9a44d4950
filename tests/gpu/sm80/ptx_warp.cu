/* ptx_warp.cu - what every GPU from sm_80 on has: mma and matrix loads, cp.async, shared memory by width,
 * roundings, exponentials. */
#include "../ptx_run.h"

#include <cmath>

#include "kernels/cuda/ptx.cuh"

/* ---- products of a warp --------------------------------------------------------------------------- */

/* A [16][16] and B [16][16] row-major; out = A B. By matrix loads B's two halves of 8 columns come from B
 * as it lies (transposed loads) and from its transpose (plain loads); by hand as bsd_mma's comment says. */
template <typename T, bool Matrices>
static __global__ void multiply(const T *a, const T *b, const T *b_transposed, float *out) {
  __shared__ __align__(16) T left[16][16], right[16][16], turned[16][16];
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  for (int i = lane; i < 256; i += 32) {
    left[i / 16][i % 16] = a[i];
    right[i / 16][i % 16] = b[i];
    turned[i / 16][i % 16] = b_transposed[i];
  }
  __syncwarp();
  uint32_t x[4], y[2][4];
  if (Matrices) {
    bsd_load_matrix(x, bsd_shared_address(&left[lane % 16][lane / 16 * 8]));
    bsd_load_matrix_transposed(y[0], bsd_shared_address(&right[lane % 16][0]));
    bsd_load_matrix(y[1], bsd_shared_address(&turned[8 + lane % 8][lane / 8 % 2 * 8]));
  } else {
    for (int i = 0; i < 4; i++)
      x[i] = *reinterpret_cast<const uint32_t *>(&left[g + i % 2 * 8][2 * t + i / 2 * 8]);
    for (int i = 0; i < 4; i++)
      y[i / 2][i % 2] =
          *reinterpret_cast<const uint32_t *>(&turned[i / 2 * 8 + g][2 * t + i % 2 * 8]);
  }
  for (int n = 0; n < 2; n++) {
    float d[4] = {1, 1, 1, 1};
    bsd_mma(d, x, y[n][0], y[n][1], T());
    for (int i = 0; i < 4; i++)
      out[(g + i / 2 * 8) * 16 + 8 * n + 2 * t + i % 2] = d[i];
  }
}

template <typename T> static ptx_report run_product(int by_matrix_loads) {
  const std::vector<float> a = ptx_integers(256, 50, 1), b = ptx_integers(256, 50, 2);
  std::vector<float> expected = ptx_multiply_matrices(a, b, 16, 16, 16);
  for (float &x : expected)
    x += 1; /* what the accumulator held */
  const ptx_buffer<T> left(ptx_narrow<T>(a)), right(ptx_narrow<T>(b));
  const ptx_buffer<T> turned(ptx_narrow<T>(ptx_transpose(b, 16, 16)));
  return ptx_run(expected, [&](float *out) {
    (by_matrix_loads ? multiply<T, true> : multiply<T, false>)<<<1, 32>>>(left.get(), right.get(),
                                                                          turned.get(), out);
  });
}

ptx_report ptx_warp_product(int half, int by_matrix_loads) {
  return ptx_guard([=] {
    return half ? run_product<__half>(by_matrix_loads)
                : run_product<__nv_bfloat16>(by_matrix_loads);
  });
}

/* ---- copies --------------------------------------------------------------------------------------- */

enum { VECTORS = 128, KINDS = 5 };

/* Four floats a thread, to and from shared memory in each of KINDS ways; shared memory holds ones before. */
static __global__ void copy(const float4 *from, float4 *out) {
  __shared__ float4 memory[KINDS][VECTORS];
  __shared__ const char *pointers[VECTORS];
  const int i = threadIdx.x;
  const uint32_t to = bsd_shared_address(&memory[0][i]), next = VECTORS * 16;
  for (int kind = 0; kind < KINDS; kind++)
    memory[kind][i] = make_float4(1, 1, 1, 1);
  bsd_copy_async(to, from + i);
  bsd_copy_async_or_zero(to + next, from + i, i % 3 ? 16 : 0);
  bsd_copy_async_wait();
  const float4 v = from[i];
  bsd_store_shared(to + 2 * next, __float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z),
                   __float_as_uint(v.w));
  bsd_store_pair(to + 3 * next, v.x, v.y);
  bsd_store_word(to + 3 * next + 12, __float_as_uint(v.w));
  bsd_store_pointer(bsd_shared_address(&pointers[i]), from + (i + 1) % VECTORS);
  __syncthreads();
  const int other = VECTORS - 1 - i; /* what another warp has written */
  const uint32_t at = bsd_shared_address(&memory[0][other]);
  const uint4 whole = bsd_load_shared(at + 2 * next);
  const float2 pair = bsd_load_pair(at + 3 * next);
  out[other] = memory[0][other];
  out[VECTORS + other] = memory[1][other];
  out[2 * VECTORS + other] = make_float4(__uint_as_float(whole.x), __uint_as_float(whole.y),
                                         __uint_as_float(whole.z), __uint_as_float(whole.w));
  out[3 * VECTORS + other] = make_float4(pair.x, pair.y, memory[3][other].z,
                                         __uint_as_float(bsd_load_word(at + 3 * next + 12)));
  out[4 * VECTORS + other] =
      *reinterpret_cast<const float4 *>(bsd_load_pointer(bsd_shared_address(&pointers[other])));
}

ptx_report ptx_copies(void) {
  return ptx_guard([] {
    const std::vector<float> values = ptx_integers(4 * VECTORS, 1000, 3);
    std::vector<float> expected;
    for (int kind = 0; kind < KINDS; kind++)
      for (int i = 0; i < 4 * VECTORS; i++) {
        const bool zero = kind == 1 && i / 4 % 3 == 0, untouched = kind == 3 && i % 4 == 2;
        const int from = kind == 4 ? (i + 4) % (4 * VECTORS) : i;
        expected.push_back(zero ? 0 : untouched ? 1 : values[from]);
      }
    const ptx_buffer<float> from(values);
    return ptx_run(expected, [&](float *out) {
      copy<<<1, VECTORS>>>(reinterpret_cast<const float4 *>(from.get()),
                           reinterpret_cast<float4 *>(out));
    });
  });
}

/* ---- arithmetic ----------------------------------------------------------------------------------- */

template <typename T> static __global__ void pack(const float *x, int count, float *out) {
  for (int i = 2 * threadIdx.x; i < count; i += 2 * blockDim.x) {
    const uint32_t word = bsd_pack2(x[i], x[i + 1], T());
    T halves[2];
    memcpy(halves, &word, sizeof word);
    out[i] = static_cast<float>(halves[0]);
    out[i + 1] = static_cast<float>(halves[1]);
  }
}

/* Around 1 in steps of an eighth of the type's step, so that there are ties in both directions; and the ends. */
static std::vector<float> hard_to_round(int half) {
  const float step = half ? 0x1p-13f : 0x1p-10f;
  std::vector<float> x = {0.f, -0.f, INFINITY, -INFINITY, 0x1p-24f, -0x1.8p-25f, 65519.f, 65520.f};
  for (int i = -512; i < 512; i++)
    x.push_back((i % 2 ? 1.f : -3.f) * (1 + step * static_cast<float>(i)));
  return x;
}

template <typename T> static ptx_report run_pack(int half) {
  const std::vector<float> x = hard_to_round(half);
  std::vector<float> expected;
  for (T rounded : ptx_narrow<T>(x)) /* the host's conversion: to nearest, ties to even */
    expected.push_back(static_cast<float>(rounded));
  const ptx_buffer<float> from(x);
  return ptx_run(expected, [&](float *out) {
    pack<T><<<1, 64>>>(from.get(), static_cast<int>(x.size()), out);
  });
}

ptx_report ptx_pack(int half) {
  return ptx_guard([=] { return half ? run_pack<__half>(half) : run_pack<__nv_bfloat16>(half); });
}

static __global__ void exponentials(const float *x, int count, float *out) {
  for (int i = threadIdx.x; i < count; i += blockDim.x)
    out[i] = bsd_exp2(x[i]);
}

ptx_report ptx_exp2(void) {
  return ptx_guard([] {
    std::vector<float> x = {-INFINITY, -200.f, -127.f, 0.f, 1.f, 127.f, 128.f}, expected;
    for (int i = 0; i < 5000; i++)
      x.push_back(-126 + 0.0251f * static_cast<float>(i));
    for (float v : x) /* results below 2^-126 are flushed to zero */
      expected.push_back(v < -126 ? 0.f : static_cast<float>(std::exp2(static_cast<double>(v))));
    const ptx_buffer<float> from(x);
    return ptx_run(
        expected,
        [&](float *out) { exponentials<<<1, 256>>>(from.get(), static_cast<int>(x.size()), out); },
        0x1p-22);
  });
}
