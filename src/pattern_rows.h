/* pattern_rows.h - what the files that evaluate block rows share: appending to ascending runs. */
#ifndef BSD_PATTERN_ROWS_H
#define BSD_PATTERN_ROWS_H

#include "pattern.h"

/* Appends the `count` (0: nothing) consecutive values from `first`. */
bsd_status bsd_runs_push_range(bsd_runs *runs, int64_t first, int64_t count, bsd_error *error);

/* Appends one value, larger than all before; joins it to the last run where it continues that, but
 * never to the first `begin` runs, which are another's. */
bsd_status bsd_runs_push_value(bsd_runs *runs, int64_t begin, int64_t value, bsd_error *error);

/* Columns with row <= column dropped beyond the diagonal if causal: their number in `row`. */
static inline int64_t bsd_visible_columns(const bsd_block_grid *grid, int64_t row) {
  return grid->causal ? row + 1 : grid->blocks;
}

#endif
