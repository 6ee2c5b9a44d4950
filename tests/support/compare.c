/* compare.c - see compare.h. */
#include "support/compare.h"

#include <math.h>

#include "support/tensors.h"

enum { FEW_ELEMENTS = 64 };

static double tensor_factor(compare_bounds bounds, int64_t elements) {
  double slack = elements < FEW_ELEMENTS ? 2 : 1;
  if (bounds.dtype == BSD_F32)
    return bounds.kind == COMPARE_GRADIENT || bounds.keys > 32768 ? 2e-6 : 1e-6;
  if (bounds.kind == COMPARE_GRADIENT)
    return slack * 2.5;
  return slack * (bounds.rounded_probabilities ? 1.5 : 1.1);
}

static double element_factor(compare_bounds bounds) {
  if (bounds.dtype == BSD_F32)
    return 128;
  return bounds.kind == COMPARE_OUTPUT ? 8 : 32;
}

/* error / allowed, where nothing is allowed when allowed is 0; not a number counts as infinite. */
static double ratio(double error, double allowed) {
  if (error == 0)
    return 0;
  double value = error / allowed;
  return isnan(value) ? INFINITY : value;
}

static void judge_element(compare_report *report, double factor, double subnormal, double x,
                          double ref, double rms, int64_t index) {
  double allowed = fmax(factor * (fabs(ref) + rms), subnormal);
  double value = ratio(fabs(x - ref), allowed);
  if (value > report->element_ratio) {
    report->element_ratio = value;
    report->element = index;
    report->found = x;
    report->expected = ref;
  }
}

compare_report compare_tensor(compare_bounds bounds, const float *x, const double *ref,
                              int64_t rows, int64_t dim, const double *floors) {
  compare_report report = {0};
  double unit = tensor_unit(bounds.dtype), errors = 0, sizes = 0, least = 0, rounding = 0;
  double subnormal = bounds.dtype == BSD_F16 ? 0x1p-24 : 0;
  for (int64_t row = 0; row < rows; row++) {
    double squares = 0;
    for (int64_t d = 0; d < dim; d++)
      squares += ref[row * dim + d] * ref[row * dim + d];
    double floor = floors ? floors[row] : 0;
    double rms = fmax(sqrt(squares / (double)dim), floor);
    for (int64_t d = 0; d < dim; d++) {
      int64_t e = row * dim + d;
      double off = x[e] - ref[e], rounded = tensor_round(ref[e], bounds.dtype) - ref[e];
      judge_element(&report, element_factor(bounds) * unit, subnormal, x[e], ref[e], rms, e);
      errors += off * off;
      rounding += rounded * rounded;
    }
    sizes += squares;
    least += (double)dim * floor * floor;
  }
  double size = sqrt(fmax(sizes, least));
  report.error = ratio(sqrt(errors), size);
  double allowed = bounds.dtype == BSD_F32 ? size : fmax(sqrt(rounding), 0.4 * unit * sqrt(least));
  report.tensor_ratio = ratio(sqrt(errors), tensor_factor(bounds, rows * dim) * allowed);
  report.pass = report.tensor_ratio <= 1 && report.element_ratio <= 1;
  return report;
}

compare_report compare_lse(bsd_dtype dtype, const float *x, const double *ref, int64_t count) {
  compare_report report = {0};
  double allowed = dtype == BSD_F32 ? 1e-5 : 1e-4;
  for (int64_t e = 0; e < count; e++) {
    double error = isinf(ref[e]) ? (x[e] == ref[e] ? 0 : INFINITY)
                                 : ratio(fabs(x[e] - ref[e]), fmax(1, fabs(ref[e])));
    if (error > report.error) {
      report.error = error;
      report.element = e;
      report.found = x[e];
      report.expected = ref[e];
    }
  }
  report.tensor_ratio = report.element_ratio = report.error / allowed;
  report.pass = report.element_ratio <= 1;
  return report;
}
