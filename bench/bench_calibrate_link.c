/* bench_calibrate_link.c - the constants of the links between the session's ranks.
 *
 * In a pattern of dilated blocks whose distance is a rank's share, every row waits for whole shares of other
 * ranks: nothing runs meanwhile, and the time from posting to the last arrival is the exchange's own. */
#include "bench/bench_calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_fit.h"
#include "bench/bench_tensors.h"
#include "bench/bench_time.h"

static const int64_t rank_tokens[] = {64, 256, 1024, 4096, 16384};
enum { SIZES = sizeof rank_tokens / sizeof *rank_tokens, REACHES = 2, RUNS = 9, TEXT = 160 };

/* A link being measured: ranks at multiples of `distance` exchange, inside segments of `ranks` ranks. */
typedef struct probing {
  const bench_session *session; /* its options are those of the probes */
  const char *name;
  int64_t distance, ranks;
  FILE *lines;
} probing;

static void write_pattern(const probing *p, int64_t tokens, int reach, char *text) {
  int64_t step = p->distance * tokens / p->session->options->common.block;
  int used = snprintf(text, TEXT, "w=%lld,blocks=dilated(%lld", (long long)(p->ranks * tokens),
                      (long long)step);
  for (int i = 2; i <= reach; i++)
    used += snprintf(text + used, TEXT - (size_t)used, ":%lld", (long long)(i * step));
  snprintf(text + used, TEXT - (size_t)used, ")");
}

/* The least over runs of the slowest rank's exchange: that of a machine which does nothing else. */
static int time_exchange(const probing *p, bsd_plan *plan, bench_tensors *tensors, double *seconds,
                         cli_error *error) {
  double times[RUNS];
  bsd_status traced = bsd_plan_set_tracing(plan, 1);
  int code = CLI_GOOD;
  if (traced != BSD_OK)
    code = cli_library_failed(p->session->world, p->session->context, traced, error);
  for (int i = -2; i < RUNS && code == CLI_GOOD; i++) {
    bsd_run_statistics run = {.struct_size = sizeof run};
    code = cli_barrier(p->session->world, error);
    if (code == CLI_GOOD)
      code = bench_pass(p->session, plan, tensors, 1, error);
    bsd_plan_run_stats(plan, &run);
    if (i >= 0)
      times[i] = 1e-3 * run.forward_exchange_ms;
  }
  code = cli_agree(p->session->world, code, error);
  if (code == CLI_GOOD)
    code = cli_max(p->session->world, times, RUNS, error);
  *seconds = times[0];
  for (int i = 1; i < RUNS; i++)
    *seconds = fmin(*seconds, times[i]);
  return code;
}

/* Messages and bytes of the rank that receives most. */
static int describe(const probing *p, const bsd_plan *plan, bench_equation *e, cli_error *error) {
  bsd_plan_statistics stats = {.struct_size = sizeof stats};
  bsd_plan_stats(plan, &stats);
  double most[] = {(double)stats.forward.messages_here, (double)stats.forward.bytes_received_here};
  int code = cli_max(p->session->world, most, 2, error);
  e->count[0] = 1;
  e->count[1] = most[0];
  e->count[2] = most[1];
  return code;
}

static int run_plan(const probing *p, const bsd_problem *problem, bsd_plan *plan, bench_equation *e,
                    cli_error *error) {
  bench_tensors tensors = {0};
  int code = bench_tensors_create(&p->session->world->device, plan, problem, 0, 0, &tensors, error);
  code = cli_agree(p->session->world, code, error);
  if (code == CLI_GOOD)
    code = describe(p, plan, e, error);
  if (code == CLI_GOOD)
    code = time_exchange(p, plan, &tensors, &e->value, error);
  bench_tensors_free(&tensors);
  return code;
}

static int run_probe(const probing *p, int64_t tokens, int reach, bench_equation *e,
                     cli_error *error) {
  char text[TEXT];
  bsd_pattern *pattern = NULL;
  bsd_plan *plan = NULL;
  bsd_error failure = {0};
  bench_case item = {.n = tokens * p->session->world->size, .batch = 1};
  write_pattern(p, tokens, reach, text);
  bsd_status status = bsd_pattern_parse(text, &pattern, &failure);
  if (status != BSD_OK)
    return cli_fail_status(error, status, failure.message);
  bsd_problem problem = bench_problem(p->session->options, &item, item.n, p->session->dtype);
  status = bsd_plan_create(p->session->context, pattern, &problem, &plan);
  int code = CLI_GOOD;
  if (status != BSD_OK)
    code = cli_library_failed(p->session->world, p->session->context, status, error);
  code = cli_agree(p->session->world, code, error);
  if (code == CLI_GOOD)
    code = run_plan(p, &problem, plan, e, error);
  bsd_plan_destroy(plan);
  bsd_pattern_destroy(pattern);
  return code;
}

static void print_fit(const probing *p, const bench_equation *equations, int n,
                      const bsd_cost_link *link, const double *x) {
  if (p->lines == NULL)
    return;
  for (int i = 0; i < n; i++)
    fprintf(p->lines, "# %s: %2.0f messages, %10.0f bytes: %9.2f us, fitted %9.2f\n", p->name,
            equations[i].count[1], equations[i].count[2], 1e6 * equations[i].value,
            1e6 * bench_fit_value(&equations[i], x));
  fprintf(p->lines, "# %s: latency %.3g us, message %.3g us, %.4g GB/s; median error %.1f %%\n",
          p->name, 1e6 * link->latency_seconds, 1e6 * link->message_seconds,
          1e-9 * link->bytes_per_second, 100 * bench_fit_error(equations, n, x));
}

static int measure(const probing *p, bsd_cost_link *link, cli_error *error) {
  bench_equation equations[SIZES * REACHES] = {{{0}, 0}};
  double x[BENCH_FIT_UNKNOWNS];
  int n = 0, code = CLI_GOOD;
  for (int reach = 1; reach <= REACHES && reach * p->distance < p->ranks; reach++)
    for (int i = 0; i < SIZES && code == CLI_GOOD; i++)
      code = run_probe(p, rank_tokens[i], reach, &equations[n++], error);
  if (code != CLI_GOOD)
    return code;
  bench_fit(equations, n, x);
  *link = (bsd_cost_link){x[0], x[1], 1 / x[2]};
  print_fit(p, equations, n, link, x);
  if (!(x[2] > 0))
    return cli_fail(error, CLI_FAILED, "--calibrate: the %s link's times do not grow with bytes",
                    p->name);
  return CLI_GOOD;
}

int bench_calibrate_links(const bench_session *session, bench_cost_model *model, FILE *lines,
                          cli_error *error) {
  const cli_world *world = session->world;
  bench_options options = *session->options;
  bench_session own = *session;
  probing p = {.session = &own, .name = "host", .distance = 1, .lines = lines};
  int code = CLI_GOOD;
  own.options = &options;
  options.heads = options.kv_heads = 1;
  options.causal = 0;
  options.cu_seqlens = NULL;
  options.documents = 0;
  options.common.layout = (bsd_layout_spec){.kind = BSD_LAYOUT_CONTIGUOUS};
  p.ranks = world->local_size;
  if (world->local_size > 1)
    code = measure(&p, &model->model.host, error);
  if (world->local_size == world->size || code != CLI_GOOD)
    return code;
  model->model.host_ranks = world->local_size;
  p.name = "network";
  p.distance = world->local_size;
  p.ranks = world->size;
  return measure(&p, &model->model.network, error);
}
