/* elements.cuh - eight elements of a row between memory and fp32 registers, in any of the three types.
 *
 * 16-bit types go by bit operations, which every GPU has and which round as the CPU backend does. Rows are
 * aligned to 16 bytes. The type is a branch at run time, equal for all threads: it is decided where memory is touched,
 * not in the arithmetic. */
#ifndef BSD_CUDA_ELEMENTS_CUH
#define BSD_CUDA_ELEMENTS_CUH

#include "lists.h"

static __device__ __forceinline__ float bsd_minus_infinity() {
  return __uint_as_float(0xff800000u);
}

static __device__ __forceinline__ float bsd_widen_f16(unsigned half) {
  const unsigned magnitude = (half & 0x7fffu) << 13, sign = (half & 0x8000u) << 16;
  if (magnitude >= 0x0f800000u)
    return __uint_as_float(magnitude | 0x7f800000u | sign);
  const float scaled = __uint_as_float(magnitude) * __uint_as_float(0x77800000u); /* 2^112 */
  return __uint_as_float(__float_as_uint(scaled) | sign);
}

static __device__ __forceinline__ float bsd_widen_element(unsigned bits, bsd_dtype dtype) {
  return dtype == BSD_F16 ? bsd_widen_f16(bits) : __uint_as_float(bits << 16);
}

static __device__ __forceinline__ unsigned bsd_round_f16(float x) {
  const unsigned bits = __float_as_uint(x), sign = bits >> 16 & 0x8000u;
  unsigned magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u)
    return sign | 0x7e00u;
  if (magnitude >= 0x47800000u) /* 2^16 and above */
    return sign | 0x7c00u;
  if (magnitude < 0x38800000u) /* below 2^-14: adding 0.5 leaves multiples of 2^-24 */
    return sign | (__float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000u);
  magnitude += 0xfffu + (magnitude >> 13 & 1u);
  return sign | (magnitude - 0x38000000u) >> 13;
}

/* To nearest, ties to even; a NaN stays one. */
static __device__ __forceinline__ unsigned bsd_round_element(float x, bsd_dtype dtype) {
  if (dtype == BSD_F16)
    return bsd_round_f16(x);
  const unsigned bits = __float_as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u)
    return bits >> 16 | 0x40u;
  return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

static __device__ __forceinline__ void bsd_widen_pair(unsigned word, bsd_dtype dtype, float *to) {
  to[0] = bsd_widen_element(word & 0xffffu, dtype);
  to[1] = bsd_widen_element(word >> 16, dtype);
}

/* Four 16-byte-aligned f32 elements, or eight of a 16-bit type, are one vector. */
static __device__ __forceinline__ void bsd_widen_vector(uint4 words, bsd_dtype dtype, float *to) {
  bsd_widen_pair(words.x, dtype, to);
  bsd_widen_pair(words.y, dtype, to + 2);
  bsd_widen_pair(words.z, dtype, to + 4);
  bsd_widen_pair(words.w, dtype, to + 6);
}

/* Elements 8*i .. 8*i + 7 of a row. */
static __device__ __forceinline__ void bsd_load_eight(const char *row, int i, bsd_dtype dtype,
                                                      float *to) {
  if (dtype == BSD_F32) {
    const float4 low = __ldg(reinterpret_cast<const float4 *>(row) + 2 * i);
    const float4 high = __ldg(reinterpret_cast<const float4 *>(row) + 2 * i + 1);
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
  } else {
    bsd_widen_vector(__ldg(reinterpret_cast<const uint4 *>(row) + i), dtype, to);
  }
}

/* Elements 4*i .. 4*i + 3 of a row, rounded to the type. */
static __device__ __forceinline__ void bsd_store_four(char *row, int i, bsd_dtype dtype,
                                                      const float *from) {
  if (dtype == BSD_F32) {
    reinterpret_cast<float4 *>(row)[i] = make_float4(from[0], from[1], from[2], from[3]);
  } else {
    const unsigned low = bsd_round_element(from[0], dtype) | bsd_round_element(from[1], dtype)
                                                                 << 16;
    const unsigned high = bsd_round_element(from[2], dtype) | bsd_round_element(from[3], dtype)
                                                                  << 16;
    reinterpret_cast<uint2 *>(row)[i] = make_uint2(low, high);
  }
}

static __host__ __device__ __forceinline__ int bsd_element_bytes(bsd_dtype dtype) {
  return dtype == BSD_F32 ? 4 : 2;
}

#endif
