/* tile_choice.h - which tile shape a kernel of simt/ or sm80/ takes: host heuristics, plain C. */
#ifndef BSD_CUDA_TILE_CHOICE_H
#define BSD_CUDA_TILE_CHOICE_H

#include "launch.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Head dimension that the instances are made for: 64, 128 or 256, the smallest that holds head_dim. */
int bsd_tile_width(int64_t head_dim);

/* Own rows of a tile. Rows are computed alike in every tile shape: the choice changes no bit.
 * simt: the most that the instances have, the device's shared memory holds, and a block needs. */
int bsd_simt_rows(const bsd_cuda_device *device, bsd_tile_kernel kernel, int width, int64_t block);
int bsd_sm80_rows(int64_t block);

#ifdef __cplusplus
}
#endif

#endif
