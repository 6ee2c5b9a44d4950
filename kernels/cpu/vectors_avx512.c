/* vectors_avx512.c - the arithmetic of the CPU kernels for AVX-512 (F, BW, DQ, VL). */
#include "vectors.h"

#if defined(__x86_64__)

#define VECTOR_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
enum { LANES = 16, TILE_VECTORS = 4, TILE_ROWS = 6, NARROW_TILE_ROWS = 12 };
#include "vectors_body.h"

const bsd_cpu_vectors *bsd_cpu_vectors_avx512(void) {
  static const bsd_cpu_vectors table = VECTORS_TABLE("avx512");
  return &table;
}

#else

const bsd_cpu_vectors *bsd_cpu_vectors_avx512(void) {
  return NULL;
}

#endif
