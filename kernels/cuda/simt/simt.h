/* simt.h - the SIMT family's launches: fp32 arithmetic for every type, on any GPU from sm_61 on. */
#ifndef BSD_SIMT_H
#define BSD_SIMT_H

#include "../launch.h"
#include "layout.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The slots of bsd_kernels; lists must have been prepared. */
bsd_status bsd_simt_forward(void *device, const bsd_call *call, const bsd_lists *lists,
                            int64_t pass, int stage, void *stream, bsd_error *error);
bsd_status bsd_simt_backward_dq(void *device, const bsd_call *call, const bsd_lists *lists,
                                int64_t pass, int stage, void *stream, bsd_error *error);
bsd_status bsd_simt_backward_dkv(void *device, const bsd_call *call, const bsd_lists *lists,
                                 int64_t pass, int stage, void *stream, bsd_error *error);

/* Raise the kernels' limits of shared memory; the device is current. */
bsd_status bsd_simt_open_forward(const bsd_cuda_device *device, bsd_error *error);
bsd_status bsd_simt_open_backward_dq(const bsd_cuda_device *device, bsd_error *error);
bsd_status bsd_simt_open_backward_dkv(const bsd_cuda_device *device, bsd_error *error);

#ifdef __cplusplus
}
#endif

#endif
