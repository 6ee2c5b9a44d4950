/* bench_cases.c - the configurations that the options ask for: lengths times patterns, judged. */
#include "bench/bench_cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_check.h"
#include "src/task.h"

/* The seed report's table: length times batch is 8192 up to 8K. */
static const struct {
  int64_t n, batch;
} seed_sizes[] = {{2048, 4}, {4096, 2}, {8192, 1}, {16384, 1}};
static const char *const seed_patterns[] = {"blocks=strided(1:2,density=0.1)",
                                            "blocks=strided(1:2,density=0.05)",
                                            "blocks=strided(1:2,density=0.02)"};
enum { SEED_SIZES = 4, SEED_PATTERNS = 3, LONGNET_TEXT = 2048 };
static const int64_t default_length = 8192;
static const char *const default_pattern = "blocks=strided(1:2,density=0.1)";

void bench_longnet(int64_t n, char *text, size_t size) {
  size_t used = 0;
  text[0] = '\0';
  if (n < 2048)
    snprintf(text, size, "w=%lld", (long long)n);
  for (int64_t i = 0; i < 50 && (int64_t)2048 << i <= n; i++) {
    int written = snprintf(text + used, size - used, i == 0 ? "w=%lld" : ";w=%lld,r=%lld",
                           (long long)2048 << i, 1LL << i);
    used += (size_t)written;
  }
}

bsd_problem bench_problem(const bench_options *options, const bench_case *item, int64_t n,
                          bsd_dtype dtype) {
  bsd_problem problem = {.struct_size = sizeof problem,
                         .batch = item->batch,
                         .length = n,
                         .heads = options->heads,
                         .kv_heads = options->kv_heads,
                         .head_dim = options->dim,
                         .dtype = dtype,
                         .causal = options->causal,
                         .block = options->common.block,
                         .cu_seqlens = options->cu_seqlens,
                         .documents = options->documents,
                         .layout = options->common.layout,
                         .allow_atomics = options->common.allow_atomics,
                         .allow_tf32 = options->common.allow_tf32};
  return problem;
}

/* ---- judging one configuration ----------------------------------------------------------- */

static int judge(const bench_options *options, int ranks, const bench_case *item,
                 cli_error *error) {
  int64_t n = item->n;
  if (options->scaling == BENCH_SCALING_WEAK && __builtin_mul_overflow(n, ranks, &n))
    return cli_fail(error, CLI_UNUSABLE, "--length %lld times %d ranks overflows", (long long)n,
                    ranks);
  bsd_dtype dtype = options->dtype < 0 ? BSD_F32 : (bsd_dtype)options->dtype;
  bsd_problem problem = bench_problem(options, item, n, dtype);
  bsd_task *task = NULL;
  bsd_error failure = {0};
  bsd_status status = bsd_task_create(item->pattern, &problem, &task, &failure);
  bsd_task_destroy(task);
  if (status != BSD_OK)
    return cli_fail_status(error, status, failure.message);
  return options->check ? bench_check_judge(item->pattern, item->text, error) : CLI_GOOD;
}

/* ---- making them ------------------------------------------------------------------------- */

static int format_pattern(bench_case *item, cli_error *error) {
  size_t needed = 0;
  bsd_pattern_format(item->pattern, NULL, 0, &needed);
  item->text = malloc(needed);
  if (item->text == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for a pattern's text");
  bsd_status status = bsd_pattern_format(item->pattern, item->text, needed, NULL);
  return status == BSD_OK ? CLI_GOOD : cli_fail_status(error, status, NULL);
}

/* Appends one configuration, whose pattern is parsed here. */
static int add_case(const bench_options *options, int ranks, int64_t n, int64_t batch,
                    const char *text, bench_cases *cases, cli_error *error) {
  bench_case *grown = realloc(cases->items, ((size_t)cases->count + 1) * sizeof *grown);
  if (grown == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for the configurations");
  cases->items = grown;
  bench_case *item = &cases->items[cases->count++];
  *item = (bench_case){.n = n, .batch = batch};
  bsd_error failure = {0};
  bsd_status status = bsd_pattern_parse(text, &item->pattern, &failure);
  if (status != BSD_OK)
    return cli_fail(error, cli_exit_code(status), "pattern '%s': %s", text, failure.message);
  int code = format_pattern(item, error);
  return code == CLI_GOOD ? judge(options, ranks, item, error) : code;
}

static int add_patterns(const bench_options *options, int ranks, int64_t n, int64_t batch,
                        bench_cases *cases, cli_error *error) {
  char longnet[LONGNET_TEXT];
  const char *single = default_pattern;
  const char *const *patterns = &single;
  int64_t count = 1;
  if (options->npatterns > 0) {
    patterns = (const char *const *)options->patterns;
    count = options->npatterns;
  } else if (options->preset == BENCH_PRESET_SEED) {
    patterns = seed_patterns;
    count = SEED_PATTERNS;
  } else if (options->preset == BENCH_PRESET_LONGNET) {
    bench_longnet(n, longnet, sizeof longnet);
    single = longnet;
  }
  int code = CLI_GOOD;
  for (int64_t i = 0; i < count && code == CLI_GOOD; i++)
    code = add_case(options, ranks, n, batch, patterns[i], cases, error);
  return code;
}

/* The batch of a length: the option's, else the seed preset's own for its lengths, else 1. */
static int64_t batch_of(const bench_options *options, int64_t n) {
  if (options->batch > 0)
    return options->batch;
  for (int i = 0; options->preset == BENCH_PRESET_SEED && i < SEED_SIZES; i++)
    if (seed_sizes[i].n == n)
      return options->cu_seqlens == NULL ? seed_sizes[i].batch : 1;
  return 1;
}

int bench_cases_create(const bench_options *options, int ranks, bench_cases *cases,
                       cli_error *error) {
  int64_t lengths[SEED_SIZES] = {default_length}, count = 1;
  const int64_t *values = lengths;
  *cases = (bench_cases){0};
  if (options->cu_seqlens != NULL)
    lengths[0] = options->cu_seqlens[options->documents];
  else if (options->lengths.count > 0) {
    values = options->lengths.values;
    count = options->lengths.count;
  } else if (options->preset == BENCH_PRESET_SEED)
    for (count = 0; count < SEED_SIZES; count++)
      lengths[count] = seed_sizes[count].n;
  int code = CLI_GOOD;
  for (int64_t i = 0; i < count && code == CLI_GOOD; i++)
    code = add_patterns(options, ranks, values[i], batch_of(options, values[i]), cases, error);
  return code;
}

void bench_cases_free(bench_cases *cases) {
  for (int64_t i = 0; i < cases->count; i++) {
    bsd_pattern_destroy(cases->items[i].pattern);
    free(cases->items[i].text);
  }
  free(cases->items);
  *cases = (bench_cases){0};
}
