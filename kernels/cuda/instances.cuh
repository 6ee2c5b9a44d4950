/* instances.cuh - the instances of a kernel that is made for several tile shapes, and launching one of them. */
#ifndef BSD_CUDA_INSTANCES_CUH
#define BSD_CUDA_INSTANCES_CUH

#include "launch.cuh"
#include "tile_choice.h"

enum { BSD_EVERY_DTYPE = -1 };

struct bsd_instance {
  int width, rows; /* head dimension, padded; own rows of a tile */
  int dtype;       /* a bsd_dtype, or BSD_EVERY_DTYPE */
  void (*kernel)(const bsd_call, const bsd_cuda_list *, const bsd_cuda_item *, int subtiles);
  int threads, parts;   /* parts: blocks of threads that share an item's columns */
  int64_t shared_bytes; /* dynamic */
};

/* Launches the instance of `rows` rows for a call. */
template <int N>
bsd_status bsd_run_instance(const bsd_instance (&instances)[N], const char *name, int rows,
                            void *device, const bsd_call *call, const bsd_cuda_pass &pass,
                            int stage, void *stream, bsd_error *error) {
  const int width = bsd_tile_width(call->head_dim);
  const int subtiles = call->block > rows ? static_cast<int>(call->block / rows) : 1;
  for (const bsd_instance &i : instances) {
    if (i.width != width || i.rows != rows ||
        (i.dtype != BSD_EVERY_DTYPE && i.dtype != call->dtype))
      continue;
    const bsd_cuda_grid grid = {pass.stages[stage].nitems * subtiles * i.parts, call->batch,
                                i.threads, i.shared_bytes, 0};
    return bsd_launch(device, name, i.kernel, grid, stream, error, *call, pass.lists,
                      pass.stages[stage].items, subtiles);
  }
  return bsd_fail(error, BSD_ERR_UNSUPPORTED, "%s has no instance of %d rows of %d elements", name,
                  rows, width);
}

/* Lets every instance that fits the device take its shared memory, beside which it has table_bytes. */
template <int N>
bsd_status bsd_open_instances(const bsd_instance (&instances)[N], int64_t table_bytes,
                              const bsd_cuda_device *device, bsd_error *error) {
  for (const bsd_instance &i : instances)
    if (i.shared_bytes + table_bytes <= device->shared_per_block)
      BSD_TRY(
          bsd_cuda_allow_shared(reinterpret_cast<const void *>(i.kernel), i.shared_bytes, error));
  return BSD_OK;
}

#endif
