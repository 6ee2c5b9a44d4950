/* bench_fit.c - least absolute relative errors with non-negative unknowns.
 *
 * A sum of weighted squares is a convex quadratic; its minimum along one unknown, cut off at 0, is a closed form,
 * and sweeps over the unknowns converge to the minimum of all. Weights of 1 / |error|, from the solution before,
 * make squares absolute values, so that a time that something else on the machine has spoilt counts little. */
#include "bench/bench_fit.h"

#include <math.h>
#include <stdlib.h>

enum { SWEEPS = 20000, ROUNDS = 30 };
static const double small_step = 1e-9;  /* of a sweep, relative to the right sides, which are 1 */
static const double small_error = 0.02; /* smaller ones weigh no more */

double bench_fit_value(const bench_equation *e, const double x[BENCH_FIT_UNKNOWNS]) {
  double value = 0;
  for (int u = 0; u < BENCH_FIT_UNKNOWNS; u++)
    value += e->count[u] * x[u];
  return value;
}

static double relative_error(const bench_equation *e, const double *x) {
  return bench_fit_value(e, x) / e->value - 1;
}

/* Moves x[u] to the minimum along it; returns by how much the fitted values change at most. */
static double move(const bench_equation *equations, const double *weights, int64_t n, int u,
                   double *x) {
  double along = 0, square = 0, largest = 0;
  for (int64_t i = 0; i < n; i++) {
    const bench_equation *e = &equations[i];
    double a = e->count[u] / e->value;
    along -= weights[i] * a * relative_error(e, x);
    square += weights[i] * a * a;
    largest = fmax(largest, fabs(a));
  }
  if (square == 0)
    return 0;
  double before = x[u];
  x[u] = fmax(0, before + along / square);
  return fabs(x[u] - before) * largest;
}

static void fit_weighted(const bench_equation *equations, const double *weights, int64_t n,
                         double *x) {
  for (int sweep = 0; sweep < SWEEPS; sweep++) {
    double moved = 0;
    for (int u = 0; u < BENCH_FIT_UNKNOWNS; u++)
      moved = fmax(moved, move(equations, weights, n, u, x));
    if (moved < small_step)
      return;
  }
}

void bench_fit(const bench_equation *equations, int64_t n, double x[BENCH_FIT_UNKNOWNS]) {
  double weights[BENCH_FIT_EQUATIONS];
  for (int u = 0; u < BENCH_FIT_UNKNOWNS; u++)
    x[u] = 0;
  for (int64_t i = 0; i < n; i++)
    weights[i] = 1;
  for (int round = 0; round < ROUNDS; round++) {
    fit_weighted(equations, weights, n, x);
    for (int64_t i = 0; i < n; i++)
      weights[i] = 1 / fmax(small_error, fabs(relative_error(&equations[i], x)));
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
  double errors[BENCH_FIT_EQUATIONS];
  for (int64_t i = 0; i < n; i++)
    errors[i] = fabs(relative_error(&equations[i], x));
  return bench_median(errors, n);
}
