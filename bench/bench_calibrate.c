/* bench_calibrate.c - the constants of the library's kernels: configurations are timed, rates fitted to them.
 *
 * The configurations differ in what the terms of a rate count (bsdattn.h): rows against blocks, blocks that
 * neighbours share against random ones, few rows against many, passes that merge. Lengths are in units that
 * give a backend's smallest useful launch. The 5th percentile of the times counts: that of a machine which does
 * nothing else. */
#include "bench/bench_calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_fit.h"
#include "bench/bench_tensors.h"
#include "bench/bench_time.h"
#include "src/plan.h"

/* One configuration: `units` units of tokens. In a pattern's text %1 is half a unit, %2 two units, both in
 * tokens, and %3 a sixteenth of the blocks of a row. */
typedef struct probe {
  int64_t units;
  int causal;
  const char *pattern;
} probe;

static const probe probes[] = {
    {1, 0, "w=%1"},
    {1, 0, "blocks=strided(1:2,density=0.05)"},
    {1, 0, "blocks=strided(1:2,density=0.25)"},
    {2, 0, "blocks=strided(1:2,density=0.03)"},
    {4, 0, "blocks=strided(1:2,density=0.15)"},
    {8, 0, "blocks=strided(1:2,density=0.025)"},
    {8, 0, "blocks=strided(1:2,density=0.08)"},
    {8, 0, "blocks=local(2,2)"},
    {4, 0, "blocks=random(%3,1)"},
    {8, 0, "blocks=random(%3,2)"},
    {6, 1, "blocks=strided(1:2,density=0.12)"},
    {4, 0, "w=%1;w=%2,r=4"},
    {8, 1, "w=%1;w=%2,r=2"},
};
enum { PROBES = sizeof probes / sizeof probes[0], LARGEST = 8, TEXT = 128 };

/* What a shape is timed with on each backend. */
typedef struct bench_scale {
  int64_t unit, heads, iterations, warmup;
} bench_scale;
static const bench_scale on_cpu = {512, 2, 15, 1};
static const bench_scale on_gpu = {4096, 8, 3, 1};
static const bench_scale on_gpu_f32 = {2048, 8, 3, 1}; /* an order of magnitude slower */

typedef struct shape {
  bsd_dtype dtype;
  int64_t dim, block;
} shape;

static void write_pattern(const probe *p, const bench_scale *scale, int64_t block, char *text) {
  int64_t n = p->units * scale->unit, row = n / block / 16;
  int64_t values[] = {scale->unit / 2, scale->unit * 2, row > 0 ? row : 1};
  size_t used = 0;
  for (const char *c = p->pattern; *c != '\0'; c++) {
    if (*c == '%')
      used += (size_t)snprintf(text + used, TEXT - used, "%lld", (long long)values[*++c - '1']);
    else
      text[used++] = *c;
  }
  text[used] = '\0';
}

/* ---- one configuration ------------------------------------------------------------------- */

/* A shape being measured: how, with what, and the equations so far, by pass. */
typedef struct measuring {
  bench_session session; /* on one rank, with options of its own */
  bench_options options;
  const bench_scale *scale;
  bench_tensors tensors; /* of the largest length; all run on a part of them */
  bench_equation equations[2][PROBES];
  char kernel[2][16]; /* by pass */
  FILE *lines;
} measuring;

static bench_equation equation_of(const bsd_work *work, double ms) {
  bench_equation e = {
      {work->launches, work->rows, work->blocks, work->alone, work->tail, work->bytes}, ms * 1e-3};
  return e;
}

static int time_probe(measuring *m, int index, bsd_plan *plan, cli_error *error) {
  bsd_work work[2];
  bsd_error failure = {0};
  bsd_status status = bsd_work_of_rank(plan->share, &plan->arrivals, work, &failure);
  if (status != BSD_OK)
    return cli_fail_status(error, status, failure.message);
  for (int pass = BSD_FORWARD; pass <= BSD_BACKWARD; pass++) {
    bench_timing timing = {.ms_p5 = NAN};
    bench_traffic traffic = {0};
    int code = bench_time(&m->session, plan, &m->tensors, pass == BSD_FORWARD, 0, &timing, &traffic,
                          error);
    if (code != CLI_GOOD)
      return code;
    m->equations[pass][index] = equation_of(&work[pass], timing.ms_p5);
  }
  snprintf(m->kernel[0], sizeof m->kernel[0], "%s", plan->kernels->forward_name);
  snprintf(m->kernel[1], sizeof m->kernel[1], "%s", plan->kernels->backward_name);
  return CLI_GOOD;
}

/* A plan of a probe for the shape that m->options has; the caller destroys both. */
static int plan_probe(measuring *m, const probe *p, bsd_pattern **pattern, bsd_problem *problem,
                      bsd_plan **plan, cli_error *error) {
  char text[TEXT];
  bsd_error failure = {0};
  bench_case item = {.n = p->units * m->scale->unit, .batch = 1};
  write_pattern(p, m->scale, m->options.common.block, text);
  bsd_status status = bsd_pattern_parse(text, pattern, &failure);
  if (status != BSD_OK)
    return cli_fail_status(error, status, failure.message);
  m->options.causal = p->causal;
  *problem = bench_problem(&m->options, &item, item.n, m->session.dtype);
  status = bsd_plan_create(m->session.context, *pattern, problem, plan);
  if (status != BSD_OK)
    return cli_library_failed(m->session.world, m->session.context, status, error);
  return CLI_GOOD;
}

static int run_probe(measuring *m, int index, cli_error *error) {
  bsd_pattern *pattern = NULL;
  bsd_plan *plan = NULL;
  bsd_problem problem;
  int code = plan_probe(m, &probes[index], &pattern, &problem, &plan, error);
  if (code == CLI_GOOD)
    code = time_probe(m, index, plan, error);
  bsd_plan_destroy(plan);
  bsd_pattern_destroy(pattern);
  return code;
}

static int make_tensors(measuring *m, cli_error *error) {
  static const probe longest = {LARGEST, 0, "blocks=local(0,0)"};
  bsd_pattern *pattern = NULL;
  bsd_plan *plan = NULL;
  bsd_problem problem;
  int code = plan_probe(m, &longest, &pattern, &problem, &plan, error);
  if (code == CLI_GOOD)
    code = bench_tensors_create(&m->session.world->device, plan, &problem, m->options.seed, 1,
                                &m->tensors, error);
  bsd_plan_destroy(plan);
  bsd_pattern_destroy(pattern);
  return code;
}

/* ---- one shape --------------------------------------------------------------------------- */

static void print_fit(const measuring *m, int pass, const double x[BENCH_FIT_UNKNOWNS]) {
  for (int i = 0; i < PROBES && m->lines != NULL; i++) {
    char text[TEXT];
    double fitted = bench_fit_value(&m->equations[pass][i], x);
    write_pattern(&probes[i], m->scale, m->options.common.block, text);
    fprintf(m->lines, "%10lld %5s %3lld %5lld %4s %10.4f %10.4f %+7.1f %% %s%s\n",
            (long long)(probes[i].units * m->scale->unit), cli_dtype_name(m->session.dtype),
            (long long)m->options.dim, (long long)m->options.common.block, pass ? "bwd" : "fwd",
            1e3 * m->equations[pass][i].value, 1e3 * fitted,
            100 * (fitted / m->equations[pass][i].value - 1), text,
            probes[i].causal ? " causal" : "");
  }
}

static int fit_pass(const measuring *m, int pass, bench_cost_model *model, cli_error *error) {
  double x[BENCH_FIT_UNKNOWNS];
  bench_fit(m->equations[pass], PROBES, x);
  double fit_error = bench_fit_error(m->equations[pass], PROBES, x);
  bsd_cost_rate rate = {.backward = pass,
                        .dtype = m->session.dtype,
                        .head_dim = m->options.dim,
                        .block = m->options.common.block,
                        .launch_seconds = x[0],
                        .row_seconds = x[1],
                        .block_seconds = x[2],
                        .alone_seconds = x[3],
                        .tail_seconds = x[4],
                        .byte_seconds = x[5]};
  memcpy(rate.kernel, m->kernel[pass], sizeof rate.kernel);
  print_fit(m, pass, x);
  if (m->lines != NULL)
    fprintf(m->lines,
            "# %s %s %s D %lld block %lld: launch %.3g us, row %.3g, block %.4g, alone %.3g, tail "
            "%.3g ns, byte %.3g ps; median error %.1f %%\n",
            rate.kernel, pass ? "bwd" : "fwd", cli_dtype_name(rate.dtype), (long long)rate.head_dim,
            (long long)rate.block, 1e6 * x[0], 1e9 * x[1], 1e9 * x[2], 1e9 * x[3], 1e9 * x[4],
            1e12 * x[5], 100 * fit_error);
  return bench_cost_model_add(model, &rate, fit_error, error);
}

static int run_shape(measuring *m, const shape *s, bench_cost_model *model, cli_error *error) {
  m->scale = !m->session.world->device.on_gpu ? &on_cpu
             : s->dtype == BSD_F32            ? &on_gpu_f32
                                              : &on_gpu;
  m->options.heads = m->options.kv_heads = m->scale->heads;
  m->options.iterations = m->scale->iterations;
  m->options.warmup = m->scale->warmup;
  m->session.dtype = s->dtype;
  m->options.dim = s->dim;
  m->options.common.block = s->block;
  int code = make_tensors(m, error);
  for (int i = 0; i < PROBES && code == CLI_GOOD; i++)
    code = run_probe(m, i, error);
  for (int pass = BSD_FORWARD; pass <= BSD_BACKWARD && code == CLI_GOOD; pass++)
    code = fit_pass(m, pass, model, error);
  bench_tensors_free(&m->tensors);
  return code;
}

/* ---- all shapes -------------------------------------------------------------------------- */

/* Those that the options name, else those that the backend is mostly used with. */
static int shapes_of(const bench_options *o, int on_device, shape *shapes) {
  static const shape device[] = {{BSD_BF16, 64, 64},   {BSD_BF16, 64, 128}, {BSD_BF16, 128, 64},
                                 {BSD_BF16, 128, 128}, {BSD_F32, 64, 64},   {BSD_F32, 128, 64}};
  static const shape host[] = {{BSD_F32, 64, 64}, {BSD_F32, 128, 64}, {BSD_F32, 64, 128}};
  const shape *from = on_device ? device : host;
  int count = (int)(on_device ? sizeof device / sizeof *device : sizeof host / sizeof *host), n = 0;
  for (int i = 0; i < count; i++) {
    shape s = from[i];
    if (o->dtype >= 0)
      s.dtype = (bsd_dtype)o->dtype;
    if (o->dim_given)
      s.dim = o->dim;
    if (o->block_given)
      s.block = o->common.block;
    int known = 0;
    for (int j = 0; j < n; j++)
      known |= shapes[j].dtype == s.dtype && shapes[j].dim == s.dim && shapes[j].block == s.block;
    if (!known)
      shapes[n++] = s;
  }
  return n;
}

static int run_shapes(const bench_session *session, cli_world *part, bench_cost_model *model,
                      FILE *lines, cli_error *error) {
  shape shapes[8];
  measuring m = {.session = *session, .options = *session->options, .lines = lines};
  int code = cli_context_create(&session->options->common, part, &m.session.context, error);
  if (code != CLI_GOOD)
    return code;
  int n = shapes_of(session->options, part->device.on_gpu, shapes);
  m.session.options = &m.options;
  m.session.world = part;
  m.options.cu_seqlens = NULL;
  m.options.documents = 0;
  m.options.common.layout = (bsd_layout_spec){.kind = BSD_LAYOUT_CONTIGUOUS};
  for (int i = 0; i < n && code == CLI_GOOD; i++)
    code = run_shape(&m, &shapes[i], model, error);
  cli_context_destroy(part, m.session.context);
  return code;
}

int bench_calibrate_kernels(const bench_session *session, bench_cost_model *model, FILE *lines,
                            cli_error *error) {
  cli_world part;
  double deadline = session->world->deadline;
  if (lines != NULL)
    fprintf(lines, "#\n#   length  type   D block pass measured_ms fitted_ms    error pattern\n");
  int code = cli_split(session->world, 1, &part, error);
  if (code != CLI_GOOD)
    return code;
  if (part.size > 0)
    code = run_shapes(session, &part, model, lines, error);
  session->world->broken |= part.broken;
  session->world->deadline = 1e9; /* the others wait, however long that takes */
  code = cli_agree(session->world, code, error);
  session->world->deadline = deadline;
  cli_split_end(&part);
  return code;
}
