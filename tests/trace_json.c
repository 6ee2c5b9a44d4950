/* trace_json.c - judges a trace of bsd_bench: what Perfetto needs, and that every rank and stream has its row.
 *
 * usage: trace_json FILE RANKS RUNS    RUNS: passes times configurations
 * Exit status: 0 good, 1 not, with a sentence. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 2, MAX_RANKS = 64 };

/* What has been seen of a row. */
typedef struct row {
  int named, slices, runs;
  double last_stop; /* of the last slice that is no run */
} row;

static row rows[MAX_RANKS][ROWS];
static int named_ranks, failures;

static void fail(const char *what, const json_t *event) {
  char *text = json_dumps(event, JSON_ENCODE_ANY | JSON_COMPACT);
  fprintf(stderr, "trace_json: %s: %s\n", what, text != NULL ? text : "");
  free(text);
  failures++;
}

static const char *text_of(const json_t *event, const char *key) {
  const char *text = json_string_value(json_object_get(event, key));
  return text != NULL ? text : "";
}

static row *row_of(const json_t *event, int ranks) {
  const json_t *pid = json_object_get(event, "pid"), *tid = json_object_get(event, "tid");
  if (!json_is_integer(pid) || !json_is_integer(tid) || json_integer_value(pid) < 0 ||
      json_integer_value(pid) >= ranks || json_integer_value(tid) < 0 ||
      json_integer_value(tid) >= ROWS)
    return NULL;
  return &rows[json_integer_value(pid)][json_integer_value(tid)];
}

/* A slice lies behind those before it on its row; a run may lie around them. */
static void check_slice(const json_t *event, row *at) {
  const json_t *ts = json_object_get(event, "ts"), *dur = json_object_get(event, "dur");
  double start = json_number_value(ts), duration = json_number_value(dur);
  if (!json_is_number(ts) || !json_is_number(dur) || !(start >= 0) || !(duration >= 0) ||
      text_of(event, "name")[0] == '\0' || !json_is_object(json_object_get(event, "args"))) {
    fail("a slice without name, args, ts >= 0 and dur >= 0", event);
    return;
  }
  if (strcmp(text_of(event, "cat"), "run") == 0) {
    at->runs++;
    return;
  }
  at->slices++;
  if (start < at->last_stop - 0.01) /* printed with 12 digits */
    fail("a slice that overlaps the one before it", event);
  at->last_stop = start + duration;
}

static void check_event(const json_t *event, int ranks) {
  const char *phase = text_of(event, "ph"), *name = text_of(event, "name");
  if (strcmp(phase, "M") == 0 && strcmp(name, "process_name") == 0) {
    named_ranks++;
    return;
  }
  row *at = row_of(event, ranks);
  if (at == NULL)
    fail("no rank and stream", event);
  else if (strcmp(phase, "M") == 0)
    at->named += strcmp(name, "thread_name") == 0;
  else if (strcmp(phase, "X") == 0)
    check_slice(event, at);
  else
    fail("neither a name nor a slice", event);
}

static void check_rows(int ranks, int runs) {
  for (int rank = 0; rank < ranks; rank++)
    for (int tid = 0; tid < (ranks > 1 ? ROWS : 1); tid++) {
      const row *at = &rows[rank][tid];
      if (at->named == 1 && at->slices > 0 && at->runs == (tid == 0 ? runs : 0))
        continue;
      fprintf(stderr, "trace_json: rank %d, row %d: named %d times, %d slices, %d runs\n", rank,
              tid, at->named, at->slices, at->runs);
      failures++;
    }
}

int main(int argc, char **argv) {
  json_error_t error;
  size_t i;
  const json_t *event;
  if (argc != 4 || atoi(argv[2]) < 1 || atoi(argv[2]) > MAX_RANKS)
    return 99;
  int ranks = atoi(argv[2]);
  json_t *document = json_load_file(argv[1], 0, &error);
  if (document == NULL) {
    fprintf(stderr, "trace_json: %s: line %d: %s\n", argv[1], error.line, error.text);
    return 1;
  }
  json_array_foreach(json_object_get(document, "traceEvents"), i, event) check_event(event, ranks);
  check_rows(ranks, atoi(argv[3]));
  if (named_ranks != ranks)
    fail("another number of ranks is named", json_object_get(document, "otherData"));
  json_decref(document);
  return failures > 0;
}
