/* bench_trace_json.c - traced runs as JSON in the trace event format, which Perfetto and Chrome show.
 *
 * pid is the rank, tid the stream. A run is a slice on its compute row, around those of its parts. Times are
 * microseconds since the first slice of the file. */
#include "bench/bench_trace_json.h"

#include <math.h>
#include <stdio.h>

#include "src/schedule.h"

static const char *const row_names[BSD_TRACE_ROWS] = {"compute", "exchange"};

static json_t *name_of_row(int rank, int row) {
  return json_pack("{s:s, s:s, s:i, s:i, s:{s:s}}", "name", "thread_name", "ph", "M", "pid", rank,
                   "tid", row, "args", "name", row_names[row]);
}

static json_t *name_of_rank(const bench_environment *environment, int rank) {
  char name[512];
  snprintf(name, sizeof name, "rank %d, %s, %s", rank, environment->ranks[rank].host,
           environment->ranks[rank].device);
  return json_pack("{s:s, s:s, s:i, s:{s:s*}}", "name", "process_name", "ph", "M", "pid", rank,
                   "args", "name", name);
}

json_t *bench_trace_json_create(const bench_environment *environment) {
  json_t *events = json_array();
  for (int rank = 0; rank < environment->nranks; rank++) {
    json_array_append_new(events, name_of_rank(environment, rank));
    for (int row = 0; row < (environment->nranks > 1 ? BSD_TRACE_ROWS : BSD_TRACE_EXCHANGE); row++)
      json_array_append_new(events, name_of_row(rank, row));
  }
  return json_pack("{s:s, s:o}", "displayTimeUnit", "ms", "traceEvents", events);
}

/* ---- slices ------------------------------------------------------------------------------ */

/* "exchange step 1, to rank 2, from rank 0" or what of it there is. */
static void name_exchange(const bench_slice *s, char *name, size_t size) {
  char to[32] = "", from[32] = "";
  if (s->step < 0) {
    snprintf(name, size, "exchange, all steps");
    return;
  }
  if (s->to >= 0)
    snprintf(to, sizeof to, ", to rank %d", s->to);
  if (s->from >= 0)
    snprintf(from, sizeof from, ", from rank %d", s->from);
  snprintf(name, size, "exchange step %d%s%s", s->step, to, from);
}

static void name_slice(const bench_slice *s, char *name, size_t size) {
  static const char *const names[BSD_TRACE_PARTS] = {[BSD_TRACE_DELTA] = "delta",
                                                     [BSD_TRACE_CLEAR] = "clear",
                                                     [BSD_TRACE_COMBINE] = "combine",
                                                     [BSD_TRACE_STAGE_OUT] = "copy to host",
                                                     [BSD_TRACE_POST] = "post",
                                                     [BSD_TRACE_PROGRESS] = "progress",
                                                     [BSD_TRACE_WAIT] = "wait for exchange",
                                                     [BSD_TRACE_STAGE_IN] = "copy from host"};
  switch (s->slice.part) {
  case BSD_TRACE_PACK:
    snprintf(name, size, "pack for rank %d", s->to);
    break;
  case BSD_TRACE_FORWARD:
    snprintf(name, size, "stage %d forward rows", s->slice.stage);
    break;
  case BSD_TRACE_QUERY_GRADIENT:
    snprintf(name, size, "stage %d dq rows", s->slice.stage);
    break;
  case BSD_TRACE_KEY_GRADIENT:
    snprintf(name, size, "stage %d dkv rows", s->slice.stage);
    break;
  case BSD_TRACE_EXCHANGE_STEP:
    name_exchange(s, name, size);
    break;
  default:
    snprintf(name, size, "%s", names[s->slice.part]);
  }
}

static json_t *arguments_of(const bench_slice *s) {
  switch (s->slice.part) {
  case BSD_TRACE_FORWARD:
  case BSD_TRACE_QUERY_GRADIENT:
  case BSD_TRACE_KEY_GRADIENT:
    return json_pack("{s:i, s:I}", "stage", s->slice.stage, "pass", (json_int_t)s->slice.index);
  case BSD_TRACE_EXCHANGE_STEP:
    return json_pack("{s:i, s:I, s:I}", "stage", s->slice.stage, "bytes_sent", (json_int_t)s->sent,
                     "bytes_received", (json_int_t)s->received);
  default:
    return json_object();
  }
}

static json_t *event_of(const char *name, const char *category, int rank, int row, double start,
                        double stop, json_t *arguments) {
  return json_pack("{s:s, s:s, s:s, s:f, s:f, s:i, s:i, s:o}", "name", name, "cat", category, "ph",
                   "X", "ts", 1e6 * start, "dur", 1e6 * fmax(0, stop - start), "pid", rank, "tid",
                   row, "args", arguments);
}

/* The run of one pass on one rank: from its first mark on the compute row to the last. */
static json_t *run_of(const bench_result *r, int rank, int pass, double origin) {
  const bench_trace *trace = &r->trace;
  double start = INFINITY, stop = -INFINITY;
  char name[512];
  for (int64_t i = 0; i < trace->count; i++) {
    const bench_slice *s = &trace->slices[i];
    if (s->rank != rank || s->pass != pass || s->slice.row != BSD_TRACE_COMPUTE)
      continue;
    start = fmin(start, s->slice.start);
    stop = fmax(stop, s->slice.stop);
  }
  if (!(start < stop))
    return NULL;
  snprintf(name, sizeof name, "%s, n = %lld, %s", pass == BSD_FORWARD ? "forward" : "backward",
           (long long)r->n, r->pattern);
  return event_of(name, "run", rank, BSD_TRACE_COMPUTE, start - origin, stop - origin,
                  json_pack("{s:I, s:s, s:i, s:s, s:s}", "n", (json_int_t)r->n, "pattern",
                            r->pattern, "ranks", r->ranks, "layout", r->layout, "transport",
                            r->transport));
}

/* The time that the file begins with: the first slice's. It is kept in the document. */
static double origin_of(json_t *document, const bench_trace *trace) {
  json_t *kept = json_object_get(document, "otherData");
  double origin = INFINITY;
  if (kept != NULL)
    return json_number_value(json_object_get(kept, "origin_seconds"));
  for (int64_t i = 0; i < trace->count; i++)
    if (trace->slices[i].rank >= 0)
      origin = fmin(origin, trace->slices[i].slice.start);
  if (isfinite(origin))
    json_object_set_new(document, "otherData", json_pack("{s:f}", "origin_seconds", origin));
  return origin;
}

int bench_trace_json_add(json_t *document, const bench_result *r) {
  json_t *events = json_object_get(document, "traceEvents");
  double origin = origin_of(document, &r->trace);
  int bad = 0;
  for (int rank = 0; rank < r->ranks; rank++)
    for (int pass = BSD_FORWARD; pass <= BSD_BACKWARD; pass++) {
      json_t *run = run_of(r, rank, pass, origin);
      if (run != NULL)
        bad |= json_array_append_new(events, run);
    }
  for (int64_t i = 0; i < r->trace.count; i++) {
    const bench_slice *s = &r->trace.slices[i];
    char name[128];
    if (s->rank < 0)
      continue;
    name_slice(s, name, sizeof name);
    bad |= json_array_append_new(events, event_of(name, row_names[s->slice.row], s->rank,
                                                  s->slice.row, s->slice.start - origin,
                                                  s->slice.stop - origin, arguments_of(s)));
  }
  return bad == 0;
}

int bench_trace_json_write(const json_t *document, bench_output *output, cli_error *error) {
  if (output->file == NULL)
    return CLI_GOOD;
  if (json_dumpf(document, output->file, JSON_COMPACT | JSON_REAL_PRECISION(12)) != 0 ||
      fputc('\n', output->file) == EOF)
    return cli_fail(error, CLI_FAILED, "%s: the trace could not be written", output->path);
  return CLI_GOOD;
}
