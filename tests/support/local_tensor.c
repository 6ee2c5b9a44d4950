/* local_tensor.c - see local_tensor.h. */
#include "support/local_tensor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/device.h"
#include "support/tensors.h"

enum { UNTOUCHED = 0xFF }; /* a NaN in all three types */

static unsigned char *poisoned(int64_t bytes) {
  unsigned char *memory = oracle_alloc(bytes, 1);
  memset(memory, UNTOUCHED, (size_t)bytes);
  return memory;
}

static void fail(const char *what, const char *how) {
  fprintf(stderr, "attention: %s %s\n", what, how);
  fflush(stdout);
  exit(1);
}

/* Allocates what the strides span, and shows it to the library. */
static void allocate(local_tensor *t, int64_t elements, int packed) {
  t->bytes = elements * (int64_t)tensor_element_size(t->dtype);
  t->memory = poisoned(t->bytes);
  t->owner = 1;
  t->strides.data = t->tokens ? t->memory : NULL;
  t->tensor = t->strides;
  if (packed)
    t->tensor = (bsd_tensor){.data = t->strides.data};
}

local_tensor local_tensor_create(int64_t batch, int64_t tokens, int64_t heads, int64_t dim,
                                 bsd_dtype dtype, memory_order order) {
  local_tensor t = {.batch = batch, .tokens = tokens, .heads = heads, .dim = dim, .dtype = dtype};
  int64_t gap = order == ORDER_PADDED ? 8 : 0;
  if (order == ORDER_HEAD_MAJOR) {
    t.strides.position_stride = dim;
    t.strides.head_stride = tokens * dim;
    t.strides.batch_stride = heads * tokens * dim;
  } else {
    t.strides.head_stride = dim + gap;
    t.strides.position_stride = heads * t.strides.head_stride + gap;
    t.strides.batch_stride = tokens * t.strides.position_stride + gap;
  }
  allocate(&t, batch * t.strides.batch_stride, order == ORDER_PACKED);
  return t;
}

void local_tensors_create(const oracle_problem *p, int64_t tokens, bsd_dtype dtype,
                          memory_order order, local_tensor *three) {
  int64_t heads[3] = {p->heads, p->kv_heads, p->kv_heads}, all = p->heads + 2 * p->kv_heads;
  if (order != ORDER_FUSED) {
    for (int x = 0; x < 3; x++)
      three[x] = local_tensor_create(p->batch, tokens, heads[x], p->dim, dtype, order);
    return;
  }
  local_tensor whole = local_tensor_create(p->batch, tokens, all, p->dim, dtype, ORDER_HEAD_MAJOR);
  whole.strides.head_stride = p->dim;
  whole.strides.position_stride = all * p->dim;
  int64_t first = 0, size = (int64_t)tensor_element_size(dtype);
  for (int x = 0; x < 3; x++) {
    three[x] = whole;
    three[x].heads = heads[x];
    three[x].owner = x == 0;
    three[x].strides.data = tokens ? whole.memory + first * p->dim * size : NULL;
    three[x].tensor = three[x].strides;
    first += heads[x];
  }
}

void local_tensors_push(local_tensor *tensors, int count) {
  unsigned char *pushed = NULL;
  for (int x = 0; x < count; x++) {
    local_tensor *t = &tensors[x];
    if (t->owner)
      pushed = device_push(t->memory, t->bytes);
    t->pushed = pushed;
    if (t->strides.data)
      t->tensor.data = pushed + ((unsigned char *)t->strides.data - t->memory);
  }
}

void local_tensors_pull(const local_tensor *tensors, int count) {
  for (int x = 0; x < count; x++)
    if (tensors[x].owner)
      device_pull(tensors[x].memory, tensors[x].pushed, tensors[x].bytes);
}

void local_tensor_free(local_tensor *tensor) {
  free(tensor->kept);
  if (tensor->owner && tensor->pushed)
    device_drop(tensor->memory, tensor->pushed);
  if (tensor->owner)
    free(tensor->memory);
}

void local_tensors_free(local_tensor *three) {
  for (int x = 2; x >= 0; x--)
    local_tensor_free(&three[x]);
}

static int64_t element(const local_tensor *t, int64_t b, int64_t i, int64_t h, int64_t d) {
  return b * t->strides.batch_stride + i * t->strides.position_stride + h * t->strides.head_stride +
         d;
}

void local_tensor_fill(local_tensor *t, const float *global, const int64_t *positions, int64_t n) {
  for (int64_t b = 0; b < t->batch; b++)
    for (int64_t i = 0; i < t->tokens; i++)
      for (int64_t h = 0; h < t->heads; h++)
        for (int64_t d = 0; d < t->dim; d++)
          tensor_store(t->strides.data, element(t, b, i, h, d),
                       global[((b * n + positions[i]) * t->heads + h) * t->dim + d], t->dtype);
}

void local_tensor_keep(local_tensor *t) {
  free(t->kept);
  t->kept = oracle_alloc(t->bytes, 1);
  memcpy(t->kept, t->memory, (size_t)t->bytes);
}

void local_tensor_expect_same(const local_tensor *t, const char *what) {
  if (t->kept && memcmp(t->kept, t->memory, (size_t)t->bytes) != 0)
    fail(what, "was written");
}

void *local_tensor_pack(const local_tensor *t) {
  int64_t size = (int64_t)tensor_element_size(t->dtype), row = 0;
  unsigned char *packed = NULL;
  if (t->tokens)
    packed = oracle_alloc(t->batch * t->tokens * t->heads * t->dim, (size_t)size);
  for (int64_t b = 0; b < t->batch; b++)
    for (int64_t i = 0; i < t->tokens; i++)
      for (int64_t h = 0; h < t->heads; h++, row++)
        memcpy(packed + row * t->dim * size,
               (const unsigned char *)t->strides.data + element(t, b, i, h, 0) * size,
               (size_t)(t->dim * size));
  return packed;
}

void local_tensors_expect_untouched(local_tensor *tensors, int count, const char *where) {
  for (int x = 0; x < count; x++) {
    const local_tensor *t = &tensors[x];
    int64_t size = (int64_t)tensor_element_size(t->dtype);
    for (int64_t b = 0; b < t->batch; b++)
      for (int64_t i = 0; i < t->tokens; i++)
        for (int64_t h = 0; h < t->heads; h++)
          memset((unsigned char *)t->strides.data + element(t, b, i, h, 0) * size, UNTOUCHED,
                 (size_t)(t->dim * size));
  }
  for (int x = 0; x < count; x++)
    for (int64_t byte = 0; byte < tensors[x].bytes; byte++)
      if (tensors[x].memory[byte] != UNTOUCHED)
        fail(where, "something was written");
}
