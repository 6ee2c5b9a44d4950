/* bsd_bench.c - the benchmark and the scaling study: options, header, a line per configuration, footer.
 *
 * Everything that can be judged is judged before anything runs. Rank 0 alone prints. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench/bench_baseline.h"
#include "bench/bench_calibrate.h"
#include "bench/bench_cases.h"
#include "bench/bench_lists.h"
#include "bench/bench_model.h"
#include "bench/bench_report.h"
#include "bench/bench_run.h"
#include "bench/bench_scaling.h"
#include "bench/bench_simulate.h"
#include "bench/plot/plot.h"

/* --graph and the type that follows from the backend. */
static int settle_backend(bench_session *session, cli_error *error) {
  const bench_options *o = session->options;
  const char *backend = bsd_context_backend(session->context);
  if (o->graph && strcmp(backend, "cuda") != 0)
    return cli_fail(error, CLI_UNUSABLE,
                    "--graph replays a CUDA graph, but the backend is %s, which has none", backend);
  if (o->graph && strcmp(bsd_context_transport(session->context), "mpi") == 0)
    return cli_fail(error, CLI_UNUSABLE,
                    "--graph captures a run, but with transport mpi the host takes part in it: use "
                    "nccl, or one rank");
  if (o->cold && strcmp(backend, "cuda") != 0)
    return cli_fail(error, CLI_UNUSABLE,
                    "--cold is about the L2 cache of a GPU, but the backend is %s", backend);
  if (o->cold && strcmp(bsd_context_transport(session->context), "mpi") == 0)
    return cli_fail(error, CLI_UNUSABLE,
                    "--cold times calls that follow each other on a stream, but with transport mpi "
                    "the host waits for each: use nccl, or one rank");
  session->dtype = o->dtype >= 0                  ? (bsd_dtype)o->dtype
                   : strcmp(backend, "cuda") == 0 ? BSD_BF16
                                                  : BSD_F32;
  return CLI_GOOD;
}

/* Refuses what the backend's kernels do not have. Which kernel is taken depends on the shape of a problem
 * but not on its length, so plans for one token tell. */
static int judge_kernels(const bench_session *session, const bench_cases *cases, cli_error *error) {
  for (int64_t i = 0; i < cases->count; i++) {
    bsd_plan *plan = NULL;
    bsd_problem problem = bench_problem(session->options, &cases->items[i], 1, session->dtype);
    problem.cu_seqlens = NULL;
    problem.documents = 0;
    problem.layout = (bsd_layout_spec){.kind = BSD_LAYOUT_CONTIGUOUS};
    bsd_status status =
        bsd_plan_create_offline(session->context, cases->items[i].pattern, &problem, 0, 1, &plan);
    bsd_plan_destroy(plan);
    if (status != BSD_OK)
      return cli_fail_status(error, status, bsd_last_error(session->context));
  }
  return CLI_GOOD;
}

/* ---- --dump-lists ------------------------------------------------------------------------ */

static int judge_dump(const bench_options *options, const bench_cases *cases, cli_error *error) {
  if (options->dump_file == NULL || cases->count == 1)
    return CLI_GOOD;
  return cli_fail(error, CLI_UNUSABLE,
                  "--dump-lists needs one configuration, but the lengths and patterns make %lld",
                  (long long)cases->count);
}

static int dump_lists(const bench_session *session, const bench_case *item, bench_report *report,
                      cli_error *error) {
  if (report->dump_file.file == NULL)
    return CLI_GOOD;
  bsd_problem problem = bench_problem(session->options, item, item->n, session->dtype);
  int code = bench_lists_write(item->pattern, &problem, report->dump_file.file, error);
  return code == CLI_GOOD ? bench_output_commit(&report->dump_file, error) : code;
}

/* ---- configurations ---------------------------------------------------------------------- */

static int run_one(const bench_session *session, const bench_case *item, int nranks,
                   bench_baseline_memo *memo, bench_report *report, cli_error *error) {
  bench_result result;
  bench_result_clear(&result);
  int code = nranks > 0 ? bench_simulate(session, item, nranks, &result, error)
                        : bench_run(session, item, item->n, memo, &result, error);
  bench_progress_clear(session->progress);
  if (code == CLI_GOOD)
    code = bench_report_add(report, &result, error);
  bench_result_free(&result);
  return cli_agree(session->world, code, error);
}

static int run_case(const bench_session *session, const bench_case *item, bench_baseline_memo *memo,
                    bench_report *report, cli_error *error) {
  const bench_options *o = session->options;
  int code = CLI_GOOD;
  if (o->simulate.count == 0 && o->scaling != BENCH_SCALING_NONE)
    return bench_scaling_run(session, item, report, error);
  if (o->simulate.count == 0)
    return run_one(session, item, 0, memo, report, error);
  for (int64_t p = 0; p < o->simulate.count && code == CLI_GOOD; p++)
    code = run_one(session, item, (int)o->simulate.values[p], memo, report, error);
  return code;
}

static int run_all(bench_session *session, const bench_cases *cases, int argc, char **argv,
                   cli_error *error) {
  bench_environment environment;
  bench_report report = {0};
  bench_baseline_memo memo = {0};
  int code = bench_environment_create(session, &environment, error);
  if (code == CLI_GOOD)
    code = bench_report_begin(session, argc, argv, &environment, &report, error);
  code = cli_agree(session->world, code, error);
  if (code == CLI_GOOD)
    code = cli_agree(session->world, dump_lists(session, &cases->items[0], &report, error), error);
  for (int64_t i = 0; i < cases->count && code == CLI_GOOD; i++) {
    session->progress->item = i;
    code = run_case(session, &cases->items[i], &memo, &report, error);
  }
  bench_progress_clear(session->progress);
  session->world->deadline = fmax(session->world->deadline, 300); /* the others wait for figures */
  code = bench_report_end(&report, code, error);
  bench_environment_free(&environment);
  return cli_agree(session->world, code, error);
}

/* ---- --calibrate, --rate measured ------------------------------------------------------------ */

static int calibrate(const bench_session *session, bench_cost_model *model, FILE *lines,
                     cli_error *error) {
  int code = bench_calibrate_kernels(session, model, lines, error);
  return code == CLI_GOOD ? bench_calibrate_links(session, model, lines, error) : code;
}

/* Measures and writes the file, which is opened first: an unusable one is known before anything runs. */
static int calibrate_to_file(const bench_session *session, cli_error *error) {
  const char *path = session->options->calibrate_file;
  int first = session->world->rank == 0;
  FILE *lines = !first ? NULL : strcmp(path, "-") == 0 ? stderr : stdout;
  bench_output output = {0};
  bench_cost_model model = {.model = {.struct_size = sizeof model.model}};
  int code = first ? bench_output_open(path, &output, error) : CLI_GOOD;
  code = cli_agree(session->world, code, error);
  if (code == CLI_GOOD && lines != NULL)
    fprintf(lines, "# bsd_bench %s --calibrate on %s\n", bsd_version(),
            bsd_context_device(session->context));
  if (code == CLI_GOOD)
    code = calibrate(session, &model, lines, error);
  if (code == CLI_GOOD && first)
    code = bench_cost_file_write(&model, bsd_context_device(session->context), &output, error);
  if (code == CLI_GOOD && first)
    code = bench_output_commit(&output, error);
  bench_progress_clear(session->progress);
  if (lines != NULL)
    fputs(code == CLI_GOOD ? "OK\n" : "FAILED\n", lines);
  bench_output_discard(&output);
  bench_cost_model_free(&model);
  return cli_agree(session->world, code, error);
}

/* The rates of the options' own shape on this machine, in place of the model's. */
static int measure_rates(const bench_session *session, bench_cost_model *model, cli_error *error) {
  bench_options options = *session->options;
  bench_session own = *session;
  own.options = &options;
  options.dtype = (int)session->dtype;
  options.dim_given = options.block_given = 1;
  model->model.nrates = 0;
  return bench_calibrate_kernels(&own, model, NULL, error);
}

/* ---- the program ------------------------------------------------------------------------- */

static int run_cases(bench_session *session, const bench_cases *cases, int argc, char **argv,
                     cli_error *error) {
  int code = judge_kernels(session, cases, error);
  code = cli_agree(session->world, code, error);
  if (code == CLI_GOOD && session->options->calibrate_file != NULL)
    return calibrate_to_file(session, error);
  if (code == CLI_GOOD)
    code = bench_baseline_open(session, error);
  if (code == CLI_GOOD)
    code = run_all(session, cases, argc, argv, error);
  bench_baseline_close(session);
  return code;
}

/* Opens the session's context with the model; with --rate measured once more, after having measured. */
static int with_model(bench_session *session, bench_options *options, bench_cost_model *model,
                      const bench_cases *cases, int argc, char **argv, cli_error *error) {
  cli_world *world = session->world;
  int code = cli_context_create(&options->common, world, &session->context, error);
  if (code != CLI_GOOD)
    return code;
  code = cli_agree(world, settle_backend(session, error), error);
  if (code == CLI_GOOD && options->rate_measured) {
    code = measure_rates(session, model, error);
    cli_context_destroy(world, session->context);
    session->context = NULL;
    options->common.cost_model = &model->model;
    if (code == CLI_GOOD)
      code = cli_context_create(&options->common, world, &session->context, error);
  }
  if (code == CLI_GOOD)
    code = run_cases(session, cases, argc, argv, error);
  cli_context_destroy(world, session->context);
  return code;
}

static int with_cases(cli_world *world, const bench_options *options, const bench_cases *cases,
                      int argc, char **argv, cli_error *error) {
  bench_progress progress = bench_progress_create(world->rank, cases->count);
  bench_options own = *options;
  bench_session session = {.options = &own, .world = world, .progress = &progress};
  bench_cost_model model;
  int given = 0;
  world->deadline = options->common.timeout;
  int code = bench_model_create(options, world, &model, &given, error);
  if (code != CLI_GOOD)
    return code;
  if (given)
    own.common.cost_model = &model.model;
  code = with_model(&session, &own, &model, cases, argc, argv, error);
  bench_cost_model_free(&model);
  return code;
}

/* Draws saved results on rank 0. */
static int draw_saved(cli_world *world, const bench_options *options, cli_error *error) {
  int code = CLI_GOOD;
  if (world->rank == 0)
    code = plot_files(options->from, options->nfrom, options->plot_directory, error);
  return cli_agree(world, code, error);
}

static int with_options(cli_world *world, const bench_options *options, int argc, char **argv,
                        cli_error *error) {
  bench_cases cases = {0};
  int64_t ranks = world->size;
  for (int64_t i = 0; i < options->simulate.count; i++)
    ranks = options->simulate.values[i] > ranks ? options->simulate.values[i] : ranks;
  int code = bench_cases_create(options, (int)ranks, &cases, error);
  if (code == CLI_GOOD)
    code = judge_dump(options, &cases, error);
  if (code == CLI_GOOD && options->plot_directory != NULL && world->rank == 0)
    code = plot_judge(options->plot_directory, error);
  code = cli_agree(world, code, error);
  if (code == CLI_GOOD)
    code = with_cases(world, options, &cases, argc, argv, error);
  bench_cases_free(&cases);
  return code;
}

static void print_text(const cli_world *world, const bench_options *options) {
  if (world->rank != 0)
    return;
  if (options->help)
    printf("%s%s", bench_options_help, cli_common_help);
  else
    printf("bsd_bench %s\n", bsd_version());
}

int main(int argc, char **argv) {
  cli_world world;
  cli_error error = {""};
  bench_options options = {0};
  int code = cli_start(&argc, &argv, "bsd_bench", &world, &error);
  if (code != CLI_GOOD)
    return cli_finish(&world, code, &error);
  code = cli_agree(&world, bench_options_read(&options, argc, argv, &error), &error);
  if (code == CLI_GOOD && (options.help || options.version))
    print_text(&world, &options);
  else if (code == CLI_GOOD && options.nfrom > 0)
    code = draw_saved(&world, &options, &error);
  else if (code == CLI_GOOD)
    code = with_options(&world, &options, argc, argv, &error);
  bench_options_free(&options);
  return cli_finish(&world, code, &error);
}
