/* bench_dense.h - dense attention with materialised scores through CBLAS: the seed report's baseline.
 *
 * One of bench_dense_cblas.c (a build with CBLAS) and bench_dense_absent.c is linked. */
#ifndef BENCH_DENSE_H
#define BENCH_DENSE_H

#include <stdint.h>

/* `groups` KV heads, each read by `heads` query heads of n tokens, packed:
 * q, o, d_o, dq [groups][heads][n][D], k, v, dk, dv [groups][n][D],
 * scores and (backward only) dscores [groups][heads][n][n]. */
typedef struct bench_dense_call {
  int64_t groups, heads, n, dim;
  int causal;
  float scale;
  const float *q, *k, *v, *d_o;
  float *o, *dq, *dk, *dv;
  float *scores, *dscores;
} bench_dense_call;

int bench_dense_available(void);

/* The library's name and version as far as it says them; "none" where there is none. */
const char *bench_dense_library(void);

/* scores = scale q k^T for all heads, softmax of each row in place, o = scores v. */
void bench_dense_forward(const bench_dense_call *call);

/* From the scores that forward left: dv = P^T do, dscores = P (do v^T - delta), dq, dk. */
void bench_dense_backward(const bench_dense_call *call);

#endif
