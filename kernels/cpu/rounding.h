/* rounding.h - fp32 to the 16-bit types and back, one value at a time: to nearest, ties to even. */
#ifndef BSD_CPU_ROUNDING_H
#define BSD_CPU_ROUNDING_H

#include <stdint.h>
#include <string.h>

#include "../../src/bsdattn.h"

static inline uint32_t bsd_float_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static inline float bsd_bits_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static inline int64_t bsd_dtype_bytes(bsd_dtype dtype) {
  return dtype == BSD_F32 ? 4 : 2;
}

static inline uint16_t bsd_round_bf16(float x) {
  const uint32_t bits = bsd_float_bits(x);
  if ((bits & 0x7fffffff) > 0x7f800000)
    return (uint16_t)(bits >> 16 | 0x40); /* NaN stays NaN */
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline uint16_t bsd_round_f16(float x) {
  const uint32_t bits = bsd_float_bits(x), sign = bits >> 16 & 0x8000;
  uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000)
    return (uint16_t)(sign | 0x7e00);
  if (magnitude >= 0x47800000) /* 2^16 and above */
    return (uint16_t)(sign | 0x7c00);
  if (magnitude < 0x38800000) { /* below 2^-14: adding 0.5 leaves multiples of 2^-24 */
    const float shifted = bsd_bits_float(magnitude) + 0.5f;
    return (uint16_t)(sign | (bsd_float_bits(shifted) - 0x3f000000));
  }
  magnitude += 0xfff + (magnitude >> 13 & 1);
  return (uint16_t)(sign | (magnitude - 0x38000000) >> 13);
}

static inline float bsd_widen_f16(uint16_t half) {
  const uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13, sign = (uint32_t)(half & 0x8000)
                                                                     << 16;
  if (magnitude >= 0x0f800000)
    return bsd_bits_float(magnitude | 0x7f800000 | sign);
  return bsd_bits_float(bsd_float_bits(bsd_bits_float(magnitude) * 0x1p112f) | sign);
}

/* Element i of an array of a dtype. */
static inline float bsd_load(bsd_dtype dtype, const void *array, int64_t i) {
  if (dtype == BSD_F32)
    return ((const float *)array)[i];
  const uint16_t half = ((const uint16_t *)array)[i];
  return dtype == BSD_F16 ? bsd_widen_f16(half) : bsd_bits_float((uint32_t)half << 16);
}

static inline void bsd_store(bsd_dtype dtype, void *array, int64_t i, float x) {
  if (dtype == BSD_F32)
    ((float *)array)[i] = x;
  else
    ((uint16_t *)array)[i] = dtype == BSD_F16 ? bsd_round_f16(x) : bsd_round_bf16(x);
}

#endif
