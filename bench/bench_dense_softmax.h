/* bench_dense_softmax.h - softmax of materialised scores on a CUDA device, and its gradient, row by row. */
#ifndef BENCH_DENSE_SOFTMAX_H
#define BENCH_DENSE_SOFTMAX_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#include "src/bsdattn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* `rows` rows of n scores of the type, packed. Each becomes its softmax; causal: row i sees its first
 * i mod n + 1 scores, the others become 0. */
cudaError_t bench_softmax_rows(bsd_dtype dtype, void *scores, int64_t rows, int64_t n, int causal,
                               cudaStream_t stream);

/* dscores = P (dP - sum_j P dP) in place of dP, in the same shapes. */
cudaError_t bench_softmax_gradient_rows(bsd_dtype dtype, const void *probabilities, void *dscores,
                                        int64_t rows, int64_t n, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
