/* vectors_avx2.c - the arithmetic of the CPU kernels for AVX2 with FMA. */
#include "vectors.h"

#if defined(__x86_64__)

#define VECTOR_TARGET __attribute__((target("avx2,fma")))
enum { LANES = 8, TILE_VECTORS = 2, TILE_ROWS = 6, NARROW_TILE_ROWS = 6 };
#include "vectors_body.h"

const bsd_cpu_vectors *bsd_cpu_vectors_avx2(void) {
  static const bsd_cpu_vectors table = VECTORS_TABLE("avx2");
  return &table;
}

#else

const bsd_cpu_vectors *bsd_cpu_vectors_avx2(void) {
  return NULL;
}

#endif
