/* families.c - the one place that knows which kernel families this build has. See families.h. */
#include "families.h"

#include <inttypes.h>
#include <stdio.h>

/* From the fastest on. The last one runs every shape. */
static const bsd_cuda_family *const families[BSD_CUDA_FAMILIES] = {
#ifdef HAVE_SM90
    &bsd_cuda_sm90,
#endif
#ifdef HAVE_SM80
    &bsd_cuda_sm80,
#endif
    &bsd_cuda_simt,
};

enum { REASON = 160 };

static int64_t scratch_bytes(void *device, const bsd_call *call) {
  int64_t bytes = 0;
  for (int f = 0; f < BSD_CUDA_FAMILIES && families[f]; f++) {
    const bsd_cuda_direction *const directions[] = {&families[f]->forward, &families[f]->backward};
    for (int d = 0; d < 2; d++)
      if (directions[d]->scratch_bytes) {
        const int64_t wanted = directions[d]->scratch_bytes(device, call);
        bytes = wanted > bytes ? wanted : bytes;
      }
  }
  return bytes;
}

static bsd_kernels compose(const bsd_cuda_family *forward, const bsd_cuda_family *backward) {
  return (bsd_kernels){.forward_name = forward->name,
                       .backward_name = backward->name,
                       .scratch_bytes = scratch_bytes,
                       .clear_forward = bsd_cuda_clear_forward,
                       .clear_backward = bsd_cuda_clear_backward,
                       .forward = forward->forward.forward,
                       .backward_dq = backward->backward.backward_dq,
                       .backward_dkv = backward->backward.backward_dkv,
                       .combine = bsd_cuda_combine,
                       .finish_backward = bsd_cuda_finish_backward,
                       .delta = bsd_cuda_delta};
}

bsd_status bsd_cuda_families_open(bsd_cuda_device *device, bsd_error *error) {
  for (int f = 0; f < BSD_CUDA_FAMILIES && families[f]; f++) {
    if (families[f]->open && device->capability >= families[f]->least_capability)
      BSD_TRY(families[f]->open(device, error));
    for (int b = 0; b < BSD_CUDA_FAMILIES && families[b]; b++)
      device->composed[f][b] = compose(families[f], families[b]);
  }
  return BSD_OK;
}

static int applies(const bsd_cuda_family *family, const bsd_cuda_direction *direction,
                   const bsd_cuda_device *device, const bsd_kernel_shape *shape, char *reason) {
  if (device->capability < family->least_capability) {
    snprintf(reason, REASON, "needs compute capability %d.%d, the device has %d.%d",
             family->least_capability / 10, family->least_capability % 10, device->capability / 10,
             device->capability % 10);
    return 0;
  }
  if (shape->batch > UINT16_MAX) { /* as grids and chunks hold it */
    snprintf(reason, REASON, "needs a batch of up to %d, not %" PRId64, UINT16_MAX, shape->batch);
    return 0;
  }
  return direction->applies(device, shape, reason, REASON);
}

/* Index of the fastest family of which the direction applies; if `wanted` is not AUTO, of that family or
 * none. -1: none, and why in reason. */
static int choose(const bsd_cuda_device *device, const bsd_kernel_shape *shape, bsd_kernel wanted,
                  int backward, char *reason) {
  snprintf(reason, REASON, "is not in this build");
  for (int f = 0; f < BSD_CUDA_FAMILIES && families[f]; f++) {
    const bsd_cuda_direction *direction = backward ? &families[f]->backward : &families[f]->forward;
    if (wanted != BSD_KERNEL_AUTO && wanted != families[f]->id)
      continue;
    if (applies(families[f], direction, device, shape, reason))
      return f;
  }
  return -1;
}

bsd_status bsd_cuda_families_select(void *device, const bsd_kernel_shape *shape, bsd_kernel wanted,
                                    const bsd_kernels **kernels, bsd_error *error) {
  static const char *const names[] = {"auto", "simt", "sm80", "sm90"};
  const bsd_cuda_device *cuda = device;
  char reason[REASON];
  if ((int)wanted < 0 || (size_t)wanted >= sizeof names / sizeof names[0])
    return bsd_fail(error, BSD_ERR_ARG, "kernel is %d, expected auto, simt, sm80 or sm90",
                    (int)wanted);
  const int forward = choose(cuda, shape, wanted, 0, reason);
  const int backward = forward < 0 ? -1 : choose(cuda, shape, wanted, 1, reason);
  if (backward < 0)
    return bsd_fail(error, BSD_ERR_UNSUPPORTED, "kernel %s %s",
                    wanted == BSD_KERNEL_AUTO ? "simt" : names[wanted], reason);
  *kernels = &cuda->composed[forward][backward];
  return BSD_OK;
}

/* Whether the lists' passes are run by kernels of a family: rows of queries by the forward and dq, rows of keys
 * by dk, dv. */
static int is_used(const bsd_cuda_device *device, const bsd_kernels *kernels,
                   const bsd_lists *lists, int family) {
  int has_rows = 0, used = 0;
  for (int64_t i = 0; i < lists->npasses; i++)
    has_rows |= !lists->passes[i].rows_are_keys;
  for (int f = 0; f < BSD_CUDA_FAMILIES; f++)
    used |= kernels == &device->composed[f][family] ||
            (has_rows && kernels == &device->composed[family][f]);
  return used;
}

bsd_status bsd_cuda_families_prepare(const bsd_cuda_device *device, const bsd_kernels *kernels,
                                     const bsd_kernel_shape *shape, bsd_lists *lists,
                                     bsd_error *error) {
  int wants_arrays = 0;
  for (int f = 0; f < BSD_CUDA_FAMILIES && families[f]; f++) {
    if (!is_used(device, kernels, lists, f))
      continue;
    if (families[f]->prepare)
      BSD_TRY(families[f]->prepare(device, shape, lists, &lists->extra[f], error));
    else
      wants_arrays = 1;
  }
  return wants_arrays ? bsd_cuda_lists_build(shape, lists, error) : BSD_OK;
}

void bsd_cuda_families_discard(bsd_lists *lists) {
  for (int f = 0; f < BSD_CUDA_FAMILIES && families[f]; f++)
    if (families[f]->discard && lists->extra[f])
      families[f]->discard(lists->extra[f]);
}
