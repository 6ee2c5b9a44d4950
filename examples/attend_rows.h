/* attend_rows.h - this rank's rows of tensors in files, read and written where they lie.
 *
 * A tensor in a file is planes x length x row_elements; in memory planes x local length x
 * row_elements. q, k, v, o and gradients have a plane per batch entry, lse one per batch entry and
 * head. */
#ifndef BSD_ATTEND_ROWS_H
#define BSD_ATTEND_ROWS_H

#include "bench/cli.h"

/* Which global positions this rank holds, as runs of consecutive ones, ascending. */
typedef struct attend_rows {
  bsd_position_run *runs;
  int64_t count;
  int64_t local_length, length;
} attend_rows;

typedef struct attend_tensor {
  const char *path;
  int file;
  int64_t data_offset;
  int64_t planes, row_elements;
  int64_t file_size; /* bytes of an element in the file */
  int narrow;        /* bf16 in memory, f4 in the file */
} attend_tensor;

/* Asks the plan. Release with attend_rows_free. */
int attend_rows_create(const bsd_plan *plan, int64_t length, attend_rows *rows, cli_error *error);
void attend_rows_free(attend_rows *rows);

/* Bytes of this rank's part in memory; CLI_FAILED if they are beyond 2^63-1. */
int attend_local_bytes(const attend_rows *rows, const attend_tensor *tensor, int64_t *bytes,
                       cli_error *error);

int attend_read(const attend_rows *rows, const attend_tensor *tensor, void *memory,
                cli_error *error);
int attend_write(const attend_rows *rows, const attend_tensor *tensor, const void *memory,
                 cli_error *error);

#endif
