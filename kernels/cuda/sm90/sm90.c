/* sm90.c - the sm90 family: which shapes it runs, and its hooks. */
#include "sm90.h"

#include <inttypes.h>
#include <stdio.h>

#include "../../../src/memory.h"
#include "maps.h"

static int applies(const bsd_cuda_device *device, const bsd_kernel_shape *shape, char *reason,
                   size_t size) {
  if (device->capability != 90)
    snprintf(reason, size, "needs compute capability 9.0, the device has %d.%d",
             device->capability / 10, device->capability % 10);
  else if (shape->dtype == BSD_F32)
    snprintf(reason, size, "needs bf16 or f16, not f32");
  else if (shape->head_dim != 64 && shape->head_dim != 128)
    snprintf(reason, size, "needs head_dim 64 or 128, not %" PRId64, shape->head_dim);
  else if (shape->block % 64 != 0)
    snprintf(reason, size, "needs blocks of 64, 128 or 256 tokens, not %" PRId64, shape->block);
  else
    return 1;
  return 0;
}

static int applies_backward(const bsd_cuda_device *device, const bsd_kernel_shape *shape,
                            char *reason, size_t size) {
  (void)device;
  (void)shape;
  snprintf(reason, size, "has no backward");
  return 0;
}

int bsd_sm90_ctas(int64_t head_dim, int members) {
  return members > 1 ? 1 : head_dim == 64 ? 3 : 2;
}

static bsd_status forward(void *device, const bsd_call *call, const bsd_lists *lists, int64_t pass,
                          int stage, void *stream, bsd_error *error) {
  bsd_sm90_work *work = lists->extra[BSD_SM90_FAMILY];
  return bsd_sm90_forward(device, call, &work->passes[pass], stage, stream, error);
}

static bsd_status open_family(const bsd_cuda_device *device, bsd_error *error) {
  (void)device;
  BSD_TRY(bsd_sm90_maps_open(error));
  return bsd_sm90_forward_open(error);
}

static bsd_status prepare(const bsd_cuda_device *device, const bsd_kernel_shape *shape,
                          bsd_lists *lists, void **extra, bsd_error *error) {
  bsd_sm90_work *work = NULL;
  BSD_TRY(bsd_sm90_work_create(shape, lists->passes, lists->npasses, shape->head_dim == 64 ? 4 : 3,
                               device->multiprocessors, &work, error));
  *extra = work;
  return BSD_OK;
}

static void discard(void *extra) {
  bsd_sm90_work_destroy(extra);
}

const bsd_cuda_family bsd_cuda_sm90 = {.name = "sm90",
                                       .id = BSD_KERNEL_SM90,
                                       .forward = {.applies = applies, .forward = forward},
                                       .backward = {.applies = applies_backward},
                                       .open = open_family,
                                       .least_capability = 90,
                                       .prepare = prepare,
                                       .discard = discard};
