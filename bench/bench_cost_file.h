/* bench_cost_file.h - cost models as JSON files: what --calibrate writes and --cost-model reads.
 *
 * Format: README.md, "Cost models". */
#ifndef BENCH_COST_FILE_H
#define BENCH_COST_FILE_H

#include "bench/bench_output.h"

typedef struct bench_cost_model {
  bsd_cost_model model; /* its rates are those below */
  bsd_cost_rate *rates; /* owned */
  double
      *errors; /* of each rate, the median relative error of its fit; owned, NULL after reading */
} bench_cost_model;

/* Appends a rate. Errors: CLI_FAILED (memory). */
int bench_cost_model_add(bench_cost_model *model, const bsd_cost_rate *rate, double fit_error,
                         cli_error *error);
void bench_cost_model_free(bench_cost_model *model);

/* Errors: CLI_UNUSABLE naming the file, what was found and what was expected. */
int bench_cost_file_read(const char *path, bench_cost_model *model, cli_error *error);

/* Into an opened output; the caller commits it. */
int bench_cost_file_write(const bench_cost_model *model, const char *device, bench_output *output,
                          cli_error *error);

#endif
