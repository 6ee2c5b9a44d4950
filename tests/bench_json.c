/* bench_json.c - judges a JSON file of bsd_bench: every key of the schema, its type, and what must hold.
 *
 * usage: bench_json FILE [KEY=VALUE...]    each KEY a path of the last result, as fwd.ms or check.pass,
 *        VALUE its JSON text, `null`, `set` (anything but null) or, for a number, `>x`
 *        bench_json -p FILE KEY...         prints those values, a line each
 * Exit status: 0 good, 1 not, with a sentence. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

static void fail(const char *what, const char *where) {
  fprintf(stderr, "bench_json: %s: %s\n", where, what);
  failures++;
}

/* A key and the letters of its types: i integer, r number, s string, b boolean, o object, a array, 0 null. */
typedef struct rule {
  const char *key, *types;
} rule;

static int has_type(const json_t *value, char type) {
  switch (type) {
  case 'i':
    return json_is_integer(value);
  case 'r':
    return json_is_number(value);
  case 's':
    return json_is_string(value);
  case 'b':
    return json_is_boolean(value);
  case 'o':
    return json_is_object(value);
  case 'a':
    return json_is_array(value);
  default:
    return json_is_null(value);
  }
}

static void check_rules(const json_t *object, const rule *rules, const char *where) {
  for (; rules->key != NULL; rules++) {
    const json_t *value = json_object_get(object, rules->key);
    int good = 0;
    char path[128];
    snprintf(path, sizeof path, "%s.%s", where, rules->key);
    for (const char *t = rules->types; value != NULL && *t != '\0'; t++)
      good |= has_type(value, *t);
    if (value == NULL)
      fail("the key is missing", path);
    else if (!good)
      fail("the value is of another type", path);
  }
}

static const rule top_rules[] = {{"version", "i"}, {"args", "a"},    {"environment", "o"},
                                 {"ranks", "a"},   {"results", "a"}, {"cu_seqlens", "a0"},
                                 {NULL, NULL}};
static const rule rank_rules[] = {{"rank", "i"}, {"host", "s"}, {"device", "s"}, {NULL, NULL}};
static const rule result_rules[] = {
    {"n", "i"},         {"batch", "i"},     {"heads", "i"},          {"kv_heads", "i"},
    {"dim", "i"},       {"dtype", "s"},     {"causal", "b"},         {"pattern", "s"},
    {"block", "i"},     {"density", "r0"},  {"active_blocks", "i0"}, {"active_pairs", "i0"},
    {"ranks", "i"},     {"backend", "s"},   {"kernel", "s"},         {"transport", "s0"},
    {"layout", "s"},    {"hash", "s0"},     {"stages", "i0"},        {"fwd", "o0"},
    {"bwd", "o0"},      {"baseline", "o"},  {"speedup", "o"},        {"memory", "o"},
    {"comm", "o"},      {"imbalance", "r"}, {"plan_ms", "r"},        {"check", "o0"},
    {"predicted", "o"}, {"scaling", "s0"},  {"host_us", "o"},        {"simulation", "o0"},
    {NULL, NULL}};
static const rule timing_rules[] = {
    {"ms", "r"}, {"tflops", "r"}, {"ms_p5", "r"}, {"ms_p95", "r"}, {NULL, NULL}};
static const rule baseline_rules[] = {
    {"status", "s"}, {"fwd_ms", "r0"}, {"bwd_ms", "r0"}, {"bytes", "i0"}, {NULL, NULL}};
static const rule pair_rules[] = {{"fwd", "r0"}, {"bwd", "r0"}, {NULL, NULL}};
static const rule host_rules[] = {
    {"fwd", "r0"}, {"bwd", "r0"}, {"graph_fwd", "r0"}, {"graph_bwd", "r0"}, {NULL, NULL}};
static const rule memory_rules[] = {
    {"tensors", "i"}, {"workspace", "i"}, {"peak", "i"}, {NULL, NULL}};
static const rule comm_rules[] = {{"fwd", "o0"}, {"bwd", "o0"}, {NULL, NULL}};
static const rule traffic_rules[] = {{"bytes_moved", "i0"},    {"bytes_lower_bound", "i"},
                                     {"bytes_allgather", "i"}, {"exposed_ms", "r0"},
                                     {"overlap", "r0"},        {NULL, NULL}};
static const rule error_rules[] = {{"o", "r0"},           {"lse", "r0"}, {"dq", "r0"},
                                   {"dk", "r0"},          {"dv", "r0"},  {"pass", "b"},
                                   {"rows", "i"},         {"keys", "i"}, {"kv_heads", "i"},
                                   {"from_library", "b"}, {NULL, NULL}};
static const rule simulation_rules[] = {{"planned", "i"},
                                        {"bytes_received_worst", "i"},
                                        {"seconds", "r"},
                                        {"bytes", "i0"},
                                        {NULL, NULL}};
static const rule predicted_rules[] = {
    {"fwd_ms", "r0"}, {"bwd_ms", "r0"}, {"efficiency", "r0"}, {NULL, NULL}};

static void check_part(const json_t *object, const char *key, const rule *rules) {
  const json_t *part = json_object_get(object, key);
  if (json_is_object(part))
    check_rules(part, rules, key);
}

/* A run's times in order, its bytes equal to the bound. */
static void check_pass(const json_t *result, const char *pass) {
  const json_t *timing = json_object_get(result, pass);
  const json_t *traffic = json_object_get(json_object_get(result, "comm"), pass);
  const json_t *moved = json_object_get(traffic, "bytes_moved");
  check_part(result, pass, timing_rules);
  if (json_is_object(traffic))
    check_rules(traffic, traffic_rules, "comm");
  if (json_is_integer(moved) && json_integer_value(moved) != json_integer_value(json_object_get(
                                                                 traffic, "bytes_lower_bound")))
    fail("bytes_moved is not bytes_lower_bound", pass);
  double exposed = json_number_value(json_object_get(traffic, "exposed_ms"));
  double overlap = json_number_value(json_object_get(traffic, "overlap"));
  if (exposed < 0 || overlap < 0 || overlap > 1)
    fail("exposed_ms is below 0, or overlap not in 0 to 1", pass);
  double ms = json_number_value(json_object_get(timing, "ms"));
  if (json_is_object(timing) && !(json_number_value(json_object_get(timing, "ms_p5")) <= ms &&
                                  ms <= json_number_value(json_object_get(timing, "ms_p95"))))
    fail("the median is not between p5 and p95", pass);
}

static void check_result(const json_t *result) {
  check_rules(result, result_rules, "results[]");
  check_part(result, "baseline", baseline_rules);
  check_part(result, "speedup", pair_rules);
  check_part(result, "host_us", host_rules);
  check_part(result, "memory", memory_rules);
  check_part(result, "comm", comm_rules);
  check_part(result, "check", error_rules);
  check_part(result, "predicted", predicted_rules);
  check_part(result, "simulation", simulation_rules);
  check_pass(result, "fwd");
  check_pass(result, "bwd");
  const char *hash = json_string_value(json_object_get(result, "hash"));
  if (hash != NULL && (strlen(hash) != 16 || strspn(hash, "0123456789abcdef") != 16))
    fail("not 16 hex digits", "hash");
}

static void check_document(const json_t *document) {
  size_t i;
  const json_t *value;
  check_rules(document, top_rules, "document");
  if (json_integer_value(json_object_get(document, "version")) != 1)
    fail("not 1", "version");
  json_array_foreach(json_object_get(document, "ranks"), i, value)
      check_rules(value, rank_rules, "ranks[]");
  json_array_foreach(json_object_get(document, "args"), i, value) {
    if (!json_is_string(value))
      fail("not a string", "args[]");
  }
  const char *name;
  json_object_foreach(json_object_get(document, "environment"), name, value) {
    if (!json_is_string(value))
      fail("not a string", name);
  }
  json_array_foreach(json_object_get(document, "results"), i, value) check_result(value);
}

/* ---- values asked for ---- */

/* results: their number; results.N.path: of the N-th; path: of the last. */
static const json_t *find(const json_t *document, const char *path) {
  const json_t *results = json_object_get(document, "results");
  const json_t *at = json_array_get(results, json_array_size(results) - 1);
  char copy[128], *rest = copy;
  snprintf(copy, sizeof copy, "%s", path);
  if (strncmp(copy, "results.", 8) == 0) {
    at = json_array_get(results, (size_t)strtol(copy + 8, &rest, 10));
    rest++;
  }
  for (char *key = strtok(rest, "."); key != NULL; key = strtok(NULL, "."))
    at = json_object_get(at, key);
  return at;
}

static void check_value(const json_t *document, const char *wanted) {
  char path[128];
  const char *value = strchr(wanted, '=');
  if (value == NULL)
    exit(99);
  snprintf(path, sizeof path, "%.*s", (int)(value - wanted), wanted);
  value++;
  if (strcmp(path, "count") == 0) {
    if (json_array_size(json_object_get(document, "results")) != (size_t)atol(value))
      fail("another number of results", wanted);
    return;
  }
  const json_t *found = find(document, path);
  if (strcmp(value, "set") == 0 ? found == NULL || json_is_null(found)
      : value[0] == '>'         ? !(json_number_value(found) > atof(value + 1))
                                : 0)
    fail("not so", wanted);
  if (strcmp(value, "set") == 0 || value[0] == '>')
    return;
  json_t *expected = json_loads(value, JSON_DECODE_ANY, NULL);
  if (expected == NULL || !json_equal(found, expected)) {
    char *text = json_dumps(found, JSON_ENCODE_ANY);
    fail(text != NULL ? text : "missing", wanted);
    free(text);
  }
  json_decref(expected);
}

int main(int argc, char **argv) {
  int print = argc > 1 && strcmp(argv[1], "-p") == 0;
  json_error_t error;
  if (argc < 2 + print)
    return 99;
  const char *file = argv[1 + print];
  json_t *document =
      strcmp(file, "-") == 0 ? json_loadf(stdin, 0, &error) : json_load_file(file, 0, &error);
  if (document == NULL) {
    fprintf(stderr, "bench_json: %s: line %d: %s\n", file, error.line, error.text);
    return 1;
  }
  check_document(document);
  for (int i = 2 + print; i < argc; i++) {
    if (!print) {
      check_value(document, argv[i]);
      continue;
    }
    char *text = json_dumps(find(document, argv[i]), JSON_ENCODE_ANY);
    puts(text != NULL ? text : "missing");
    free(text);
  }
  json_decref(document);
  return failures > 0;
}
