/* attend_stats.c - prints what the plan says of itself, with the keys of bsd_bench's results. */
#include "examples/attend_stats.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static json_t *exchange_json(const bsd_comm_stats *comm) {
  return json_pack("{s:n, s:I, s:I, s:n, s:n}", "bytes_moved", "bytes_lower_bound",
                   (json_int_t)comm->bytes_lower_bound, "bytes_allgather",
                   (json_int_t)comm->bytes_allgather, "exposed_ms", "overlap");
}

static json_t *stats_json(const char *pattern, const bsd_problem *problem,
                          const bsd_plan_statistics *stats, double plan_ms) {
  return json_pack(
      "{s:I, s:I, s:I, s:I, s:I, s:s, s:b, s:s, s:I, s:f, s:I, s:i, s:s, s:s, s:s, s:s,"
      " s:{s:o, s:o}, s:f, s:f}",
      "n", (json_int_t)problem->length, "batch", (json_int_t)problem->batch, "heads",
      (json_int_t)problem->heads, "kv_heads", (json_int_t)problem->kv_heads, "dim",
      (json_int_t)problem->head_dim, "dtype", cli_dtype_name(problem->dtype), "causal",
      problem->causal, "pattern", pattern, "block", (json_int_t)problem->block, "density",
      stats->density, "active_blocks", (json_int_t)stats->active_blocks, "ranks", stats->nranks,
      "backend", stats->backend, "kernel", stats->kernel, "transport", stats->transport, "layout",
      stats->layout, "comm", "fwd", exchange_json(&stats->forward), "bwd",
      exchange_json(&stats->backward), "imbalance", stats->imbalance, "plan_ms", plan_ms);
}

/* The pattern's canonical text, for free(); NULL if there is no memory for it. */
static char *pattern_text(const bsd_pattern *pattern) {
  size_t needed = 0;
  bsd_pattern_format(pattern, NULL, 0, &needed);
  char *text = needed > 0 ? malloc(needed) : NULL;
  if (text != NULL && bsd_pattern_format(pattern, text, needed, NULL) != BSD_OK) {
    free(text);
    text = NULL;
  }
  return text;
}

static int print_line(const bsd_pattern *pattern, const bsd_problem *problem,
                      const bsd_plan_statistics *stats, double plan_ms, cli_error *error) {
  char *text = pattern_text(pattern);
  json_t *json = text != NULL ? stats_json(text, problem, stats, plan_ms) : NULL;
  char *line = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
  if (line != NULL)
    puts(line); /* cli_finish sees whether it could be written */
  free(line);
  json_decref(json);
  free(text);
  return line != NULL ? CLI_GOOD : cli_fail(error, CLI_FAILED, "no memory for the stats");
}

int attend_print_stats(cli_world *world, const bsd_pattern *pattern, const bsd_problem *problem,
                       const bsd_plan *plan, cli_error *error) {
  bsd_plan_statistics stats = {.struct_size = sizeof stats};
  bsd_status status = bsd_plan_stats(plan, &stats);
  int code = status == BSD_OK ? CLI_GOOD
                              : cli_fail_status(error, status, "the plan does not tell its stats");
  code = cli_agree(world, code, error);
  double plan_ms = stats.plan_ms;
  if (code == CLI_GOOD)
    code = cli_max(world, &plan_ms, 1, error);
  if (code == CLI_GOOD && world->rank == 0)
    code = print_line(pattern, problem, &stats, plan_ms, error);
  return cli_agree(world, code, error);
}
