/* trace.h - when the parts of a run began and ended, by the device's own clock.
 *
 * A row is a stream: a mark on it says what runs from there to the next mark. A mark is an event of the
 * backend, made beforehand, so that a traced run allocates nothing and waits for nothing. Knows no plan. */
#ifndef BSD_TRACE_H
#define BSD_TRACE_H

#include <stdint.h>

#include "kernels/kernels.h"
#include "status.h"

typedef enum bsd_trace_row {
  BSD_TRACE_COMPUTE, /* the caller's stream */
  BSD_TRACE_EXCHANGE,
  BSD_TRACE_ROWS
} bsd_trace_row;

/* What a mark begins. On the compute row those from BSD_TRACE_STAGE_OUT to BSD_TRACE_STAGE_IN are time in
 * which the exchange holds the kernels up: they lie inside the exchange's own slices. */
typedef enum bsd_trace_part {
  BSD_TRACE_NOTHING,
  BSD_TRACE_DELTA,
  BSD_TRACE_PACK, /* index: of the step in the schedule */
  BSD_TRACE_CLEAR,
  BSD_TRACE_FORWARD,        /* index: of the pass */
  BSD_TRACE_QUERY_GRADIENT, /* likewise */
  BSD_TRACE_KEY_GRADIENT,   /* likewise */
  BSD_TRACE_COMBINE,
  BSD_TRACE_STAGE_OUT, /* messages copied to the host */
  BSD_TRACE_POST,
  BSD_TRACE_PROGRESS, /* the transport at work in the caller's thread */
  BSD_TRACE_WAIT,
  BSD_TRACE_STAGE_IN,      /* messages copied from the host */
  BSD_TRACE_EXCHANGE_STEP, /* index: of the step in the schedule, -1: all complete together */
  BSD_TRACE_PARTS
} bsd_trace_part;

typedef struct bsd_trace_slice {
  bsd_trace_row row;
  bsd_trace_part part;
  int stage;
  int64_t index;      /* see bsd_trace_part; 0 where it says nothing */
  double start, stop; /* seconds on bsd_now()'s clock */
} bsd_trace_slice;

typedef struct bsd_trace bsd_trace;

/* Room for that many marks a row. */
bsd_status bsd_trace_create(const bsd_backend_table *backend, void *device,
                            const int64_t capacity[BSD_TRACE_ROWS], bsd_trace **trace,
                            bsd_error *error);
void bsd_trace_destroy(bsd_trace *trace);

/* Ties the device's clock to the host's; waits for the stream, which should have nothing to do. */
bsd_status bsd_trace_set_origin(bsd_trace *trace, void *stream, bsd_error *error);

/* Forgets all marks. NULL is fine, here and for bsd_trace_mark: nothing is traced then. */
void bsd_trace_restart(bsd_trace *trace);

bsd_status bsd_trace_mark(bsd_trace *trace, bsd_trace_row row, bsd_trace_part part, int stage,
                          int64_t index, void *stream, bsd_error *error);

/* The slices so far, row by row in order of time, once all marks have happened: *count gets their number, the
 * first `capacity` are written. */
void bsd_trace_read(const bsd_trace *trace, bsd_trace_slice *slices, int64_t capacity,
                    int64_t *count);

/* Sums over the slices: what held the kernels up, and the exchange itself. */
void bsd_trace_sums(const bsd_trace *trace, double *exposed_ms, double *exchange_ms);

#endif
