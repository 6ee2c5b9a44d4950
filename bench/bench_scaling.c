/* bench_scaling.c - one configuration on 1, 2, 4, ... of the ranks, and how well they are used. */
#include "bench/bench_scaling.h"

#include <stdio.h>

#include "bench/bench_run.h"

/* Ranks without a part wait for those that run, however long that takes. */
static const double patience_seconds = 1e9;

/* Runs on the ranks of one part with a context of their own. */
static int run_part(const bench_session *session, cli_world *part, const bench_case *item,
                    bench_result *result, cli_error *error) {
  bench_session own = *session;
  bench_baseline_memo memo = {0};
  int64_t n = item->n;
  own.world = part;
  own.context = NULL;
  if (session->options->scaling == BENCH_SCALING_WEAK)
    n *= part->size;
  int code = cli_context_create(&session->options->common, part, &own.context, error);
  if (code != CLI_GOOD)
    return code;
  code = bench_run(&own, item, n, &memo, result, error);
  cli_context_destroy(part, own.context);
  return code;
}

/* Every rank leaves together; a broken part breaks the world. */
static int meet(cli_world *world, const cli_world *part, int code, cli_error *error) {
  double deadline = world->deadline;
  world->broken |= part->broken;
  world->deadline = patience_seconds;
  code = cli_agree(world, code, error);
  world->deadline = deadline;
  return code;
}

static int run_on(const bench_session *session, const bench_case *item, int ranks,
                  bench_result *one, bench_report *report, cli_error *error) {
  cli_world part;
  bench_result result;
  bench_result_clear(&result);
  int code = cli_split(session->world, ranks, &part, error);
  if (code != CLI_GOOD)
    return code;
  if (part.size > 0)
    code = run_part(session, &part, item, &result, error);
  code = meet(session->world, &part, code, error);
  cli_split_end(&part);
  if (code == CLI_GOOD && report->active) {
    if (ranks == 1) {
      one->forward = result.forward;
      one->backward = result.backward;
    }
    snprintf(result.scaling, sizeof result.scaling, "%s",
             session->options->scaling == BENCH_SCALING_WEAK ? "weak" : "strong");
    result.efficiency_forward = result.forward.tflops / ranks / one->forward.tflops;
    result.efficiency_backward = result.backward.tflops / ranks / one->backward.tflops;
    bench_progress_clear(session->progress);
    code = bench_report_add(report, &result, error);
  }
  bench_result_free(&result);
  return cli_agree(session->world, code, error);
}

int bench_scaling_run(const bench_session *session, const bench_case *item, bench_report *report,
                      cli_error *error) {
  bench_result one;
  int code = CLI_GOOD, all = session->world->size;
  bench_result_clear(&one);
  for (int ranks = 1; code == CLI_GOOD; ranks = ranks * 2 < all ? ranks * 2 : all) {
    code = run_on(session, item, ranks, &one, report, error);
    if (ranks == all)
      break;
  }
  return code;
}
