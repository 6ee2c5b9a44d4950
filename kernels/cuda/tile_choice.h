/* tile_choice.h - which tile shape a SIMT kernel takes: host heuristics, plain C, tested without a GPU. */
#ifndef BSD_CUDA_TILE_CHOICE_H
#define BSD_CUDA_TILE_CHOICE_H

#include "launch.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum bsd_simt_kernel {
  BSD_SIMT_FORWARD,
  BSD_SIMT_QUERY_GRADIENT,
  BSD_SIMT_KEY_GRADIENT
} bsd_simt_kernel;

/* Head dimension that the instances are made for: 64, 128 or 256, the smallest that holds head_dim. */
int bsd_simt_width(int64_t head_dim);

/* Dynamic shared memory of an instance. */
int64_t bsd_simt_shared_bytes(bsd_simt_kernel kernel, int width, int rows);

/* Own rows of a tile: the most that the instances have, the device's shared memory holds, and a block
 * needs. Rows are computed alike in every tile shape: the choice changes no bit. */
int bsd_simt_rows(const bsd_cuda_device *device, bsd_simt_kernel kernel, int width, int64_t block);

#ifdef __cplusplus
}
#endif

#endif
