/* bench_host.h - how long the host is busy with a call of the library, or a replay of one, on a GPU. */
#ifndef BENCH_HOST_H
#define BENCH_HOST_H

#include "bench/bench_session.h"
#include "bench/bench_tensors.h"

/* Fills *host, the worst rank's, where runs are asynchronous: a few calls are launched one after the other,
 * less than the device's queue has room for, by the host's clock; then replays of a graph of one call, with
 * --graph and on one rank. The pass has run before and takes ms on the device. Collective. */
int bench_host_run(const bench_session *session, bsd_plan *plan, bench_tensors *tensors,
                   int forward, double ms, bench_host *host, cli_error *error);

#endif
