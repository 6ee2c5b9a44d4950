/* bench_fit.c - least squares with non-negative unknowns, by descent along one unknown after the other.
 *
 * With relative weights the sum of squares is a convex quadratic; its minimum along one unknown, cut off at 0, is
 * a closed form, and the sweeps converge from 0 to the minimum of all. */
#include "bench/bench_fit.h"

#include <math.h>
#include <stdlib.h>

enum { SWEEPS = 200000 };
static const double small_step = 1e-12; /* of a sweep, relative to the right sides, which are 1 */

double bench_fit_value(const bench_equation *e, const double x[BENCH_FIT_UNKNOWNS]) {
  double value = 0;
  for (int u = 0; u < BENCH_FIT_UNKNOWNS; u++)
    value += e->count[u] * x[u];
  return value;
}

/* Moves x[u] to the minimum along it; returns by how much the fitted values change at most. */
static double move(const bench_equation *equations, int64_t n, int u, double *x) {
  double along = 0, square = 0, largest = 0;
  for (int64_t i = 0; i < n; i++) {
    const bench_equation *e = &equations[i];
    double a = e->count[u] / e->value, left = 1 - bench_fit_value(e, x) / e->value;
    along += a * left;
    square += a * a;
    largest = fmax(largest, fabs(a));
  }
  if (square == 0)
    return 0;
  double before = x[u];
  x[u] = fmax(0, before + along / square);
  return fabs(x[u] - before) * largest;
}

void bench_fit(const bench_equation *equations, int64_t n, double x[BENCH_FIT_UNKNOWNS]) {
  for (int u = 0; u < BENCH_FIT_UNKNOWNS; u++)
    x[u] = 0;
  for (int sweep = 0; sweep < SWEEPS; sweep++) {
    double moved = 0;
    for (int u = 0; u < BENCH_FIT_UNKNOWNS; u++)
      moved = fmax(moved, move(equations, n, u, x));
    if (moved < small_step)
      return;
  }
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double bench_median(double *values, int64_t n) {
  qsort(values, (size_t)n, sizeof *values, compare);
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

double bench_fit_error(const bench_equation *equations, int64_t n,
                       const double x[BENCH_FIT_UNKNOWNS]) {
  double *errors = malloc((size_t)n * sizeof *errors);
  if (errors == NULL)
    return NAN;
  for (int64_t i = 0; i < n; i++)
    errors[i] = fabs(bench_fit_value(&equations[i], x) / equations[i].value - 1);
  double median = bench_median(errors, n);
  free(errors);
  return median;
}
