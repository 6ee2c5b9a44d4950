/* tensors.c - see tensors.h. */
#include "support/tensors.h"

#include <math.h>
#include <string.h>

#include "oracle.h"

size_t tensor_element_size(bsd_dtype dtype) {
  return dtype == BSD_F32 ? 4 : 2;
}

double tensor_unit(bsd_dtype dtype) {
  return dtype == BSD_F32 ? 0x1p-24 : dtype == BSD_BF16 ? 0x1p-8 : 0x1p-11;
}

double tensor_round(double x, bsd_dtype dtype) {
  if (x == 0 || !isfinite(x))
    return x;
  int least = dtype == BSD_F16 ? -14 : -126; /* exponent of the smallest normal number */
  int exponent = ilogb(x) < least ? least : ilogb(x);
  double step = ldexp(2 * tensor_unit(dtype), exponent);
  double rounded = rint(x / step) * step;
  double largest = dtype == BSD_F16 ? 65504.0 : 0x1p128 * (1 - tensor_unit(dtype));
  return fabs(rounded) > largest ? copysign(INFINITY, x) : rounded;
}

float *tensor_normal(int64_t count, uint64_t seed, bsd_dtype dtype) {
  float *x = oracle_alloc(count, sizeof *x);
  uint64_t start = oracle_mix(seed);
  for (int64_t e = 0; e < count; e++) {
    uint64_t a = oracle_mix(start ^ (uint64_t)(2 * e)),
             b = oracle_mix(start ^ (uint64_t)(2 * e + 1));
    double radius = sqrt(-2 * log(((double)(a >> 11) + 0.5) * 0x1p-53));
    double angle = (double)(b >> 11) * 0x1p-53 * 6.283185307179586;
    x[e] = (float)tensor_round(radius * cos(angle), dtype);
  }
  return x;
}

static uint16_t half_bits(float value) {
  uint16_t sign = signbit(value) ? 0x8000 : 0;
  if (isnan(value))
    return 0x7E00;
  if (isinf(value))
    return sign | 0x7C00;
  if (fabsf(value) < 0x1p-14f)
    return sign | (uint16_t)(fabsf(value) * 0x1p24f);
  int exponent = ilogbf(value);
  return sign | (uint16_t)((exponent + 14) * 1024 + (int)(fabsf(value) * ldexp(1024, -exponent)));
}

static float half_value(uint16_t bits) {
  int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  double size = exponent == 31  ? (mantissa ? (double)NAN : (double)INFINITY)
                : exponent == 0 ? ldexp(mantissa, -24)
                                : ldexp(1024 + mantissa, exponent - 25);
  return (float)(bits & 0x8000 ? -size : size);
}

void tensor_store(void *array, int64_t index, float value, bsd_dtype dtype) {
  if (dtype == BSD_F32) {
    ((float *)array)[index] = value;
  } else if (dtype == BSD_F16) {
    ((uint16_t *)array)[index] = half_bits(value);
  } else {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    ((uint16_t *)array)[index] = isnan(value) ? 0x7FC0 : (uint16_t)(bits >> 16);
  }
}

float tensor_load(const void *array, int64_t index, bsd_dtype dtype) {
  if (dtype == BSD_F32)
    return ((const float *)array)[index];
  uint16_t half = ((const uint16_t *)array)[index];
  if (dtype == BSD_F16)
    return half_value(half);
  uint32_t bits = (uint32_t)half << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
