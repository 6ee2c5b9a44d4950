/* bench_lists.c - writes the active blocks of a configuration, one line per non-empty row. */
#include "bench/bench_lists.h"

#include "src/rows.h"

/* One row's runs of columns, which are ascending. */
static void write_row(FILE *file, int64_t branch, int64_t head, const bsd_segment *segment,
                      int64_t row, const bsd_runs *columns) {
  fprintf(file, "%lld %lld %lld %lld %lld:", (long long)branch, (long long)head,
          (long long)segment->document, (long long)segment->number, (long long)row);
  for (int64_t r = 0; r < columns->count; r++)
    for (int64_t x = 0; x < columns->run[r].count; x++)
      fprintf(file, " %lld", (long long)(columns->run[r].first + x * columns->run[r].step));
  fputc('\n', file);
}

static bsd_status write_segment(const bsd_task *task, FILE *file, int64_t branch, int64_t head,
                                const bsd_segment *segment, bsd_runs *columns, bsd_error *error) {
  for (int64_t row = 0; row < segment->blocks; row++) {
    columns->count = 0;
    BSD_TRY(bsd_rows_row(task, branch, head, segment, row, columns, error));
    if (columns->count > 0)
      write_row(file, branch, head, segment, row, columns);
    if (ferror(file))
      return bsd_fail(error, BSD_ERR_IO, "the lists could not be written");
  }
  return BSD_OK;
}

static bsd_status write_head(const bsd_task *task, FILE *file, int64_t branch, int64_t head,
                             bsd_runs *columns, bsd_error *error) {
  int64_t offset = bsd_task_offset(task, branch, head);
  for (int64_t document = 0; document < task->documents; document++)
    for (int64_t s = 0; s < bsd_task_segments(task, branch, document); s++) {
      bsd_segment segment = bsd_task_segment(task, branch, offset, document, s);
      BSD_TRY(write_segment(task, file, branch, head, &segment, columns, error));
    }
  return BSD_OK;
}

static bsd_status write_all(const bsd_task *task, FILE *file, bsd_runs *columns, bsd_error *error) {
  for (int64_t branch = 0; branch < task->pattern->nbranches; branch++)
    for (int64_t head = 0; head < task->heads; head++)
      if (bsd_task_serves(task, branch, head))
        BSD_TRY(write_head(task, file, branch, head, columns, error));
  return BSD_OK;
}

int bench_lists_write(const bsd_pattern *pattern, const bsd_problem *problem, FILE *file,
                      cli_error *error) {
  bsd_task *task = NULL;
  bsd_runs columns = {0};
  bsd_error failure = {0};
  bsd_status status = bsd_task_create(pattern, problem, &task, &failure);
  if (status == BSD_OK)
    status = write_all(task, file, &columns, &failure);
  bsd_runs_free(&columns);
  bsd_task_destroy(task);
  return status == BSD_OK ? CLI_GOOD : cli_fail_status(error, status, failure.message);
}
