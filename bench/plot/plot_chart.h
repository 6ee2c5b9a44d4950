/* plot_chart.h - a chart as data: named lines of points and axes, written as gnuplot's input. */
#ifndef PLOT_CHART_H
#define PLOT_CHART_H

#include <stdint.h>

#include "bench/cli.h"
#include "bench/plot/plot_text.h"

enum { PLOT_LINES = 10, PLOT_LABEL = 96, PLOT_TICS = 24 };

typedef struct plot_point {
  double x, y, low, high; /* low and high: ends of an error bar, NAN: none */
} plot_point;

typedef enum plot_kind {
  PLOT_MEASURED,  /* a solid line with its own colour and mark */
  PLOT_PREDICTED, /* the same colour, dashed, open marks */
  PLOT_DENSE,     /* in ink, dashed, squares: what ours is compared with */
  PLOT_REFERENCE, /* thin and dotted, no marks */
  PLOT_CLOUD      /* marks alone */
} plot_kind;

typedef struct plot_line {
  char *key; /* what tells lines apart; owned */
  char label[PLOT_LABEL];
  plot_kind kind;
  int colour; /* 0 .. 5, chosen when it is drawn */
  plot_point *points;
  int64_t count;
} plot_line;

typedef enum plot_scale { PLOT_LINEAR, PLOT_LOG } plot_scale;

typedef struct plot_axis {
  plot_scale scale;
  double low, high; /* the range drawn; high < low: backwards */
  const double *tics;
  const char *const *tic_labels;
  int ntics; /* 0: gnuplot's own */
} plot_axis;

/* Room for an axis's tics. */
typedef struct plot_tics {
  double at[PLOT_TICS];
  char texts[PLOT_TICS][PLOT_NUMBER];
  const char *labels[PLOT_TICS]; /* mostly of texts */
} plot_tics;

typedef struct plot_chart {
  char x_label[128], y_label[128];
  plot_axis x, y;
  plot_tics x_tics, y_tics;
  plot_line *lines; /* owned */
  int nlines;
  int left_out;  /* lines that found no place */
  double mark_x; /* a vertical mark with a note, NAN: none */
  char mark[128];
} plot_chart;

/* Adds a point to the line of `key` and kind, which is made where there is none. Points are sorted by x when the
 * chart is written. Errors: CLI_FAILED, no memory. */
int plot_chart_add(plot_chart *chart, const char *key, const char *label, plot_kind kind,
                   plot_point point, cli_error *error);

/* A dotted line between two points: what would be ideal. */
int plot_chart_add_ideal(plot_chart *chart, const char *label, plot_point from, plot_point to,
                         cli_error *error);

/* Removes lines of fewer than `points` different x, and of the others those beyond PLOT_LINES. */
void plot_chart_keep_lines(plot_chart *chart, int points);

/* The least and the greatest x and y of all points; false if there is none. */
int plot_chart_range(const plot_chart *chart, plot_point *least, plot_point *greatest);

/* A logarithmic x axis, a tenth longer at both ends than the points from `least` to `greatest`, with tics at the x
 * of points, whole numbers written like tokens: all of them, or, where they are more than `many`, the powers of
 * four among them. */
void plot_chart_count_along_x(plot_chart *chart, double least, double greatest, int many);

/* Writes NAME.dat and NAME.gp into the directory, and draws NAME.svg. */
int plot_chart_draw(plot_chart *chart, const char *directory, const char *name, const char *title,
                    cli_error *error);

void plot_chart_free(plot_chart *chart);

#endif
