/* bench_cost_file.c - cost models as JSON files. Times are nanoseconds, so that GB/s are bytes per ns. */
#include "bench/bench_cost_file.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double nano = 1e-9;
enum { FILE_VERSION = 1 };

int bench_cost_model_add(bench_cost_model *m, const bsd_cost_rate *rate, double fit_error,
                         cli_error *error) {
  size_t n = (size_t)m->model.nrates + 1;
  bsd_cost_rate *rates = realloc(m->rates, n * sizeof *rates);
  if (rates != NULL)
    m->rates = rates;
  double *errors = rates != NULL ? realloc(m->errors, n * sizeof *errors) : NULL;
  if (errors == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for a cost model of %zu rates", n);
  m->errors = errors;
  rates[n - 1] = *rate;
  errors[n - 1] = fit_error;
  m->model.struct_size = sizeof m->model;
  m->model.rates = rates;
  m->model.nrates = (int64_t)n;
  return CLI_GOOD;
}

void bench_cost_model_free(bench_cost_model *m) {
  free(m->rates);
  free(m->errors);
  *m = (bench_cost_model){0};
}

/* ---- reading ----------------------------------------------------------------------------- */

/* The object being read, and how sentences name it. */
typedef struct source {
  const char *path;
  char where[64];
  const json_t *object;
} source;

static int read_number(const source *from, const char *key, double *value, cli_error *error) {
  const json_t *found = json_object_get(from->object, key);
  double number = json_number_value(found);
  if (!json_is_number(found) || number < 0)
    return cli_fail(error, CLI_UNUSABLE, "%s: %s: %s is %s, expected a number of at least 0",
                    from->path, from->where, key,
                    found == NULL           ? "missing"
                    : json_is_number(found) ? "negative"
                                            : "no number");
  *value = number;
  return CLI_GOOD;
}

static int read_nanoseconds(const source *from, const char *key, double *seconds,
                            cli_error *error) {
  int code = read_number(from, key, seconds, error);
  *seconds *= nano;
  return code;
}

static int read_whole(const source *from, const char *key, int64_t least, int64_t *value,
                      cli_error *error) {
  const json_t *found = json_object_get(from->object, key);
  if (!json_is_integer(found) || json_integer_value(found) < least ||
      json_integer_value(found) > INT32_MAX)
    return cli_fail(error, CLI_UNUSABLE,
                    "%s: %s: %s is %s, expected a whole number of %lld to 2^31-1", from->path,
                    from->where, key,
                    found == NULL            ? "missing"
                    : json_is_integer(found) ? "out of range"
                                             : "no whole number",
                    (long long)least);
  *value = json_integer_value(found);
  return CLI_GOOD;
}

static int read_name(const source *from, const char *key, const char *const *names, int *index,
                     cli_error *error) {
  const char *text = json_string_value(json_object_get(from->object, key));
  char option[160];
  snprintf(option, sizeof option, "%.60s: %s: %s", from->path, from->where, key);
  return cli_parse_name(option, text != NULL ? text : "", names, index, error);
}

static int read_link(const char *path, const json_t *links, const char *name, bsd_cost_link *link,
                     cli_error *error) {
  source from = {path, "", json_object_get(links, name)};
  snprintf(from.where, sizeof from.where, "links.%s", name);
  if (from.object == NULL || json_is_null(from.object)) /* not measured: the built-in one */
    return CLI_GOOD;
  int code = read_nanoseconds(&from, "latency_ns", &link->latency_seconds, error);
  if (code == CLI_GOOD)
    code = read_nanoseconds(&from, "message_ns", &link->message_seconds, error);
  if (code == CLI_GOOD)
    code = read_number(&from, "gb_per_s", &link->bytes_per_second, error);
  link->bytes_per_second /= nano;
  return code;
}

static int read_rate(const char *path, const json_t *object, size_t index, bench_cost_model *model,
                     cli_error *error) {
  static const char *const kernels[] = {"cpu", "simt", "sm80", "sm90", NULL};
  static const char *const passes[] = {"fwd", "bwd", NULL};
  static const char *const dtypes[] = {"f32", "bf16", "f16", NULL};
  source from = {path, "", object};
  bsd_cost_rate rate = {.head_dim = 0};
  int kernel = 0, dtype = 0;
  snprintf(from.where, sizeof from.where, "rates[%zu]", index);
  const struct {
    const char *key;
    double *value;
  } times[] = {{"launch_ns", &rate.launch_seconds}, {"row_ns", &rate.row_seconds},
               {"block_ns", &rate.block_seconds},   {"alone_ns", &rate.alone_seconds},
               {"tail_ns", &rate.tail_seconds},     {"byte_ns", &rate.byte_seconds}};
  int code = read_name(&from, "kernel", kernels, &kernel, error);
  if (code == CLI_GOOD)
    code = read_name(&from, "pass", passes, &rate.backward, error);
  if (code == CLI_GOOD)
    code = read_name(&from, "dtype", dtypes, &dtype, error);
  if (code == CLI_GOOD)
    code = read_whole(&from, "dim", 1, &rate.head_dim, error);
  if (code == CLI_GOOD)
    code = read_whole(&from, "block", 1, &rate.block, error);
  for (size_t i = 0; i < sizeof times / sizeof times[0] && code == CLI_GOOD; i++)
    code = read_nanoseconds(&from, times[i].key, times[i].value, error);
  snprintf(rate.kernel, sizeof rate.kernel, "%s", kernels[kernel]);
  rate.dtype = (bsd_dtype)dtype;
  return code == CLI_GOOD ? bench_cost_model_add(model, &rate, NAN, error) : code;
}

static int read_model(const char *path, const json_t *document, bench_cost_model *model,
                      cli_error *error) {
  source from = {path, "the document", document};
  const json_t *links = json_object_get(document, "links"), *rates;
  int64_t version = 0, host_ranks = 0;
  int code = read_whole(&from, "version", FILE_VERSION, &version, error);
  if (code == CLI_GOOD && version != FILE_VERSION)
    code = cli_fail(error, CLI_UNUSABLE, "%s: version is %lld, expected %d", path,
                    (long long)version, FILE_VERSION);
  if (code == CLI_GOOD)
    code = read_whole(&from, "host_ranks", 0, &host_ranks, error);
  if (code == CLI_GOOD)
    code = read_link(path, links, "host", &model->model.host, error);
  if (code == CLI_GOOD)
    code = read_link(path, links, "network", &model->model.network, error);
  model->model.host_ranks = (int)host_ranks;
  rates = json_object_get(document, "rates");
  if (code == CLI_GOOD && !json_is_array(rates))
    code = cli_fail(error, CLI_UNUSABLE, "%s: rates is %s, expected an array", path,
                    rates == NULL ? "missing" : "no array");
  for (size_t i = 0; code == CLI_GOOD && i < json_array_size(rates); i++)
    code = read_rate(path, json_array_get(rates, i), i, model, error);
  return code;
}

int bench_cost_file_read(const char *path, bench_cost_model *model, cli_error *error) {
  json_error_t failure;
  json_t *document = json_load_file(path, JSON_REJECT_DUPLICATES, &failure);
  *model = (bench_cost_model){.model = {.struct_size = sizeof model->model}};
  if (document == NULL)
    return cli_fail(error, CLI_UNUSABLE, "%s: %s, expected a cost model as JSON", path,
                    failure.text);
  int code = read_model(path, document, model, error);
  json_decref(document);
  if (code != CLI_GOOD)
    bench_cost_model_free(model);
  return code;
}

/* ---- writing ----------------------------------------------------------------------------- */

static json_t *link_object(const bsd_cost_link *link) {
  if (link->bytes_per_second == 0)
    return json_null();
  return json_pack("{s:f, s:f, s:f}", "latency_ns", link->latency_seconds / nano, "message_ns",
                   link->message_seconds / nano, "gb_per_s", link->bytes_per_second * nano);
}

static json_t *rate_object(const bsd_cost_rate *r, double fit_error) {
  return json_pack(
      "{s:s, s:s, s:s, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "kernel", r->kernel, "pass",
      r->backward ? "bwd" : "fwd", "dtype", cli_dtype_name(r->dtype), "dim",
      (json_int_t)r->head_dim, "block", (json_int_t)r->block, "launch_ns", r->launch_seconds / nano,
      "row_ns", r->row_seconds / nano, "block_ns", r->block_seconds / nano, "alone_ns",
      r->alone_seconds / nano, "tail_ns", r->tail_seconds / nano, "byte_ns", r->byte_seconds / nano,
      "fit_error", isfinite(fit_error) ? json_real(fit_error) : json_null());
}

int bench_cost_file_write(const bench_cost_model *m, const char *device, bench_output *output,
                          cli_error *error) {
  json_t *rates = json_array();
  for (int64_t i = 0; i < m->model.nrates; i++)
    json_array_append_new(rates, rate_object(&m->rates[i], m->errors[i]));
  json_t *document =
      json_pack("{s:i, s:s, s:i, s:{s:o, s:o}, s:o}", "version", FILE_VERSION, "device", device,
                "host_ranks", m->model.host_ranks, "links", "host", link_object(&m->model.host),
                "network", link_object(&m->model.network), "rates", rates);
  int bad = document == NULL ||
            json_dumpf(document, output->file, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) != 0 ||
            fputc('\n', output->file) == EOF;
  json_decref(document);
  return bad ? cli_fail(error, CLI_FAILED, "%s: the cost model could not be written", output->path)
             : CLI_GOOD;
}
