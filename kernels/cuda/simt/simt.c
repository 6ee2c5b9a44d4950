/* simt.c - the SIMT family's table: it runs every shape in the backend's scope. */
#include "simt.h"

#include <inttypes.h>
#include <stdio.h>

static int simt_applies(const bsd_cuda_device *device, const bsd_kernel_shape *shape, char *reason,
                        size_t size) {
  (void)device;
  if (shape->head_dim >= 8 && shape->head_dim <= 256 && shape->head_dim % 8 == 0)
    return 1;
  snprintf(reason, size, "needs a head_dim that is a multiple of 8 up to 256, not %" PRId64,
           shape->head_dim);
  return 0;
}

static bsd_status simt_open(const bsd_cuda_device *device, bsd_error *error) {
  BSD_TRY(bsd_simt_open_forward(device, error));
  BSD_TRY(bsd_simt_open_backward_dq(device, error));
  return bsd_simt_open_backward_dkv(device, error);
}

const bsd_cuda_family bsd_cuda_simt = {
    .name = "simt",
    .id = BSD_KERNEL_SIMT,
    .forward = {.applies = simt_applies, .forward = bsd_simt_forward},
    .backward = {.applies = simt_applies,
                 .backward_dq = bsd_simt_backward_dq,
                 .backward_dkv = bsd_simt_backward_dkv},
    .open = simt_open,
    .least_capability = 61,
};
