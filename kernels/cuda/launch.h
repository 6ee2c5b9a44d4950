/* launch.h - what the host side of every kernel family shares: the device, family tables, launch helpers.
 *
 * A *family* (simt, sm80, sm90) offers a forward, a backward or both. families.c asks the families from the
 * fastest on whether they apply, and composes one bsd_kernels table of a forward and a backward family with
 * the common slots of outputs.cu. A family is one line in families.c's table. */
#ifndef BSD_CUDA_LAUNCH_H
#define BSD_CUDA_LAUNCH_H

#include <cuda_runtime_api.h>

#include "lists.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bsd_cuda_device {
  int number;
  int capability;           /* 61, 80, 90, ... */
  char architecture[16];    /* sm_61, ... */
  int multiprocessors;      /* less BSD_SM_MARGIN */
  int64_t shared_per_block; /* bytes that one block may take when it asks for them */
  int64_t l2_bytes;
  bsd_kernels composed[BSD_CUDA_FAMILIES]
                      [BSD_CUDA_FAMILIES]; /* [forward family][backward family] */
} bsd_cuda_device;

/* The kernels of the families that cut work into tiles of own rows, simt and sm80. */
typedef enum bsd_tile_kernel {
  BSD_TILE_FORWARD,
  BSD_TILE_QUERY_GRADIENT,
  BSD_TILE_KEY_GRADIENT
} bsd_tile_kernel;

/* One direction of a family. All NULL but applies: the family has no such kernels (applies says so). */
typedef struct bsd_cuda_direction {
  /* True if these kernels run the shape on the device; else false and why, a clause without its subject:
   * "needs head_dim 64 or 128, not 96". Depends on nothing but its arguments. */
  int (*applies)(const bsd_cuda_device *device, const bsd_kernel_shape *shape, char *reason,
                 size_t size);
  int64_t (*scratch_bytes)(const bsd_cuda_device *device, const bsd_call *call); /* NULL: 0 */
  bsd_status (*forward)(void *device, const bsd_call *call, const bsd_lists *lists, int64_t pass,
                        int stage, void *stream, bsd_error *error);
  bsd_status (*backward_dq)(void *device, const bsd_call *call, const bsd_lists *lists,
                            int64_t pass, int stage, void *stream, bsd_error *error);
  bsd_status (*backward_dkv)(void *device, const bsd_call *call, const bsd_lists *lists,
                             int64_t pass, int stage, void *stream, bsd_error *error);
} bsd_cuda_direction;

typedef struct bsd_cuda_family {
  const char *name;
  bsd_kernel id;
  bsd_cuda_direction forward, backward;
  /* Called once per opened device on which the family may run, with that device current: raises the
   * kernels' limits of shared memory (bsd_cuda_allow_shared), which also loads them. May be NULL. */
  bsd_status (*open)(const bsd_cuda_device *device, bsd_error *error);
  int least_capability; /* below it, the family is not opened and never applies */
  /* Prepare for kernels of this family: makes its own arrays (from lists->passes) and leaves them in *extra
   * (= lists->extra[family]). NULL: the family reads those of lists.h. */
  bsd_status (*prepare)(const bsd_cuda_device *device, const bsd_kernel_shape *shape,
                        bsd_lists *lists, void **extra, bsd_error *error);
  void (*discard)(void *extra);
} bsd_cuda_family;

extern const bsd_cuda_family bsd_cuda_sm90;
extern const bsd_cuda_family bsd_cuda_sm80;
extern const bsd_cuda_family bsd_cuda_simt;

/* OK, or BACKEND with what was being done ("launching the forward kernel") and CUDA's own words. */
bsd_status bsd_cuda_check(cudaError_t result, const char *doing, bsd_error *error);

/* The same after an allocation of `bytes`: MEMORY if there was not enough. */
bsd_status bsd_cuda_check_memory(cudaError_t result, int64_t bytes, bsd_error *error);

/* Copies host memory to the current device; on return it is there, for every stream. */
bsd_status bsd_cuda_upload(void *to, const void *from, int64_t bytes, const char *doing,
                           bsd_error *error);

/* Makes the device the thread's current one, and the previous one current again. */
bsd_status bsd_cuda_enter(const bsd_cuda_device *device, int *previous, bsd_error *error);
void bsd_cuda_leave(const bsd_cuda_device *device, int previous);

/* The shape of a launch. grid_x work items, grid_y batch entries; either 0: nothing is launched. */
typedef struct bsd_cuda_grid {
  int64_t x, y;
  int threads;
  int64_t shared_bytes; /* dynamic */
  int after_previous; /* programmatic dependent launch: may start before the kernel before it ends */
} bsd_cuda_grid;

/* Launches `kernel` (a __global__ function) on the device, whichever is the caller's current one; the
 * current device is unchanged after it. arguments: one pointer per parameter. Does not wait. Every kernel of
 * the backend goes through here (launch.cuh has a typed form). Errors: BACKEND, UNSUPPORTED (a grid beyond
 * CUDA's limits). */
bsd_status bsd_cuda_launch(const bsd_cuda_device *device, const char *name, const void *kernel,
                           const bsd_cuda_grid *grid, void **arguments, void *stream,
                           bsd_error *error);

/* Lets `kernel` take that much dynamic shared memory; for families' open. */
bsd_status bsd_cuda_allow_shared(const void *kernel, int64_t bytes, bsd_error *error);

/* outputs.cu: the slots that all families share. */
bsd_status bsd_cuda_clear_forward(void *device, const bsd_call *call, void *stream,
                                  bsd_error *error);
bsd_status bsd_cuda_clear_backward(void *device, const bsd_call *call, void *stream,
                                   bsd_error *error);
bsd_status bsd_cuda_combine(void *device, const bsd_call *call, void *stream, bsd_error *error);
bsd_status bsd_cuda_finish_backward(void *device, const bsd_call *call, void *stream,
                                    bsd_error *error);
bsd_status bsd_cuda_delta(void *device, const bsd_call *call, void *stream, bsd_error *error);

/* pack.cu */
bsd_status bsd_cuda_pack(void *device, const bsd_pack *pack, int64_t batch, const bsd_tensor *from,
                         int64_t elements, int64_t element_bytes, void *to, void *stream,
                         bsd_error *error);

#ifdef __cplusplus
}
#endif

#endif
