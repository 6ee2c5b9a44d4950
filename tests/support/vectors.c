/* vectors.c - reads tests/vectors/plans.json. See vectors.h. */
#include "support/vectors.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "oracle.h"

static const char *const places[] = {"tests/vectors/plans.json", "vectors/plans.json"};

static json_t *open_file(void) {
  const char *source = getenv("srcdir");
  char path[4096];
  json_t *json = NULL;
  for (size_t x = 0; !json && x < sizeof places / sizeof *places; x++) {
    snprintf(path, sizeof path, "%s/%s", source ? source : ".", places[x]);
    json = json_load_file(path, 0, NULL);
  }
  if (!json) {
    fprintf(stderr, "vectors: no readable vectors/plans.json below \"%s\"; set srcdir\n",
            source ? source : ".");
    exit(2);
  }
  return json;
}

static int64_t *integers(const json_t *array, int64_t *count) {
  *count = (int64_t)json_array_size(array);
  int64_t *values = oracle_alloc(*count, sizeof *values);
  for (int64_t x = 0; x < *count; x++)
    values[x] = json_integer_value(json_array_get(array, (size_t)x));
  return values;
}

static int64_t integer(const json_t *object, const char *key) {
  const json_t *value = json_object_get(object, key);
  if (!json_is_integer(value)) {
    fprintf(stderr, "vectors: \"%s\" is missing or no integer\n", key);
    exit(2);
  }
  return json_integer_value(value);
}

static vector_layout read_layout(const json_t *json) {
  vector_layout layout = {0};
  layout.nranks = (int)integer(json, "P");
  layout.layout = json_string_value(json_object_get(json, "layout"));
  layout.bytes_forward = integer(json, "bytes_forward");
  layout.bytes_backward = integer(json, "bytes_backward");
  layout.imbalance = json_number_value(json_object_get(json, "imbalance"));
  const json_t *tokens = json_object_get(json, "local_tokens");
  if (layout.nranks > VECTOR_MAX_RANKS || json_array_size(tokens) != (size_t)layout.nranks) {
    fprintf(stderr, "vectors: local_tokens does not fit P = %d\n", layout.nranks);
    exit(2);
  }
  for (int rank = 0; rank < layout.nranks; rank++)
    layout.local_tokens[rank] = json_integer_value(json_array_get(tokens, (size_t)rank));
  return layout;
}

static vector_case read_case(const json_t *json) {
  vector_case c = {0};
  c.name = json_string_value(json_object_get(json, "name"));
  c.pattern = json_string_value(json_object_get(json, "pattern"));
  c.n = integer(json, "n");
  c.heads = integer(json, "heads");
  c.kv_heads = integer(json, "kv_heads");
  c.block = integer(json, "block");
  c.causal = json_is_true(json_object_get(json, "causal"));
  c.active_blocks = integer(json, "active_blocks");
  c.active_pairs = integer(json, "active_pairs");
  c.density = json_number_value(json_object_get(json, "density"));
  const json_t *documents = json_object_get(json, "cu_seqlens");
  if (json_is_array(documents)) {
    c.cu_seqlens = integers(documents, &c.documents);
    c.documents--;
  }
  const json_t *ranks = json_object_get(json, "ranks");
  c.nlayouts = (int64_t)json_array_size(ranks);
  c.layouts = oracle_alloc(c.nlayouts, sizeof *c.layouts);
  for (int64_t x = 0; x < c.nlayouts; x++)
    c.layouts[x] = read_layout(json_array_get(ranks, (size_t)x));
  return c;
}

vector_file vectors_load(void) {
  vector_file file = {.json = open_file()};
  const json_t *cases = json_object_get(file.json, "cases");
  file.ncases = (int64_t)json_array_size(cases);
  file.cases = oracle_alloc(file.ncases, sizeof *file.cases);
  for (int64_t x = 0; x < file.ncases; x++)
    file.cases[x] = read_case(json_array_get(cases, (size_t)x));
  return file;
}

void vectors_free(vector_file *file) {
  for (int64_t x = 0; x < file->ncases; x++) {
    free(file->cases[x].cu_seqlens);
    free(file->cases[x].layouts);
  }
  free(file->cases);
  json_decref(file->json);
}
