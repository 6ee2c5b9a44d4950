/* bench_check_sample.c - how many rows, columns and heads a check compares, by what they cost.
 *
 * A query row costs the oracle about 3 n steps to find its keys and 4 D for each of them; a key costs as
 * much for each query that sees it, of which there are on average as many as keys of a query. One key may
 * be seen by many more: what the rows of the sampled ones cost is counted before they are computed. From the
 * library's own lse a key costs little: its column of blocks, and 4 D for each query.
 *
 * The error of a few rows, over their rounding error, is a matter of chance: of samples of one key of two heads,
 * one in fifty exceeds a bound that the whole tensor keeps with a fifth to spare. So of each KV head, which a
 * rank may judge alone, at least 64 rows of each tensor are compared. */
#include "bench/bench_check_sample.h"

#include <math.h>
#include <stdlib.h>

#include "tests/oracle.h"

enum { MOST_UNITS = 4, ROWS = 64, LEAST_QUERIES = 4 };
static const double all_steps = 3e9;    /* compare all rows if that takes no more steps */
static const double sample_steps = 2e9; /* else about this many for queries and for keys each */
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

static int holds(const int64_t *list, int64_t count, int64_t value) {
  for (int64_t x = 0; x < count; x++)
    if (list[x] == value)
      return 1;
  return 0;
}

/* *count different numbers of [0, n), ascending; all of them if *count >= n. */
static int64_t *choose(int64_t n, int64_t *count) {
  int64_t taken = *count < n ? *count : n, kept = 0;
  int64_t *list = oracle_alloc(taken, sizeof *list);
  for (int64_t x = 0; kept < taken; x++) {
    int64_t value = taken == n ? x : pick(x, n);
    if (taken == n || !holds(list, kept, value))
      list[kept++] = value;
  }
  qsort(list, (size_t)taken, sizeof *list, compare);
  *count = taken;
  return list;
}

static int64_t clamp(double x, int64_t low, int64_t high) {
  return x < (double)low ? low : x > (double)high ? high : (int64_t)x;
}

bench_sample bench_sample_create(const bsd_problem *problem, int64_t active_pairs, int backward) {
  double n = (double)problem->length, G = (double)(problem->heads / problem->kv_heads);
  double D = (double)problem->head_dim, blocks = n / (double)problem->block;
  double seen = (double)active_pairs / ((double)problem->heads * n);
  double row = 3 * n + 4 * seen * D, inputs = (backward ? 2 * G + 2 : G + 2) * n * D;
  int64_t all_units = problem->batch * problem->kv_heads;
  bench_sample sample = {.nunits = all_units,
                         .nqueries = problem->length,
                         .nkeys = problem->length,
                         .most_rows = INT64_MAX};
  if ((double)all_units * G * n * row * (backward ? 4 : 1) > all_steps) {
    int64_t least = clamp(ceil(ROWS / G), LEAST_QUERIES, ROWS);
    double queries = (double)least * G * row; /* the least that a unit takes */
    double keys = ROWS * G * (n + blocks * blocks + 4 * seen * D);
    int64_t most_units = clamp(input_steps / (input_step * inputs), 1, MOST_UNITS);
    most_units = clamp(sample_steps / fmax(queries, backward ? keys : 0), 1, most_units);
    sample.nunits = all_units < most_units ? all_units : most_units;
    double share = sample_steps / (double)sample.nunits;
    sample.nqueries = clamp(share / (G * row), least, ROWS);
    sample.nkeys = ROWS;
    sample.most_rows = ROWS * (seen + 1) * row * G <= share ? (int64_t)(4 * share / row) : 0;
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
