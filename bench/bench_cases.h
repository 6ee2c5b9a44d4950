/* bench_cases.h - the configurations that the options ask for: lengths times patterns, judged. */
#ifndef BENCH_CASES_H
#define BENCH_CASES_H

#include "bench/bench_options.h"

typedef struct bench_case {
  int64_t n, batch;
  bsd_pattern *pattern;
  char *text; /* canonical pattern text */
} bench_case;

typedef struct bench_cases {
  bench_case *items; /* lengths in their order, inside each the patterns in theirs */
  int64_t count;
} bench_cases;

/* Makes all configurations and judges each as far as that needs no plan: the pattern's text, heads,
 * dimension, csr sizes, the oracle's reach with --check. Under --scaling weak lengths are those of one
 * rank and `ranks` (the most that will run) times them are judged. Errors: CLI_UNUSABLE, CLI_FAILED. */
int bench_cases_create(const bench_options *options, int ranks, bench_cases *cases,
                       cli_error *error);
void bench_cases_free(bench_cases *cases);

/* The library's problem for `n` tokens of a configuration. */
bsd_problem bench_problem(const bench_options *options, const bench_case *item, int64_t n,
                          bsd_dtype dtype);

/* LongNet's pattern for n tokens: w = 2048 x 2^i, r = 2^i while w <= n; one branch w = n below 2048. */
void bench_longnet(int64_t n, char *text, size_t size);

#endif
