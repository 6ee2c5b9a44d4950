/* plot_raster.h - the active pairs of a configuration's head 0, spread over a raster of cells. */
#ifndef PLOT_RASTER_H
#define PLOT_RASTER_H

#include "bench/plot/plot_data.h"

enum { PLOT_CELLS = 128 };

typedef struct plot_raster {
  int64_t length;                       /* tokens shown */
  int64_t tokens;                       /* in a cell's side */
  int cells;                            /* in a side */
  double pairs[PLOT_CELLS][PLOT_CELLS]; /* active ones, by query and key cell */
  int holder[PLOT_CELLS][PLOT_CELLS];   /* rank of the keys, -1: empty */
  int computes[PLOT_CELLS];             /* rank of the queries */
} plot_raster;

/* Plans the configuration again at a length that can be shown: 128 blocks a side, more where a segment is longer.
 * Errors: those of patterns and layouts (csr from memory cannot be read again), MEMORY. */
bsd_status plot_raster_create(const plot_item *item, plot_raster *r, bsd_error *error);

#endif
