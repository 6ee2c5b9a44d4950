/* sm80.h - the sm80 family's launches: mma.sync for bf16 and f16, on any GPU from sm_80 on. */
#ifndef BSD_SM80_H
#define BSD_SM80_H

#include "../launch.h"
#include "layout.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The slots of bsd_kernels; lists must have been prepared. */
bsd_status bsd_sm80_forward(void *device, const bsd_call *call, const bsd_lists *lists,
                            int64_t pass, int stage, void *stream, bsd_error *error);
bsd_status bsd_sm80_backward_dq(void *device, const bsd_call *call, const bsd_lists *lists,
                                int64_t pass, int stage, void *stream, bsd_error *error);
bsd_status bsd_sm80_backward_dkv(void *device, const bsd_call *call, const bsd_lists *lists,
                                 int64_t pass, int stage, void *stream, bsd_error *error);

/* Raise the kernels' limits of shared memory; the device is current. */
bsd_status bsd_sm80_open_forward(const bsd_cuda_device *device, bsd_error *error);
bsd_status bsd_sm80_open_backward_dq(const bsd_cuda_device *device, bsd_error *error);
bsd_status bsd_sm80_open_backward_dkv(const bsd_cuda_device *device, bsd_error *error);

#ifdef __cplusplus
}
#endif

#endif
