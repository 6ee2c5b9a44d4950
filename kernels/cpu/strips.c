/* strips.c - between token rows in the caller's memory and the slots of a strip. */
#include "strips.h"

#include <string.h>

#include "rounding.h"

void bsd_cpu_strip_of(const bsd_call *call, const bsd_cpu_task *task, bsd_cpu_strip *strip) {
  const bsd_tile *tile = &task->list->rows[task->row];
  const int64_t width = bsd_cpu_width(call), base = task->strip * width;
  strip->origin = tile->t0 + base;
  strip->width = width;
  strip->first = width;
  strip->last = -1;
  for (int64_t s = 0; s < width; s++)
    strip->token[s] = -1;
  for (int32_t f = 0; f < tile->nfragments; f++) {
    const bsd_fragment *fragment = &task->list->row_fragments[tile->fragment + f];
    const int64_t first = fragment->slot - base, end = first + fragment->count;
    for (int64_t s = first > 0 ? first : 0; s < end && s < width; s++) {
      strip->token[s] = fragment->first + (s - first) * fragment->step;
      strip->first = s < strip->first ? s : strip->first;
      strip->last = s > strip->last ? s : strip->last;
    }
  }
}

void *bsd_cpu_element(const bsd_call *call, const bsd_tensor *tensor, int64_t batch, int64_t token,
                      int64_t head) {
  const int64_t index =
      batch * tensor->batch_stride + token * tensor->position_stride + head * tensor->head_stride;
  return (char *)tensor->data + index * bsd_dtype_bytes(call->dtype);
}

/* Asks the cache for the rows of all slots at once, so that their latencies overlap. */
static void fetch_rows(const bsd_call *call, const bsd_tensor *tensor, int64_t batch, int64_t head,
                       const bsd_cpu_strip *strip) {
  const int64_t bytes = call->head_dim * bsd_dtype_bytes(call->dtype);
  for (int64_t s = strip->first; s <= strip->last; s++) {
    if (strip->token[s] < 0)
      continue;
    const char *row = bsd_cpu_element(call, tensor, batch, strip->token[s], head);
    for (int64_t byte = 0; byte < bytes; byte += 64)
      __builtin_prefetch(row + byte);
  }
}

void bsd_cpu_strip_load(const bsd_call *call, const bsd_cpu_vectors *vectors,
                        const bsd_tensor *tensor, int64_t batch, int64_t head,
                        const bsd_cpu_strip *strip, float factor, float *line, float *to) {
  const int64_t dim = call->head_dim, width = strip->width;
  fetch_rows(call, tensor, batch, head, strip);
  for (int64_t s = 0; s < width; s++) {
    if (strip->token[s] < 0) {
      for (int64_t d = 0; d < dim; d++)
        to[d * width + s] = 0;
      continue;
    }
    const void *row = bsd_cpu_element(call, tensor, batch, strip->token[s], head);
    const float *values = row;
    if (call->dtype != BSD_F32) {
      vectors->widen(call->dtype, 1, dim, row, dim, line);
      values = line;
    }
    for (int64_t d = 0; d < dim; d++)
      to[d * width + s] = factor * values[d];
  }
}

void bsd_cpu_strip_store(const bsd_call *call, const bsd_tensor *tensor, int64_t batch,
                         int64_t head, const bsd_cpu_strip *strip, const float *factor,
                         const float *from) {
  const int64_t dim = call->head_dim, width = strip->width;
  fetch_rows(call, tensor, batch, head, strip);
  for (int64_t s = strip->first; s <= strip->last; s++) {
    if (strip->token[s] < 0)
      continue;
    void *row = bsd_cpu_element(call, tensor, batch, strip->token[s], head);
    for (int64_t d = 0; d < dim; d++)
      bsd_store(call->dtype, row, d, factor[s] == 0 ? 0 : factor[s] * from[d * width + s]);
  }
}

void bsd_cpu_strip_add(const bsd_call *call, float *accumulator, int64_t heads, int64_t batch,
                       int64_t head, const bsd_cpu_strip *strip, const float *factor,
                       const float *from) {
  const int64_t dim = call->head_dim, width = strip->width;
  for (int64_t s = strip->first; s <= strip->last; s++) {
    if (strip->token[s] < 0 || factor[s] == 0)
      continue;
    float *row = accumulator + ((batch * heads + head) * call->tokens + strip->token[s]) * dim;
    for (int64_t d = 0; d < dim; d++)
      row[d] += factor[s] * from[d * width + s];
  }
}
