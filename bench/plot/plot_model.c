/* plot_model.c - predicted against measured time. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/plot/plot_chart.h"
#include "bench/plot/plot_figures.h"

/* |predicted / measured - 1| of every pass, to be sorted. */
typedef struct errors {
  double *values;
  int64_t count;
} errors;

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(errors *e) {
  qsort(e->values, (size_t)e->count, sizeof *e->values, compare_doubles);
  return (e->values[e->count / 2] + e->values[(e->count - 1) / 2]) / 2;
}

static int add_pass(const char *label, double measured, double predicted, plot_chart *chart,
                    errors *e, cli_error *error) {
  if (!(measured > 0) || !(predicted > 0))
    return CLI_GOOD;
  e->values[e->count++] = fabs(predicted / measured - 1);
  return plot_chart_add(chart, label, label, PLOT_CLOUD,
                        (plot_point){measured, predicted, NAN, NAN}, error);
}

static int draw(const char *directory, plot_chart *chart, errors *e, plot_figure *figure,
                cli_error *error) {
  plot_point least, greatest;
  plot_chart_range(chart, &least, &greatest);
  double low = fmin(least.x, least.y) / 1.5, high = fmax(greatest.x, greatest.y) * 1.5;
  chart->x = chart->y = (plot_axis){PLOT_LOG, low, high, NULL, NULL, 0};
  snprintf(chart->x_label, sizeof chart->x_label, "measured ms");
  snprintf(chart->y_label, sizeof chart->y_label, "predicted ms");
  snprintf(figure->name, sizeof figure->name, "predicted");
  snprintf(
      figure->caption, sizeof figure->caption,
      "Closer to the dotted line is better: the cost model, by which a plan chooses layout and "
      "stages, then knows this machine. Half of the %lld predictions are within %.1f %%. "
      "--calibrate measures the model's constants.",
      (long long)e->count, 100 * median(e));
  int code = plot_chart_add_ideal(chart, "predicted = measured", (plot_point){low, low, NAN, NAN},
                                  (plot_point){high, high, NAN, NAN}, error);
  return code == CLI_GOOD ? plot_chart_draw(chart, directory, figure->name, figure->title, error)
                          : code;
}

int plot_model(const plot_data *data, const char *directory, plot_figure *figure,
               cli_error *error) {
  plot_chart chart = {.mark_x = NAN};
  errors e = {.values = calloc((size_t)data->count * 2 + 1, sizeof *e.values)};
  int code = e.values != NULL ? CLI_GOOD : cli_fail(error, CLI_FAILED, "no memory for a figure");
  snprintf(figure->title, sizeof figure->title, "Predicted and measured time");
  for (int64_t i = 0; i < data->count && code == CLI_GOOD; i++) {
    const bench_result *r = data->items[i].result;
    code = add_pass("forward", r->forward.ms, r->predicted_forward_ms, &chart, &e, error);
    if (code == CLI_GOOD)
      code = add_pass("backward", r->backward.ms, r->predicted_backward_ms, &chart, &e, error);
  }
  if (code == CLI_GOOD && e.count == 0)
    snprintf(figure->caption, sizeof figure->caption,
             "predicted against measured time needs results that hold both: a run, not "
             "--simulate, of a version whose plans predict.");
  else if (code == CLI_GOOD)
    code = draw(directory, &chart, &e, figure, error);
  plot_chart_free(&chart);
  free(e.values);
  return code;
}
