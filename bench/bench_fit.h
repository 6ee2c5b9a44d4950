/* bench_fit.h - constants from a few measurements: least absolute relative errors, nothing negative. */
#ifndef BENCH_FIT_H
#define BENCH_FIT_H

#include <stdint.h>

enum { BENCH_FIT_UNKNOWNS = 6, BENCH_FIT_EQUATIONS = 64 };

typedef struct bench_equation { /* sum of count[u] * x[u] = value, value > 0 */
  double count[BENCH_FIT_UNKNOWNS];
  double value;
} bench_equation;

/* x >= 0 with the least sum of |relative errors| over up to BENCH_FIT_EQUATIONS equations; unknowns that no
 * equation has are 0. */
void bench_fit(const bench_equation *equations, int64_t n, double x[BENCH_FIT_UNKNOWNS]);

double bench_fit_value(const bench_equation *equation, const double x[BENCH_FIT_UNKNOWNS]);

/* The median of |fitted / value - 1|. */
double bench_fit_error(const bench_equation *equations, int64_t n,
                       const double x[BENCH_FIT_UNKNOWNS]);

/* The median of n >= 1 values, which are sorted. */
double bench_median(double *values, int64_t n);

#endif
