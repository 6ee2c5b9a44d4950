/* trace.c - marks on streams, and the slices between them. See trace.h. */
#include "trace.h"

#include "clock.h"
#include "memory.h"

typedef struct mark {
  bsd_trace_part part;
  int stage;
  int64_t index;
  void *event;
} mark;

struct bsd_trace {
  const bsd_backend_table *backend;
  void *device;
  int64_t capacity[BSD_TRACE_ROWS], count[BSD_TRACE_ROWS];
  mark *marks[BSD_TRACE_ROWS];
  void *origin;       /* an event, and */
  double origin_time; /* when it happened, by bsd_now() */
};

static bsd_status create_marks(bsd_trace *trace, int row, int64_t capacity, bsd_error *error) {
  BSD_TRY(bsd_alloc(&trace->marks[row], capacity, sizeof(mark), error));
  trace->capacity[row] = capacity;
  for (int64_t i = 0; i < capacity; i++)
    BSD_TRY(trace->backend->event_create(trace->device, &trace->marks[row][i].event, error));
  return BSD_OK;
}

bsd_status bsd_trace_create(const bsd_backend_table *backend, void *device,
                            const int64_t capacity[BSD_TRACE_ROWS], bsd_trace **trace,
                            bsd_error *error) {
  bsd_trace *made;
  BSD_TRY(bsd_alloc(&made, 1, sizeof *made, error));
  made->backend = backend;
  made->device = device;
  bsd_status status = backend->event_create(device, &made->origin, error);
  for (int row = 0; row < BSD_TRACE_ROWS && status == BSD_OK; row++)
    status = create_marks(made, row, capacity[row], error);
  if (status == BSD_OK)
    *trace = made;
  else
    bsd_trace_destroy(made);
  return status;
}

void bsd_trace_destroy(bsd_trace *trace) {
  if (trace == NULL)
    return;
  for (int row = 0; row < BSD_TRACE_ROWS; row++) {
    for (int64_t i = 0; i < trace->capacity[row]; i++)
      trace->backend->event_destroy(trace->device, trace->marks[row][i].event);
    bsd_free(trace->marks[row]);
  }
  trace->backend->event_destroy(trace->device, trace->origin);
  bsd_free(trace);
}

/* The event happens between two looks at the host's clock. */
bsd_status bsd_trace_set_origin(bsd_trace *trace, void *stream, bsd_error *error) {
  const bsd_backend_table *backend = trace->backend;
  BSD_TRY(backend->synchronize(trace->device, stream, error));
  double before = bsd_now();
  BSD_TRY(backend->event_record(trace->device, trace->origin, stream, error));
  BSD_TRY(backend->synchronize(trace->device, stream, error));
  trace->origin_time = (before + bsd_now()) / 2;
  return BSD_OK;
}

void bsd_trace_restart(bsd_trace *trace) {
  if (trace == NULL)
    return;
  for (int row = 0; row < BSD_TRACE_ROWS; row++)
    trace->count[row] = 0;
}

bsd_status bsd_trace_mark(bsd_trace *trace, bsd_trace_row row, bsd_trace_part part, int stage,
                          int64_t index, void *stream, bsd_error *error) {
  if (trace == NULL)
    return BSD_OK;
  if (trace->count[row] == trace->capacity[row])
    return bsd_fail(error, BSD_ERR_STATE, "the trace has room for %lld marks, but a run has more",
                    (long long)trace->capacity[row]);
  mark *m = &trace->marks[row][trace->count[row]++];
  m->part = part;
  m->stage = stage;
  m->index = index;
  return trace->backend->event_record(trace->device, m->event, stream, error);
}

static double time_of(const bsd_trace *trace, const mark *m) {
  return trace->origin_time +
         1e-3 * trace->backend->event_elapsed_ms(trace->device, trace->origin, m->event);
}

/* The slice that a mark begins; 0 if it begins none. */
static int slice_at(const bsd_trace *trace, int row, int64_t i, bsd_trace_slice *slice) {
  const mark *m = &trace->marks[row][i];
  if (i + 1 >= trace->count[row] || m->part == BSD_TRACE_NOTHING)
    return 0;
  *slice = (bsd_trace_slice){(bsd_trace_row)row, m->part,           m->stage,
                             m->index,           time_of(trace, m), time_of(trace, m + 1)};
  return 1;
}

void bsd_trace_read(const bsd_trace *trace, bsd_trace_slice *slices, int64_t capacity,
                    int64_t *count) {
  bsd_trace_slice slice;
  *count = 0;
  for (int row = 0; row < BSD_TRACE_ROWS; row++)
    for (int64_t i = 0; i < trace->count[row]; i++)
      if (slice_at(trace, row, i, &slice) && (*count)++ < capacity)
        slices[*count - 1] = slice;
}

void bsd_trace_sums(const bsd_trace *trace, double *exposed_ms, double *exchange_ms) {
  bsd_trace_slice slice;
  *exposed_ms = *exchange_ms = 0;
  for (int row = 0; row < BSD_TRACE_ROWS; row++)
    for (int64_t i = 0; i < trace->count[row]; i++) {
      if (!slice_at(trace, row, i, &slice))
        continue;
      if (row == BSD_TRACE_EXCHANGE)
        *exchange_ms += 1e3 * (slice.stop - slice.start);
      else if (slice.part >= BSD_TRACE_STAGE_OUT && slice.part <= BSD_TRACE_STAGE_IN)
        *exposed_ms += 1e3 * (slice.stop - slice.start);
    }
}
