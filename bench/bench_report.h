/* bench_report.h - every place that results go to: the table, JSON, CSV, figures. Rank 0 alone has any. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "bench/bench_json.h"
#include "bench/bench_table.h"
#include "bench/bench_trace_json.h"

typedef struct bench_report {
  int active; /* rank 0 */
  bench_table table;
  bench_output json_file, csv_file, trace_file;
  bench_output dump_file;     /* the lists are written by the caller */
  json_t *json, *trace;       /* the trace is NULL if it was not asked for */
  const char *plot_directory; /* NULL: no figures */
  int failed_checks;
} bench_report;

/* Opens the files and prints the header. Where a file is '-', the table goes to stderr. */
int bench_report_begin(const bench_session *session, int argc, char **argv,
                       const bench_environment *environment, bench_report *report,
                       cli_error *error);

int bench_report_add(bench_report *report, const bench_result *result, cli_error *error);

/* Prints the footer and, if the run was good, completes the files; else there are none. */
int bench_report_end(bench_report *report, int code, cli_error *error);

#endif
