/* vectors_baseline.c - the arithmetic of the CPU kernels for any architecture: vectors of 4 floats. */
#include "vectors.h"

#define VECTOR_TARGET
enum { LANES = 4, TILE_VECTORS = 2, TILE_ROWS = 6, NARROW_TILE_ROWS = 6 };
#include "vectors_body.h"

const bsd_cpu_vectors *bsd_cpu_vectors_baseline(void) {
  static const bsd_cpu_vectors table = VECTORS_TABLE("baseline");
  return &table;
}
