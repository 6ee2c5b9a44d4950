/* plot_gnuplot.h - drawing by gnuplot, and making its SVG follow the reader's colours. */
#ifndef PLOT_GNUPLOT_H
#define PLOT_GNUPLOT_H

#include <stdio.h>

#include "bench/cli.h"

/* Whether there is a gnuplot that draws SVG. Errors: CLI_UNUSABLE. */
int plot_gnuplot_judge(cli_error *error);

/* Writes the data and the script of a figure; the script reads NAME.dat and draws NAME.svg. */
typedef void plot_write(void *figure, const char *name, FILE *data, FILE *script);

/* Writes NAME.dat and NAME.gp into the directory and runs the script there. NAME.svg gets the class and the style by
 * which lines and text are dark on light and light on dark; `title` replaces gnuplot's own. */
int plot_gnuplot_draw(plot_write *write, void *figure, const char *directory, const char *name,
                      const char *title, cli_error *error);

#endif
