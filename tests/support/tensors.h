/* tensors.h - random tensors, rounded to a type, and their storage as that type.
 *
 * The conversions are the tests' own, bit by bit from the formats' definitions. */
#ifndef TESTS_TENSORS_H
#define TESTS_TENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "bsdattn.h"

size_t tensor_element_size(bsd_dtype dtype);

/* Half a unit in the last place of 1: 2^-24 (f32), 2^-8 (bf16), 2^-11 (f16). */
double tensor_unit(bsd_dtype dtype);

/* x rounded to the type, to nearest, ties to even; beyond its range: infinity. */
double tensor_round(double x, bsd_dtype dtype);

/* count normal numbers, rounded to the type: a pure function of (seed, index). */
float *tensor_normal(int64_t count, uint64_t seed, bsd_dtype dtype);

/* Element `index` of an array of the type. store expects a value that the type has. */
void tensor_store(void *array, int64_t index, float value, bsd_dtype dtype);
float tensor_load(const void *array, int64_t index, bsd_dtype dtype);

#endif
