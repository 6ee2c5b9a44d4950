/* cpu.h - the CPU backend's own declarations: its device and the slots of its kernel table.
 *
 * The device is host memory and a number of OpenMP threads. A kernel's tasks (one own tile of one head each)
 * run in any order on any thread: no two write the same output, and a task's bits do not depend on the
 * thread that runs it. */
#ifndef BSD_CPU_H
#define BSD_CPU_H

#include "../kernels.h"
#include "vectors.h"

typedef struct bsd_cpu_device {
  int threads;
  const bsd_cpu_vectors *vectors;
} bsd_cpu_device;

struct bsd_lists {
  const bsd_pass *passes;
  int64_t npasses;
};

extern const bsd_backend_table bsd_cpu_backend;

/* outputs.c */
bsd_status bsd_cpu_clear_forward(void *device, const bsd_call *call, void *stream,
                                 bsd_error *error);
bsd_status bsd_cpu_clear_backward(void *device, const bsd_call *call, void *stream,
                                  bsd_error *error);
bsd_status bsd_cpu_combine(void *device, const bsd_call *call, void *stream, bsd_error *error);
bsd_status bsd_cpu_finish_backward(void *device, const bsd_call *call, void *stream,
                                   bsd_error *error);
bsd_status bsd_cpu_delta(void *device, const bsd_call *call, void *stream, bsd_error *error);

/* forward.c, query_gradient.c, key_gradient.c */
bsd_status bsd_cpu_forward(void *device, const bsd_call *call, const bsd_lists *lists, int64_t pass,
                           int stage, void *stream, bsd_error *error);
bsd_status bsd_cpu_backward_dq(void *device, const bsd_call *call, const bsd_lists *lists,
                               int64_t pass, int stage, void *stream, bsd_error *error);
bsd_status bsd_cpu_backward_dkv(void *device, const bsd_call *call, const bsd_lists *lists,
                                int64_t pass, int stage, void *stream, bsd_error *error);

/* pack.c */
bsd_status bsd_cpu_pack(void *device, const bsd_pack *pack, int64_t batch, const bsd_tensor *from,
                        int64_t elements, int64_t element_bytes, void *to, void *stream,
                        bsd_error *error);

#endif
