/* bench_scaling.h - one configuration on 1, 2, 4, ... of the ranks, and how well they are used. */
#ifndef BENCH_SCALING_H
#define BENCH_SCALING_H

#include "bench/bench_report.h"
#include "bench/bench_session.h"

/* Runs the configuration on the first 1, 2, 4, ... and all of the ranks (weak: of n times as many
 * tokens) and reports each. The efficiency is the rate per rank over the rate of one rank. Collective. */
int bench_scaling_run(const bench_session *session, const bench_case *item, bench_report *report,
                      cli_error *error);

#endif
