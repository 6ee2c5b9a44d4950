/* bench_random.c - normal random numbers by index: element x of a tensor is the same on any rank.
 *
 * Pair p of a tensor takes one 64-bit word, splitmix64's finaliser over (seed, tensor, p); two uniform
 * numbers of 24 bits from it give elements 2p and 2p+1 by Box and Muller's transform:
 *   sqrt(-2 ln u1) cos(2 pi u2), sqrt(-2 ln u1) sin(2 pi u2),  u1 in (0,1], u2 in [0,1). */
#include "bench/bench_random.h"

#include <math.h>

#include "examples/floats.h"

enum { PIECE = 1 << 14 }; /* elements that one thread makes at a time */

static uint64_t mix(uint64_t z) {
  z += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

static uint64_t stream_of(uint64_t seed, bench_tensor_id tensor) {
  return mix(mix(seed) ^ (uint64_t)tensor);
}

static void normal_pair(uint64_t word, float *even, float *odd) {
  float u1 = (float)((word >> 40) + 1) * 0x1p-24f;
  float angle = (float)(word & 0xFFFFFF) * (0x1p-24f * 6.28318531f);
  float radius = sqrtf(-2 * logf(u1));
  *even = radius * cosf(angle);
  *odd = radius * sinf(angle);
}

static float round_to(bsd_dtype dtype, float value) {
  if (dtype == BSD_BF16)
    return bfloat_to_float(float_to_bfloat(value));
  return dtype == BSD_F16 ? half_to_float(float_to_half(value)) : value;
}

static void store(bsd_dtype dtype, float value, void *out, int64_t at) {
  if (dtype == BSD_F32)
    ((float *)out)[at] = value;
  else
    ((uint16_t *)out)[at] = dtype == BSD_BF16 ? float_to_bfloat(value) : float_to_half(value);
}

/* Elements first .. end-1 of a stream, stored as `kind` after rounding to dtype, at out[0 ..]. */
static void fill_piece(uint64_t stream, bsd_dtype dtype, bsd_dtype kind, int64_t first, int64_t end,
                       void *out) {
  for (int64_t pair = first / 2; 2 * pair < end; pair++) {
    float value[2];
    normal_pair(mix(stream ^ (uint64_t)pair), &value[0], &value[1]);
    for (int64_t side = 0; side < 2; side++) {
      int64_t element = 2 * pair + side;
      if (element >= first && element < end)
        store(kind, round_to(dtype, value[side]), out, element - first);
    }
  }
}

static void fill(uint64_t seed, bench_tensor_id tensor, bsd_dtype dtype, bsd_dtype kind,
                 int64_t first, int64_t count, void *out) {
  uint64_t stream = stream_of(seed, tensor);
  int64_t width = kind == BSD_F32 ? 4 : 2;
  if (count <= PIECE) { /* also when many threads each make a few: no team for them */
    fill_piece(stream, dtype, kind, first, first + count, out);
    return;
  }
#pragma omp parallel for schedule(static)
  for (int64_t at = 0; at < count; at += PIECE) {
    int64_t end = at + PIECE < count ? at + PIECE : count;
    fill_piece(stream, dtype, kind, first + at, first + end, (char *)out + at * width);
  }
}

void bench_random_floats(uint64_t seed, bench_tensor_id tensor, bsd_dtype dtype, int64_t first,
                         int64_t count, float *out) {
  fill(seed, tensor, dtype, BSD_F32, first, count, out);
}

void bench_random_fill(uint64_t seed, bench_tensor_id tensor, bsd_dtype dtype, int64_t first,
                       int64_t count, void *out) {
  fill(seed, tensor, dtype, dtype, first, count, out);
}

float bench_element(bsd_dtype dtype, const void *data, int64_t index) {
  if (dtype == BSD_F32)
    return ((const float *)data)[index];
  uint16_t bits = ((const uint16_t *)data)[index];
  return dtype == BSD_BF16 ? bfloat_to_float(bits) : half_to_float(bits);
}
