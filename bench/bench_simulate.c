/* bench_simulate.c - the plans that P ranks would make, made here one after the other, and what they predict.
 *
 *  1. the layout is chosen once (auto looks at a sample of the ranks) and then asked for by name
 *  2. up to ALL ranks are planned each; of more, SAMPLE at equal distances and the last, and from the worst of
 *     these, by predicted time and by bytes, the search goes on between its neighbours
 *  3. the way of cutting the exchange into stages that is best for the worst rank is taken
 * At any time one rank's plan is in memory. */
#include "bench/bench_simulate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bench/bench_memory.h"
#include "bench/bench_run.h"
#include "bench/bench_time.h"
#include "src/memory.h"
#include "src/plan.h"

enum { ALL = 256, SAMPLE = 64 };
static const double enough_seconds = 120; /* after them no more ranks are planned */

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* What ranks are judged by when the worst one is sought. */
enum { BY_TIME, BY_BYTES, CRITERIA };

/* What the planned ranks gave: sums, and the worst of them. */
typedef struct simulated {
  bsd_totals totals; /* of the sample */
  bsd_totals worst;  /* maxima of all that were planned */
  int64_t sought;    /* ranks planned beside the sample */
  int64_t tensors, workspace, plan_bytes;
  double plan_ms;
  double value[CRITERIA]; /* of the worst rank of the sample */
  int64_t rank[CRITERIA];
} simulated;

/* One simulation: P ranks of a problem, on the processes of a session. */
typedef struct simulation {
  const bench_session *session;
  const bench_case *item;
  bsd_problem problem;
  int nranks;
  simulated found;
} simulation;

static int64_t tensor_bytes(const simulation *s, int64_t tokens) {
  const bsd_problem *p = &s->problem;
  int backward = (s->session->options->pass & BENCH_BACKWARD) != 0;
  int64_t row = p->head_dim * (int64_t)cli_dtype_size(p->dtype) * (backward ? 4 : 2);
  return p->batch * tokens * (row * (p->heads + p->kv_heads) + 4 * p->heads);
}

/* The rank's least predicted time of both passes, and the bytes that it receives. */
static void judge_rank(const bsd_rank_figures *f, int nranks, double value[CRITERIA]) {
  bsd_stages options[BSD_STAGE_OPTIONS];
  int n = bsd_stage_options(nranks, options), o;
  value[BY_TIME] = INFINITY;
  for (o = 0; o < n; o++)
    value[BY_TIME] = fmin(value[BY_TIME], f->forecast.seconds[o][BSD_FORWARD] +
                                              f->forecast.seconds[o][BSD_BACKWARD]);
  value[BY_BYTES] = (double)bsd_max(f->received[BSD_FORWARD], f->received[BSD_BACKWARD]);
}

/* ---- one rank ---------------------------------------------------------------------------- */

static int take_plan(simulation *s, const bsd_plan *plan, int sampled, double value[CRITERIA],
                     cli_error *error) {
  simulated *f = &s->found;
  bsd_rank_figures figures;
  bsd_error failure = {0};
  bsd_status status = bsd_rank_figures_of(&plan->cost, plan->share, &plan->schedule,
                                          &plan->arrivals, &figures, &failure);
  if (status != BSD_OK)
    return cli_fail_status(error, status, failure.message);
  if (!bsd_schedule_is_valid(&plan->schedule, plan->share))
    return cli_fail(error, CLI_FAILED, "the schedule of rank %d of %d breaks its invariant",
                    plan->rank, plan->nranks);
  if (sampled)
    bsd_totals_add_rank(&f->totals, &figures);
  f->sought += !sampled;
  bsd_totals_add_rank(&f->worst, &figures);
  f->tensors = bsd_max(f->tensors, tensor_bytes(s, plan->local_length));
  f->workspace = bsd_max(f->workspace, plan->map.bytes);
  f->plan_bytes = bsd_max(f->plan_bytes, plan->share->bytes);
  f->plan_ms = fmax(f->plan_ms, plan->plan_ms);
  judge_rank(&figures, s->nranks, value);
  return CLI_GOOD;
}

static int plan_rank(simulation *s, int64_t rank, int sampled, double value[CRITERIA],
                     cli_error *error) {
  bsd_context *context = s->session->context;
  bsd_plan *plan = NULL;
  bsd_status status =
      bsd_plan_create_offline(context, s->item->pattern, &s->problem, (int)rank, s->nranks, &plan);
  if (status != BSD_OK)
    return cli_library_failed(s->session->world, context, status, error);
  int code = take_plan(s, plan, sampled, value, error);
  bsd_plan_destroy(plan);
  return code;
}

/* ---- all, or a sample -------------------------------------------------------------------- */

/* The x-th rank of the order 0, P-1, then x's bits reversed; -1 if x stands for none. */
static int64_t rank_of(int64_t x, int bits, int64_t nranks) {
  if (x < 2)
    return x == 0 ? 0 : nranks > 1 ? nranks - 1 : -1;
  int64_t rank = 0;
  for (int bit = 0; bit < bits; bit++)
    rank |= ((x - 1) >> bit & 1) << (bits - 1 - bit);
  return rank < nranks - 1 ? rank : -1;
}

static int64_t sample_distance(const simulation *s) {
  return s->nranks <= ALL ? 1 : bsd_ceil_div(s->nranks, SAMPLE);
}

/* This process's part of the ranks at multiples of the distance, and the last. */
static int plan_sample(simulation *s, cli_error *error) {
  const cli_world *world = s->session->world;
  simulated *f = &s->found;
  double start = now();
  int64_t distance = sample_distance(s), places = bsd_ceil_div(s->nranks - 1, distance) + 1;
  int bits = 0, code = CLI_GOOD;
  int64_t turn = 0;
  while ((int64_t)1 << bits < places)
    bits++;
  for (int64_t x = 0; x <= (int64_t)1 << bits && code == CLI_GOOD; x++) {
    int64_t place = rank_of(x, bits, places), rank = bsd_min(place * distance, s->nranks - 1);
    double value[CRITERIA];
    if (place < 0 || turn++ % world->size != world->rank)
      continue;
    if (f->totals.counted >= 3 && now() - start > enough_seconds)
      break;
    bench_progress_show(s->session->progress, "plan", turn, places);
    code = plan_rank(s, rank, 1, value, error);
    for (int c = 0; c < CRITERIA && code == CLI_GOOD; c++)
      if (f->totals.counted == 1 || value[c] > f->value[c]) {
        f->value[c] = value[c];
        f->rank[c] = rank;
      }
  }
  return code;
}

/* From the worst rank of the sample on: of its two neighbours at half the distance the worse one, if it is
 * worse. Every process does the same. */
static int seek_worst(simulation *s, int criterion, cli_error *error) {
  double best = s->found.value[criterion];
  int64_t at = s->found.rank[criterion];
  int code = CLI_GOOD;
  for (int64_t d = sample_distance(s) / 2; d > 0; d /= 2) {
    int64_t around[2] = {at - d, at + d};
    for (int i = 0; i < 2 && code == CLI_GOOD; i++) {
      double value[CRITERIA];
      if (around[i] < 0 || around[i] >= s->nranks)
        continue;
      code = plan_rank(s, around[i], 0, value, error);
      if (code == CLI_GOOD && value[criterion] > best) {
        best = value[criterion];
        at = around[i];
      }
    }
  }
  return code;
}

/* ---- over the processes ------------------------------------------------------------------ */

static int sum_reals(cli_world *world, double *values, int count, cli_error *error) {
  double *all = calloc((size_t)(world->size * count), sizeof *all);
  if (all == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for sums over %d ranks", world->size);
  int code = cli_allgather(world, values, (int)sizeof *values * count, all, error);
  for (int c = 0; c < count; c++) {
    values[c] = 0;
    for (int i = 0; i < world->size; i++)
      values[c] += all[i * count + c];
  }
  free(all);
  return code;
}

static int sum_sample(const simulation *s, bsd_totals *t, cli_error *error) {
  int64_t *sums[] = {&t->counted, &t->pairs, &t->active_blocks, &t->received[BSD_FORWARD],
                     &t->received[BSD_BACKWARD]};
  int code = CLI_GOOD;
  for (int i = 0; i < 5 && code == CLI_GOOD; i++)
    code = bench_sum(s->session->world, *sums[i], sums[i], error);
  return code == CLI_GOOD ? sum_reals(s->session->world, t->compute, 2, error) : code;
}

/* The worst rank of all processes' samples. */
static int find_worst(simulation *s, cli_error *error) {
  cli_world *world = s->session->world;
  simulated *all = calloc((size_t)world->size, sizeof *all);
  if (all == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for the figures of %d ranks", world->size);
  int code = cli_allgather(world, &s->found, sizeof s->found, all, error);
  for (int c = 0; c < CRITERIA; c++)
    s->found.value[c] = -1;
  for (int i = 0; i < world->size && code == CLI_GOOD; i++)
    for (int c = 0; c < CRITERIA; c++)
      if (all[i].totals.counted > 0 && all[i].value[c] > s->found.value[c]) {
        s->found.value[c] = all[i].value[c];
        s->found.rank[c] = all[i].rank[c];
      }
  free(all);
  return code;
}

static int take_maxima(simulation *s, cli_error *error) {
  simulated *f = &s->found;
  bsd_totals *t = &f->worst;
  double *seconds = &t->seconds_worst[0][0];
  int64_t *most[] = {&f->tensors,
                     &f->workspace,
                     &f->plan_bytes,
                     &t->pairs_worst,
                     &t->received_worst[BSD_FORWARD],
                     &t->received_worst[BSD_BACKWARD]};
  int code = CLI_GOOD;
  for (int i = 0; i < 6 && code == CLI_GOOD; i++) {
    double value = (double)*most[i];
    code = cli_max(s->session->world, &value, 1, error);
    *most[i] = (int64_t)value;
  }
  if (code == CLI_GOOD)
    code = cli_max(s->session->world, seconds, 2 * BSD_STAGE_OPTIONS, error);
  return code == CLI_GOOD ? cli_max(s->session->world, &f->plan_ms, 1, error) : code;
}

static int plan_ranks(simulation *s, cli_error *error) {
  const cli_world *world = s->session->world;
  int code = cli_agree(s->session->world, plan_sample(s, error), error);
  if (code == CLI_GOOD)
    code = find_worst(s, error);
  if (code == CLI_GOOD && world->size > 1)
    code = sum_sample(s, &s->found.totals, error);
  for (int c = 0; c < CRITERIA && code == CLI_GOOD; c++)
    code = cli_agree(s->session->world, seek_worst(s, c, error), error);
  return code == CLI_GOOD ? take_maxima(s, error) : code;
}

/* ---- the layout -------------------------------------------------------------------------- */

/* Names the layout that rank 0's plan takes, and describes the plan. */
static int choose_layout(simulation *s, bench_result *r, cli_error *error) {
  const bench_session *session = s->session;
  bsd_plan *plan = NULL;
  bsd_status status =
      bsd_plan_create_offline(session->context, s->item->pattern, &s->problem, 0, s->nranks, &plan);
  if (status != BSD_OK)
    return cli_library_failed(session->world, session->context, status, error);
  bsd_plan_statistics stats = {.struct_size = sizeof stats,
                               .nranks = s->nranks,
                               .density = NAN,
                               .imbalance = NAN,
                               .active_blocks = -1,
                               .active_pairs = -1,
                               .backend = plan->context->backend->name,
                               .kernel = plan->kernels->forward_name,
                               .kernel_backward = plan->kernels->backward_name,
                               .transport = "",
                               .layout = plan->layout_text};
  int code = bench_describe(session, s->item, &s->problem, &stats, r, error);
  if (code == CLI_GOOD)
    code = cli_parse_layout(plan->layout_text, &s->problem.layout, error);
  bsd_plan_destroy(plan);
  return code;
}

/* ---- figures ----------------------------------------------------------------------------- */

/* Sums over the sample as sums over all ranks. */
static int64_t scaled(const simulation *s, int64_t sum) {
  return bsd_totals_scaled(&s->found.totals, sum, s->nranks);
}

static void take_memory(const simulation *s, bench_result *r) {
  const simulated *f = &s->found;
  r->memory_tensors = f->tensors;
  r->memory_workspace = f->workspace;
  r->memory_plan = f->plan_bytes;
  r->memory_peak = f->tensors + f->workspace + f->plan_bytes;
  r->plan_ms = f->plan_ms;
}

static void take_traffic(const simulation *s, bench_result *r) {
  const bsd_problem *p = &s->problem;
  const bsd_totals *t = &s->found.totals, *worst = &s->found.worst;
  int64_t share = (int64_t)(s->nranks - 1) * p->length * p->kv_heads * 2 * p->head_dim * p->batch;
  r->bytes_received_worst =
      bsd_max(worst->received_worst[BSD_FORWARD], worst->received_worst[BSD_BACKWARD]);
  r->traffic_forward.bytes_lower_bound = scaled(s, t->received[BSD_FORWARD]);
  r->traffic_backward.bytes_lower_bound = scaled(s, t->received[BSD_BACKWARD]);
  r->traffic_forward.bytes_allgather = share * (int64_t)cli_dtype_size(p->dtype);
  r->traffic_backward.bytes_allgather = r->traffic_forward.bytes_allgather + 4 * share;
}

/* The stages that are best for the worst rank, and what they predict. */
static void take_prediction(const simulation *s, bench_result *r) {
  const bsd_totals *t = &s->found.totals, *worst = &s->found.worst;
  bsd_stages options[BSD_STAGE_OPTIONS];
  int n = bsd_stage_options(s->nranks, options), best = 0, o;
  double mean[2], time[2];
  for (o = 1; o < n; o++)
    if (worst->seconds_worst[o][0] + worst->seconds_worst[o][1] <
        worst->seconds_worst[best][0] + worst->seconds_worst[best][1])
      best = o;
  for (int pass = BSD_FORWARD; pass <= BSD_BACKWARD; pass++) {
    mean[pass] = t->compute[pass] / (double)t->counted;
    time[pass] = worst->seconds_worst[best][pass];
  }
  r->stages = worst->received_worst[BSD_BACKWARD] > 0 ? options[best].count : 1;
  r->predicted_forward_ms = 1e3 * time[BSD_FORWARD];
  r->predicted_backward_ms = 1e3 * time[BSD_BACKWARD];
  r->predicted_efficiency =
      (mean[BSD_FORWARD] + mean[BSD_BACKWARD]) / (time[BSD_FORWARD] + time[BSD_BACKWARD]);
  if (s->session->options->scaling == BENCH_SCALING_STRONG) {
    r->efficiency_forward = mean[BSD_FORWARD] / time[BSD_FORWARD];
    r->efficiency_backward = mean[BSD_BACKWARD] / time[BSD_BACKWARD];
  }
}

/* Rate per rank over that of one rank with a P-th of the tokens. */
static int take_weak(const simulation *s, bench_result *r, cli_error *error) {
  simulation one = {.session = s->session, .item = s->item, .problem = s->problem, .nranks = 1};
  double value[CRITERIA];
  one.problem.length = s->item->n;
  int code = plan_rank(&one, 0, 1, value, error);
  if (code != CLI_GOOD)
    return code;
  double pairs = (double)s->found.totals.pairs / (double)s->found.totals.counted;
  double work = pairs / (double)one.found.totals.pairs;
  r->efficiency_forward =
      work * one.found.totals.compute[BSD_FORWARD] / (1e-3 * r->predicted_forward_ms);
  r->efficiency_backward =
      work * one.found.totals.compute[BSD_BACKWARD] / (1e-3 * r->predicted_backward_ms);
  return CLI_GOOD;
}

static void take(const simulation *s, double pairs_per_head, bench_result *r) {
  const bsd_totals *t = &s->found.totals, *worst = &s->found.worst;
  if (s->session->options->scaling != BENCH_SCALING_NONE)
    snprintf(r->scaling, sizeof r->scaling, "%s",
             s->session->options->scaling == BENCH_SCALING_WEAK ? "weak" : "strong");
  r->planned_ranks = t->counted + s->found.sought;
  r->imbalance =
      t->pairs == 0 ? 1 : (double)worst->pairs_worst * (double)t->counted / (double)t->pairs;
  r->active_pairs = scaled(s, t->pairs);
  r->active_blocks = scaled(s, t->active_blocks);
  r->density = (double)r->active_pairs / ((double)s->problem.heads * pairs_per_head);
  take_memory(s, r);
  take_traffic(s, r);
  take_prediction(s, r);
}

static int pairs_of(const bench_case *item, const bsd_problem *problem, double *pairs,
                    cli_error *error) {
  bsd_task *task = NULL;
  bsd_error failure = {0};
  bsd_status status = bsd_task_create(item->pattern, problem, &task, &failure);
  if (status != BSD_OK)
    return cli_fail_status(error, status, failure.message);
  *pairs = bsd_task_pairs_per_head(task);
  bsd_task_destroy(task);
  return CLI_GOOD;
}

int bench_simulate(const bench_session *session, const bench_case *item, int nranks,
                   bench_result *result, cli_error *error) {
  int weak = session->options->scaling == BENCH_SCALING_WEAK;
  int64_t n = weak ? item->n * nranks : item->n, before = bench_memory_restart_peak();
  simulation s = {.session = session,
                  .item = item,
                  .problem = bench_problem(session->options, item, n, session->dtype),
                  .nranks = nranks};
  double pairs = 0, start = now();
  int code = pairs_of(item, &s.problem, &pairs, error);
  if (code == CLI_GOOD)
    code = choose_layout(&s, result, error);
  code = cli_agree(session->world, code, error);
  if (code == CLI_GOOD)
    code = plan_ranks(&s, error);
  if (code == CLI_GOOD)
    take(&s, pairs, result);
  if (code == CLI_GOOD && weak)
    code = take_weak(&s, result, error);
  result->simulation_seconds = now() - start;
  result->simulation_bytes = before < 0 ? -1 : bench_memory_peak() - before;
  return cli_agree(session->world, code, error);
}
