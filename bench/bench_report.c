/* bench_report.c - every place that results go to: the table, JSON, CSV, figures. Rank 0 alone has any. */
#include "bench/bench_report.h"

#include <string.h>

#include "bench/bench_csv.h"
#include "bench/plot/plot.h"

static int is_stdout(const char *path) {
  return path != NULL && strcmp(path, "-") == 0;
}

static bench_table table_of(const bench_options *o) {
  bench_table table = {.file = stdout, .scaling = o->scaling != BENCH_SCALING_NONE};
  if (is_stdout(o->json_file) || is_stdout(o->csv_file) || is_stdout(o->dump_file) ||
      is_stdout(o->trace_file))
    table.file = stderr;
  if (o->simulate.count > 0)
    table.style = BENCH_STYLE_SIMULATE;
  else if (o->preset == BENCH_PRESET_SEED && !table.scaling)
    table.style = BENCH_STYLE_SEED;
  return table;
}

int bench_report_begin(const bench_session *session, int argc, char **argv,
                       const bench_environment *environment, bench_report *report,
                       cli_error *error) {
  const bench_options *o = session->options;
  *report = (bench_report){.active = session->world->rank == 0};
  if (!report->active)
    return CLI_GOOD;
  report->table = table_of(o);
  report->plot_directory = o->plot_directory;
  int code = bench_output_open(o->json_file, &report->json_file, error);
  if (code == CLI_GOOD)
    code = bench_output_open(o->csv_file, &report->csv_file, error);
  if (code == CLI_GOOD)
    code = bench_output_open(o->dump_file, &report->dump_file, error);
  if (code == CLI_GOOD)
    code = bench_output_open(o->trace_file, &report->trace_file, error);
  if (code != CLI_GOOD)
    return code;
  report->json = bench_json_create(argc, argv, o, environment);
  if (o->trace_file != NULL)
    report->trace = bench_trace_json_create(environment);
  if (report->json == NULL || (o->trace_file != NULL && report->trace == NULL))
    return cli_fail(error, CLI_FAILED, "no memory for the results");
  if (report->csv_file.file != NULL)
    bench_csv_header(report->csv_file.file);
  bench_table_header(&report->table, environment);
  return CLI_GOOD;
}

int bench_report_add(bench_report *report, const bench_result *result, cli_error *error) {
  if (!report->active)
    return CLI_GOOD;
  bench_table_line(&report->table, result);
  if (report->csv_file.file != NULL)
    bench_csv_line(report->csv_file.file, result);
  if (result->check.pass == 0)
    report->failed_checks++;
  if (!bench_json_add(report->json, result) ||
      (report->trace != NULL && !bench_trace_json_add(report->trace, result)))
    return cli_fail(error, CLI_FAILED, "no memory for the results");
  return CLI_GOOD;
}

/* Completes all files, then draws. */
static int commit(bench_report *report, cli_error *error) {
  int code = bench_json_write(report->json, &report->json_file, error);
  if (code == CLI_GOOD)
    code = bench_output_commit(&report->json_file, error);
  if (code == CLI_GOOD)
    code = bench_output_commit(&report->csv_file, error);
  if (code == CLI_GOOD)
    code = bench_trace_json_write(report->trace, &report->trace_file, error);
  if (code == CLI_GOOD)
    code = bench_output_commit(&report->trace_file, error);
  if (code == CLI_GOOD && report->plot_directory != NULL)
    code = plot_document(report->json, report->plot_directory, error);
  return code;
}

int bench_report_end(bench_report *report, int code, cli_error *error) {
  if (report->active && report->json != NULL) {
    if (code == CLI_GOOD)
      code = commit(report, error);
    if (code == CLI_GOOD && report->failed_checks > 0)
      code = cli_fail(error, CLI_FAILED, "results outside the bounds of the check: %d",
                      report->failed_checks);
    bench_table_footer(&report->table, code == CLI_GOOD);
    json_decref(report->json);
    json_decref(report->trace);
  }
  bench_output_discard(&report->json_file);
  bench_output_discard(&report->csv_file);
  bench_output_discard(&report->trace_file);
  bench_output_discard(&report->dump_file);
  return code;
}
