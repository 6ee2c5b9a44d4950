/* launch.cuh - bsd_cuda_launch with typed arguments. */
#ifndef BSD_CUDA_LAUNCH_CUH
#define BSD_CUDA_LAUNCH_CUH

#include "launch.h"

/* Arguments are converted to the kernel's parameter types. */
template <typename... Parameters, typename... Arguments>
bsd_status bsd_launch(void *device, const char *name, void (*kernel)(Parameters...),
                      const bsd_cuda_grid &grid, void *stream, bsd_error *error,
                      const Arguments &...arguments) {
  return [&](Parameters... values) {
    void *pointers[] = {(void *)&values...};
    return bsd_cuda_launch(static_cast<const bsd_cuda_device *>(device), name,
                           reinterpret_cast<const void *>(kernel), &grid, pointers, stream, error);
  }(arguments...);
}

#endif
