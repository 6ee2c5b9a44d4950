/* plot_chart.c - a chart as data: named lines of points and axes, written as gnuplot's input.
 *
 * The canvas is small and its letters large: it is shown at half the width of a desk's screen and at the full
 * width of a phone's. */
#include "bench/plot/plot_chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/plot/plot_gnuplot.h"
#include "bench/plot/plot_text.h"

enum { CANVAS_WIDTH = 450, CANVAS_HEIGHT = 310, KEY_LINE = 22, COLOURS = 6 };

/* Okabe and Ito's palette, three of its colours darker for thin lines on white. plot_gnuplot.c names their
 * counterparts on a dark ground. Marks differ too. */
static const char *const colours[COLOURS] = {"#0072b2", "#d55e00", "#009e73",
                                             "#b0568f", "#a87400", "#3a93c2"};
static const int filled_marks[COLOURS] = {7, 5, 9, 13, 11, 15};
static const int open_marks[COLOURS] = {6, 4, 8, 12, 10, 14};

/* A label that fits into the canvas. */
static void cut(const char *label, char text[PLOT_LABEL]) {
  enum { LONGEST = 48 };
  if (strlen(label) <= LONGEST)
    snprintf(text, PLOT_LABEL, "%s", label);
  else
    snprintf(text, PLOT_LABEL, "%.*s\u2026", LONGEST - 1, label);
}

static int no_memory(cli_error *error) {
  return cli_fail(error, CLI_FAILED, "no memory for a figure");
}

/* ---- lines ------------------------------------------------------------------------------- */

/* The line of `key` and kind, made where there is none. */
static int find_line(plot_chart *chart, const char *key, const char *label, plot_kind kind,
                     plot_line **line, cli_error *error) {
  for (int i = 0; i < chart->nlines; i++)
    if (strcmp(chart->lines[i].key, key) == 0 && chart->lines[i].kind == kind) {
      *line = &chart->lines[i];
      return CLI_GOOD;
    }
  plot_line *grown = realloc(chart->lines, ((size_t)chart->nlines + 1) * sizeof *grown);
  if (grown == NULL)
    return no_memory(error);
  chart->lines = grown;
  *line = &chart->lines[chart->nlines];
  **line = (plot_line){.key = strdup(key), .kind = kind};
  if ((*line)->key == NULL)
    return no_memory(error);
  cut(label, (*line)->label);
  chart->nlines++;
  return CLI_GOOD;
}

int plot_chart_add(plot_chart *chart, const char *key, const char *label, plot_kind kind,
                   plot_point point, cli_error *error) {
  plot_line *line = NULL;
  int code = find_line(chart, key, label, kind, &line, error);
  if (code != CLI_GOOD)
    return code;
  plot_point *grown = realloc(line->points, ((size_t)line->count + 1) * sizeof *grown);
  if (grown == NULL)
    return no_memory(error);
  line->points = grown;
  line->points[line->count++] = point;
  return CLI_GOOD;
}

int plot_chart_add_ideal(plot_chart *chart, const char *label, plot_point from, plot_point to,
                         cli_error *error) {
  int code = plot_chart_add(chart, "ideal", label, PLOT_REFERENCE, from, error);
  return code == CLI_GOOD ? plot_chart_add(chart, "ideal", label, PLOT_REFERENCE, to, error) : code;
}

static int compare_x(const void *a, const void *b) {
  double x = ((const plot_point *)a)->x, y = ((const plot_point *)b)->x;
  return (x > y) - (x < y);
}

static int different_x(plot_line *line) {
  int different = 0;
  if (line->count > 0)
    qsort(line->points, (size_t)line->count, sizeof *line->points, compare_x);
  for (int64_t i = 0; i < line->count; i++)
    different += i == 0 || line->points[i].x != line->points[i - 1].x;
  return different;
}

static void free_line(plot_line *line) {
  free(line->key);
  free(line->points);
}

void plot_chart_keep_lines(plot_chart *chart, int points) {
  int kept = 0;
  for (int i = 0; i < chart->nlines; i++) {
    const int is_long = different_x(&chart->lines[i]) >= points;
    if (is_long && kept < PLOT_LINES) {
      chart->lines[kept++] = chart->lines[i];
    } else {
      chart->left_out += is_long;
      free_line(&chart->lines[i]);
    }
  }
  chart->nlines = kept;
}

int plot_chart_range(const plot_chart *chart, plot_point *least, plot_point *greatest) {
  *least = (plot_point){INFINITY, INFINITY, 0, 0};
  *greatest = (plot_point){-INFINITY, -INFINITY, 0, 0};
  for (int i = 0; i < chart->nlines; i++)
    for (int64_t k = 0; k < chart->lines[i].count; k++) {
      const plot_point *point = &chart->lines[i].points[k];
      least->x = fmin(least->x, point->x);
      least->y = fmin(fmin(least->y, point->y), point->low); /* fmin passes over NAN */
      greatest->x = fmax(greatest->x, point->x);
      greatest->y = fmax(fmax(greatest->y, point->y), point->high);
    }
  return least->x <= greatest->x;
}

/* Tics at the x of points; how many. */
static int tics_at_points(const plot_chart *chart, int many, plot_tics *tics) {
  double found[512];
  int count = 0, kept = 0;
  for (int i = 0; i < chart->nlines; i++)
    for (int64_t k = 0; k < chart->lines[i].count && count < 512; k++) {
      int known = 0;
      for (int m = 0; m < count && !known; m++)
        known = found[m] == chart->lines[i].points[k].x;
      if (!known)
        found[count++] = chart->lines[i].points[k].x;
    }
  for (int i = 0; i < count && kept < PLOT_TICS; i++) {
    double power = log2(found[i]);
    if (count > many && (power != floor(power) || (int)power % 2 != 0))
      continue;
    tics->at[kept] = found[i];
    plot_tokens((int64_t)found[i], tics->texts[kept]);
    tics->labels[kept] = tics->texts[kept];
    kept++;
  }
  return kept;
}

void plot_chart_count_along_x(plot_chart *chart, double least, double greatest, int many) {
  plot_tics *tics = &chart->x_tics;
  chart->x = (plot_axis){PLOT_LOG, least / 1.1, greatest * 1.1, tics->at, tics->labels, 0};
  chart->x.ntics = tics_at_points(chart, many, tics);
}

void plot_chart_free(plot_chart *chart) {
  for (int i = 0; i < chart->nlines; i++)
    free_line(&chart->lines[i]);
  free(chart->lines);
  *chart = (plot_chart){0};
}

/* Colours in the order of the lines; a prediction has that of what it predicts. */
static void choose_colours(plot_chart *chart) {
  int next = 0;
  for (int i = 0; i < chart->nlines; i++) {
    plot_line *line = &chart->lines[i];
    int earlier = 0;
    while (strcmp(chart->lines[earlier].key, line->key) != 0)
      earlier++;
    if (line->kind == PLOT_DENSE || line->kind == PLOT_REFERENCE)
      continue;
    line->colour = earlier < i ? chart->lines[earlier].colour : next++ % COLOURS;
  }
}

/* ---- gnuplot's input --------------------------------------------------------------------- */

static void write_data(FILE *file, plot_chart *chart) {
  for (int i = 0; i < chart->nlines; i++) {
    plot_line *line = &chart->lines[i];
    different_x(line); /* sorts */
    fprintf(file, "%s# %s: x y low high\n", i > 0 ? "\n\n" : "", line->label);
    for (int64_t k = 0; k < line->count; k++) {
      const plot_point *p = &line->points[k];
      fprintf(file, "%.9g %.9g %.9g %.9g\n", p->x, p->y, isnan(p->low) ? p->y : p->low,
              isnan(p->high) ? p->y : p->high);
    }
  }
}

/* Tics at 1, 2, 5 times powers of ten, fewer where they would be many. */
static void write_log_tics(FILE *file, char axis, double low, double high) {
  static const double steps[] = {1, 2, 5};
  int each = log10(high / low) < 2.2 ? 3 : 1, written = 0;
  fprintf(file, "set %ctics (", axis);
  for (int power = (int)floor(log10(low)); power <= (int)ceil(log10(high)); power++)
    for (int i = 0; i < each; i++) {
      double value = steps[i] * pow(10, power);
      if (value >= low * 0.999 && value <= high * 1.001)
        fprintf(file, "%s'%.10g' %.10g", written++ > 0 ? ", " : "", value, value);
    }
  fputs(")\n", file);
}

static void write_axis(FILE *file, char name, const plot_axis *axis) {
  if (axis->scale == PLOT_LOG)
    fprintf(file, "set logscale %c\n", name);
  fprintf(file, "set %crange [%.9g:%.9g]\n", name, axis->low, axis->high);
  if (axis->ntics == 0 && axis->scale == PLOT_LOG)
    write_log_tics(file, name, axis->low, axis->high);
  if (axis->ntics == 0)
    return;
  fprintf(file, "set %ctics (", name);
  for (int i = 0; i < axis->ntics; i++) {
    fprintf(file, "%s'", i > 0 ? ", " : "");
    for (const char *p = axis->tic_labels[i]; *p != '\0'; p++) /* a tic's text is a format */
      fputs(*p == '%' ? "%%" : (char[]){*p, '\0'}, file);
    fprintf(file, "' %.9g", axis->tics[i]);
  }
  fputs(")\n", file);
}

/* The note stands at the foot, on the side of the mark that has more room. */
static void write_mark(FILE *file, const plot_chart *chart) {
  const plot_axis *x = &chart->x;
  if (isnan(chart->mark_x))
    return;
  double place = x->scale == PLOT_LOG ? log(chart->mark_x / x->low) / log(x->high / x->low)
                                      : (chart->mark_x - x->low) / (x->high - x->low);
  fprintf(file, "set arrow from %.9g, graph 0 to %.9g, graph 1 nohead lw 1 dt 3\nset label '",
          chart->mark_x, chart->mark_x);
  plot_write_quoted(file, chart->mark);
  fprintf(file, "' at %.9g, graph 0.05 %s font ',13'\n", chart->mark_x,
          place > 0.5 ? "right offset -0.7,0" : "left offset 0.7,0");
}

static void write_style(FILE *file, const plot_line *line) {
  const char *colour = colours[line->colour];
  switch (line->kind) {
  case PLOT_MEASURED:
    fprintf(file, "with yerrorlines lc rgb '%s' lw 2 pt %d ps 0.8", colour,
            filled_marks[line->colour]);
    break;
  case PLOT_PREDICTED:
    fprintf(file, "using 1:2 with linespoints lc rgb '%s' lw 1.5 dt (6,4) pt %d ps 0.9", colour,
            open_marks[line->colour]);
    break;
  case PLOT_DENSE:
    fprintf(file, "using 1:2 with linespoints lc rgb 'black' lw 1.5 dt (8,4) pt 4 ps 0.8");
    break;
  case PLOT_CLOUD:
    fprintf(file, "using 1:2 with points lc rgb '%s' lw 1.5 pt %d ps 0.9", colour,
            open_marks[line->colour]);
    break;
  default:
    fprintf(file, "using 1:2 with lines lc rgb 'black' lw 1.5 dt 3");
  }
}

static void write_script(FILE *file, const plot_chart *chart, const char *name) {
  fprintf(file,
          "set terminal svg noenhanced dynamic size %d,%d name '%s' font 'sans-serif,15'\n"
          "set output '%s.svg'\n"
          "set border 3 lw 0.75\nset tics nomirror scale 0.4\nset errorbars small\n"
          "set grid ytics lt 1 lw 0.5 lc rgb '#d9dce0'\n"
          "set key below left Left reverse maxcols 1 samplen 2.5 height 0.6 font ',13'\n"
          "set tmargin 1.8\nset rmargin 2.5\nset xtics offset 0,0.4\n",
          CANVAS_WIDTH, CANVAS_HEIGHT + KEY_LINE * chart->nlines, name, name);
  write_axis(file, 'x', &chart->x);
  write_axis(file, 'y', &chart->y);
  fputs("set xlabel '", file);
  plot_write_quoted(file, chart->x_label);
  fputs("' offset 0,0.9\nset label '", file);
  plot_write_quoted(file, chart->y_label);
  fputs("' at graph 0, graph 1.07 left\n", file);
  write_mark(file, chart);
  fputs("plot", file);
  for (int i = 0; i < chart->nlines; i++) {
    fprintf(file, "%s '%s.dat' index %d ", i > 0 ? ", \\\n " : "", name, i);
    write_style(file, &chart->lines[i]);
    fputs(" title '", file);
    plot_write_quoted(file, chart->lines[i].label);
    fputc('\'', file);
  }
  fputc('\n', file);
}

static void write_chart(void *figure, const char *name, FILE *data, FILE *script) {
  write_data(data, figure);
  write_script(script, figure, name);
}

int plot_chart_draw(plot_chart *chart, const char *directory, const char *name, const char *title,
                    cli_error *error) {
  choose_colours(chart);
  return plot_gnuplot_draw(write_chart, chart, directory, name, title, error);
}
