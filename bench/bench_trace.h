/* bench_trace.h - traced runs beside the timed ones: what the exchange exposed, and when each part ran. */
#ifndef BENCH_TRACE_H
#define BENCH_TRACE_H

#include "bench/bench_session.h"
#include "bench/bench_tensors.h"

/* Runs the forward (else the backward) a few more times, traced, so that the timed runs are not disturbed.
 * Fills traffic->{exposed_ms, overlap}; with --trace adds the slices of the last run, of all ranks and on rank
 * 0's clock, to *trace. Nothing to do on one rank without --trace. Collective. */
int bench_trace_run(const bench_session *session, bsd_plan *plan, bench_tensors *tensors,
                    int forward, bench_traffic *traffic, bench_trace *trace, cli_error *error);

#endif
