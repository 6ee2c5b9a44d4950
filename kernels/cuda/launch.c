/* launch.c - CUDA's errors in words, and the one place that launches kernels. */
#include "launch.h"

#include <inttypes.h>

bsd_status bsd_cuda_check(cudaError_t result, const char *doing, bsd_error *error) {
  if (result == cudaSuccess)
    return BSD_OK;
  (void)cudaGetLastError(); /* a launch error would else be found again by the next check */
  return bsd_fail(error, BSD_ERR_BACKEND, "CUDA failed %s: %s (%s)", doing,
                  cudaGetErrorString(result), cudaGetErrorName(result));
}

bsd_status bsd_cuda_check_memory(cudaError_t result, int64_t bytes, bsd_error *error) {
  if (result != cudaErrorMemoryAllocation)
    return bsd_cuda_check(result, "allocating memory", error);
  (void)cudaGetLastError();
  return bsd_fail(error, BSD_ERR_MEMORY, "the CUDA device has no %" PRId64 " bytes left", bytes);
}

/* A copy from pageable memory may return before it has arrived, and streams that do not block on the default one
 * would not wait for it. */
bsd_status bsd_cuda_upload(void *to, const void *from, int64_t bytes, const char *doing,
                           bsd_error *error) {
  BSD_TRY(
      bsd_cuda_check(cudaMemcpy(to, from, (size_t)bytes, cudaMemcpyHostToDevice), doing, error));
  return bsd_cuda_check(cudaStreamSynchronize(NULL), doing, error);
}

static bsd_status check_grid(const char *name, const bsd_cuda_grid *grid, bsd_error *error) {
  if (grid->x <= INT32_MAX && grid->y <= 65535)
    return BSD_OK;
  return bsd_fail(error, BSD_ERR_UNSUPPORTED,
                  "kernel %s would need a grid of %" PRId64 " x %" PRId64
                  ", but CUDA takes up to 2147483647 x 65535 (the second is the batch)",
                  name, grid->x, grid->y);
}

static cudaError_t launch(const void *kernel, const bsd_cuda_grid *grid, void **arguments,
                          cudaStream_t stream) {
  cudaLaunchAttribute attribute = {.id = cudaLaunchAttributeProgrammaticStreamSerialization};
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {.gridDim = {(unsigned)grid->x, (unsigned)grid->y, 1},
                               .blockDim = {(unsigned)grid->threads, 1, 1},
                               .dynamicSmemBytes = (size_t)grid->shared_bytes,
                               .stream = stream,
                               .attrs = &attribute,
                               .numAttrs = grid->after_previous ? 1 : 0};
  return cudaLaunchKernelExC(&config, kernel, arguments);
}

bsd_status bsd_cuda_launch(const bsd_cuda_device *device, const char *name, const void *kernel,
                           const bsd_cuda_grid *grid, void **arguments, void *stream,
                           bsd_error *error) {
  int previous;
  if (grid->x == 0 || grid->y == 0)
    return BSD_OK;
  BSD_TRY(check_grid(name, grid, error));
  BSD_TRY(bsd_cuda_enter(device, &previous, error));
  const cudaError_t result = launch(kernel, grid, arguments, stream);
  bsd_cuda_leave(device, previous);
  if (result == cudaSuccess)
    return BSD_OK;
  (void)cudaGetLastError();
  return bsd_fail(error, BSD_ERR_BACKEND, "CUDA could not launch kernel %s: %s (%s)", name,
                  cudaGetErrorString(result), cudaGetErrorName(result));
}

bsd_status bsd_cuda_allow_shared(const void *kernel, int64_t bytes, bsd_error *error) {
  return bsd_cuda_check(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes),
      "raising a kernel's shared memory", error);
}

bsd_status bsd_cuda_enter(const bsd_cuda_device *device, int *previous, bsd_error *error) {
  BSD_TRY(bsd_cuda_check(cudaGetDevice(previous), "asking for the current device", error));
  if (*previous == device->number)
    return BSD_OK;
  return bsd_cuda_check(cudaSetDevice(device->number), "choosing the context's device", error);
}

void bsd_cuda_leave(const bsd_cuda_device *device, int previous) {
  if (previous != device->number)
    (void)cudaSetDevice(previous);
}
