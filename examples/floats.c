/* floats.c - conversions between float and the 16-bit types, in integer arithmetic. */
#include "examples/floats.h"

#include <string.h>

static uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

uint16_t float_to_bfloat(float value) {
  uint32_t bits = bits_of(value);
  if ((bits & 0x7FFFFFFF) > 0x7F800000)
    return (uint16_t)(bits >> 16 | 0x40); /* a quiet NaN: its payload may lie in the lower half */
  return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

float bfloat_to_float(uint16_t bits) {
  return float_of((uint32_t)bits << 16);
}

/* value >> shift, rounded to nearest even; shift >= 1. */
static uint32_t shift_rounded(uint32_t value, unsigned shift) {
  if (shift > 31)
    return 0;
  uint32_t kept = value >> shift, rest = value & ((1u << shift) - 1), half = 1u << (shift - 1);
  return kept + (rest > half || (rest == half && (kept & 1) != 0));
}

uint16_t float_to_half(float value) {
  uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000)
    return (uint16_t)(sign | 0x7E00);
  if (magnitude >= 0x47800000) /* 2^16 and more, infinity */
    return (uint16_t)(sign | 0x7C00);
  uint32_t exponent = magnitude >> 23;
  if (exponent >=
      113) /* normal halves: the exponent's bias falls by 112; a carry may reach infinity */
    return (uint16_t)(sign | shift_rounded(magnitude - (112u << 23), 13));
  uint32_t mantissa = (magnitude & 0x7FFFFF) | 0x800000;
  return (uint16_t)(sign | shift_rounded(mantissa, 126 - exponent));
}

float half_to_float(uint16_t bits) {
  uint32_t sign = (uint32_t)(bits & 0x8000) << 16, exponent = bits >> 10 & 31,
           mantissa = bits & 1023;
  if (exponent == 31)
    return float_of(sign | 0x7F800000 | mantissa << 13);
  if (exponent == 0) { /* zero and subnormals: mantissa * 2^-24, exact in float */
    float magnitude = (float)mantissa * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}
