/* rows.h - one block row or block column of one head: the active blocks, and the pairs in them.
 *
 * Joins the block patterns (pattern.h) to windows and segments: a block is active if the pattern has it
 * and it holds at least one pair that causal and window allow. Pure functions of global things. */
#ifndef BSD_ROWS_H
#define BSD_ROWS_H

#include "task.h"

/* Appends the active columns of block row `row` of a (local) head's segment, ascending and disjoint. */
bsd_status bsd_rows_row(const bsd_task *task, int64_t branch, int64_t head,
                        const bsd_segment *segment, int64_t row, bsd_runs *columns,
                        bsd_error *error);

/* Appends the rows in which block column `column` is active. Only if bsd_branch_has_columns(). */
bsd_status bsd_rows_column(const bsd_task *task, int64_t branch, int64_t head,
                           const bsd_segment *segment, int64_t column, bsd_runs *rows,
                           bsd_error *error);

/* Pairs of the gathered queries t0 .. t0+count-1 of one row with all keys of the row's active columns,
 * which are given as runs of block numbers plus `base`. */
int64_t bsd_rows_pairs(const bsd_task *task, int64_t branch, const bsd_segment *segment,
                       int64_t base, int64_t t0, int64_t count, const bsd_run *columns,
                       int64_t nruns);

#endif
