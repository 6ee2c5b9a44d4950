/* plot.h - the report: figures drawn by gnuplot and one page, from results as --json writes them. */
#ifndef PLOT_H
#define PLOT_H

#include <jansson.h>

#include "bench/bench_options.h"

/* Before anything runs: there is a gnuplot, and the directory exists or can be made (its parent must exist) and
 * written. Errors: CLI_UNUSABLE. */
int plot_judge(const char *directory, cli_error *error);

/* Writes NAME.dat, NAME.gp and NAME.svg of each figure that there is data for, and report.html. Figures of an
 * earlier report that are not drawn this time are removed. */
int plot_document(json_t *document, const char *directory, cli_error *error);

/* The same from files (--from). Errors: CLI_UNUSABLE as plot_saved_read, before anything is written. */
int plot_files(const char *const *files, int64_t count, const char *directory, cli_error *error);

#endif
