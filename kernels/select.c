/* select.c - the one place that knows which backends this build has. */
#include "kernels.h"

#include "cpu/cpu.h"

#ifdef HAVE_CUDA
#include "cuda/backend.h"
#define BSD_CUDA_TABLE &bsd_cuda_backend,
#define BSD_CUDA_NAME  "cuda "
#else
#define BSD_CUDA_TABLE
#define BSD_CUDA_NAME ""
#endif

const bsd_backend_table *const *bsd_backends(void) {
  static const bsd_backend_table *const backends[] = {BSD_CUDA_TABLE &bsd_cpu_backend, NULL};
  return backends;
}

const char *bsd_build_backends(void) {
  return BSD_CUDA_NAME "cpu";
}

static bsd_status try_to_open(const bsd_backend_table *table, const bsd_context_options *options,
                              bsd_error *error) {
  void *device;
  BSD_TRY(table->open(options, &device, NULL, 0, error));
  table->close(device);
  return BSD_OK;
}

/* The first backend that this machine supports; one that it supports but that fails is an error. */
static bsd_status find_any(const bsd_context_options *options, const bsd_backend_table **table,
                           bsd_error *error) {
  bsd_status status = BSD_ERR_UNSUPPORTED;
  for (const bsd_backend_table *const *each = bsd_backends(); *each; each++) {
    status = try_to_open(*each, options, error);
    if (status == BSD_OK)
      *table = *each;
    if (status != BSD_ERR_UNSUPPORTED)
      return status;
  }
  return status;
}

bsd_status bsd_backend_find(bsd_backend id, const bsd_context_options *options,
                            const bsd_backend_table **table, bsd_error *error) {
  if (id == BSD_BACKEND_AUTO)
    return find_any(options, table, error);
  for (const bsd_backend_table *const *each = bsd_backends(); *each; each++)
    if ((*each)->id == id) {
      *table = *each;
      return BSD_OK;
    }
  if (id == BSD_BACKEND_CUDA)
    return bsd_fail(error, BSD_ERR_UNSUPPORTED,
                    "backend cuda is not in this build: it was configured without CUDA");
  return bsd_fail(error, BSD_ERR_UNSUPPORTED, "backend %d is unknown, expected auto, cpu or cuda",
                  (int)id);
}
