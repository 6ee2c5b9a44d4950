/* bench_output.h - result files: written under a temporary name, renamed when complete; '-' is stdout, and what is
 * no regular file (a device, a pipe) is written as it is. */
#ifndef BENCH_OUTPUT_H
#define BENCH_OUTPUT_H

#include <stdio.h>

#include "bench/cli.h"

typedef struct bench_output {
  FILE *file; /* NULL: not asked for */
  const char *path;
  char *temporary, *target; /* what is renamed to what; NULL: nothing is */
} bench_output;

/* Opens path for writing, so that an unusable one is known before anything runs. path may be NULL. */
int bench_output_open(const char *path, bench_output *output, cli_error *error);

/* Completes the file: flushed to the disk and renamed. */
int bench_output_commit(bench_output *output, cli_error *error);

/* Leaves no file. Fine after commit and on a zeroed output. */
void bench_output_discard(bench_output *output);

#endif
