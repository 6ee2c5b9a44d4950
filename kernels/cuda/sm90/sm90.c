/* sm90.c - the sm90 family: which shapes it runs, and its hooks. */
#include "sm90.h"

#include <inttypes.h>
#include <stdio.h>

#include "../../../src/memory.h"
#include "maps.h"

static int applies(const bsd_cuda_device *device, const bsd_kernel_shape *shape, char *reason,
                   size_t size) {
  if (device->capability != 90)
    snprintf(reason, size, "needs compute capability 9.0, the device has %d.%d",
             device->capability / 10, device->capability % 10);
  else if (shape->dtype == BSD_F32)
    snprintf(reason, size, "needs bf16 or f16, not f32");
  else if (shape->head_dim != 64 && shape->head_dim != 128)
    snprintf(reason, size, "needs head_dim 64 or 128, not %" PRId64, shape->head_dim);
  else if (shape->block % 64 != 0)
    snprintf(reason, size, "needs blocks of 64, 128 or 256 tokens, not %" PRId64, shape->block);
  else
    return 1;
  return 0;
}

/* Work lists of one bsd_lists: for the forward, and for dq or dk, dv (by whose rows they are). */
typedef struct family_work {
  bsd_sm90_work *forward, *backward;
} family_work;

static bsd_sm90_pass *backward_pass(const bsd_lists *lists, int64_t pass) {
  const family_work *work = lists->extra[BSD_SM90_FAMILY];
  return &work->backward->passes[pass];
}

static bsd_status forward(void *device, const bsd_call *call, const bsd_lists *lists, int64_t pass,
                          int stage, void *stream, bsd_error *error) {
  const family_work *work = lists->extra[BSD_SM90_FAMILY];
  return bsd_sm90_forward(device, call, &work->forward->passes[pass], stage, stream, error);
}

static int has_received(const bsd_call *call) {
  return call->q.received || call->d_o.received || call->lse.received || call->delta.received;
}

static bsd_status backward_dkv(void *device, const bsd_call *call, const bsd_lists *lists,
                               int64_t pass, int stage, void *stream, bsd_error *error) {
  return bsd_sm90_backward_dkv(device, call, backward_pass(lists, pass), stage, stream, error);
}

/* The first dq of a run without exchange runs beside dk, dv, launched just before: they have waited for delta, and
 * neither reads what the other writes. */
static bsd_status backward_dq(void *device, const bsd_call *call, const bsd_lists *lists,
                              int64_t pass, int stage, void *stream, bsd_error *error) {
  const int beside = pass == 0 && stage == 0 && !has_received(call);
  return bsd_sm90_backward_dq(device, call, backward_pass(lists, pass), stage, beside, stream,
                              error);
}

/* The kernels are machine code of 9.0 alone: a later device has none of them. */
static bsd_status open_family(const bsd_cuda_device *device, bsd_error *error) {
  if (device->capability != 90)
    return BSD_OK;
  BSD_TRY(bsd_sm90_maps_open(error));
  BSD_TRY(bsd_sm90_forward_open(error));
  BSD_TRY(bsd_sm90_backward_dq_open(error));
  return bsd_sm90_backward_dkv_open(error);
}

static void discard(void *extra) {
  family_work *work = extra;
  if (work == NULL)
    return;
  bsd_sm90_work_destroy(work->forward);
  bsd_sm90_work_destroy(work->backward);
  bsd_free(work);
}

static bsd_status create_work(const bsd_cuda_device *device, const bsd_kernel_shape *shape,
                              const bsd_lists *lists, family_work *work, bsd_error *error) {
  const int64_t multiprocessors = device->multiprocessors;
  const int is_narrow = shape->head_dim == 64;
  int has_rows = 0, has_columns = 0;
  for (int64_t i = 0; i < lists->npasses; i++)
    *(lists->passes[i].rows_are_keys ? &has_columns : &has_rows) = 1;
  const bsd_sm90_kernel forward = {
      .width = is_narrow ? 4 : 3,
      .places = {multiprocessors, multiprocessors * (is_narrow ? 3 : 2)},
      .cost = {0, 100, 100, 100, 100}};
  const bsd_sm90_kernel backward = {
      .width = is_narrow ? 3 : 2,
      .forced =
          !is_narrow && has_columns, /* dk, dv at D 128 have no kernel for items of one member */
      .places = {multiprocessors, multiprocessors * 2},
      .cost = {0, is_narrow ? 55 : 64, is_narrow ? 74 : 100, 100}}; /* measured: bench/NOTES.md */
  if (has_rows)
    BSD_TRY(bsd_sm90_work_create(shape, lists->passes, lists->npasses, &forward, &work->forward,
                                 error));
  return bsd_sm90_work_create(shape, lists->passes, lists->npasses, &backward, &work->backward,
                              error);
}

static bsd_status prepare(const bsd_cuda_device *device, const bsd_kernel_shape *shape,
                          bsd_lists *lists, void **extra, bsd_error *error) {
  family_work *work = NULL;
  BSD_TRY(bsd_alloc(&work, 1, sizeof *work, error));
  const bsd_status status = create_work(device, shape, lists, work, error);
  if (status == BSD_OK)
    *extra = work;
  else
    discard(work);
  return status;
}

const bsd_cuda_family bsd_cuda_sm90 = {
    .name = "sm90",
    .id = BSD_KERNEL_SM90,
    .forward = {.applies = applies, .forward = forward},
    .backward = {.applies = applies, .backward_dq = backward_dq, .backward_dkv = backward_dkv},
    .open = open_family,
    .least_capability = 90,
    .prepare = prepare,
    .discard = discard};
