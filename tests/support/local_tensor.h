/* local_tensor.h - a rank's own part of a tensor, in one of several memory orders.
 *
 * All memory starts as NaN bytes, gaps included, so that what is read or written beside a tensor shows. The
 * expect functions end the program with a sentence. */
#ifndef TESTS_LOCAL_TENSOR_H
#define TESTS_LOCAL_TENSOR_H

#include <stdint.h>

#include "bsdattn.h"
#include "support/random_problem.h"

typedef struct local_tensor {
  int64_t batch, tokens, heads, dim;
  bsd_dtype dtype;
  bsd_tensor tensor;  /* as handed to the library; data NULL without tokens */
  bsd_tensor strides; /* the same with its strides spelled out */
  unsigned char *memory;
  int64_t bytes;
  unsigned char *pushed; /* the memory's copy on the device, if it is there */
  unsigned char *kept;   /* a copy of the memory that it must still equal */
  int owner;             /* frees memory (fused tensors share it) */
} local_tensor;

/* Any order but ORDER_FUSED. */
local_tensor local_tensor_create(int64_t batch, int64_t tokens, int64_t heads, int64_t dim,
                                 bsd_dtype dtype, memory_order order);

/* q, k, v of a problem (or their gradients), side by side if the order is ORDER_FUSED. */
void local_tensors_create(const oracle_problem *p, int64_t tokens, bsd_dtype dtype,
                          memory_order order, local_tensor *three);

/* Copies the memory of `count` tensors, which share it if fused, to the device, so that `tensor` is what a
 * backend can read; and back. Device memory is freed with the tensors. */
void local_tensors_push(local_tensor *tensors, int count);
void local_tensors_pull(const local_tensor *tensors, int count);

void local_tensor_free(local_tensor *tensor);
void local_tensors_free(local_tensor *three);

/* Copies the rows of `positions` from a global packed [B][n][heads][dim]. */
void local_tensor_fill(local_tensor *tensor, const float *global, const int64_t *positions,
                       int64_t n);

/* Remembers the memory as it is; expect_same ends the program if it has changed since. */
void local_tensor_keep(local_tensor *tensor);
void local_tensor_expect_same(const local_tensor *tensor, const char *what);

/* The elements packed as [B][tokens][heads][dim]; NULL without tokens. */
void *local_tensor_pack(const local_tensor *tensor);

/* Ends the program if anything but the elements of the `count` tensors, which share memory if fused, is no
 * longer the NaN bytes it began as. */
void local_tensors_expect_untouched(local_tensor *tensors, int count, const char *where);

#endif
