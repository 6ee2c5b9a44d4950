/* bench_table.h - the lines that a person reads: header, one line per configuration, footer. */
#ifndef BENCH_TABLE_H
#define BENCH_TABLE_H

#include <stdio.h>

#include "bench/bench_environment.h"
#include "bench/bench_result.h"

typedef enum bench_style {
  BENCH_STYLE_RUN,
  BENCH_STYLE_SEED,    /* the seed report's columns */
  BENCH_STYLE_SIMULATE /* plans without runs */
} bench_style;

typedef struct bench_table {
  FILE *file;
  bench_style style;
  int scaling;                  /* with columns of efficiency */
  char kernel[64], layout[64];  /* last announced */
  int64_t dense_n, dense_batch; /* seed: the baseline line last printed */
} bench_table;

/* The `#` lines: versions, hosts, devices, names of the columns. */
void bench_table_header(bench_table *table, const bench_environment *environment);

/* One configuration; a `#` line before it where kernel or layout are not those of the line before. */
void bench_table_line(bench_table *table, const bench_result *result);

void bench_table_footer(bench_table *table, int good);

#endif
