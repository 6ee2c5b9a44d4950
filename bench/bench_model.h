/* bench_model.h - the cost model that a session plans with: of --cost-model, --link and --rate. */
#ifndef BENCH_MODEL_H
#define BENCH_MODEL_H

#include "bench/bench_cost_file.h"
#include "bench/bench_options.h"
#include "bench/world.h"

/* GB/s,us  or  GB/s,us/GB/s,us@RANKS: the link inside a host, that between hosts, and the ranks of a host.
 * With one link all ranks share a host. */
int bench_link_parse(const char *text, bench_link *link, cli_error *error);

/* Rank 0 reads the --cost-model file; --link and a number as --rate replace what it says. On other ranks the
 * model is empty: plans take rank 0's. *given: whether there is any. Collective. */
int bench_model_create(const bench_options *options, cli_world *world, bench_cost_model *model,
                       int *given, cli_error *error);

#endif
