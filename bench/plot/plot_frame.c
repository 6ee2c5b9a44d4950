/* plot_frame.c - see plot_frame.h. */
#include "bench/plot/plot_frame.h"

#include <math.h>

static int fill(const plot_frame *frame, const plot_data *data, int which, const char *directory,
                plot_chart *chart, plot_figure *figure, cli_error *error) {
  plot_point least, greatest;
  for (int64_t i = 0; i < data->count; i++) {
    int code = frame->add(data, &data->items[i], which, chart, error);
    if (code != CLI_GOOD)
      return code;
  }
  plot_chart_keep_lines(chart, 2);
  if (!plot_chart_range(chart, &least, &greatest)) {
    frame->miss(which, figure);
    return CLI_GOOD;
  }
  int code = frame->dress(data, which, chart, least, greatest, figure, error);
  return code == CLI_GOOD ? plot_chart_draw(chart, directory, figure->name, figure->title, error)
                          : code;
}

int plot_frame_draw(const plot_frame *frame, const plot_data *data, int which,
                    const char *directory, plot_figure *figure, cli_error *error) {
  plot_chart chart = {.mark_x = NAN};
  plot_data selected = {0};
  int code = plot_data_select(data, frame->holds, which, &selected, error);
  if (code == CLI_GOOD)
    code = fill(frame, &selected, which, directory, &chart, figure, error);
  plot_chart_free(&chart);
  plot_data_free(&selected);
  return code;
}
