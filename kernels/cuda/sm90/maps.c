/* maps.c - encodes tensor maps. See maps.h.
 *
 * The encoder is a function of the driver; it is found at run time, so that the library loads where no
 * driver is. */
#include "maps.h"

#include "../../../src/memory.h"

typedef CUresult (*encoder)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
                            const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                            const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                            CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

static encoder encode; /* the same for all devices; set by open, never changed after */

bsd_status bsd_sm90_maps_open(bsd_error *error) {
  enum cudaDriverEntryPointQueryResult found;
  void *function = NULL;
  BSD_TRY(bsd_cuda_check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                          12000, cudaEnableDefault, &found),
                         "looking for cuTensorMapEncodeTiled in the driver", error));
  if (found != cudaDriverEntryPointSuccess)
    return bsd_fail(error, BSD_ERR_UNSUPPORTED,
                    "kernel sm90 needs a driver with cuTensorMapEncodeTiled (CUDA 12)");
  encode = (encoder)function;
  return BSD_OK;
}

/* A dimension of one element may have any stride; the encoder wants a multiple of 16 all the same. */
static cuuint64_t stride_bytes(int64_t elements, int64_t count) {
  return count == 1 ? 16 : (cuuint64_t)elements * 2;
}

static int encode_box(const bsd_call *call, void *data, const cuuint64_t *dims,
                      const cuuint64_t *strides, CUtensorMap *map) {
  const cuuint32_t box[5] = {64, 64, 1, 1, 1}, steps[5] = {1, 1, 1, 1, 1};
  const CUtensorMapDataType type =
      call->dtype == BSD_F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  return encode(map, type, 5, data, dims, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_128B,
                call->head_dim == 64 ? CU_TENSOR_MAP_L2_PROMOTION_L2_128B
                                     : CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

static int encode_step(const bsd_tensor *tensor, const bsd_call *call, int64_t heads, int64_t step,
                       CUtensorMap *map) {
  const int64_t rows = (call->tokens + step - 1) / step;
  const cuuint64_t dims[5] = {(cuuint64_t)call->head_dim, (cuuint64_t)rows, (cuuint64_t)step,
                              (cuuint64_t)heads, (cuuint64_t)call->batch};
  const cuuint64_t strides[4] = {stride_bytes(step * tensor->position_stride, rows),
                                 stride_bytes(tensor->position_stride, step),
                                 stride_bytes(tensor->head_stride, heads),
                                 stride_bytes(tensor->batch_stride, call->batch)};
  return encode_box(call, tensor->data, dims, strides, map);
}

/* The messages' memory as one long tensor of rows. */
static int encode_messages(const bsd_call *call, CUtensorMap *map) {
  const int64_t rows = call->messages_bytes / (2 * call->head_dim);
  const cuuint64_t dims[5] = {(cuuint64_t)call->head_dim, (cuuint64_t)rows, 1, 1, 1};
  const cuuint64_t strides[4] = {stride_bytes(call->head_dim, rows), 16, 16, 16};
  return call->messages != NULL && rows > 0 && rows <= INT32_MAX &&
         encode_box(call, (void *)(uintptr_t)call->messages, dims, strides, map);
}

static int same(const bsd_tensor *a, const bsd_tensor *b) {
  return a->data == b->data && a->batch_stride == b->batch_stride &&
         a->position_stride == b->position_stride && a->head_stride == b->head_stride;
}

static int is_current(const bsd_sm90_map_cache *c, const bsd_call *call, const bsd_tensor *tensors,
                      int count) {
  int current = c->filled && c->batch == call->batch && c->tokens == call->tokens &&
                c->messages == call->messages && c->messages_bytes == call->messages_bytes;
  for (int t = 0; t < count && current; t++)
    current = same(&c->tensors[t], &tensors[t]);
  return current;
}

bsd_status bsd_sm90_maps_find(const bsd_call *call, const int32_t *steps, const bsd_tensor *tensors,
                              const int64_t *heads, int count, void **slot,
                              const bsd_sm90_map_cache **found, bsd_error *error) {
  enum { ALIGNMENT = 128 }; /* of tensor maps */
  if (*slot == NULL)
    BSD_TRY(bsd_alloc(slot, 1, sizeof(bsd_sm90_map_cache) + ALIGNMENT - 1, error));
  bsd_sm90_map_cache *c =
      (void *)(((uintptr_t)*slot + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1));
  *found = c;
  if (is_current(c, call, tensors, count))
    return BSD_OK;
  c->filled = c->usable = 1;
  c->batch = call->batch;
  c->tokens = call->tokens;
  c->messages = call->messages;
  c->messages_bytes = call->messages_bytes;
  c->has_messages = encode_messages(call, &c->of_messages);
  for (int t = 0; t < count; t++) {
    c->tensors[t] = tensors[t];
    for (int s = 0; s < BSD_SM90_STEPS && tensors[t].data && c->usable; s++)
      if (steps[s] > 0)
        c->usable = encode_step(&tensors[t], call, heads[t], steps[s], &c->maps[t].of_step[s]);
  }
  return BSD_OK;
}
