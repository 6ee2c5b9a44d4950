/* plot_figures.h - the figures of the report. Each draws itself or says which option would give it data. */
#ifndef PLOT_FIGURES_H
#define PLOT_FIGURES_H

#include "bench/plot/plot_data.h"

/* All take the directory that the files go to and fill *figure. Errors: those of gnuplot and of the files. */

/* plot_time.c: time against the length beside dense attention; speed-up against sparsity. */
int plot_time(const plot_data *data, int backward, const char *directory, plot_figure *figure,
              cli_error *error);
int plot_speedup(const plot_data *data, int backward, const char *directory, plot_figure *figure,
                 cli_error *error);

/* plot_ranks.c: efficiency against the number of ranks; bytes beside all-gather and ring. */
int plot_efficiency(const plot_data *data, int weak, const char *directory, plot_figure *figure,
                    cli_error *error);
int plot_traffic(const plot_data *data, const char *directory, plot_figure *figure,
                 cli_error *error);

/* Payload that ring attention would move in both passes, summed over ranks: keys and values go P - 1 steps around in
 * each pass, the fp32 gradients of both P steps. A pass that was not asked for counts nothing. */
double plot_ring_bytes(const bench_result *result);

/* plot_model.c: predicted against measured time. */
int plot_model(const plot_data *data, const char *directory, plot_figure *figure, cli_error *error);

/* plot_picture.c: the blocks that are computed, coloured by the rank that holds their keys. */
enum { PLOT_PICTURES = 4 };

typedef struct plot_pictures {
  plot_figure figures[PLOT_PICTURES];
  int count;
  char note[512]; /* what was not drawn and why; "" */
} plot_pictures;

int plot_pictures_draw(const plot_data *data, const char *directory, plot_pictures *pictures,
                       cli_error *error);

#endif
