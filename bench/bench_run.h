/* bench_run.h - one configuration on the session's ranks: plan, tensors, times, check, hash, baseline. */
#ifndef BENCH_RUN_H
#define BENCH_RUN_H

#include "bench/bench_session.h"

/* The dense baseline does not look at the pattern: one measurement serves all patterns of a size. */
typedef struct bench_baseline_memo {
  int64_t n, batch; /* n 0: empty */
  bench_baseline value;
} bench_baseline_memo;

/* Runs n tokens of the configuration and fills *result (which bench_result_free frees also on failure).
 * Collective over the session's world. A check out of its bounds is no error here. */
int bench_run(const bench_session *session, const bench_case *item, int64_t n,
              bench_baseline_memo *memo, bench_result *result, cli_error *error);

/* The configuration's own figures, and those of the plan that are the same on all ranks. */
int bench_describe(const bench_session *session, const bench_case *item, const bsd_problem *problem,
                   const bsd_plan_statistics *stats, bench_result *result, cli_error *error);

#endif
