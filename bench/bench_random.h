/* bench_random.h - normal random numbers by index: element x of a tensor is the same on any rank. */
#ifndef BENCH_RANDOM_H
#define BENCH_RANDOM_H

#include <stdint.h>

#include "src/bsdattn.h"

typedef enum bench_tensor_id { BENCH_Q, BENCH_K, BENCH_V, BENCH_DO } bench_tensor_id;

/* Elements first .. first+count-1 (flat index in the global [B][n][heads][D]) of a tensor, rounded to
 * the type, as floats. Pure in (seed, tensor, index, dtype). */
void bench_random_floats(uint64_t seed, bench_tensor_id tensor, bsd_dtype dtype, int64_t first,
                         int64_t count, float *out);

/* The same in the type itself. */
void bench_random_fill(uint64_t seed, bench_tensor_id tensor, bsd_dtype dtype, int64_t first,
                       int64_t count, void *out);

/* An element of a tensor of the type as a float. */
float bench_element(bsd_dtype dtype, const void *data, int64_t index);

#endif
