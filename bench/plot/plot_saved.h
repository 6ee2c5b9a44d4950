/* plot_saved.h - results read back from the JSON that bsd_bench writes: what every figure is drawn from. */
#ifndef PLOT_SAVED_H
#define PLOT_SAVED_H

#include <jansson.h>

#include "bench/bench_result.h"
#include "bench/cli.h"

/* One run of bsd_bench. */
typedef struct plot_run {
  json_t *document; /* a reference of its own */
  bench_result *results;
  int64_t count;
  int64_t *cu_seqlens; /* documents + 1 offsets of packed documents, or NULL */
  int64_t documents;
} plot_run;

typedef struct plot_saved {
  plot_run *runs;
  int64_t count;
} plot_saved;

/* Appends a document; `name` is what sentences call it. Free also on failure.
 * Errors: CLI_UNUSABLE (not what --json writes: the sentence names the result and the key), CLI_FAILED. */
int plot_saved_add(plot_saved *saved, json_t *document, const char *name, cli_error *error);

/* The same from a file. */
int plot_saved_read(plot_saved *saved, const char *file, cli_error *error);

void plot_saved_free(plot_saved *saved);

#endif
