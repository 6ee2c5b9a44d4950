/* sm80.c - the sm80 family's table: 16-bit types, where the device's shared memory holds the tiles. */
#include "sm80.h"

#include <inttypes.h>
#include <stdio.h>

#include "../tile_choice.h"
#include "layout.h"

static int fits(const bsd_cuda_device *device, const bsd_kernel_shape *shape,
                bsd_tile_kernel kernel, char *reason, size_t size) {
  const int64_t bytes =
      BSD_SM80_TABLE_BYTES +
      bsd_sm80_shared_bytes(kernel, bsd_tile_width(shape->head_dim), bsd_sm80_rows(shape->block));
  if (shape->dtype == BSD_F32) {
    snprintf(reason, size, "needs bf16 or f16, not f32");
    return 0;
  }
  switch (shape->head_dim) {
  case 32:
  case 64:
  case 96:
  case 128:
  case 256:
    break;
  default:
    snprintf(reason, size, "needs head_dim 32, 64, 96, 128 or 256, not %" PRId64, shape->head_dim);
    return 0;
  }
  if (bytes > device->shared_per_block) {
    snprintf(reason, size,
             "needs %" PRId64 " bytes of shared memory for head_dim %" PRId64
             ", the device has %" PRId64,
             bytes, shape->head_dim, device->shared_per_block);
    return 0;
  }
  return 1;
}

static int forward_applies(const bsd_cuda_device *device, const bsd_kernel_shape *shape,
                           char *reason, size_t size) {
  return fits(device, shape, BSD_TILE_FORWARD, reason, size);
}

static int backward_applies(const bsd_cuda_device *device, const bsd_kernel_shape *shape,
                            char *reason, size_t size) {
  return fits(device, shape, BSD_TILE_KEY_GRADIENT, reason, size);
}

static bsd_status sm80_open(const bsd_cuda_device *device, bsd_error *error) {
  BSD_TRY(bsd_sm80_open_forward(device, error));
  BSD_TRY(bsd_sm80_open_backward_dq(device, error));
  return bsd_sm80_open_backward_dkv(device, error);
}

const bsd_cuda_family bsd_cuda_sm80 = {
    .name = "sm80",
    .id = BSD_KERNEL_SM80,
    .forward = {.applies = forward_applies, .forward = bsd_sm80_forward},
    .backward = {.applies = backward_applies,
                 .backward_dq = bsd_sm80_backward_dq,
                 .backward_dkv = bsd_sm80_backward_dkv},
    .open = sm80_open,
    .least_capability = 80,
};
