/* bench_calibrate.h - measures the constants of a cost model on this machine. */
#ifndef BENCH_CALIBRATE_H
#define BENCH_CALIBRATE_H

#include "bench/bench_cost_file.h"
#include "bench/bench_session.h"

/* Times the library's kernels on the session's first rank over a small set of configurations for each shape: the
 * options' dtype, dim and block where they were given, else those that the backend is mostly used with; and adds
 * the fitted rates to *model of that rank. With `lines` (may be NULL) a line per configuration and rate.
 * Collective over the session's world. */
int bench_calibrate_kernels(const bench_session *session, bench_cost_model *model, FILE *lines,
                            cli_error *error);

/* Times exchanges between the session's ranks, and fills the links of *model that they have: between ranks of
 * one host, of two hosts. Collective; nothing to do on one rank. */
int bench_calibrate_links(const bench_session *session, bench_cost_model *model, FILE *lines,
                          cli_error *error);

#endif
