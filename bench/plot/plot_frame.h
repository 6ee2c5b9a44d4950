/* plot_frame.h - what figures that draw results as points of lines have in common. */
#ifndef PLOT_FRAME_H
#define PLOT_FRAME_H

#include "bench/plot/plot_chart.h"
#include "bench/plot/plot_data.h"

/* `which` is the figure's own: the pass, or the kind of scaling. */
typedef struct plot_frame {
  /* Whether a result has points here. */
  int (*holds)(const bench_result *result, int which);
  int (*add)(const plot_data *data, const plot_item *item, int which, plot_chart *chart,
             cli_error *error);
  /* Axes, further lines, name and caption of a figure whose points lie from least to greatest. */
  int (*dress)(const plot_data *data, int which, plot_chart *chart, plot_point least,
               plot_point greatest, plot_figure *figure, cli_error *error);
  /* The caption where no line has two points: which option gives them. */
  void (*miss)(int which, plot_figure *figure);
} plot_frame;

/* Draws the figure, whose title is set, or says what it misses. */
int plot_frame_draw(const plot_frame *frame, const plot_data *data, int which,
                    const char *directory, plot_figure *figure, cli_error *error);

#endif
