/* vectors.h - the arithmetic of the CPU kernels: one table of functions per instruction set.
 *
 * Matrices are fp32 with a *width* of 16, 32 or 64 columns, one per slot of a row's own tile: row-major,
 * contiguous, aligned to 64 bytes. A slot is a vector lane throughout: no operation mixes two slots, so a
 * slot's bits depend on its own values alone. Reductions over rows run in ascending order.
 *
 * `first` and `last` mask matrices: slot s of row i counts only if first[i] <= s <= last[i]; both are NULL
 * where every slot counts. What does not count is selected away and never multiplied by zero. */
#ifndef BSD_CPU_VECTORS_H
#define BSD_CPU_VECTORS_H

#include <stdint.h>

#include "../kernels.h"

enum { BSD_CPU_MAX_WIDTH = 64 };

/* Rows that a later product will read: fetched into the cache while this one computes. */
typedef struct bsd_cpu_ahead {
  const char *data;
  int64_t rows, row_bytes, stride_bytes;
} bsd_cpu_ahead;

typedef struct bsd_cpu_vectors {
  const char *name; /* "avx512", "avx2", "baseline" */

  /* c[i][s] = sum_k a[i*stride + k] b[k][s],  i < rows, k < inner, b [inner][width]. */
  void (*product)(int64_t rows, int64_t inner, int64_t width, const float *a, int64_t stride,
                  const float *b, float *c, const bsd_cpu_ahead *ahead);

  /* c[i][s] = c[i][s] factor[s] + sum_k a[k*stride + i] b[k][s]; factor NULL: 1. The sum is taken on its
   * own and then added. */
  void (*accumulate)(int64_t rows, int64_t inner, int64_t width, const float *a, int64_t stride,
                     const float *b, const float *factor, float *c, const bsd_cpu_ahead *ahead);

  /* One block of scores joins a running softmax: with m = max(maximum, scores),
   * factor = e^(maximum - m), scores = e^(scores - m), sum = sum factor + sum_i scores, maximum = m.
   * A slot whose m is -inf gets zero scores and factor 0. */
  void (*softmax)(int64_t rows, int64_t width, float *scores, const int32_t *first,
                  const int32_t *last, float *maximum, float *sum, float *factor);

  /* Adds one (maximum, sum, output [rows][width]) to another, the total, which comes first. */
  void (*merge)(int64_t rows, int64_t width, const float *maximum, const float *sum,
                const float *output, float *total_maximum, float *total_sum, float *total_output);

  /* dq, slots are queries: products = P (products - delta[s]), P = e^(scores - lse[s]). */
  void (*query_gradient)(int64_t rows, int64_t width, const float *scores, float *products,
                         const int32_t *first, const int32_t *last, const float *lse,
                         const float *delta);

  /* dk, dv, rows are queries: scores = P = e^(scores - lse[i]), products = P (products - delta[i]). */
  void (*key_gradient)(int64_t rows, int64_t width, float *scores, float *products,
                       const int32_t *first, const int32_t *last, const float *lse,
                       const float *delta);

  /* total += part, part = 0; count is a multiple of 16. */
  void (*add)(int64_t count, float *part, float *total);

  /* to[i][0..columns) = from[i*stride ...] of a dtype as fp32, `to` contiguous. */
  void (*widen)(bsd_dtype dtype, int64_t rows, int64_t columns, const void *from, int64_t stride,
                float *to);
} bsd_cpu_vectors;

/* The tables; NULL where this build's architecture does not have the instruction set. Whether the
 * processor has it is another question (bsd_cpu_vectors_choose). */
const bsd_cpu_vectors *bsd_cpu_vectors_avx512(void);
const bsd_cpu_vectors *bsd_cpu_vectors_avx2(void);
const bsd_cpu_vectors *bsd_cpu_vectors_baseline(void);

/* The best table that the processor can run, or the one that BSD_CPU_ISA asks for.
 * Errors: ARG (a bad BSD_CPU_ISA), UNSUPPORTED (the processor or the build lacks it). */
bsd_status bsd_cpu_vectors_choose(const bsd_cpu_vectors **vectors, bsd_error *error);

#endif
