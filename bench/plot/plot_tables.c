/* plot_tables.c - the results as tables of the report: configurations, times, memory and exchange.
 *
 * A table is its column heads and a function that fills one row's texts; "" is nothing measured. */
#include "bench/plot/plot_tables.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/plot/plot_figures.h"
#include "bench/plot/plot_text.h"

enum { COLUMNS = 16, CELL = 512 };

typedef char row[COLUMNS][CELL];

typedef struct table {
  const char *title, *note;
  const char *heads[COLUMNS]; /* NULL ends; the first column names the row */
  int words;                  /* cells are words, not numbers, from this column on */
  void (*fill)(const plot_data *data, int64_t index, row texts);
} table;

static void put(char *text, double value) {
  plot_number(value, text);
}

static void put_bytes(char *text, int64_t bytes) {
  plot_bytes((double)bytes, text);
}

/* "12.3 (12.1-12.9)": the median and the 5th to 95th percentile. */
static void put_time(char *text, const bench_timing *t) {
  char ms[PLOT_NUMBER], low[PLOT_NUMBER], high[PLOT_NUMBER];
  text[0] = '\0';
  if (isnan(t->ms))
    return;
  plot_number(t->ms, ms);
  plot_number(t->ms_p5, low);
  plot_number(t->ms_p95, high);
  snprintf(text, CELL, "%s (%s\u2013%s)", ms, low, high);
}

/* "12.3 (+4 %)": the prediction and how far it is from what was measured. */
static void put_prediction(char *text, double predicted, double measured) {
  char ms[PLOT_NUMBER];
  plot_number(predicted, ms);
  if (isnan(predicted) || isnan(measured))
    snprintf(text, CELL, "%s", ms);
  else
    snprintf(text, CELL, "%s (%+.0f %%)", ms, 100 * (predicted / measured - 1));
}

static void put_dense(char *text, const bench_baseline *baseline, double ms) {
  if (baseline->status == BENCH_BASELINE_OOM)
    snprintf(text, CELL, "OOM");
  else
    put(text, ms);
}

static void put_check(char *text, const bench_check *c) {
  double worst = fmax(fmax(c->o, c->dq), fmax(c->dk, c->dv)); /* fmax passes over NAN */
  text[0] = '\0';
  if (c->pass >= 0)
    snprintf(text, CELL, "%s, %.1e", c->pass ? "good" : "FAILED", worst);
}

static void put_name(const plot_data *data, int64_t index, char *text) {
  char key[PLOT_KEY], label[256];
  const unsigned named = 1u << PLOT_PATTERN | 1u << PLOT_LENGTH | 1u << PLOT_RANKS;
  plot_data_name(data, &data->items[index], ~named, key, label, sizeof label);
  snprintf(text, CELL, "%lld. %s", (long long)index + 1, label);
}

/* Whole, unless it is long: LongNet's has a branch for each doubling of the length. */
static void put_pattern(char *text, const char *pattern) {
  enum { LONGEST = 64, HEAD = 48 };
  int branches = 1;
  for (const char *p = pattern; *p != '\0'; p++)
    branches += *p == ';';
  if (strlen(pattern) <= LONGEST)
    snprintf(text, CELL, "%s", pattern);
  else
    snprintf(text, CELL, "%.*s\u2026 (%d branches)", HEAD, pattern, branches);
}

/* ---- rows -------------------------------------------------------------------------------- */

static void fill_configuration(const plot_data *data, int64_t index, row texts) {
  const bench_result *r = data->items[index].result;
  char tokens[PLOT_NUMBER];
  int i = 0;
  plot_tokens(r->n, tokens);
  snprintf(texts[i++], CELL, "%lld", (long long)index + 1);
  snprintf(texts[i++], CELL, "%s", tokens);
  snprintf(texts[i++], CELL, "%lld", (long long)r->batch);
  snprintf(texts[i++], CELL, r->heads == r->kv_heads ? "%lld" : "%lld / %lld", (long long)r->heads,
           (long long)r->kv_heads);
  snprintf(texts[i++], CELL, "%lld", (long long)r->dim);
  snprintf(texts[i++], CELL, "%lld", (long long)r->block);
  snprintf(texts[i++], CELL, "%d", r->ranks);
  snprintf(texts[i++], CELL, isnan(r->density) ? "" : "%.2f %%", 100 * (1 - r->density));
  put(texts[i++], r->active_pairs < 0 ? NAN : (double)r->active_pairs * 1e-6);
  snprintf(texts[i++], CELL, "%s%s", cli_dtype_name(r->dtype), r->causal ? ", causal" : "");
  snprintf(texts[i++], CELL, "%s", r->kernel);
  snprintf(texts[i++], CELL, "%s", r->layout);
  put_pattern(texts[i++], r->pattern);
}

static void fill_times(const plot_data *data, int64_t index, row texts) {
  const bench_result *r = data->items[index].result;
  const bench_baseline *b = &r->baseline;
  int i = 0;
  put_name(data, index, texts[i++]);
  put_time(texts[i++], &r->forward);
  put(texts[i++], r->forward.tflops);
  put_prediction(texts[i++], r->predicted_forward_ms, r->forward.ms);
  put_dense(texts[i++], b, b->forward_ms);
  put(texts[i++], bench_speedup(b->forward_ms, r->forward.ms));
  put_time(texts[i++], &r->backward);
  put(texts[i++], r->backward.tflops);
  put_prediction(texts[i++], r->predicted_backward_ms, r->backward.ms);
  put_dense(texts[i++], b, b->backward_ms);
  put(texts[i++], bench_speedup(b->backward_ms, r->backward.ms));
  put(texts[i++], r->plan_ms);
  put_check(texts[i++], &r->check);
}

static void fill_memory(const plot_data *data, int64_t index, row texts) {
  const bench_result *r = data->items[index].result;
  int i = 0;
  put_name(data, index, texts[i++]);
  put_bytes(texts[i++], r->memory_peak);
  put_bytes(texts[i++], r->memory_tensors);
  put_bytes(texts[i++], r->memory_workspace);
  put_bytes(texts[i++], r->memory_plan);
  put_bytes(texts[i], r->baseline.bytes);
  if (r->baseline.status == BENCH_BASELINE_OOM)
    strncat(texts[i], " (OOM)", CELL - strlen(texts[i]) - 1);
}

static int64_t sum(int64_t forward, int64_t backward) {
  return forward < 0 && backward < 0 ? -1
                                     : (forward > 0 ? forward : 0) + (backward > 0 ? backward : 0);
}

static void fill_exchange(const plot_data *data, int64_t index, row texts) {
  const bench_result *r = data->items[index].result;
  const bench_traffic *f = &r->traffic_forward, *b = &r->traffic_backward;
  int i = 0;
  put_name(data, index, texts[i++]);
  if (r->ranks == 1)
    return;
  put_bytes(texts[i++], sum(f->bytes_moved, b->bytes_moved));
  put_bytes(texts[i++], sum(f->bytes_lower_bound, b->bytes_lower_bound));
  put_bytes(texts[i++], sum(f->bytes_allgather, b->bytes_allgather));
  plot_bytes(plot_ring_bytes(r), texts[i++]);
  snprintf(texts[i++], CELL, r->stages < 0 ? "" : "%d", r->stages);
  put(texts[i++], f->exposed_ms);
  put(texts[i++], b->exposed_ms);
  put(texts[i++], f->overlap);
  put(texts[i++], b->overlap);
  put(texts[i++], r->imbalance);
  put(texts[i++], r->efficiency_forward);
  put(texts[i++], r->efficiency_backward);
  put(texts[i++], r->predicted_efficiency);
}

static const table tables[] = {
    {"Configurations",
     "Sparsity is the share of pairs that is left out, as reached, not as asked for.",
     {"#", "tokens", "batch", "heads / KV heads", "D", "block", "ranks", "sparsity",
      "million active pairs", "type", "kernel", "layout", "pattern", NULL},
     9,
     fill_configuration},
    {"Time",
     "Milliseconds: medians (5th\u2013\u200b95th percentile) of the slowest rank. TFLOP/s count "
     "active "
     "pairs only.",
     {"configuration", "forward ms", "TFLOP/s", "predicted ms", "dense ms", "speed-up",
      "backward ms", "TFLOP/s", "predicted ms", "dense ms", "speed-up", "plan ms",
      "check, largest error", NULL},
     COLUMNS,
     fill_times},
    {"Memory of the worst rank",
     "Dense attention needs n\u00b2 scores a head; OOM: not run, since there is not as much.",
     {"configuration", "peak", "tensors", "workspace", "plan", "dense attention", NULL},
     COLUMNS,
     fill_memory},
    {"Exchange between ranks",
     "Payload of one forward and one backward, all ranks together.",
     {"configuration", "moved", "least possible", "all-gather", "ring", "stages",
      "exposed ms, forward", "backward", "overlap, forward", "backward", "imbalance",
      "efficiency, forward", "backward", "predicted", NULL},
     COLUMNS,
     fill_exchange}};

/* ---- HTML -------------------------------------------------------------------------------- */

static int count_columns(const table *t) {
  int count = 0;
  while (t->heads[count] != NULL)
    count++;
  return count;
}

/* Which columns hold something; the result is how many beside the first. */
static int used_columns(const table *t, const plot_data *data, int used[COLUMNS]) {
  int columns = count_columns(t), total = 0;
  memset(used, 0, COLUMNS * sizeof *used);
  for (int64_t i = 0; i < data->count; i++) {
    row texts = {{0}};
    t->fill(data, i, texts);
    for (int c = 0; c < columns; c++)
      used[c] |= texts[c][0] != '\0';
  }
  for (int c = 1; c < columns; c++)
    total += used[c];
  return total;
}

static void write_cell(FILE *file, const table *t, int column, const char *text) {
  const char *kind =
      column == 0 ? (t->words == COLUMNS ? "th scope=\"row\" class=\"name\"" : "th scope=\"row\"")
      : column >= t->words                                          ? "td class=\"words\""
      : strcmp(text, "OOM") == 0 || strncmp(text, "FAILED", 6) == 0 ? "td class=\"bad\""
                                                                    : "td";
  fprintf(file, "<%s>", kind);
  plot_write_escaped(file, text[0] != '\0' ? text : "\u2013");
  fprintf(file, "</%.2s>", kind);
}

static void write_table(FILE *file, const table *t, const plot_data *data) {
  int used[COLUMNS], columns = count_columns(t);
  if (used_columns(t, data, used) == 0)
    return;
  fprintf(file,
          "<h3>%s</h3>\n<p>%s</p>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
          "aria-label=\"%s\"><table>\n<thead><tr>",
          t->title, t->note, t->title);
  for (int c = 0; c < columns; c++)
    if (used[c])
      fprintf(file, "<th scope=\"col\"%s>%s</th>", c >= t->words ? " class=\"words\"" : "",
              t->heads[c]);
  fputs("</tr></thead>\n<tbody>\n", file);
  for (int64_t i = 0; i < data->count; i++) {
    row texts = {{0}};
    t->fill(data, i, texts);
    fputs("<tr>", file);
    for (int c = 0; c < columns; c++)
      if (used[c])
        write_cell(file, t, c, texts[c]);
    fputs("</tr>\n", file);
  }
  fputs("</tbody></table></div>\n", file);
}

void plot_write_tables(FILE *file, const plot_data *data) {
  for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
    write_table(file, &tables[i], data);
}
