/* bench_simulate.h - the plans that P ranks would make, made here one after the other; nothing is run. */
#ifndef BENCH_SIMULATE_H
#define BENCH_SIMULATE_H

#include "bench/bench_session.h"

/* Plans the configuration for `nranks` ranks, under --scaling weak with so many times the tokens, and fills
 * *result (freed by bench_result_free also on failure). Up to 256 ranks each is planned and all figures are
 * exact; of more a sample and those around its worst ranks are: sums are estimates then, maxima those of the
 * ranks planned. Collective: the ranks share the work. */
int bench_simulate(const bench_session *session, const bench_case *item, int nranks,
                   bench_result *result, cli_error *error);

#endif
