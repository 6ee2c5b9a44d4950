/* tile_choice.c - see tile_choice.h. */
#include "tile_choice.h"

#include "simt/layout.h"

int bsd_tile_width(int64_t head_dim) {
  return head_dim <= 64 ? 64 : head_dim <= 128 ? 128 : 256;
}

/* The instances' rows, by kernel and width 64, 128, 256: the tallest is what registers hold, the last fits
 * every device and block. */
static const int simt_rows[3][3][4] = {
    [BSD_TILE_FORWARD] = {{64, 32, 16}, {64, 16}, {32, 16}},
    [BSD_TILE_QUERY_GRADIENT] = {{64, 32, 16}, {32, 16}, {32, 8}},
    [BSD_TILE_KEY_GRADIENT] = {{32, 16}, {32, 16}, {16, 8}},
};

int bsd_simt_rows(const bsd_cuda_device *device, bsd_tile_kernel kernel, int width, int64_t block) {
  const int *rows = simt_rows[kernel][width / 128];
  while (rows[1] > 0 &&
         (*rows > block || bsd_simt_shared_bytes(kernel, width, *rows) + BSD_SIMT_TABLE_BYTES >
                               device->shared_per_block))
    rows++;
  return *rows;
}

int bsd_sm80_rows(int64_t block) {
  return block < 64 ? 16 : 64;
}
