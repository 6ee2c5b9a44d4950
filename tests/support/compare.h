/* compare.h - the bounds on results against the fp64 reference, for normal data. A NaN never passes.
 *
 *  - Tensor: ||x - ref|| / ||ref||. f32: o 1e-6 (2e-6 beyond 32K keys per query), gradients 2e-6.
 *    16-bit, relative to the error of the reference rounded to the type: o 1.1 where probabilities
 *    stay fp32, 1.5 where they are rounded; gradients 2.5.
 *    In tensors of fewer than 64 elements twice that: the rounding error is a matter of chance there.
 *  - Element: |x - ref| <= c u (|ref| + rms of its row of ref), c = 128 for f32, 8 for 16-bit o, 32 for
 *    16-bit gradients. An f16 result may also be off by one step of f16's subnormals.
 *  - dq and dk may cancel: neither a row's rms nor ||ref|| is taken below the row's floor
 *    scale sqrt(D) sqrt(sum P^2), and the 16-bit rounding error not below 0.4 u times that.
 *  - lse: 1e-5 max(1, |lse|) for f32, 1e-4 for 16-bit; -inf exactly where the reference has it. */
#ifndef TESTS_COMPARE_H
#define TESTS_COMPARE_H

#include <stdint.h>

#include "bsdattn.h"

typedef enum compare_kind { COMPARE_OUTPUT, COMPARE_GRADIENT } compare_kind;

typedef struct compare_bounds {
  bsd_dtype dtype;
  compare_kind kind;
  int rounded_probabilities; /* the kernel rounds P to the 16-bit type */
  int64_t keys;              /* most keys that a query sees */
} compare_bounds;

typedef struct compare_report {
  int pass;
  double error;           /* ||x - ref|| / ||ref|| (lse: max |error| / max(1, |ref|)) */
  double tensor_ratio;    /* the tensor's error over what it may be: at most 1 passes */
  double element_ratio;   /* the same of the worst element */
  int64_t element;        /* its index */
  double found, expected; /* there */
} compare_report;

/* x and ref [rows][dim]; floors [rows] or NULL. */
compare_report compare_tensor(compare_bounds bounds, const float *x, const double *ref,
                              int64_t rows, int64_t dim, const double *floors);

compare_report compare_lse(bsd_dtype dtype, const float *x, const double *ref, int64_t count);

#endif
