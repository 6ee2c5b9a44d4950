/* bench_check_sample.h - how many rows, columns and heads a check compares, by what they cost. */
#ifndef BENCH_CHECK_SAMPLE_H
#define BENCH_CHECK_SAMPLE_H

#include "src/bsdattn.h"

typedef struct bench_sample {
  int64_t *units;          /* b * kv_heads + KV head, ascending */
  int64_t *queries, *keys; /* positions, ascending; with n of them all rows are compared */
  int64_t nunits, nqueries, nkeys;
  /* Rows that see a key of a unit and that the oracle may compute; if there are more, and if this is 0, they
   * start from the library's own o and lse. */
  int64_t most_rows;
} bench_sample;

/* Pure: the same on all ranks. active_pairs is the plan's. Ends the program without memory. */
bench_sample bench_sample_create(const bsd_problem *problem, int64_t active_pairs, int backward);
void bench_sample_free(bench_sample *sample);

#endif
