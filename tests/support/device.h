/* device.h - the backend that the suites run on, and memory that it can read.
 *
 * BSD_TEST_BACKEND=cuda runs the suites on the GPU, BSD_TEST_KERNEL=simt|sm80|sm90 with that kernel family
 * where it applies, BSD_TEST_TRANSPORT=nccl over NCCL between ranks; without them they run on the CPU, over
 * MPI. There, device memory is the host's own and nothing is copied, so that
 * tools which watch host memory see every access. A failure ends the program. */
#ifndef TESTS_DEVICE_H
#define TESTS_DEVICE_H

#include <stdint.h>

#include "bsdattn.h"

bsd_backend device_backend(void);
bsd_kernel device_kernel(void);

/* bsd_plan_create; problems that the family asked for does not have run on the fastest that does. */
bsd_status device_plan_create(bsd_context *context, const bsd_pattern *pattern,
                              const bsd_problem *problem, bsd_plan **plan);

/* head_dim, raised to what the backend takes: on CUDA the next multiple of 8. */
int64_t device_head_dim(int64_t dim);

/* Device memory with a copy of the host's bytes; on the CPU, `host` itself. NULL gives NULL. */
void *device_push(const void *host, int64_t bytes);

/* Copies pushed memory into host memory, which may be that which was pushed. */
void device_pull(void *host, const void *pushed, int64_t bytes);

/* Frees what device_push gave; the host memory stays. */
void device_drop(const void *host, void *pushed);

#endif
