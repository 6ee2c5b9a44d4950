/* bench_baseline.h - times the dense baseline beside the library, or says beforehand that it does not
 * fit in memory. */
#ifndef BENCH_BASELINE_H
#define BENCH_BASELINE_H

#include "bench/bench_session.h"

/* Sets the session's dense library, that of the context's backend, if the options want a baseline. What
 * cannot be had is refused if it must be there, else left out. Collective. */
int bench_baseline_open(bench_session *session, cli_error *error);
void bench_baseline_close(bench_session *session);

/* Times dense attention of n tokens, by the session's passes. The KV heads of all batch entries are
 * dealt to the ranks in turn, each rank computes its own: no communication. Collective. */
int bench_baseline_run(const bench_session *session, int64_t n, int64_t batch,
                       bench_baseline *baseline, cli_error *error);

#endif
