/* bench_time_stream.h - times a pass by a CUDA device's own clock, call by call or as a graph of calls. */
#ifndef BENCH_TIME_STREAM_H
#define BENCH_TIME_STREAM_H

#include "bench/bench_time.h"

/* True if runs are asynchronous, so that the device's clock between two marks tells their time. */
int bench_time_on_stream(const bench_session *session);

/* Warms up and fills every sample: the mean of some calls between two marks, 20 of them unless a call takes
 * long, in turn on each set of tensors. With --graph they are captured, and one replay is timed. *last is of a run that was no replay.
 * Collective. */
int bench_time_stream(const bench_session *session, bsd_plan *plan, bench_tensors *tensors,
                      int forward, double *samples, bsd_run_statistics *last, cli_error *error);

#endif
