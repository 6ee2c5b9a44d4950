/* bench_dense.h - dense attention with materialised scores through a BLAS: the seed report's baseline.
 *
 * On the host through CBLAS, on a CUDA device through cuBLAS. A library that the build lacks is there as a
 * table whose open says so (bench_dense_absent.c, bench_dense_cublas_absent.c). */
#ifndef BENCH_DENSE_H
#define BENCH_DENSE_H

#include "bench/device.h"

/* `groups` KV heads, each read by `heads` query heads of n tokens, packed:
 * q, o, d_o, dq [groups][heads][n][D], k, v, dk, dv [groups][n][D],
 * scores and (backward only) dscores [groups][heads][n][n], all of the type and in the device's memory. */
typedef struct bench_dense_call {
  const cli_device *device;
  bsd_dtype dtype;
  int64_t groups, heads, n, dim;
  int causal;
  float scale;
  const void *q, *k, *v, *d_o;
  void *o, *dq, *dk, *dv;
  void *scores, *dscores;
  void *workspace; /* workspace_bytes of the library */
} bench_dense_call;

typedef struct bench_dense_library {
  int any_dtype; /* else it computes in f32, whatever the tensors are */
  int64_t workspace_bytes;

  /* Makes it ready, on the device that is current. Errors: UNUSABLE, a clause that begins with what lacks
   * it: "this build has no CBLAS". */
  int (*open)(void **state, cli_error *error);
  void (*close)(void *state);

  /* Its name and version as far as it says them. */
  void (*describe)(const void *state, char *text, size_t size);

  /* scores = scale q k^T for all heads, softmax of each row in place, o = scores v. On a CUDA device both
   * passes are put on its stream. */
  int (*forward)(void *state, const bench_dense_call *call, cli_error *error);

  /* From the scores that forward left: dv = P^T do, dscores = P (do v^T - delta), dq, dk. */
  int (*backward)(void *state, const bench_dense_call *call, cli_error *error);
} bench_dense_library;

extern const bench_dense_library bench_dense_on_host, bench_dense_on_cuda;

#endif
