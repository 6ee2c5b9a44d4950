/* bench_baseline.h - times the dense baseline beside the library, or says beforehand that it does not
 * fit in memory. */
#ifndef BENCH_BASELINE_H
#define BENCH_BASELINE_H

#include "bench/bench_session.h"

/* Times dense attention of n tokens, by the session's passes. The KV heads of all batch entries are
 * dealt to the ranks in turn, each rank computes its own: no communication. Collective. */
int bench_baseline_run(const bench_session *session, int64_t n, int64_t batch,
                       bench_baseline *baseline, cli_error *error);

#endif
