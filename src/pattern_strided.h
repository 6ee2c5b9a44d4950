/* pattern_strided.h - rows and columns of strided(R, budget), the one pattern with a budget per
 * row. */
#ifndef BSD_PATTERN_STRIDED_H
#define BSD_PATTERN_STRIDED_H

#include "pattern.h"

/* At most three runs, at a cost that depends on neither the row's length nor mb. */
bsd_status bsd_strided_row(const bsd_pattern_term *term, const bsd_block_grid *grid, int64_t row,
                           bsd_runs *columns, bsd_error *error);

/* The lattice J +/- a*d in closed form; the neighbour fill, if any row reaches it, row by row
 * within the distance that a fill can have. */
bsd_status bsd_strided_column(const bsd_pattern_term *term, const bsd_block_grid *grid,
                              int64_t column, bsd_runs *rows, bsd_error *error);

#endif
