/* plot_gnuplot.h - running gnuplot, and making its SVG follow the reader's colours. */
#ifndef PLOT_GNUPLOT_H
#define PLOT_GNUPLOT_H

#include "bench/cli.h"

/* Whether there is a gnuplot that draws SVG. Errors: CLI_UNUSABLE. */
int plot_gnuplot_judge(cli_error *error);

/* Runs `name`.gp in the directory, which writes `name`.svg there, and gives that file the class and the
 * style by which lines and text are dark on light and light on dark. `title` replaces gnuplot's own. */
int plot_gnuplot_run(const char *directory, const char *name, const char *title, cli_error *error);

#endif
