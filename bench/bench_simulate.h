/* bench_simulate.h - the plans that P ranks would make, made here one after the other; nothing is run. */
#ifndef BENCH_SIMULATE_H
#define BENCH_SIMULATE_H

#include "bench/bench_session.h"

/* Plans the configuration for `nranks` ranks and fills *result (freed by bench_result_free also on
 * failure): the exact bytes, pairs and imbalance if there was time to plan every rank, else only the
 * worst of the ranks planned, with the sums left out. Collective: the ranks share the work. */
int bench_simulate(const bench_session *session, const bench_case *item, int nranks,
                   bench_result *result, cli_error *error);

#endif
