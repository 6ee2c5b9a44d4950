/* vectors_body.h - the one implementation of vectors.h, compiled once per instruction set.
 *
 * The including file sets VECTOR_TARGET (an attribute, or nothing), LANES (floats in a vector), and the
 * register tile of the products: TILE_ROWS rows by TILE_VECTORS vectors, or NARROW_TILE_ROWS where the
 * matrix has fewer vectors than that. Vectors are the compiler's own, so it picks the instructions; a*b+c
 * is contracted wherever the target has it. */
#ifndef BSD_CPU_VECTORS_BODY_H
#define BSD_CPU_VECTORS_BODY_H

#include <math.h>
#include <stddef.h>
#include <string.h>

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));

#define VECTOR_INLINE static inline __attribute__((always_inline)) VECTOR_TARGET

static const int32_t slot_number[BSD_CPU_MAX_WIDTH] __attribute__((aligned(64))) = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
    22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
    44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

VECTOR_INLINE vec splat(float x) {
  return x - (vec){0};
}

VECTOR_INLINE ivec splat_int(int32_t x) {
  return x - (ivec){0};
}

/* Lane by lane: where ? yes : no, `where` all ones or all zeros in a lane. */
VECTOR_INLINE vec choose(ivec where, vec yes, vec no) {
  return (vec)((where & (ivec)yes) | (~where & (ivec)no));
}

/* The larger; a NaN in b is passed over. */
VECTOR_INLINE vec larger(vec a, vec b) {
  return choose(b > a, b, a);
}

/* e^x to about 1 ulp; 0 below the normal range, e^88.37 above it; NaN stays NaN. x = n ln 2 + r with
 * |r| <= ln(2)/2, ln 2 in two parts; e^r by its Taylor polynomial of degree 7, whose error is 5e-9. */
VECTOR_INLINE vec exponential(vec x) {
  const float round_to_integer = 0x1.8p23f; /* adding it leaves the integer in the low bits */
  const vec bounded = choose(x > splat(88.37f), splat(88.37f), x);
  const vec shifted = bounded * 0x1.715476p0f + round_to_integer;
  const vec n = shifted - round_to_integer;
  vec r = bounded - n * 0x1.62e4p-1f;
  r = r - n * 0x1.7f7d1cp-20f;
  vec p = splat(0x1.a01a02p-13f);
  p = p * r + 0x1.6c16c2p-10f;
  p = p * r + 0x1.111112p-7f;
  p = p * r + 0x1.555556p-5f;
  p = p * r + 0x1.555556p-3f;
  p = p * r + 0.5f;
  p = p * (r * r) + r;
  const ivec exponent = ((ivec)shifted - splat_int(0x4b400000 - 127)) << 23;
  p = (p + 1.0f) * (vec)exponent;
  return choose(x < splat(-87.33f), splat(0), p);
}

/* ---- products --------------------------------------------------------------------------------- */

enum { SPELL = 16 }; /* steps of the inner loop between two turns of fetching ahead */

/* What the register tiles of one product share. */
typedef struct product_call {
  int64_t rows, inner, width;
  const float *a;
  int64_t row_step, inner_step;
  const float *b, *factor;
  float *c;
  bsd_cpu_ahead ahead; /* what is still to be fetched: its first row from byte `fetched` on */
  int64_t fetched, lines_per_spell;
} product_call;

/* Fetches the next few lines into the second level cache: a few at a time, since a burst would hold up the
 * loads of the product. */
VECTOR_INLINE void fetch_ahead(product_call *p) {
  for (int64_t i = 0; i < p->lines_per_spell && p->ahead.rows > 0; i++) {
    __builtin_prefetch(p->ahead.data + p->fetched, 0, 2);
    p->fetched += 64;
    if (p->fetched < p->ahead.row_bytes)
      continue;
    p->fetched = 0;
    p->ahead.data += p->ahead.stride_bytes;
    p->ahead.rows--;
  }
}

/* One register tile: c[i][v] (+)= sum_k a(i,k) b[k][v], a(i,k) = a[i*row_step + k*inner_step], from row
 * `first` and column `column` on. */
VECTOR_INLINE void product_tile(const int rows, const int vectors, const int add, product_call *p,
                                int64_t first, int64_t column) {
  const int64_t row_step = p->row_step, inner_step = p->inner_step, width = p->width;
  const float *a = p->a + first * row_step, *b = p->b + column;
  vec sums[12][4] = {{{0}}};
  for (int64_t begin = 0; begin < p->inner; begin += SPELL) {
    const int64_t end = begin + SPELL < p->inner ? begin + SPELL : p->inner;
    fetch_ahead(p);
    for (int64_t k = begin; k < end; k++, b += width) {
      vec row[4];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++)
        row[v] = *(const vec *)(b + v * LANES);
#pragma GCC unroll 12
      for (int i = 0; i < rows; i++) {
        const vec element = splat(a[i * row_step + k * inner_step]);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
          sums[i][v] += element * row[v];
      }
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) {
    const int64_t at = column + v * LANES;
    const vec factor = p->factor ? *(const vec *)(p->factor + at) : splat(1);
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++) {
      vec *out = (vec *)(p->c + (first + i) * width + at);
      *out = add ? *out * factor + sums[i][v] : sums[i][v];
    }
  }
}

/* Tiles of `rows` rows by `vectors` vectors, over all columns, from row `done` on as far as they fit. */
VECTOR_INLINE int64_t product_rows(const int rows, const int vectors, const int add,
                                   product_call *p, int64_t done) {
  for (; done + rows <= p->rows; done += rows)
    for (int64_t column = 0; column < p->width; column += vectors * LANES)
      product_tile(rows, vectors, add, p, done, column);
  return done;
}

VECTOR_INLINE void product_panels(const int tile_rows, const int vectors, const int add,
                                  product_call *p) {
  const int64_t spells =
      (p->rows / tile_rows + 1) * (p->width / (vectors * LANES)) * ((p->inner + SPELL - 1) / SPELL);
  p->lines_per_spell = p->ahead.rows * ((p->ahead.row_bytes + 63) / 64) / spells + 1;
  int64_t done = product_rows(tile_rows, vectors, add, p, 0);
  done = product_rows(4, vectors, add, p, done);
  done = product_rows(2, vectors, add, p, done);
  product_rows(1, vectors, add, p, done);
}

VECTOR_INLINE void product_any(const int add, product_call *p) {
  if (p->width >= TILE_VECTORS * LANES)
    product_panels(TILE_ROWS, TILE_VECTORS, add, p);
  else if (p->width == 2 * LANES)
    product_panels(NARROW_TILE_ROWS, 2, add, p);
  else
    product_panels(NARROW_TILE_ROWS, 1, add, p);
}

VECTOR_TARGET static void product(int64_t rows, int64_t inner, int64_t width, const float *a,
                                  int64_t stride, const float *b, float *c,
                                  const bsd_cpu_ahead *ahead) {
  product_call p = {rows, inner, width, a, stride, 1, b, NULL, c, *ahead, 0, 0};
  product_any(0, &p);
}

VECTOR_TARGET static void accumulate(int64_t rows, int64_t inner, int64_t width, const float *a,
                                     int64_t stride, const float *b, const float *factor, float *c,
                                     const bsd_cpu_ahead *ahead) {
  product_call p = {rows, inner, width, a, 1, stride, b, factor, c, *ahead, 0, 0};
  product_any(1, &p);
}

/* ---- softmax ---------------------------------------------------------------------------------- */

/* Lanes s .. s+LANES-1 that row i's mask admits. */
VECTOR_INLINE ivec admitted(const int32_t *first, const int32_t *last, int64_t i, int64_t s) {
  const ivec slot = *(const ivec *)(slot_number + s);
  return (slot >= splat_int(first[i])) & (slot <= splat_int(last[i]));
}

/* One vector of slots through all rows. */
VECTOR_INLINE void softmax_lanes(const int masked, int64_t rows, int64_t width, int64_t s,
                                 float *scores, const int32_t *first, const int32_t *last,
                                 float *maximum, float *sum, float *factor) {
  const vec minus_infinity = splat(-INFINITY);
  const vec before = *(vec *)(maximum + s);
  vec top = before;
  for (int64_t i = 0; i < rows; i++) {
    vec *score = (vec *)(scores + i * width + s);
    if (masked)
      *score = choose(admitted(first, last, i, s), *score, minus_infinity);
    top = larger(top, *score);
  }
  const vec shift = choose(top == minus_infinity, splat(0), top);
  vec block_sum = splat(0);
  for (int64_t i = 0; i < rows; i++) {
    vec *score = (vec *)(scores + i * width + s);
    *score = exponential(*score - shift);
    block_sum += *score;
  }
  const vec decay = exponential(before - shift);
  *(vec *)(maximum + s) = top;
  *(vec *)(factor + s) = decay;
  *(vec *)(sum + s) = *(vec *)(sum + s) * decay + block_sum;
}

VECTOR_TARGET static void softmax(int64_t rows, int64_t width, float *scores, const int32_t *first,
                                  const int32_t *last, float *maximum, float *sum, float *factor) {
  for (int64_t s = 0; s < width; s += LANES)
    if (first)
      softmax_lanes(1, rows, width, s, scores, first, last, maximum, sum, factor);
    else
      softmax_lanes(0, rows, width, s, scores, NULL, NULL, maximum, sum, factor);
}

VECTOR_TARGET static void merge(int64_t rows, int64_t width, const float *maximum, const float *sum,
                                const float *output, float *total_maximum, float *total_sum,
                                float *total_output) {
  for (int64_t s = 0; s < width; s += LANES) {
    const vec mine = *(const vec *)(total_maximum + s), other = *(const vec *)(maximum + s);
    const vec top = larger(mine, other);
    const vec shift = choose(top == splat(-INFINITY), splat(0), top);
    const vec a = exponential(mine - shift), b = exponential(other - shift);
    vec *total = (vec *)(total_sum + s);
    *total = *total * a + *(const vec *)(sum + s) * b;
    *(vec *)(total_maximum + s) = top;
    for (int64_t i = 0; i < rows; i++) {
      vec *out = (vec *)(total_output + i * width + s);
      *out = *out * a + *(const vec *)(output + i * width + s) * b;
    }
  }
}

/* ---- gradients -------------------------------------------------------------------------------- */

VECTOR_INLINE void query_gradient_rows(const int masked, int64_t rows, int64_t width,
                                       const float *scores, float *products, const int32_t *first,
                                       const int32_t *last, const float *lse, const float *delta) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t s = 0; s < width; s += LANES) {
      const vec score = *(const vec *)(scores + i * width + s);
      vec *product = (vec *)(products + i * width + s);
      vec gradient =
          exponential(score - *(const vec *)(lse + s)) * (*product - *(const vec *)(delta + s));
      if (masked)
        gradient = choose(admitted(first, last, i, s), gradient, splat(0));
      *product = gradient;
    }
}

VECTOR_TARGET static void query_gradient(int64_t rows, int64_t width, const float *scores,
                                         float *products, const int32_t *first, const int32_t *last,
                                         const float *lse, const float *delta) {
  if (first)
    query_gradient_rows(1, rows, width, scores, products, first, last, lse, delta);
  else
    query_gradient_rows(0, rows, width, scores, products, NULL, NULL, lse, delta);
}

VECTOR_INLINE void key_gradient_rows(const int masked, int64_t rows, int64_t width, float *scores,
                                     float *products, const int32_t *first, const int32_t *last,
                                     const float *lse, const float *delta) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t s = 0; s < width; s += LANES) {
      vec *score = (vec *)(scores + i * width + s);
      vec *product = (vec *)(products + i * width + s);
      vec probability = exponential(*score - splat(lse[i]));
      vec gradient = probability * (*product - splat(delta[i]));
      if (masked) {
        const ivec admits = admitted(first, last, i, s);
        probability = choose(admits, probability, splat(0));
        gradient = choose(admits, gradient, splat(0));
      }
      *score = probability;
      *product = gradient;
    }
}

VECTOR_TARGET static void key_gradient(int64_t rows, int64_t width, float *scores, float *products,
                                       const int32_t *first, const int32_t *last, const float *lse,
                                       const float *delta) {
  if (first)
    key_gradient_rows(1, rows, width, scores, products, first, last, lse, delta);
  else
    key_gradient_rows(0, rows, width, scores, products, NULL, NULL, lse, delta);
}

VECTOR_TARGET static void add(int64_t count, float *part, float *total) {
  for (int64_t i = 0; i < count; i += LANES) {
    *(vec *)(total + i) += *(vec *)(part + i);
    *(vec *)(part + i) = splat(0);
  }
}

/* ---- 16-bit types ----------------------------------------------------------------------------- */

/* LANES values of a 16-bit type, zero-extended. */
VECTOR_INLINE uvec load_halves(const uint16_t *from) {
  halves raw;
  memcpy(&raw, from, sizeof raw);
  return __builtin_convertvector(raw, uvec);
}

VECTOR_INLINE vec bf16_to_float(uvec bits) {
  return (vec)(bits << 16);
}

/* Exponent and mantissa shifted into place are the value times 2^-112, also for f16's denormals; Inf and
 * NaN get fp32's exponent. */
VECTOR_INLINE vec f16_to_float(uvec bits) {
  const uvec magnitude = (bits & 0x7fff) << 13;
  const uvec sign = (bits & 0x8000) << 16;
  const vec scaled = (vec)magnitude * 0x1p112f;
  const ivec special = (ivec)(magnitude >= 0x0f800000);
  const vec unbounded = (vec)(magnitude | 0x7f800000);
  return (vec)((ivec)choose(special, unbounded, scaled) | (ivec)sign);
}

VECTOR_INLINE void widen_row(const int is_f16, int64_t columns, const uint16_t *from, float *to) {
  for (int64_t d = 0; d < columns; d += LANES) {
    const size_t count = (size_t)(columns - d < LANES ? columns - d : LANES);
    uint16_t tail[LANES] = {0};
    const uint16_t *source = from + d;
    if (count < LANES)
      source = memcpy(tail, source, count * sizeof *tail);
    const uvec bits = load_halves(source);
    const vec value = is_f16 ? f16_to_float(bits) : bf16_to_float(bits);
    memcpy(to + d, &value, count * sizeof *to);
  }
}

VECTOR_TARGET static void widen(bsd_dtype dtype, int64_t rows, int64_t columns, const void *from,
                                int64_t stride, float *to) {
  for (int64_t i = 0; i < rows; i++) {
    float *row = to + i * columns;
    if (dtype == BSD_F32)
      memcpy(row, (const float *)from + i * stride, (size_t)columns * sizeof *row);
    else if (dtype == BSD_F16)
      widen_row(1, columns, (const uint16_t *)from + i * stride, row);
    else
      widen_row(0, columns, (const uint16_t *)from + i * stride, row);
  }
}

#define VECTORS_TABLE(isa)                                                                         \
  {                                                                                                \
    .name = isa, .product = product, .accumulate = accumulate, .softmax = softmax, .merge = merge, \
    .query_gradient = query_gradient, .key_gradient = key_gradient, .add = add, .widen = widen     \
  }

#endif
