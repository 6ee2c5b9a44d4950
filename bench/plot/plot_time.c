/* plot_time.c - time against the length beside dense attention; speed-up against sparsity. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/plot/plot_figures.h"
#include "bench/plot/plot_frame.h"
#include "bench/plot/plot_text.h"

enum { MANY = 7 };

static const bench_timing *timing_of(const bench_result *r, int backward) {
  return backward ? &r->backward : &r->forward;
}

static double dense_ms(const bench_result *r, int backward) {
  return backward ? r->baseline.backward_ms : r->baseline.forward_ms;
}

/* Says how many lines found no place in the figure. */
static void note_left_out(const plot_chart *chart, plot_figure *figure) {
  size_t used = strlen(figure->caption);
  if (chart->left_out > 0)
    snprintf(figure->caption + used, sizeof figure->caption - used,
             " The figure holds %d lines; the others are in the tables.", PLOT_LINES);
}

/* ---- time -------------------------------------------------------------------------------- */

static int was_timed(const bench_result *r, int backward) {
  return timing_of(r, backward)->ms > 0;
}

/* Which dense attention: that of a type, where there are several. */
static void name_dense(const plot_data *data, const bench_result *r, char *label, size_t size) {
  const int several = data->varies[PLOT_DTYPE];
  snprintf(label, size, "dense attention%s%s", several ? ", " : "",
           several ? cli_dtype_name(r->dtype) : "");
}

/* Adds one result's point, and that of the dense baseline beside it. */
static int add_times(const plot_data *data, const plot_item *item, int backward, plot_chart *chart,
                     cli_error *error) {
  const unsigned same = 1u << PLOT_LENGTH | 1u << PLOT_BATCH;
  const unsigned dense = same | 1u << PLOT_PATTERN | 1u << PLOT_BLOCK | 1u << PLOT_LAYOUT;
  const bench_result *r = item->result;
  const bench_timing *t = timing_of(r, backward);
  char key[PLOT_KEY], label[PLOT_LABEL];
  int code = CLI_GOOD;
  if (dense_ms(r, backward) > 0) {
    plot_data_name(data, item, dense, key, label, sizeof label);
    name_dense(data, r, label, sizeof label);
    code = plot_chart_add(
        chart, key, label, PLOT_DENSE,
        (plot_point){(double)r->n, plot_per_sequence(r, dense_ms(r, backward)), NAN, NAN}, error);
  }
  if (code != CLI_GOOD)
    return code;
  plot_data_name(data, item, same, key, label, sizeof label);
  return plot_chart_add(chart, key, label, PLOT_MEASURED,
                        (plot_point){(double)r->n, plot_per_sequence(r, t->ms),
                                     plot_per_sequence(r, t->ms_p5),
                                     plot_per_sequence(r, t->ms_p95)},
                        error);
}

/* The shortest sequence for which the baseline had no memory becomes the chart's mark. */
static void mark_memory(const plot_data *data, plot_chart *chart) {
  const bench_result *first = NULL;
  char bytes[PLOT_NUMBER];
  for (int64_t i = 0; i < data->count; i++) {
    const bench_result *r = data->items[i].result;
    if (r->baseline.status == BENCH_BASELINE_OOM && (first == NULL || r->n < first->n))
      first = r;
  }
  if (first == NULL)
    return;
  chart->mark_x = (double)first->n;
  plot_bytes((double)first->baseline.bytes, bytes);
  snprintf(chart->mark, sizeof chart->mark, "dense%s%s: out of memory (%s)",
           data->varies[PLOT_DTYPE] ? " " : "",
           data->varies[PLOT_DTYPE] ? cli_dtype_name(first->dtype) : "", bytes);
}

static void miss_times(int backward, plot_figure *figure) {
  snprintf(figure->caption, sizeof figure->caption,
           "time against length needs two or more lengths of one pattern, e.g. --length "
           "2K:16K:x2, and the %s pass.",
           backward ? "backward" : "forward");
}

static int dress_times(const plot_data *data, int backward, plot_chart *chart, plot_point least,
                       plot_point greatest, plot_figure *figure, cli_error *error) {
  (void)error;
  mark_memory(data, chart);
  plot_chart_count_along_x(chart, least.x,
                           fmax(greatest.x, isnan(chart->mark_x) ? 0 : chart->mark_x), MANY);
  chart->y = (plot_axis){
      PLOT_LOG, least.y / (isnan(chart->mark_x) ? 1.5 : 4), greatest.y * 1.5, NULL, NULL, 0};
  snprintf(chart->x_label, sizeof chart->x_label, "tokens in a sequence");
  snprintf(chart->y_label, sizeof chart->y_label, "ms for one sequence");
  snprintf(figure->name, sizeof figure->name, backward ? "time_backward" : "time_forward");
  snprintf(figure->caption, sizeof figure->caption,
           "Lower is better, and a flatter line is better: dense attention quadruples with each "
           "doubling of the length, a fixed window or LongNet's pattern should about double. "
           "Marks are medians of the slowest rank, bars reach from the 5th to the 95th "
           "percentile.%s%s",
           isnan(chart->mark_x) ? ""
                                : " From the dotted line on, the dense attention named there does "
                                  "not fit into this machine's memory and was not run.",
           data->varies[PLOT_BATCH] ? " Times are divided by the batch." : "");
  note_left_out(chart, figure);
  return CLI_GOOD;
}

int plot_time(const plot_data *data, int backward, const char *directory, plot_figure *figure,
              cli_error *error) {
  static const plot_frame frame = {was_timed, add_times, dress_times, miss_times};
  snprintf(figure->title, sizeof figure->title, "%s", backward ? "Backward time" : "Forward time");
  return plot_frame_draw(&frame, data, backward, directory, figure, error);
}

/* ---- speed-up ---------------------------------------------------------------------------- */

static int has_speedup(const bench_result *r, int backward) {
  return bench_speedup(dense_ms(r, backward), timing_of(r, backward)->ms) > 0 && r->density > 0;
}

static int add_speedup(const plot_data *data, const plot_item *item, int backward,
                       plot_chart *chart, cli_error *error) {
  const bench_result *r = item->result;
  double speedup = bench_speedup(dense_ms(r, backward), timing_of(r, backward)->ms);
  char key[PLOT_KEY], label[PLOT_LABEL];
  plot_data_name(data, item, 1u << PLOT_PATTERN, key, label, sizeof label);
  return plot_chart_add(chart, key, label, PLOT_MEASURED,
                        (plot_point){r->density, speedup, NAN, NAN}, error);
}

/* The best of all results, in words. */
static void find_best(const plot_data *data, int backward, char *text, size_t size) {
  const bench_result *best = NULL;
  double most = 0;
  char tokens[PLOT_NUMBER], factor[PLOT_NUMBER];
  for (int64_t i = 0; i < data->count; i++) {
    const bench_result *r = data->items[i].result;
    double speedup = bench_speedup(dense_ms(r, backward), timing_of(r, backward)->ms);
    if (speedup > most) {
      most = speedup;
      best = r;
    }
  }
  text[0] = '\0';
  if (best == NULL)
    return;
  plot_tokens(best->n, tokens);
  plot_number(most, factor);
  snprintf(text, size, " The best here: %s times, at %s tokens and %.1f\u00a0%% sparsity.", factor,
           tokens, 100 * (1 - best->density));
}

static const double sparsity_tics[] = {1,    0.8,  0.5,   0.3,   0.2,   0.1,  0.05,
                                       0.02, 0.01, 0.005, 0.002, 0.001, 1e-4, 1e-5};
static const char *const sparsity_texts[] = {"0 %",    "20 %",   "50 %",    "70 %",    "80 %",
                                             "90 %",   "95 %",   "98 %",    "99 %",    "99.5 %",
                                             "99.8 %", "99.9 %", "99.99 %", "99.999 %"};

static void miss_speedups(int backward, plot_figure *figure) {
  snprintf(figure->caption, sizeof figure->caption,
           "speed-up against sparsity needs --baseline dense (or auto) and two or more "
           "densities, e.g. --density 0.02,0.05,0.1, and the %s pass.",
           backward ? "backward" : "forward");
}

/* Ideal is what leaving out pairs would give if every pair that is left cost what a pair of dense attention
 * costs. */
static int dress_speedups(const plot_data *data, int backward, plot_chart *chart, plot_point least,
                          plot_point greatest, plot_figure *figure, cli_error *error) {
  const plot_point from = {least.x, 1 / least.x, NAN, NAN};
  const plot_point to = {greatest.x, 1 / greatest.x, NAN, NAN};
  char best[160];
  chart->x =
      (plot_axis){PLOT_LOG,      greatest.x * 1.15, least.x / 1.15,
                  sparsity_tics, sparsity_texts,    sizeof sparsity_tics / sizeof sparsity_tics[0]};
  chart->y = (plot_axis){
      PLOT_LOG, fmin(1, least.y) / 1.2, fmax(greatest.y, 1 / least.x) * 1.2, NULL, NULL, 0};
  snprintf(chart->x_label, sizeof chart->x_label, "sparsity: share of pairs that is left out");
  snprintf(chart->y_label, sizeof chart->y_label, "times faster than dense attention");
  snprintf(figure->name, sizeof figure->name, backward ? "speedup_backward" : "speedup_forward");
  find_best(data, backward, best, sizeof best);
  snprintf(figure->caption, sizeof figure->caption,
           "Higher is better. On the dotted line every active pair costs what it costs in dense "
           "attention; above it the kernel is also better per pair, far below it the work that "
           "is left no longer fills the machine. Dense attention here materialises its "
           "scores.%s",
           best);
  int code = plot_chart_add_ideal(chart, "1 / density: as many times fewer pairs", from, to, error);
  note_left_out(chart, figure);
  return code;
}

int plot_speedup(const plot_data *data, int backward, const char *directory, plot_figure *figure,
                 cli_error *error) {
  static const plot_frame frame = {has_speedup, add_speedup, dress_speedups, miss_speedups};
  snprintf(figure->title, sizeof figure->title, "%s",
           backward ? "Backward: speed-up over dense attention"
                    : "Forward: speed-up over dense attention");
  return plot_frame_draw(&frame, data, backward, directory, figure, error);
}
