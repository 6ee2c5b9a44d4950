/* bench_run.c - one configuration on the session's ranks: plan, tensors, times, check, hash, baseline. */
#include "bench/bench_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_baseline.h"
#include "bench/bench_check.h"
#include "bench/bench_hash.h"
#include "bench/bench_host.h"
#include "bench/bench_memory.h"
#include "bench/bench_tensors.h"
#include "bench/bench_time.h"
#include "bench/bench_trace.h"

static void copy_name(char *to, size_t size, const char *name) {
  snprintf(to, size, "%s", name != NULL ? name : "");
}

int bench_describe(const bench_session *session, const bench_case *item, const bsd_problem *problem,
                   const bsd_plan_statistics *stats, bench_result *r, cli_error *error) {
  const char *backward = stats->kernel_backward;
  bench_result_clear(r);
  r->n = problem->length;
  r->batch = problem->batch;
  r->heads = problem->heads;
  r->kv_heads = problem->kv_heads;
  r->dim = problem->head_dim;
  r->block = problem->block;
  r->dtype = problem->dtype;
  r->causal = problem->causal;
  r->ranks = stats->nranks;
  r->stages = stats->stages;
  r->density = stats->density;
  r->active_blocks = stats->active_blocks;
  r->active_pairs = stats->active_pairs;
  r->imbalance = stats->imbalance;
  if (session->options->pass & BENCH_FORWARD)
    r->predicted_forward_ms = stats->predicted_forward_ms;
  if (session->options->pass & BENCH_BACKWARD)
    r->predicted_backward_ms = stats->predicted_backward_ms;
  r->predicted_efficiency = stats->predicted_efficiency;
  copy_name(r->backend, sizeof r->backend, stats->backend);
  copy_name(r->kernel, sizeof r->kernel,
            session->options->pass == BENCH_BACKWARD && backward != NULL ? backward
                                                                         : stats->kernel);
  copy_name(r->transport, sizeof r->transport, stats->transport);
  copy_name(r->layout, sizeof r->layout, stats->layout);
  r->pattern = strdup(item->text);
  return r->pattern != NULL ? CLI_GOOD : cli_fail(error, CLI_FAILED, "no memory for a result");
}

static void take_traffic(int asked, const bsd_comm_stats *plan, bench_traffic *traffic) {
  if (!asked)
    return;
  traffic->bytes_lower_bound = plan->bytes_lower_bound;
  traffic->bytes_allgather = plan->bytes_allgather;
}

/* What grown_since compares with; -1 if growth cannot be told: on a GPU that ranks share it is everyone's. */
static int64_t memory_before(const bench_session *session) {
  const cli_world *world = session->world;
  if (!world->device.on_gpu)
    return bench_memory_restart_peak();
  return world->local_size > cli_device_count() ? -1 : cli_device_free_bytes(&world->device);
}

/* Growth of the resident peak, or of a GPU's memory (a run allocates nothing, so that now is its peak). */
static int64_t grown_since(const bench_session *session, int64_t before) {
  const cli_device *device = &session->world->device;
  if (before < 0)
    return -1;
  return device->on_gpu ? before - cli_device_free_bytes(device) : bench_memory_peak() - before;
}

/* The worst rank's memory and plan time. `grown` is what grown_since gave; on a GPU it is too little where another
 * program gave memory back meanwhile. */
static int take_worst(const bench_session *session, const bsd_plan_statistics *stats,
                      int64_t tensors, int64_t grown, bench_result *r, cli_error *error) {
  int64_t counted = tensors + stats->workspace_bytes + stats->plan_bytes;
  int is_told = grown >= (session->world->device.on_gpu ? counted : 0);
  double worst[] = {(double)tensors, (double)stats->workspace_bytes, (double)stats->plan_bytes,
                    (double)(is_told ? grown : counted), stats->plan_ms};
  int code = cli_max(session->world, worst, 5, error);
  r->memory_tensors = (int64_t)worst[0];
  r->memory_workspace = (int64_t)worst[1];
  r->memory_plan = (int64_t)worst[2];
  r->memory_peak = (int64_t)worst[3];
  r->plan_ms = worst[4];
  return code;
}

/* The oracle and the baseline take as long as they take, on one rank more than on another: that is no
 * exchange, so its deadline, which may be short, is not theirs. Returns the deadline to restore. */
static double be_patient(cli_world *world) {
  double deadline = world->deadline;
  world->deadline = fmax(deadline, 300);
  return deadline;
}

/* ---- the runs on one plan ---------------------------------------------------------------- */

/* What the backward of each set of tensors needs. */
static int forward_once(const bench_session *session, bsd_plan *plan, bench_tensors *tensors,
                        cli_error *error) {
  int code = CLI_GOOD;
  for (int64_t i = 0; i <= tensors->nothers && code == CLI_GOOD; i++)
    code = bench_pass(session, plan, bench_tensors_of_call(tensors, i), 1, error);
  return code;
}

static int time_pass(const bench_session *session, bsd_plan *plan, bench_tensors *tensors,
                     int forward, double flops, bench_result *r, cli_error *error) {
  bench_timing *timing = forward ? &r->forward : &r->backward;
  bench_traffic *traffic = forward ? &r->traffic_forward : &r->traffic_backward;
  int code = bench_time(session, plan, tensors, forward, flops, timing, traffic, error);
  if (code == CLI_GOOD)
    code = bench_host_run(session, plan, tensors, forward, timing->ms,
                          forward ? &r->host_forward : &r->host_backward, error);
  if (code == CLI_GOOD)
    code = bench_trace_run(session, plan, tensors, forward, traffic, &r->trace, error);
  return code;
}

static int time_passes(const bench_session *session, bsd_plan *plan, bench_tensors *tensors,
                       const bsd_plan_statistics *stats, bench_result *r, cli_error *error) {
  int pass = session->options->pass, code;
  take_traffic(pass & BENCH_FORWARD, &stats->forward, &r->traffic_forward);
  take_traffic(pass & BENCH_BACKWARD, &stats->backward, &r->traffic_backward);
  if (pass & BENCH_FORWARD)
    code = time_pass(session, plan, tensors, 1, stats->flops_forward, r, error);
  else
    code = cli_agree(session->world, forward_once(session, plan, tensors, error), error);
  if (code == CLI_GOOD && (pass & BENCH_BACKWARD))
    code = time_pass(session, plan, tensors, 0, stats->flops_backward, r, error);
  return code;
}

static int run_plan(const bench_session *session, const bench_case *item,
                    const bsd_problem *problem, bsd_plan *plan, int64_t before, bench_result *r,
                    cli_error *error) {
  const bench_options *o = session->options;
  int backward = (o->pass & BENCH_BACKWARD) != 0;
  bsd_plan_statistics stats = {.struct_size = sizeof stats};
  bench_tensors tensors = {0};
  bsd_status status = bsd_plan_stats(plan, &stats);
  int code = status == BSD_OK ? CLI_GOOD : cli_fail_status(error, status, NULL);
  if (code == CLI_GOOD)
    code = bench_describe(session, item, problem, &stats, r, error);
  if (code == CLI_GOOD)
    code = bench_tensors_create(&session->world->device, plan, problem, o->seed, backward, &tensors,
                                error);
  if (code == CLI_GOOD && o->cold)
    code = bench_tensors_add_sets(plan, problem, o->seed, backward, &tensors, error);
  code = cli_agree(session->world, code, error);
  if (code == CLI_GOOD)
    code = time_passes(session, plan, &tensors, &stats, r, error);
  if (code == CLI_GOOD)
    code = take_worst(session, &stats, tensors.bytes, grown_since(session, before), r, error);
  if (code == CLI_GOOD && o->check) {
    double deadline = be_patient(session->world);
    code = bench_check_run(session, item, plan, problem, &tensors, &stats, &r->check, error);
    session->world->deadline = deadline;
  }
  if (code == CLI_GOOD && o->hash) {
    code = bench_hash(session, plan, problem, &tensors, backward, &r->hash, error);
    r->has_hash = 1;
  }
  bench_tensors_free(&tensors);
  return code;
}

/* ---- the baseline ------------------------------------------------------------------------ */

static int take_baseline(const bench_session *session, int64_t n, int64_t batch,
                         bench_baseline_memo *memo, bench_baseline *baseline, cli_error *error) {
  if (session->dense == NULL)
    return CLI_GOOD;
  if (memo->n != n || memo->batch != batch) {
    double deadline = be_patient(session->world);
    int code = bench_baseline_run(session, n, batch, &memo->value, error);
    session->world->deadline = deadline;
    if (code != CLI_GOOD)
      return code;
    memo->n = n;
    memo->batch = batch;
  }
  *baseline = memo->value;
  return CLI_GOOD;
}

int bench_run(const bench_session *session, const bench_case *item, int64_t n,
              bench_baseline_memo *memo, bench_result *result, cli_error *error) {
  bsd_problem problem = bench_problem(session->options, item, n, session->dtype);
  bsd_plan *plan = NULL;
  int64_t before = memory_before(session);
  bench_progress_show(session->progress, "plan", 0, 1);
  bsd_status status = bsd_plan_create(session->context, item->pattern, &problem, &plan);
  int code = CLI_GOOD;
  if (status != BSD_OK)
    code = cli_library_failed(session->world, session->context, status, error);
  code = cli_agree(session->world, code, error);
  if (code == CLI_GOOD)
    code = run_plan(session, item, &problem, plan, before, result, error);
  bsd_plan_destroy(plan);
  if (code == CLI_GOOD)
    code = take_baseline(session, n, item->batch, memo, &result->baseline, error);
  return code;
}
