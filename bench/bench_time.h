/* bench_time.h - warm-up and timed runs of one pass: medians over the iterations' slowest ranks. */
#ifndef BENCH_TIME_H
#define BENCH_TIME_H

#include "bench/bench_session.h"
#include "bench/bench_tensors.h"

/* One forward or backward run of the plan, complete on return on this rank. */
int bench_forward(const bench_session *session, bsd_plan *plan, bench_tensors *tensors,
                  cli_error *error);
int bench_backward(const bench_session *session, bsd_plan *plan, bench_tensors *tensors,
                   cli_error *error);

/* Times the forward (else the backward) and fills timing and traffic->{bytes_moved, exposed_ms,
 * overlap}. Collective. flops are those of all ranks. */
int bench_time(const bench_session *session, bsd_plan *plan, bench_tensors *tensors, int forward,
               double flops, bench_timing *timing, bench_traffic *traffic, cli_error *error);

/* Sum of a number over the ranks. */
int bench_sum(cli_world *world, int64_t mine, int64_t *sum, cli_error *error);

#endif
