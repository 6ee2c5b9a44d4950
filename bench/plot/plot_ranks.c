/* plot_ranks.c - efficiency against the number of ranks; bytes beside all-gather and ring. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench/plot/plot_figures.h"
#include "bench/plot/plot_frame.h"
#include "bench/plot/plot_text.h"

enum { MANY = 8 };

/* Adds a point to the line of the item's name, of which `ignored` attributes are no part. */
static int add(const plot_data *data, const plot_item *item, unsigned ignored, const char *what,
               plot_kind kind, double x, double y, plot_chart *chart, cli_error *error) {
  char key[PLOT_KEY], name[PLOT_LABEL], label[PLOT_LABEL * 2];
  plot_data_name(data, item, ignored, key, name, sizeof name);
  snprintf(label, sizeof label, strcmp(name, "block-sparse") == 0 ? "%s%s" : "%s%s: %s", what,
           kind == PLOT_PREDICTED ? " (predicted)" : "", name);
  size_t used = strlen(key);
  snprintf(key + used, sizeof key - used, "|%s", what);
  return plot_chart_add(chart, key, label, kind, (plot_point){x, y, NAN, NAN}, error);
}

/* A logarithmic y axis with tics at up to eight powers of two, with their binary units. */
static void bytes_along_y(plot_chart *chart, double low, double high) {
  static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  int first = (int)ceil(log2(low)), last = (int)floor(log2(high)), count = 0;
  int step = (last - first) / 7 + 1;
  plot_tics *tics = &chart->y_tics;
  for (int power = first < 0 ? 0 : first; power <= last && power < 70; power++) {
    if (power % step != 0)
      continue;
    tics->at[count] = exp2(power);
    snprintf(tics->texts[count], PLOT_NUMBER, "%d %s", 1 << power % 10, units[power / 10]);
    tics->labels[count] = tics->texts[count];
    count++;
  }
  chart->y = (plot_axis){PLOT_LOG, low, high, tics->at, tics->labels, count};
}

/* ---- efficiency -------------------------------------------------------------------------- */

/* Plans alone, under --simulate: every figure of theirs is a prediction. */
static int is_simulated(const bench_result *r) {
  return isnan(r->forward.ms) && isnan(r->backward.ms);
}

/* A run on one rank that is no part of a scaling study says nothing here, and would take a line's place. */
static int is_alone(const bench_result *r) {
  return r->ranks == 1 && r->scaling[0] == '\0' && !is_simulated(r);
}

static int has_efficiency(const bench_result *r, int weak) {
  return (strcmp(r->scaling, "weak") == 0) == weak && !is_alone(r) &&
         (isfinite(r->efficiency_forward) || isfinite(r->efficiency_backward) ||
          isfinite(r->predicted_efficiency));
}

static int add_pass(const plot_data *data, const plot_item *item, const char *pass,
                    double efficiency, plot_chart *chart, cli_error *error) {
  const unsigned ignored = 1u << PLOT_RANKS | 1u << PLOT_LAYOUT;
  plot_kind kind = is_simulated(item->result) ? PLOT_PREDICTED : PLOT_MEASURED;
  if (!isfinite(efficiency))
    return CLI_GOOD;
  return add(data, item, ignored, pass, kind, item->result->ranks, 100 * efficiency, chart, error);
}

/* Both passes under --scaling; and what the cost model predicts of both together for what is run, or for plans
 * without --scaling. */
static int add_efficiency(const plot_data *data, const plot_item *item, int weak, plot_chart *chart,
                          cli_error *error) {
  (void)weak;
  const bench_result *r = item->result;
  const unsigned ignored = 1u << PLOT_RANKS | 1u << PLOT_LAYOUT;
  int code = add_pass(data, item, "forward", r->efficiency_forward, chart, error);
  if (code == CLI_GOOD)
    code = add_pass(data, item, "backward", r->efficiency_backward, chart, error);
  if (code == CLI_GOOD && isfinite(r->predicted_efficiency) &&
      !(is_simulated(r) && r->scaling[0] != '\0'))
    code = add(data, item, ignored, "both", PLOT_PREDICTED, r->ranks, 100 * r->predicted_efficiency,
               chart, error);
  return code;
}

static void miss_efficiency(int weak, plot_figure *figure) {
  const char *scaling = weak ? "weak" : "strong";
  snprintf(figure->caption, sizeof figure->caption,
           "%s scaling needs two or more numbers of ranks: mpirun -np 8 bsd_bench --scaling %s, "
           "or predictions by --scaling %s --simulate 8,64,512.",
           scaling, scaling, scaling);
}

static int dress_efficiency(const plot_data *data, int weak, plot_chart *chart, plot_point least,
                            plot_point greatest, plot_figure *figure, cli_error *error) {
  (void)data;
  plot_chart_count_along_x(chart, least.x, greatest.x, MANY);
  chart->y = (plot_axis){PLOT_LINEAR, 0, fmax(110, greatest.y * 1.05), NULL, NULL, 0};
  snprintf(chart->x_label, sizeof chart->x_label, "ranks");
  snprintf(chart->y_label, sizeof chart->y_label, "%% of ideal");
  snprintf(figure->name, sizeof figure->name, weak ? "scaling_weak" : "scaling_strong");
  snprintf(figure->caption, sizeof figure->caption,
           "%s Closer to 100\u00a0%% is better: each rank then works as fast as one rank alone. "
           "Dashed lines are predictions of the cost model, solid ones were measured. Ranks "
           "that share a processor or a GPU divide its speed, so such a run says nothing here.",
           weak ? "Each rank keeps the same number of tokens while ranks are added."
                : "The same problem is divided among more ranks.");
  return plot_chart_add_ideal(chart, "ideal", (plot_point){least.x, 100, NAN, NAN},
                              (plot_point){greatest.x, 100, NAN, NAN}, error);
}

int plot_efficiency(const plot_data *data, int weak, const char *directory, plot_figure *figure,
                    cli_error *error) {
  static const plot_frame frame = {has_efficiency, add_efficiency, dress_efficiency,
                                   miss_efficiency};
  snprintf(figure->title, sizeof figure->title, "%s", weak ? "Weak scaling" : "Strong scaling");
  return plot_frame_draw(&frame, data, weak, directory, figure, error);
}

/* ---- bytes ------------------------------------------------------------------------------- */

double plot_ring_bytes(const bench_result *r) {
  double elements = (double)r->n * (double)r->kv_heads * 2 * (double)r->dim * (double)r->batch;
  double keys = (r->ranks - 1) * elements * (double)cli_dtype_size(r->dtype);
  double bytes = 0;
  if (r->ranks == 1)
    return 0;
  if (r->traffic_forward.bytes_lower_bound >= 0)
    bytes += keys;
  if (r->traffic_backward.bytes_lower_bound >= 0)
    bytes += keys + r->ranks * elements * 4;
  return bytes;
}

static double both(int64_t forward, int64_t backward) {
  return (double)(forward > 0 ? forward : 0) + (double)(backward > 0 ? backward : 0);
}

static int has_traffic(const bench_result *r, int unused) {
  (void)unused;
  return r->ranks > 1 &&
         (r->traffic_forward.bytes_lower_bound >= 0 || r->traffic_backward.bytes_lower_bound >= 0);
}

/* Bytes that were moved; of a plan that was not run, those that it would move. */
static double moved_bytes(const bench_result *r) {
  const bench_traffic *f = &r->traffic_forward, *b = &r->traffic_backward;
  return both(f->bytes_moved >= 0 ? f->bytes_moved : f->bytes_lower_bound,
              b->bytes_moved >= 0 ? b->bytes_moved : b->bytes_lower_bound);
}

typedef enum traffic { OURS, ALLGATHER, RING, TRAFFICS } traffic;

static int add_traffic(const plot_data *data, const plot_item *item, traffic which, int by_length,
                       plot_chart *chart, cli_error *error) {
  const bench_result *r = item->result;
  unsigned ignored = 1u << PLOT_LAYOUT | (by_length ? 1u << PLOT_LENGTH : 1u << PLOT_RANKS);
  unsigned dense = ignored | 1u << PLOT_PATTERN | 1u << PLOT_CAUSAL | 1u << PLOT_BLOCK |
                   1u << PLOT_KERNEL | 1u << PLOT_DEVICE;
  double x = by_length ? (double)r->n : r->ranks;
  if (which == OURS)
    return add(data, item, ignored, "moved", PLOT_MEASURED, x, moved_bytes(r), chart, error);
  if (which == RING)
    return add(data, item, dense, "ring attention", PLOT_REFERENCE, x, plot_ring_bytes(r), chart,
               error);
  return add(data, item, dense, "all-gather", PLOT_DENSE, x,
             both(r->traffic_forward.bytes_allgather, r->traffic_backward.bytes_allgather), chart,
             error);
}

/* Where nothing is moved there is no place on a logarithmic axis: such points go to its foot. The result is the
 * foot. */
static double lift_zeros(plot_chart *chart, int *zeros) {
  double least = INFINITY;
  *zeros = 0;
  for (int i = 0; i < chart->nlines; i++)
    for (int64_t k = 0; k < chart->lines[i].count; k++)
      if (chart->lines[i].points[k].y > 0)
        least = fmin(least, chart->lines[i].points[k].y);
  for (int i = 0; i < chart->nlines; i++)
    for (int64_t k = 0; k < chart->lines[i].count; k++)
      if (!(chart->lines[i].points[k].y > 0)) {
        chart->lines[i].points[k].y = least / 2;
        ++*zeros;
      }
  return least / 2;
}

/* What the runs say together. */
static void traffic_words(const plot_data *data, char *text, size_t size) {
  int64_t runs = 0, exact = 0;
  double share = INFINITY;
  char percent[PLOT_NUMBER];
  for (int64_t i = 0; i < data->count; i++) {
    const bench_result *r = data->items[i].result;
    const bench_traffic *f = &r->traffic_forward, *b = &r->traffic_backward;
    share = fmin(share, moved_bytes(r) / both(f->bytes_allgather, b->bytes_allgather));
    if (f->bytes_moved < 0 && b->bytes_moved < 0)
      continue;
    runs++;
    exact +=
        both(f->bytes_moved, b->bytes_moved) == both(f->bytes_lower_bound, b->bytes_lower_bound);
  }
  plot_number(100 * share, percent);
  int used = snprintf(text, size, " At best %s\u00a0%% of an all-gather here.", percent);
  if (runs > 0 && used > 0 && (size_t)used < size)
    snprintf(text + used, size - (size_t)used,
             " In %lld of %lld runs exactly the least that the pattern needs was moved.",
             (long long)exact, (long long)runs);
}

/* By ranks if one configuration was run on several numbers of them, else by length. */
static int collect_traffic(const plot_data *data, int *by_length, plot_chart *chart,
                           cli_error *error) {
  int code = CLI_GOOD;
  for (*by_length = 0; *by_length < 2; ++*by_length) {
    for (int which = OURS; which < TRAFFICS; which++)
      for (int64_t i = 0; i < data->count && code == CLI_GOOD; i++)
        code = add_traffic(data, &data->items[i], (traffic)which, *by_length, chart, error);
    plot_chart_keep_lines(chart, 2);
    if (code != CLI_GOOD || chart->nlines > 0)
      return code;
    plot_chart_free(chart);
    chart->mark_x = NAN;
  }
  return code;
}

int plot_traffic(const plot_data *all, const char *directory, plot_figure *figure,
                 cli_error *error) {
  plot_chart chart = {.mark_x = NAN};
  plot_point least, greatest;
  char words[256];
  int by_length = 0, zeros = 0;
  plot_data selected = {0}, *data = &selected;
  snprintf(figure->title, sizeof figure->title, "Bytes between ranks");
  int code = plot_data_select(all, has_traffic, 0, data, error);
  if (code == CLI_GOOD)
    code = collect_traffic(data, &by_length, &chart, error);
  double foot = lift_zeros(&chart, &zeros);
  if (code == CLI_GOOD && !plot_chart_range(&chart, &least, &greatest))
    snprintf(figure->caption, sizeof figure->caption,
             "bytes against ranks or length need more than one rank: mpirun -np 8 bsd_bench "
             "--scaling strong, or --simulate 2,4,8,16.");
  else if (code == CLI_GOOD) {
    plot_chart_count_along_x(&chart, least.x, greatest.x, MANY);
    bytes_along_y(&chart, foot, greatest.y * 1.5);
    snprintf(chart.x_label, sizeof chart.x_label, by_length ? "tokens in a sequence" : "ranks");
    snprintf(chart.y_label, sizeof chart.y_label, "in one run, all passes and ranks together");
    snprintf(figure->name, sizeof figure->name, "bytes");
    traffic_words(data, words, sizeof words);
    snprintf(figure->caption, sizeof figure->caption,
             "Lower is better. An all-gather brings all keys and values to every rank, ring "
             "attention passes them around (dotted); this library moves only blocks that some "
             "active block needs.%s%s%s",
             words, zeros > 0 ? " Marks on the axis: nothing is moved." : "",
             chart.left_out > 0
                 ? " The figure does not hold all lines; the others are in the tables."
                 : "");
    code = plot_chart_draw(&chart, directory, figure->name, figure->title, error);
  }
  plot_chart_free(&chart);
  plot_data_free(data);
  return code;
}
