/* bench_csv.h - the results as CSV: a line of names, then a line per configuration. */
#ifndef BENCH_CSV_H
#define BENCH_CSV_H

#include <stdio.h>

#include "bench/bench_result.h"

void bench_csv_header(FILE *file);

/* Numbers that were not measured are empty fields. */
void bench_csv_line(FILE *file, const bench_result *result);

#endif
