/* tile_choice.c - see tile_choice.h. */
#include "tile_choice.h"

#include "simt/layout.h"

int bsd_simt_width(int64_t head_dim) {
  return head_dim <= 64 ? 64 : head_dim <= 128 ? 128 : 256;
}

int64_t bsd_simt_shared_bytes(bsd_simt_kernel kernel, int width, int rows) {
  const int own = kernel == BSD_SIMT_FORWARD ? 1 : 2; /* tensors of the own side */
  const int64_t own_floats = (int64_t)own * rows * (width + BSD_SIMT_PADDING);
  const int64_t chunk_floats = BSD_SIMT_STEP * (BSD_SIMT_CHUNK + BSD_SIMT_PADDING);
  const int64_t score_floats = (int64_t)rows * bsd_simt_score_pitch(width);
  return (int64_t)sizeof(float) * (own_floats + chunk_floats + score_floats);
}

int bsd_simt_rows(const bsd_cuda_device *device, bsd_simt_kernel kernel, int width, int64_t block) {
  const int least = bsd_simt_least_rows(kernel != BSD_SIMT_FORWARD, width);
  int rows = bsd_simt_most_rows(kernel == BSD_SIMT_KEY_GRADIENT, width);
  while (rows > least && (rows > block || bsd_simt_shared_bytes(kernel, width, rows) +
                                                  BSD_SIMT_TABLE_BYTES >
                                              device->shared_per_block))
    rows /= 2;
  return rows;
}
