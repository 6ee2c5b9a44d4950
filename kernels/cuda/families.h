/* families.h - the kernel families of this build, from the fastest on, and the choice among them. */
#ifndef BSD_CUDA_FAMILIES_H
#define BSD_CUDA_FAMILIES_H

#include "launch.h"

/* Opens the families that may run on the device, which is current, and composes its kernel tables. */
bsd_status bsd_cuda_families_open(bsd_cuda_device *device, bsd_error *error);

/* bsd_backend_table.select: forward and backward each from the fastest family that applies, or both from
 * the one asked for. Errors: UNSUPPORTED with the reason. */
bsd_status bsd_cuda_families_select(void *device, const bsd_kernel_shape *shape, bsd_kernel wanted,
                                    const bsd_kernels **kernels, bsd_error *error);

/* bsd_backend_table.prepare for lists that are created: makes what the kernels' families read, no more. */
bsd_status bsd_cuda_families_prepare(const bsd_cuda_device *device, const bsd_kernels *kernels,
                                     const bsd_kernel_shape *shape, bsd_lists *lists,
                                     bsd_error *error);
void bsd_cuda_families_discard(bsd_lists *lists);

#endif
