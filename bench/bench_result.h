/* bench_result.h - what one configuration gave: the one struct that every report is written from.
 *
 * Numbers that were not measured are NAN (doubles) or -1 (integers); reports print them as null. */
#ifndef BENCH_RESULT_H
#define BENCH_RESULT_H

#include <stdint.h>

#include "src/bsdattn.h"
#include "src/trace.h"

typedef struct bench_timing {
  double ms, ms_p5, ms_p95, tflops; /* over the iterations' worst ranks */
} bench_timing;

typedef enum bench_baseline_status {
  BENCH_BASELINE_NONE = 0, /* not asked for */
  BENCH_BASELINE_OK,
  BENCH_BASELINE_OOM /* refused beforehand */
} bench_baseline_status;

typedef struct bench_baseline {
  bench_baseline_status status;
  double forward_ms, backward_ms;
  int64_t bytes; /* tensors and scores that it holds, or for OOM would hold */
} bench_baseline;

typedef struct bench_traffic {
  int64_t bytes_moved, bytes_lower_bound, bytes_allgather; /* summed over ranks */
  double exposed_ms, overlap;
} bench_traffic;

/* A part of a traced run on one rank; start and stop are on rank 0's clock. */
typedef struct bench_slice {
  int rank, pass;
  int step;               /* of an exchange: its ring step, -1 if that is several */
  int to, from;           /* its peers, -1: none */
  int64_t sent, received; /* bytes */
  bsd_trace_slice slice;
} bench_slice;

typedef struct bench_trace {
  bench_slice *slices; /* owned; those with rank -1 are none */
  int64_t count;
} bench_trace;

/* Microseconds that the host is busy with a call, which it does not wait for; GPUs only. */
typedef struct bench_host {
  double call, replay; /* of the library; of a CUDA graph of it */
} bench_host;

typedef struct bench_check {
  double o, lse, dq, dk, dv; /* relative errors */
  int pass;                  /* -1: not asked for */
  int64_t rows;              /* query rows per head that were compared; n: all of them */
  int64_t keys;              /* key columns per KV head */
  int64_t units;             /* KV heads, of all batch entries together */
  int from_library;          /* rows that see a key started from the library's own o and lse */
} bench_check;

typedef struct bench_result {
  int64_t n, batch, heads, kv_heads, dim, block;
  bsd_dtype dtype;
  int causal;
  char *pattern; /* owned */
  double density;
  int64_t active_blocks, active_pairs;
  int ranks, stages;
  char backend[32], kernel[64], transport[32], layout[64];
  int has_hash;
  uint64_t hash;
  bench_timing forward, backward;
  bench_host host_forward, host_backward;
  bench_baseline baseline;
  int64_t memory_tensors, memory_workspace, memory_peak; /* bytes of the worst rank */
  int64_t memory_plan;
  bench_traffic traffic_forward, traffic_backward;
  bench_trace trace; /* with --trace */
  double imbalance, plan_ms;
  bench_check check;
  double predicted_forward_ms, predicted_backward_ms, predicted_efficiency;
  char scaling[8]; /* "strong" or "weak", "" without --scaling */
  double efficiency_forward,
      efficiency_backward;                     /* --scaling: rate per rank over the 1-rank rate */
  int64_t bytes_received_worst, planned_ranks; /* --simulate */
  double simulation_seconds;                   /* of this process, and growth of its memory */
  int64_t simulation_bytes;
} bench_result;

/* All numbers "not measured". */
void bench_result_clear(bench_result *result);
void bench_result_free(bench_result *result);

/* "none", "ok", "oom". */
const char *bench_baseline_name(bench_baseline_status status);

/* Baseline over ours; NAN without both. */
double bench_speedup(double baseline_ms, double ms);

/* Median, 5th and 95th percentile (linear between neighbours) of `count` samples, which are sorted. */
bench_timing bench_timing_of(double *samples_ms, int64_t count, double flops);

#endif
