/* bench_check_sample.c - how many rows, columns and heads a check compares, by what they cost.
 *
 * A query row costs the oracle about 3 n steps to find its keys and 4 D for each of them; a key costs as
 * much for each query that sees it, of which there are on average as many as keys of a query. One key may
 * be seen by many more: what the rows of the sampled ones cost is counted before they are computed. */
#include "bench/bench_check_sample.h"

#include <math.h>
#include <stdlib.h>

#include "tests/oracle.h"

enum { MOST_UNITS = 4, MOST_QUERIES = 64, MOST_KEYS = 16 };
static const double all_steps = 3e9;    /* compare all rows if that takes no more steps */
static const double sample_steps = 2e9; /* else this many for the queries and this many for keys */
static const double input_step = 20;    /* to make an element of the inputs again */
static const double input_steps = 1e10; /* for all units */

/* Position x of `count` spread over [0, n): the ends, the middle, then pseudo-random ones. */
static int64_t pick(int64_t x, int64_t n) {
  const int64_t edges[] = {0, n - 1, n / 2, n / 2 - 1};
  if (x < 4)
    return edges[x] < 0 ? 0 : edges[x];
  return (int64_t)(oracle_mix((uint64_t)x) % (uint64_t)n);
}

static int compare(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

/* At most *count different numbers of [0, n), ascending; all of them if *count >= n. */
static int64_t *choose(int64_t n, int64_t *count) {
  int64_t taken = *count < n ? *count : n, kept = 0;
  int64_t *list = oracle_alloc(taken, sizeof *list);
  for (int64_t x = 0; x < taken; x++)
    list[x] = taken == n ? x : pick(x, n);
  qsort(list, (size_t)taken, sizeof *list, compare);
  for (int64_t x = 0; x < taken; x++)
    if (kept == 0 || list[kept - 1] != list[x])
      list[kept++] = list[x];
  *count = kept;
  return list;
}

static int64_t clamp(double x, int64_t low, int64_t high) {
  return x < (double)low ? low : x > (double)high ? high : (int64_t)x;
}

/* A sample of a backward check: its keys' own cost is small where the library's lse is taken. */
static void sample_keys(bench_sample *sample, double column, double row) {
  sample->nkeys = clamp(sample_steps / ((double)sample->nunits * column), 1, MOST_KEYS);
  sample->most_rows = (int64_t)(4 * sample_steps / row);
  if (column > sample_steps) {
    sample->nkeys = MOST_KEYS;
    sample->most_rows = 0;
  }
}

bench_sample bench_sample_create(const bsd_problem *problem, int64_t active_pairs, int backward) {
  double n = (double)problem->length, G = (double)(problem->heads / problem->kv_heads);
  double D = (double)problem->head_dim;
  double seen = (double)active_pairs / ((double)problem->heads * n);
  double row = 3 * n + 4 * seen * D, inputs = (backward ? 2 * G + 2 : G + 2) * n * D;
  int64_t all_units = problem->batch * problem->kv_heads;
  bench_sample sample = {.nunits = all_units,
                         .nqueries = problem->length,
                         .nkeys = problem->length,
                         .most_rows = INT64_MAX};
  if ((double)all_units * G * n * row * (backward ? 4 : 1) > all_steps) {
    double column = (seen + 1) * row * G;
    int64_t most_units = all_units < MOST_UNITS ? all_units : MOST_UNITS;
    sample.nunits = clamp(input_steps / (input_step * inputs), 1, most_units);
    if (column < sample_steps)
      sample.nunits = clamp(sample_steps / column, 1, sample.nunits);
    sample.nqueries = clamp(sample_steps / ((double)sample.nunits * G * row), 4, MOST_QUERIES);
    sample_keys(&sample, column, row);
  }
  sample.units = choose(all_units, &sample.nunits);
  sample.queries = choose(problem->length, &sample.nqueries);
  sample.keys = choose(problem->length, &sample.nkeys);
  return sample;
}

void bench_sample_free(bench_sample *sample) {
  free(sample->units);
  free(sample->queries);
  free(sample->keys);
}
