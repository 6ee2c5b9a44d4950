/* bench_lists.h - writes the active blocks of a configuration, one line per non-empty row. */
#ifndef BENCH_LISTS_H
#define BENCH_LISTS_H

#include <stdio.h>

#include "bench/cli.h"

/* Lines `branch head document segment row: column column ...`, in that order, to file as they come. The
 * active blocks are those of the whole sequence (one batch entry), after causal and window. */
int bench_lists_write(const bsd_pattern *pattern, const bsd_problem *problem, FILE *file,
                      cli_error *error);

#endif
