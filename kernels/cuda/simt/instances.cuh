/* instances.cuh - a kernel's instances by head dimension and tile rows, and the choice among them. */
#ifndef BSD_SIMT_INSTANCES_CUH
#define BSD_SIMT_INSTANCES_CUH

#include "../launch.cuh"
#include "../tile_choice.h"
#include "simt.h"

namespace bsd_simt {

struct instance {
  int width, rows;
  bsd_status (*run)(void *device, const bsd_call *call, const bsd_cuda_pass &pass, int stage,
                    void *stream, bsd_error *error);
  const void *kernel;
};

template <typename S, typename Kernel>
bsd_status launch_tiles(bsd_simt_kernel which, const char *name, Kernel kernel, void *device,
                        const bsd_call *call, const bsd_cuda_pass &pass, int stage, void *stream,
                        bsd_error *error) {
  const int subtiles = call->block > S::rows ? static_cast<int>(call->block / S::rows) : 1;
  const bsd_cuda_grid grid = {pass.stages[stage].nitems * subtiles, call->batch, S::threads,
                              bsd_simt_shared_bytes(which, S::width, S::rows), 0};
  return bsd_launch(device, name, kernel, grid, stream, error, *call, pass.lists,
                    pass.stages[stage].items, subtiles);
}

/* Launches the instance that tile_choice.h takes. */
template <int N>
bsd_status run_one(const instance (&instances)[N], bsd_simt_kernel kernel, void *device,
                   const bsd_call *call, const bsd_cuda_pass &pass, int stage, void *stream,
                   bsd_error *error) {
  const int width = bsd_simt_width(call->head_dim);
  const int rows =
      bsd_simt_rows(static_cast<const bsd_cuda_device *>(device), kernel, width, call->block);
  for (const instance &i : instances)
    if (i.width == width && i.rows == rows)
      return i.run(device, call, pass, stage, stream, error);
  return bsd_fail(error, BSD_ERR_UNSUPPORTED, "simt has no instance of %d rows of %d elements",
                  rows, width);
}

/* Lets every instance that fits the device take its shared memory. */
template <int N>
bsd_status open_all(const instance (&instances)[N], bsd_simt_kernel kernel,
                    const bsd_cuda_device *device, bsd_error *error) {
  for (const instance &i : instances) {
    const int64_t bytes = bsd_simt_shared_bytes(kernel, i.width, i.rows);
    if (bytes + BSD_SIMT_TABLE_BYTES <= device->shared_per_block)
      BSD_TRY(bsd_cuda_allow_shared(i.kernel, bytes, error));
  }
  return BSD_OK;
}

} // namespace bsd_simt

#endif
