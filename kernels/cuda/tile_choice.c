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

/* The instances' rows, by kernel and width 64, 128, 256: the tallest is what registers hold, the last fits
 * every device and block. */
static const int instance_rows[3][3][4] = {
    [BSD_SIMT_FORWARD] = {{64, 32, 16}, {64, 16}, {32, 16}},
    [BSD_SIMT_QUERY_GRADIENT] = {{64, 32, 16}, {32, 16}, {32, 8}},
    [BSD_SIMT_KEY_GRADIENT] = {{32, 16}, {32, 16}, {16, 8}},
};

int bsd_simt_rows(const bsd_cuda_device *device, bsd_simt_kernel kernel, int width, int64_t block) {
  const int *rows = instance_rows[kernel][width / 128];
  while (rows[1] > 0 &&
         (*rows > block || bsd_simt_shared_bytes(kernel, width, *rows) + BSD_SIMT_TABLE_BYTES >
                               device->shared_per_block))
    rows++;
  return *rows;
}
