/* bench_simulate.c - the plans that P ranks would make, made here one after the other.
 *
 *  1. the layout is chosen once (auto looks at a sample of the ranks) and then asked for by name
 *  2. ranks are planned in the order 0, P-1, then halving the gaps, until all are done or time is up
 *  3. sums are given only if every rank was planned */
#include "bench/bench_simulate.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "bench/bench_run.h"
#include "bench/bench_time.h"
#include "src/memory.h"
#include "src/plan.h"

static const double enough_seconds = 120;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* What the planned ranks gave: sums, and the worst of them. */
typedef struct simulated {
  bsd_totals totals;
  int64_t planned, tensors, workspace, plan_bytes;
  double plan_ms;
} simulated;

static int64_t tensor_bytes(const bench_session *session, const bsd_problem *p, int64_t tokens) {
  int backward = (session->options->pass & BENCH_BACKWARD) != 0;
  int64_t row = p->head_dim * (int64_t)cli_dtype_size(p->dtype) * (backward ? 4 : 2);
  return p->batch * tokens * (row * (p->heads + p->kv_heads) + 4 * p->heads);
}

static void add_plan(const bench_session *session, const bsd_problem *problem, const bsd_plan *plan,
                     simulated *s) {
  bsd_rank_figures figures;
  bsd_rank_figures_of(&plan->cost, plan->share, &plan->schedule, &plan->arrivals, &figures, NULL);
  bsd_totals_add_rank(&s->totals, &figures);
  s->planned++;
  s->tensors = bsd_max(s->tensors, tensor_bytes(session, problem, plan->local_length));
  s->workspace = bsd_max(s->workspace, plan->map.bytes);
  s->plan_bytes = bsd_max(s->plan_bytes, plan->share->bytes);
  s->plan_ms = fmax(s->plan_ms, plan->plan_ms);
}

/* The x-th rank of the order, -1 if x stands for none: 0, P-1, then x's bits reversed. */
static int64_t rank_of(int64_t x, int bits, int64_t nranks) {
  if (x < 2)
    return x == 0 ? 0 : nranks > 1 ? nranks - 1 : -1;
  int64_t rank = 0;
  for (int bit = 0; bit < bits; bit++)
    rank |= ((x - 1) >> bit & 1) << (bits - 1 - bit);
  return rank < nranks - 1 ? rank : -1;
}

/* This process's part of the order. */
static bsd_status plan_ranks(const bench_session *session, const bench_case *item,
                             const bsd_problem *problem, int nranks, simulated *s) {
  double start = now();
  int bits = 0;
  int64_t turn = 0;
  while ((int64_t)1 << bits < nranks)
    bits++;
  for (int64_t x = 0; x <= (int64_t)1 << bits; x++) {
    int64_t rank = rank_of(x, bits, nranks);
    if (rank < 0 || turn++ % session->world->size != session->world->rank)
      continue;
    if (s->planned >= 3 && now() - start > enough_seconds)
      break;
    bench_progress_show(session->progress, "plan", turn, nranks);
    bsd_plan *plan = NULL;
    BSD_TRY(bsd_plan_create_offline(session->context, item->pattern, problem, (int)rank, nranks,
                                    &plan));
    add_plan(session, problem, plan, s);
    bsd_plan_destroy(plan);
  }
  return BSD_OK;
}

/* Sums and maxima over the processes, in place. */
static int reduce(const bench_session *session, simulated *s, cli_error *error) {
  int64_t *sums[] = {&s->planned, &s->totals.pairs, &s->totals.active_blocks,
                     &s->totals.received[BSD_FORWARD], &s->totals.received[BSD_BACKWARD]};
  int64_t *most[] = {&s->tensors,
                     &s->workspace,
                     &s->plan_bytes,
                     &s->totals.pairs_worst,
                     &s->totals.received_worst[BSD_FORWARD],
                     &s->totals.received_worst[BSD_BACKWARD]};
  int code = CLI_GOOD;
  for (int i = 0; i < 5 && code == CLI_GOOD; i++)
    code = bench_sum(session->world, *sums[i], sums[i], error);
  for (int i = 0; i < 6 && code == CLI_GOOD; i++) {
    double value = (double)*most[i];
    code = cli_max(session->world, &value, 1, error);
    *most[i] = (int64_t)value;
  }
  return code == CLI_GOOD ? cli_max(session->world, &s->plan_ms, 1, error) : code;
}

/* Names the layout that rank 0's plan takes, and describes the plan. */
static int choose_layout(const bench_session *session, const bench_case *item, int nranks,
                         bsd_problem *problem, bench_result *r, cli_error *error) {
  bsd_plan *plan = NULL;
  bsd_status status =
      bsd_plan_create_offline(session->context, item->pattern, problem, 0, nranks, &plan);
  if (status != BSD_OK)
    return cli_library_failed(session->world, session->context, status, error);
  bsd_plan_statistics stats = {.struct_size = sizeof stats,
                               .nranks = nranks,
                               .stages = plan->schedule.stages,
                               .density = NAN,
                               .imbalance = NAN,
                               .active_blocks = -1,
                               .active_pairs = -1,
                               .backend = plan->context->backend->name,
                               .kernel = plan->kernels->forward_name,
                               .kernel_backward = plan->kernels->backward_name,
                               .transport = "",
                               .layout = plan->layout_text};
  int code = bench_describe(session, item, problem, &stats, r, error);
  if (code == CLI_GOOD)
    code = cli_parse_layout(plan->layout_text, &problem->layout, error);
  bsd_plan_destroy(plan);
  return code;
}

static void take(const bsd_problem *problem, int nranks, const simulated *s, double pairs_per_head,
                 bench_result *r) {
  int64_t share = (int64_t)(nranks - 1) * problem->length * problem->kv_heads * 2 *
                  problem->head_dim * problem->batch;
  r->planned_ranks = s->planned;
  r->memory_tensors = s->tensors;
  r->memory_workspace = s->workspace;
  r->memory_plan = s->plan_bytes;
  r->memory_peak = s->tensors + s->workspace + s->plan_bytes;
  r->plan_ms = s->plan_ms;
  r->bytes_received_worst =
      bsd_max(s->totals.received_worst[BSD_FORWARD], s->totals.received_worst[BSD_BACKWARD]);
  r->imbalance = s->totals.pairs == 0
                     ? 1
                     : (double)s->totals.pairs_worst * (double)s->planned / (double)s->totals.pairs;
  if (s->planned < nranks)
    return;
  r->active_pairs = s->totals.pairs;
  r->active_blocks = s->totals.active_blocks;
  r->density = (double)s->totals.pairs / ((double)problem->heads * pairs_per_head);
  r->traffic_forward.bytes_lower_bound = s->totals.received[BSD_FORWARD];
  r->traffic_backward.bytes_lower_bound = s->totals.received[BSD_BACKWARD];
  r->traffic_forward.bytes_allgather = share * (int64_t)cli_dtype_size(problem->dtype);
  r->traffic_backward.bytes_allgather = r->traffic_forward.bytes_allgather + 4 * share;
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
  bsd_problem problem = bench_problem(session->options, item, item->n, session->dtype);
  simulated s = {0};
  double pairs = 0;
  int code = pairs_of(item, &problem, &pairs, error);
  if (code == CLI_GOOD)
    code = choose_layout(session, item, nranks, &problem, result, error);
  if (code == CLI_GOOD) {
    bsd_status status = plan_ranks(session, item, &problem, nranks, &s);
    if (status != BSD_OK)
      code = cli_library_failed(session->world, session->context, status, error);
  }
  code = cli_agree(session->world, code, error);
  if (code == CLI_GOOD)
    code = reduce(session, &s, error);
  if (code == CLI_GOOD)
    take(&problem, nranks, &s, pairs, result);
  return code;
}
