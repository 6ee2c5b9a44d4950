/* plot_data.c - all results that are drawn, in one row, and how they are told apart in a legend. */
#include "bench/plot/plot_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_cases.h"
#include "bench/plot/plot_text.h"

enum { LONGNET_TEXT = 2048 };

static int asked_for_longnet(const plot_run *run) {
  const json_t *args = json_object_get(run->document, "args");
  for (size_t i = 0; i < json_array_size(args); i++) {
    const char *text = json_string_value(json_array_get(args, i));
    const char *equal = text != NULL ? strchr(text, '=') : NULL;
    if (text != NULL && strcmp(equal != NULL ? equal + 1 : text, "longnet") == 0)
      return 1;
  }
  return 0;
}

/* The length that was asked for: under weak scaling that of one rank. */
static int64_t own_length(const bench_result *r) {
  return strcmp(r->scaling, "weak") == 0 ? r->n / r->ranks : r->n;
}

/* Short sequences have one branch, which is LongNet's only where that was asked for. */
static int is_longnet(const plot_item *item) {
  char text[LONGNET_TEXT];
  bench_longnet(own_length(item->result), text, sizeof text);
  return strcmp(text, item->result->pattern) == 0 &&
         (strchr(text, ';') != NULL || asked_for_longnet(item->run));
}

/* The text that tells patterns apart. */
static const char *pattern_key(const plot_item *item) {
  return is_longnet(item) ? "LongNet" : item->result->pattern;
}

void plot_pattern_name(const plot_item *item, char text[PLOT_TEXT]) {
  static const char prefix[] = "blocks=", strided[] = "blocks=strided(1:2,density=";
  const char *pattern = pattern_key(item);
  size_t length = strlen(pattern);
  enum { LONGEST = 44 };
  if (strncmp(pattern, strided, sizeof strided - 1) == 0 && strchr(pattern, ')')[1] == '\0')
    snprintf(text, PLOT_TEXT, "density %.*s", (int)(length - sizeof strided),
             pattern + sizeof strided - 1);
  else if (length > LONGEST)
    snprintf(text, PLOT_TEXT, "%.*s\u2026", LONGEST, pattern);
  else if (strncmp(pattern, prefix, sizeof prefix - 1) == 0 && strchr(pattern, ';') == NULL)
    snprintf(text, PLOT_TEXT, "%s", pattern + sizeof prefix - 1);
  else
    snprintf(text, PLOT_TEXT, "%s", pattern);
}

static const char *device_of(const plot_run *run) {
  const json_t *rank = json_array_get(json_object_get(run->document, "ranks"), 0);
  const char *device = json_string_value(json_object_get(rank, "device"));
  return device != NULL ? device : "unknown device";
}

static void attribute_text(const plot_item *item, plot_attribute attribute, char text[PLOT_TEXT]) {
  const bench_result *r = item->result;
  char number[PLOT_NUMBER];
  switch (attribute) {
  case PLOT_PATTERN:
    plot_pattern_name(item, text);
    break;
  case PLOT_CAUSAL:
    snprintf(text, PLOT_TEXT, r->causal ? "causal" : "not causal");
    break;
  case PLOT_LENGTH:
    plot_tokens(own_length(r), number);
    snprintf(text, PLOT_TEXT, "%s tokens%s", number,
             strcmp(r->scaling, "weak") == 0 ? " a rank" : "");
    break;
  case PLOT_BATCH:
    snprintf(text, PLOT_TEXT, "batch %lld", (long long)r->batch);
    break;
  case PLOT_HEADS:
    snprintf(text, PLOT_TEXT, "%lld/%lld heads", (long long)r->heads, (long long)r->kv_heads);
    break;
  case PLOT_DIM:
    snprintf(text, PLOT_TEXT, "D %lld", (long long)r->dim);
    break;
  case PLOT_DTYPE:
    snprintf(text, PLOT_TEXT, "%s", cli_dtype_name(r->dtype));
    break;
  case PLOT_BLOCK:
    snprintf(text, PLOT_TEXT, "block %lld", (long long)r->block);
    break;
  case PLOT_RANKS:
    snprintf(text, PLOT_TEXT, "%d rank%s", r->ranks, r->ranks == 1 ? "" : "s");
    break;
  case PLOT_KERNEL:
    snprintf(text, PLOT_TEXT, "%s", r->kernel);
    break;
  case PLOT_LAYOUT:
    snprintf(text, PLOT_TEXT, "%s", r->layout);
    break;
  default:
    snprintf(text, PLOT_TEXT, "%s", device_of(item->run));
  }
}

static int differ(const plot_item *a, const plot_item *b, plot_attribute attribute) {
  char first[PLOT_TEXT], second[PLOT_TEXT];
  if (attribute == PLOT_PATTERN)
    return strcmp(pattern_key(a), pattern_key(b)) != 0;
  attribute_text(a, attribute, first);
  attribute_text(b, attribute, second);
  return strcmp(first, second) != 0;
}

static void find_differences(plot_data *data) {
  for (int64_t i = 1; i < data->count; i++)
    for (int a = 0; a < PLOT_ATTRIBUTES; a++)
      data->varies[a] |= differ(&data->items[0], &data->items[i], (plot_attribute)a);
}

int plot_data_create(const plot_saved *saved, plot_data *data, cli_error *error) {
  int64_t count = 0;
  for (int64_t i = 0; i < saved->count; i++)
    count += saved->runs[i].count;
  *data = (plot_data){.items = calloc((size_t)count + 1, sizeof *data->items)};
  if (data->items == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for the results to draw");
  for (int64_t i = 0; i < saved->count; i++)
    for (int64_t k = 0; k < saved->runs[i].count; k++)
      data->items[data->count++] =
          (plot_item){.run = &saved->runs[i], .result = &saved->runs[i].results[k]};
  find_differences(data);
  return CLI_GOOD;
}

int plot_data_select(const plot_data *data, int (*keep)(const bench_result *result, int which),
                     int which, plot_data *selected, cli_error *error) {
  *selected = (plot_data){.items = calloc((size_t)data->count + 1, sizeof *data->items)};
  if (selected->items == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for the results to draw");
  for (int64_t i = 0; i < data->count; i++)
    if (keep(data->items[i].result, which))
      selected->items[selected->count++] = data->items[i];
  find_differences(selected);
  return CLI_GOOD;
}

void plot_data_free(plot_data *data) {
  free(data->items);
  *data = (plot_data){0};
}

/* Appends to text of `size` bytes, behind a comma where it is not empty; cut where it is full. */
static void append(char *text, size_t size, const char *part) {
  size_t used = strlen(text);
  snprintf(text + used, size - used, "%s%s", used > 0 ? ", " : "", part);
}

void plot_data_name(const plot_data *data, const plot_item *item, unsigned ignored,
                    char key[PLOT_KEY], char *label, size_t size) {
  char text[PLOT_TEXT];
  key[0] = label[0] = '\0';
  for (int a = 0; a < PLOT_ATTRIBUTES; a++) {
    if (ignored >> a & 1)
      continue;
    attribute_text(item, (plot_attribute)a, text);
    append(key, PLOT_KEY, a == PLOT_PATTERN ? pattern_key(item) : text);
    if (data->varies[a])
      append(label, size, text);
  }
  if (label[0] == '\0')
    snprintf(label, size, "block-sparse");
}

double plot_per_sequence(const bench_result *result, double ms) {
  return ms / (double)result->batch;
}
