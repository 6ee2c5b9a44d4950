/* instances.cuh - a kernel's instances by head dimension, own slots and type, and the choice among them. */
#ifndef BSD_SM80_INSTANCES_CUH
#define BSD_SM80_INSTANCES_CUH

#include "../launch.cuh"
#include "sm80.h"

namespace bsd_sm80 {

using kernel_function = void (*)(const bsd_call, const bsd_cuda_list *, const bsd_cuda_item *, int);

struct instance {
  int width, slots;
  bsd_dtype dtype;
  kernel_function kernel;
  int parts; /* blocks of threads that share an item's columns */
};

/* Launches the instance for a call. */
template <int N>
bsd_status run_one(const instance (&instances)[N], bsd_sm80_kernel which, const char *name,
                   void *device, const bsd_call *call, const bsd_cuda_pass &pass, int stage,
                   void *stream, bsd_error *error) {
  const int width = bsd_sm80_width(call->head_dim), slots = call->block < 64 ? 16 : 64;
  const int subtiles = static_cast<int>(call->block) / slots;
  for (const instance &i : instances) {
    if (i.width != width || i.slots != slots || i.dtype != call->dtype)
      continue;
    const bsd_cuda_grid grid = {pass.stages[stage].nitems * subtiles * i.parts, call->batch,
                                2 * slots, bsd_sm80_shared_bytes(which, width, slots), 0};
    return bsd_launch(device, name, i.kernel, grid, stream, error, *call, pass.lists,
                      pass.stages[stage].items, subtiles);
  }
  return bsd_fail(error, BSD_ERR_UNSUPPORTED, "sm80 has no instance of %d slots of %d elements",
                  slots, width);
}

/* Lets every instance that fits the device take its shared memory. */
template <int N>
bsd_status open_all(const instance (&instances)[N], bsd_sm80_kernel which,
                    const bsd_cuda_device *device, bsd_error *error) {
  for (const instance &i : instances) {
    const int64_t bytes = bsd_sm80_shared_bytes(which, i.width, i.slots);
    if (bytes + BSD_SM80_TABLE_BYTES <= device->shared_per_block)
      BSD_TRY(bsd_cuda_allow_shared(reinterpret_cast<const void *>(i.kernel), bytes, error));
  }
  return BSD_OK;
}

} // namespace bsd_sm80

#endif
