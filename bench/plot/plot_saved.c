/* plot_saved.c - results read back from the JSON that bsd_bench writes. The inverse of bench_json.c. */
#include "bench/plot/plot_saved.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- values that may be null ------------------------------------------------------------- */

static double real_of(const json_t *object, const char *key) {
  const json_t *value = json_object_get(object, key);
  return json_is_number(value) ? json_number_value(value) : NAN;
}

static int64_t integer_of(const json_t *object, const char *key) {
  const json_t *value = json_object_get(object, key);
  return json_is_integer(value) ? json_integer_value(value) : -1;
}

static void copy_text(const json_t *object, const char *key, char *text, size_t size) {
  const char *value = json_string_value(json_object_get(object, key));
  snprintf(text, size, "%s", value != NULL ? value : "");
}

/* ---- one result -------------------------------------------------------------------------- */

static bench_timing timing_of(const json_t *object) {
  return (bench_timing){.ms = real_of(object, "ms"),
                        .ms_p5 = real_of(object, "ms_p5"),
                        .ms_p95 = real_of(object, "ms_p95"),
                        .tflops = real_of(object, "tflops")};
}

static bench_traffic traffic_of(const json_t *object) {
  return (bench_traffic){.bytes_moved = integer_of(object, "bytes_moved"),
                         .bytes_lower_bound = integer_of(object, "bytes_lower_bound"),
                         .bytes_allgather = integer_of(object, "bytes_allgather"),
                         .exposed_ms = real_of(object, "exposed_ms"),
                         .overlap = real_of(object, "overlap")};
}

static bench_baseline baseline_of(const json_t *object) {
  const char *status = json_string_value(json_object_get(object, "status"));
  bench_baseline baseline = {.forward_ms = real_of(object, "fwd_ms"),
                             .backward_ms = real_of(object, "bwd_ms"),
                             .bytes = integer_of(object, "bytes")};
  if (status != NULL && strcmp(status, "ok") == 0)
    baseline.status = BENCH_BASELINE_OK;
  else if (status != NULL && strcmp(status, "oom") == 0)
    baseline.status = BENCH_BASELINE_OOM;
  return baseline;
}

static bench_check check_of(const json_t *object) {
  const json_t *pass = json_object_get(object, "pass");
  return (bench_check){.o = real_of(object, "o"),
                       .lse = real_of(object, "lse"),
                       .dq = real_of(object, "dq"),
                       .dk = real_of(object, "dk"),
                       .dv = real_of(object, "dv"),
                       .pass = json_is_boolean(pass) ? json_is_true(pass) : -1,
                       .rows = integer_of(object, "rows")};
}

static void take_measures(const json_t *object, bench_result *r) {
  const json_t *memory = json_object_get(object, "memory");
  const json_t *comm = json_object_get(object, "comm");
  const json_t *predicted = json_object_get(object, "predicted");
  const json_t *efficiency = json_object_get(object, "scaling_efficiency");
  r->density = real_of(object, "density");
  r->active_blocks = integer_of(object, "active_blocks");
  r->active_pairs = integer_of(object, "active_pairs");
  r->stages = (int)integer_of(object, "stages");
  r->forward = timing_of(json_object_get(object, "fwd"));
  r->backward = timing_of(json_object_get(object, "bwd"));
  r->baseline = baseline_of(json_object_get(object, "baseline"));
  r->memory_tensors = integer_of(memory, "tensors");
  r->memory_workspace = integer_of(memory, "workspace");
  r->memory_peak = integer_of(memory, "peak");
  r->memory_plan = integer_of(memory, "plan");
  r->traffic_forward = traffic_of(json_object_get(comm, "fwd"));
  r->traffic_backward = traffic_of(json_object_get(comm, "bwd"));
  r->imbalance = real_of(object, "imbalance");
  r->plan_ms = real_of(object, "plan_ms");
  r->check = check_of(json_object_get(object, "check"));
  r->predicted_forward_ms = real_of(predicted, "fwd_ms");
  r->predicted_backward_ms = real_of(predicted, "bwd_ms");
  r->predicted_efficiency = real_of(predicted, "efficiency");
  r->efficiency_forward = real_of(efficiency, "fwd");
  r->efficiency_backward = real_of(efficiency, "bwd");
  copy_text(object, "scaling", r->scaling, sizeof r->scaling);
  copy_text(object, "transport", r->transport, sizeof r->transport);
}

/* What every result has; *problem says what is wrong with it. */
static int take_shape(json_t *object, bench_result *r, char *problem, size_t size) {
  json_error_t failure;
  json_int_t n, batch, heads, kv_heads, dim, block;
  const char *dtype, *pattern, *backend, *kernel, *layout;
  cli_error unused = {""};
  if (json_unpack_ex(object, &failure, 0,
                     "{s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:i, s:s, s:s, s:s, s:s, s:s}", "n", &n,
                     "batch", &batch, "heads", &heads, "kv_heads", &kv_heads, "dim", &dim, "block",
                     &block, "causal", &r->causal, "ranks", &r->ranks, "dtype", &dtype, "pattern",
                     &pattern, "backend", &backend, "kernel", &kernel, "layout", &layout) != 0) {
    snprintf(problem, size, "%s", failure.text);
    return 0;
  }
  if (n < 1 || batch < 1 || heads < 1 || kv_heads < 1 || dim < 1 || block < 1 || block > 256 ||
      r->ranks < 1 || cli_parse_dtype(dtype, &r->dtype, &unused) != CLI_GOOD) {
    snprintf(problem, size, "n, batch, heads, kv_heads, dim, block, ranks or dtype out of range");
    return 0;
  }
  r->n = n;
  r->batch = batch;
  r->heads = heads;
  r->kv_heads = kv_heads;
  r->dim = dim;
  r->block = block;
  snprintf(r->backend, sizeof r->backend, "%s", backend);
  snprintf(r->kernel, sizeof r->kernel, "%s", kernel);
  snprintf(r->layout, sizeof r->layout, "%s", layout);
  r->pattern = strdup(pattern);
  snprintf(problem, size, "no memory");
  return r->pattern != NULL;
}

/* ---- a run ------------------------------------------------------------------------------- */

static int unusable(const char *name, const char *what, cli_error *error) {
  return cli_fail(error, CLI_UNUSABLE, "%s is not what bsd_bench --json writes: %s", name, what);
}

static int take_results(const json_t *list, plot_run *run, const char *name, cli_error *error) {
  size_t count = json_array_size(list);
  run->results = calloc(count + 1, sizeof *run->results);
  if (run->results == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for the results of %s", name);
  for (size_t i = 0; i < count; i++) {
    char problem[JSON_ERROR_TEXT_LENGTH + 64], what[JSON_ERROR_TEXT_LENGTH + 128];
    json_t *object = json_array_get(list, i);
    bench_result *result = &run->results[run->count++];
    bench_result_clear(result);
    if (!take_shape(object, result, problem, sizeof problem)) {
      snprintf(what, sizeof what, "results[%zu]: %s", i, problem);
      return unusable(name, what, error);
    }
    take_measures(object, result);
  }
  return CLI_GOOD;
}

static int take_documents(const json_t *list, plot_run *run, const char *name, cli_error *error) {
  size_t count = json_array_size(list);
  if (count < 2)
    return CLI_GOOD;
  run->cu_seqlens = calloc(count, sizeof *run->cu_seqlens);
  if (run->cu_seqlens == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for the documents of %s", name);
  run->documents = (int64_t)count - 1;
  for (size_t i = 0; i < count; i++)
    run->cu_seqlens[i] = json_integer_value(json_array_get(list, i));
  return CLI_GOOD;
}

int plot_saved_add(plot_saved *saved, json_t *document, const char *name, cli_error *error) {
  const json_t *results = json_object_get(document, "results");
  if (!json_is_object(document) || json_integer_value(json_object_get(document, "version")) != 1)
    return unusable(name, "its version is not 1", error);
  if (!json_is_array(results) || !json_is_object(json_object_get(document, "environment")))
    return unusable(name, "environment or results is missing", error);
  plot_run *grown = realloc(saved->runs, ((size_t)saved->count + 1) * sizeof *grown);
  if (grown == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for the results of %s", name);
  saved->runs = grown;
  plot_run *run = &saved->runs[saved->count++];
  *run = (plot_run){.document = json_incref(document)};
  int code = take_results(results, run, name, error);
  return code == CLI_GOOD
             ? take_documents(json_object_get(document, "cu_seqlens"), run, name, error)
             : code;
}

int plot_saved_read(plot_saved *saved, const char *file, cli_error *error) {
  json_error_t failure;
  json_t *document = json_load_file(file, 0, &failure);
  if (document == NULL)
    return failure.line < 0
               ? cli_fail(error, CLI_UNUSABLE, "%s", failure.text)
               : cli_fail(error, CLI_UNUSABLE, "%s, line %d: %s", file, failure.line, failure.text);
  int code = plot_saved_add(saved, document, file, error);
  json_decref(document);
  return code;
}

void plot_saved_free(plot_saved *saved) {
  for (int64_t i = 0; i < saved->count; i++) {
    plot_run *run = &saved->runs[i];
    for (int64_t k = 0; k < run->count; k++)
      bench_result_free(&run->results[k]);
    free(run->results);
    free(run->cu_seqlens);
    json_decref(run->document);
  }
  free(saved->runs);
  *saved = (plot_saved){0};
}
