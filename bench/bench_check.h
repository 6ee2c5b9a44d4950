/* bench_check.h - compares a run's outputs with the fp64 oracle of tests/, which shares no code with the
 * library: all rows when that takes about a second, else a sample of query rows and key columns. */
#ifndef BENCH_CHECK_H
#define BENCH_CHECK_H

#include "bench/bench_session.h"
#include "bench/bench_tensors.h"

/* Whether the oracle can describe the pattern (it holds at most 32 branches of 8 terms). */
int bench_check_judge(const bsd_pattern *pattern, const char *text, cli_error *error);

/* Fills check with the session's passes' relative errors and whether all of them are within their bounds.
 * Collective; the same result on all ranks. `tensors` holds the outputs of the plan's last run. */
int bench_check_run(const bench_session *session, const bench_case *item, bsd_plan *plan,
                    const bsd_problem *problem, const bench_tensors *tensors,
                    const bsd_plan_statistics *stats, bench_check *check, cli_error *error);

#endif
