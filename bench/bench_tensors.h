/* bench_tensors.h - the tensors of one run on this rank: random inputs, poisoned outputs. */
#ifndef BENCH_TENSORS_H
#define BENCH_TENSORS_H

#include "bench/device.h"

typedef struct bench_tensors {
  bsd_tensor q, k, v, o;      /* packed [B][local n][heads][D] */
  bsd_tensor d_o, dq, dk, dv; /* NULL without the backward */
  float *lse;                 /* [B][H][local n] */
  int64_t bytes, local, q_bytes, kv_bytes, lse_bytes;
  const cli_device *device;     /* where they lie, borrowed */
  struct bench_tensors *others; /* cold runs: further sets, owned */
  int64_t nothers;
} bench_tensors;

/* Allocates the tensors of the plan's local tokens on the device and fills q, k, v (and do with `backward`): the same
 * global tensors whatever the number of ranks. Errors: CLI_FAILED (memory). */
int bench_tensors_create(const cli_device *device, const bsd_plan *plan, const bsd_problem *problem,
                         uint64_t seed, int backward, bench_tensors *tensors, cli_error *error);
void bench_tensors_free(bench_tensors *tensors);

/* Adds so many sets of other random numbers that the inputs and outputs of a forward on each of them in turn
 * are more than twice the device's cache. Errors: CLI_FAILED (memory). */
int bench_tensors_add_sets(const bsd_plan *plan, const bsd_problem *problem, uint64_t seed,
                           int backward, bench_tensors *tensors, cli_error *error);

/* Of the sets in turn: that of call 0, 1, ...; without others always the first. */
bench_tensors *bench_tensors_of_call(bench_tensors *tensors, int64_t call);

/* Fills outputs with NaN, so that what a run does not write cannot pass a check. */
int bench_tensors_poison(bench_tensors *tensors, cli_error *error);

#endif
