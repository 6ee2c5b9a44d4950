/* bench_time.h - warm-up and timed runs of one pass: medians over the iterations' slowest ranks. */
#ifndef BENCH_TIME_H
#define BENCH_TIME_H

#include "bench/bench_session.h"
#include "bench/bench_tensors.h"

/* Puts a forward or a backward of the plan on the device's stream; on the CPU it is complete then. */
int bench_launch(const bench_session *session, bsd_plan *plan, bench_tensors *tensors, int forward,
                 cli_error *error);

/* Waits for what was launched, under the deadline. */
int bench_complete(const bench_session *session, bsd_plan *plan, cli_error *error);

/* Both. */
int bench_pass(const bench_session *session, bsd_plan *plan, bench_tensors *tensors, int forward,
               cli_error *error);

/* Times the forward (else the backward) and fills timing and traffic->bytes_moved. Collective. flops are
 * those of all ranks. */
int bench_time(const bench_session *session, bsd_plan *plan, bench_tensors *tensors, int forward,
               double flops, bench_timing *timing, bench_traffic *traffic, cli_error *error);

/* Sum of a number over the ranks. */
int bench_sum(cli_world *world, int64_t mine, int64_t *sum, cli_error *error);

#endif
