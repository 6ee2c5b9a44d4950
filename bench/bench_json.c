/* bench_json.c - the results as JSON, schema version 1. Numbers that were not measured are null. */
#include "bench/bench_json.h"

#include <math.h>
#include <stdio.h>

static json_t *real_or_null(double value) {
  return isfinite(value) ? json_real(value) : json_null();
}

static json_t *integer_or_null(int64_t value) {
  return value >= 0 ? json_integer(value) : json_null();
}

static json_t *text_or_null(const char *text) {
  return text[0] != '\0' ? json_string(text) : json_null();
}

/* Names that are not valid UTF-8 (of argv or a host) become null rather than fail the document. */
static json_t *any_text(const char *text) {
  json_t *value = json_string(text);
  return value != NULL ? value : json_null();
}

/* The offsets of packed documents. */
static json_t *offsets_or_null(const bench_options *options) {
  if (options->cu_seqlens == NULL)
    return json_null();
  json_t *offsets = json_array();
  for (int64_t i = 0; i <= options->documents; i++)
    json_array_append_new(offsets, json_integer(options->cu_seqlens[i]));
  return offsets;
}

json_t *bench_json_create(int argc, char **argv, const bench_options *options,
                          const bench_environment *environment) {
  json_t *args = json_array(), *facts = json_object(), *ranks = json_array();
  for (int i = 0; i < argc; i++)
    json_array_append_new(args, any_text(argv[i]));
  for (int i = 0; i < environment->nfacts; i++)
    json_object_set_new(facts, environment->facts[i].name, any_text(environment->facts[i].value));
  for (int i = 0; i < environment->nranks; i++)
    json_array_append_new(ranks, json_pack("{s:i, s:o, s:o}", "rank", i, "host",
                                           any_text(environment->ranks[i].host), "device",
                                           any_text(environment->ranks[i].device)));
  return json_pack("{s:i, s:o, s:o, s:o, s:o, s:[]}", "version", 1, "args", args, "environment",
                   facts, "ranks", ranks, "cu_seqlens", offsets_or_null(options), "results");
}

/* ---- one result -------------------------------------------------------------------------- */

static json_t *timing(const bench_timing *t) {
  if (isnan(t->ms))
    return json_null();
  return json_pack("{s:o, s:o, s:o, s:o}", "ms", real_or_null(t->ms), "tflops",
                   real_or_null(t->tflops), "ms_p5", real_or_null(t->ms_p5), "ms_p95",
                   real_or_null(t->ms_p95));
}

static json_t *traffic(const bench_traffic *t) {
  if (t->bytes_lower_bound < 0)
    return json_null();
  return json_pack("{s:o, s:o, s:o, s:o, s:o}", "bytes_moved", integer_or_null(t->bytes_moved),
                   "bytes_lower_bound", integer_or_null(t->bytes_lower_bound), "bytes_allgather",
                   integer_or_null(t->bytes_allgather), "exposed_ms", real_or_null(t->exposed_ms),
                   "overlap", real_or_null(t->overlap));
}

static json_t *pair(double forward, double backward) {
  return json_pack("{s:o, s:o}", "fwd", real_or_null(forward), "bwd", real_or_null(backward));
}

static json_t *check_of(const bench_check *c) {
  if (c->pass < 0)
    return json_null();
  return json_pack("{s:o, s:o, s:o, s:o, s:o, s:b, s:I, s:I, s:I, s:b}", "o", real_or_null(c->o),
                   "lse", real_or_null(c->lse), "dq", real_or_null(c->dq), "dk",
                   real_or_null(c->dk), "dv", real_or_null(c->dv), "pass", c->pass, "rows",
                   (json_int_t)c->rows, "keys", (json_int_t)c->keys, "kv_heads",
                   (json_int_t)c->units, "from_library", c->from_library);
}

static json_t *shape(const bench_result *r) {
  char digest[32] = "";
  if (r->has_hash)
    snprintf(digest, sizeof digest, "%016llx", (unsigned long long)r->hash);
  return json_pack(
      "{s:I, s:I, s:I, s:I, s:I, s:s, s:b, s:o, s:I, s:o, s:o, s:o, s:i, s:s, s:s, s:o, s:s, s:o}",
      "n", (json_int_t)r->n, "batch", (json_int_t)r->batch, "heads", (json_int_t)r->heads,
      "kv_heads", (json_int_t)r->kv_heads, "dim", (json_int_t)r->dim, "dtype",
      cli_dtype_name(r->dtype), "causal", r->causal, "pattern", any_text(r->pattern), "block",
      (json_int_t)r->block, "density", real_or_null(r->density), "active_blocks",
      integer_or_null(r->active_blocks), "active_pairs", integer_or_null(r->active_pairs), "ranks",
      r->ranks, "backend", r->backend, "kernel", r->kernel, "transport", text_or_null(r->transport),
      "layout", r->layout, "hash", text_or_null(digest));
}

static json_t *simulation(const bench_result *r) {
  if (r->planned_ranks < 0)
    return json_null();
  return json_pack("{s:I, s:o, s:o, s:o}", "planned", (json_int_t)r->planned_ranks,
                   "bytes_received_worst", integer_or_null(r->bytes_received_worst), "seconds",
                   real_or_null(r->simulation_seconds), "bytes",
                   integer_or_null(r->simulation_bytes));
}

static int set_measures(json_t *object, const bench_result *r) {
  const bench_baseline *b = &r->baseline;
  int bad = 0;
  bad |= json_object_set_new(object, "stages", integer_or_null(r->stages));
  bad |= json_object_set_new(object, "fwd", timing(&r->forward));
  bad |= json_object_set_new(object, "bwd", timing(&r->backward));
  bad |= json_object_set_new(
      object, "baseline",
      json_pack("{s:s, s:o, s:o, s:o}", "status", bench_baseline_name(b->status), "fwd_ms",
                real_or_null(b->forward_ms), "bwd_ms", real_or_null(b->backward_ms), "bytes",
                integer_or_null(b->bytes)));
  bad |= json_object_set_new(object, "speedup",
                             pair(bench_speedup(b->forward_ms, r->forward.ms),
                                  bench_speedup(b->backward_ms, r->backward.ms)));
  bad |= json_object_set_new(
      object, "memory",
      json_pack("{s:o, s:o, s:o, s:o}", "tensors", integer_or_null(r->memory_tensors), "workspace",
                integer_or_null(r->memory_workspace), "peak", integer_or_null(r->memory_peak),
                "plan", integer_or_null(r->memory_plan)));
  bad |= json_object_set_new(object, "comm",
                             json_pack("{s:o, s:o}", "fwd", traffic(&r->traffic_forward), "bwd",
                                       traffic(&r->traffic_backward)));
  bad |= json_object_set_new(object, "host_us",
                             json_pack("{s:o, s:o, s:o, s:o}", "fwd",
                                       real_or_null(r->host_forward.call), "bwd",
                                       real_or_null(r->host_backward.call), "graph_fwd",
                                       real_or_null(r->host_forward.replay), "graph_bwd",
                                       real_or_null(r->host_backward.replay)));
  bad |= json_object_set_new(object, "imbalance", real_or_null(r->imbalance));
  bad |= json_object_set_new(object, "plan_ms", real_or_null(r->plan_ms));
  bad |= json_object_set_new(object, "check", check_of(&r->check));
  bad |= json_object_set_new(object, "predicted",
                             json_pack("{s:o, s:o, s:o}", "fwd_ms",
                                       real_or_null(r->predicted_forward_ms), "bwd_ms",
                                       real_or_null(r->predicted_backward_ms), "efficiency",
                                       real_or_null(r->predicted_efficiency)));
  bad |= json_object_set_new(object, "scaling", text_or_null(r->scaling));
  bad |= json_object_set_new(object, "simulation", simulation(r));
  bad |= json_object_set_new(object, "scaling_efficiency",
                             pair(r->efficiency_forward, r->efficiency_backward));
  return bad == 0;
}

int bench_json_add(json_t *document, const bench_result *result) {
  json_t *object = shape(result);
  if (object == NULL || !set_measures(object, result)) {
    json_decref(object);
    return 0;
  }
  return json_array_append_new(json_object_get(document, "results"), object) == 0;
}

int bench_json_write(const json_t *document, bench_output *output, cli_error *error) {
  if (output->file == NULL)
    return CLI_GOOD;
  if (json_dumpf(document, output->file, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) != 0 ||
      fputc('\n', output->file) == EOF)
    return cli_fail(error, CLI_FAILED, "%s: the results could not be written", output->path);
  return CLI_GOOD;
}
