/* bench_result.c - what one configuration gave, and the few numbers derived from it. */
#include "bench_result.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const bench_timing no_timing = {NAN, NAN, NAN, NAN};
static const bench_host no_host = {NAN, NAN};
static const bench_traffic no_traffic = {-1, -1, -1, NAN, NAN};

void bench_result_clear(bench_result *result) {
  memset(result, 0, sizeof(*result));
  result->density = result->imbalance = result->plan_ms = NAN;
  result->active_blocks = result->active_pairs = -1;
  result->stages = -1;
  result->forward = result->backward = no_timing;
  result->host_forward = result->host_backward = no_host;
  result->baseline = (bench_baseline){BENCH_BASELINE_NONE, NAN, NAN, -1};
  result->memory_tensors = result->memory_workspace = result->memory_peak = -1;
  result->memory_plan = -1;
  result->traffic_forward = result->traffic_backward = no_traffic;
  result->check = (bench_check){NAN, NAN, NAN, NAN, NAN, -1, 0, 0, 0, 0};
  result->predicted_forward_ms = result->predicted_backward_ms = NAN;
  result->predicted_efficiency = NAN;
  result->efficiency_forward = result->efficiency_backward = NAN;
  result->bytes_received_worst = result->planned_ranks = -1;
  result->simulation_seconds = NAN;
  result->simulation_bytes = -1;
}

void bench_result_free(bench_result *result) {
  free(result->pattern);
  result->pattern = NULL;
  free(result->trace.slices);
  result->trace = (bench_trace){NULL, 0};
}

const char *bench_baseline_name(bench_baseline_status status) {
  return status == BENCH_BASELINE_OK ? "ok" : status == BENCH_BASELINE_OOM ? "oom" : "none";
}

double bench_speedup(double baseline_ms, double ms) {
  return baseline_ms / ms;
}

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double percentile(const double *sorted, int64_t count, double fraction) {
  double place = fraction * (double)(count - 1);
  int64_t low = (int64_t)place;
  int64_t high = low + 1 < count ? low + 1 : low;
  return sorted[low] + (place - (double)low) * (sorted[high] - sorted[low]);
}

bench_timing bench_timing_of(double *samples_ms, int64_t count, double flops) {
  if (count == 0)
    return no_timing;
  qsort(samples_ms, (size_t)count, sizeof(double), compare_doubles);
  double ms = percentile(samples_ms, count, 0.5);
  return (bench_timing){ms, percentile(samples_ms, count, 0.05),
                        percentile(samples_ms, count, 0.95), flops / (ms * 1e-3) * 1e-12};
}
