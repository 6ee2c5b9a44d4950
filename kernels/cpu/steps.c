/* steps.c - walks a row's list: which rows of which block come next, what is masked, where they lie. */
#include "steps.h"

#include <string.h>

#include "../../src/memory.h"
#include "rounding.h"

/* Blocks of a row's list that are summed on their own before they join the row's total. A constant:
 * the order of additions must not depend on anything else. */
enum { CHUNK_BLOCKS = 16 };

/* Windows from here on reach everything; below it sums with gathered indices cannot overflow. */
static const int64_t far = INT64_C(1) << 61;

static bsd_cpu_band query_band(const bsd_list *list) {
  bsd_cpu_band band = {INT64_MIN, INT64_MAX};
  if (list->left >= 0 && list->left < far)
    band.lowest = -list->left;
  if (list->right >= 0 && list->right < far)
    band.highest = list->right;
  if (list->causal)
    band.highest = bsd_min(band.highest, 0);
  return band;
}

static bsd_cpu_band band_of(const bsd_list *list, bsd_cpu_side side) {
  const bsd_cpu_band band = query_band(list);
  if (side == BSD_CPU_OWN_QUERIES)
    return band;
  const bsd_cpu_band mirrored = {band.highest == INT64_MAX ? INT64_MIN : -band.highest,
                                 band.lowest == INT64_MIN ? INT64_MAX : -band.lowest};
  return mirrored;
}

void bsd_cpu_walk_begin(bsd_cpu_walk *walk, const bsd_cpu_task *task, const bsd_cpu_strip *strip,
                        bsd_cpu_side side) {
  walk->list = task->list;
  walk->strip = strip;
  walk->band = band_of(task->list, side);
  walk->entry = task->list->row_ptr[task->row];
  walk->last_entry = task->list->row_ptr[task->row + 1];
  walk->in_entry = 0;
  walk->blocks = 0;
  walk->tile = NULL;
  walk->next_slot = 0;
}

static int next_block(bsd_cpu_walk *walk) {
  while (walk->entry < walk->last_entry &&
         walk->in_entry == walk->list->entries[walk->entry].count) {
    walk->entry++;
    walk->in_entry = 0;
  }
  if (walk->entry == walk->last_entry)
    return 0;
  const bsd_entry *entry = &walk->list->entries[walk->entry];
  walk->tile = &walk->list->blocks[entry->first + walk->in_entry * entry->step];
  walk->in_entry++;
  walk->chunk = walk->blocks / CHUNK_BLOCKS;
  walk->blocks++;
  walk->next_slot = 0;
  return 1;
}

/* Gathered index a + b where b may stand for infinity. */
static int64_t reach(int64_t a, int64_t b) {
  return b == INT64_MIN || b == INT64_MAX ? b : a + b;
}

static int32_t clamp_slot(int64_t slot, int64_t width) {
  return (int32_t)(slot < 0 ? 0 : slot > width ? width : slot);
}

/* Slots that may see each row of the step: own >= other - highest, own <= other - lowest. */
static void fill_masks(bsd_cpu_walk *walk) {
  const int64_t width = walk->strip->width;
  for (int64_t i = 0; i < walk->rows; i++) {
    const int64_t other = walk->tile->t0 + walk->slot + i - walk->strip->origin;
    walk->first[i] =
        walk->band.highest == INT64_MAX ? 0 : clamp_slot(other - walk->band.highest, width);
    walk->last[i] = walk->band.lowest == INT64_MIN
                        ? (int32_t)width - 1
                        : clamp_slot(other - walk->band.lowest + 1, width) - 1;
  }
  walk->masked = 1;
}

void bsd_cpu_walk_drop(bsd_cpu_walk *walk, int64_t i) {
  if (!walk->masked)
    fill_masks(walk);
  walk->first[i] = 1;
  walk->last[i] = 0;
  walk->holes = 1;
}

static const bsd_fragment *fragments_of(const bsd_cpu_walk *walk) {
  return walk->list->fragments + walk->tile->fragment;
}

/* The fragment that holds all rows of the step, or NULL. */
static const bsd_fragment *only_fragment(const bsd_cpu_walk *walk) {
  const bsd_fragment *fragment = fragments_of(walk);
  for (int32_t f = 0; f < walk->tile->nfragments; f++, fragment++)
    if (fragment->slot <= walk->slot &&
        walk->slot + walk->rows <= (int64_t)fragment->slot + fragment->count)
      return fragment;
  return NULL;
}

static void drop_missing_rows(bsd_cpu_walk *walk) {
  if (only_fragment(walk))
    return;
  char present[BSD_CPU_MAX_ROWS] = {0};
  const bsd_fragment *fragment = fragments_of(walk);
  for (int32_t f = 0; f < walk->tile->nfragments; f++, fragment++) {
    const int64_t first = bsd_max(fragment->slot - walk->slot, 0);
    const int64_t end = bsd_min(fragment->slot - walk->slot + fragment->count, walk->rows);
    if (first < end)
      memset(present + first, 1, (size_t)(end - first));
  }
  for (int64_t i = 0; i < walk->rows; i++)
    if (!present[i])
      bsd_cpu_walk_drop(walk, i);
}

int bsd_cpu_walk_next(bsd_cpu_walk *walk) {
  const bsd_cpu_strip *strip = walk->strip;
  const int64_t own_first = strip->origin + strip->first, own_last = strip->origin + strip->last;
  for (;;) {
    if (!walk->tile || walk->next_slot >= walk->tile->tokens)
      if (!next_block(walk))
        return 0;
    const int64_t base = walk->tile->t0 + walk->next_slot;
    const int64_t step_end = bsd_min(walk->next_slot + BSD_CPU_MAX_ROWS, walk->tile->tokens);
    const int64_t low = bsd_max(base, reach(own_first, walk->band.lowest));
    const int64_t high =
        bsd_min(walk->tile->t0 + step_end - 1, reach(own_last, walk->band.highest));
    walk->next_slot = step_end;
    if (low > high)
      continue;
    walk->slot = low - walk->tile->t0;
    walk->rows = high - low + 1;
    walk->masked = walk->holes = 0;
    if (low < reach(own_last, walk->band.lowest) || high > reach(own_first, walk->band.highest))
      fill_masks(walk);
    drop_missing_rows(walk);
    return 1;
  }
}

/* Where the tokens of one head of an operand's source lie: row i of the source at data + i*step
 * elements. */
typedef struct source_rows {
  const void *data;
  int64_t step;
} source_rows;

static source_rows rows_of_source(const bsd_call *call, const bsd_operand *operand, int32_t source,
                                  int64_t batch, int64_t head) {
  source_rows rows;
  if (source == 0) {
    rows.data = bsd_cpu_element(call, &operand->local, batch, 0, head);
    rows.step = operand->local.position_stride;
  } else {
    const bsd_received *message = &operand->received[source - 1];
    const int64_t first = batch * message->batch_rows + message->head_row[head];
    rows.data = (const char *)message->data + first * call->head_dim * bsd_dtype_bytes(call->dtype);
    rows.step = call->head_dim;
  }
  return rows;
}

/* Copies the rows of the step that a fragment holds. */
static void copy_fragment(const bsd_call *call, const bsd_cpu_vectors *vectors,
                          const bsd_cpu_walk *walk, const bsd_fragment *fragment,
                          source_rows source, float *into) {
  const int64_t first = bsd_max(fragment->slot - walk->slot, 0);
  const int64_t end = bsd_min(fragment->slot - walk->slot + fragment->count, walk->rows);
  if (first >= end)
    return;
  const int64_t token = fragment->first + (walk->slot + first - fragment->slot) * fragment->step;
  const char *data = (const char *)source.data + token * source.step * bsd_dtype_bytes(call->dtype);
  vectors->widen(call->dtype, end - first, call->head_dim, data, fragment->step * source.step,
                 into + first * call->head_dim);
}

const float *bsd_cpu_step_rows(const bsd_call *call, const bsd_cpu_vectors *vectors,
                               const bsd_cpu_walk *walk, const bsd_operand *operand, int64_t batch,
                               int64_t head, float *into, int64_t *stride) {
  const bsd_fragment *only = only_fragment(walk);
  if (only && call->dtype == BSD_F32 && !walk->holes) {
    const source_rows source = rows_of_source(call, operand, only->source, batch, head);
    *stride = only->step * source.step;
    return (const float *)source.data +
           (only->first + (walk->slot - only->slot) * only->step) * source.step;
  }
  const bsd_fragment *fragment = fragments_of(walk);
  for (int32_t f = 0; f < walk->tile->nfragments; f++, fragment++)
    copy_fragment(call, vectors, walk, fragment,
                  rows_of_source(call, operand, fragment->source, batch, head), into);
  if (walk->holes)
    for (int64_t i = 0; i < walk->rows; i++)
      if (walk->first[i] > walk->last[i])
        memset(into + i * call->head_dim, 0, (size_t)call->head_dim * sizeof *into);
  *stride = call->head_dim;
  return into;
}

/* The tile after the walk's, NULL if there is none. */
static const bsd_tile *tile_after(const bsd_cpu_walk *walk) {
  int64_t entry = walk->entry, in_entry = walk->in_entry;
  if (in_entry == walk->list->entries[entry].count) {
    entry++;
    in_entry = 0;
  }
  if (entry == walk->last_entry)
    return NULL;
  const bsd_entry *next = &walk->list->entries[entry];
  return &walk->list->blocks[next->first + in_entry * next->step];
}

bsd_cpu_ahead bsd_cpu_step_ahead(const bsd_call *call, const bsd_cpu_walk *walk,
                                 const bsd_operand *operand, int64_t batch, int64_t head) {
  const int same_block = walk->next_slot < walk->tile->tokens;
  const bsd_tile *tile = same_block ? walk->tile : tile_after(walk);
  const int64_t slot = same_block ? walk->next_slot : 0, size = bsd_dtype_bytes(call->dtype);
  bsd_cpu_ahead ahead = {NULL, 0, 0, 0};
  const bsd_fragment *fragment = tile ? walk->list->fragments + tile->fragment : NULL;
  for (int32_t f = 0; tile && f < tile->nfragments; f++, fragment++) {
    const int64_t rows = fragment->slot + fragment->count - slot;
    if (slot < fragment->slot || rows <= 0)
      continue;
    const source_rows source = rows_of_source(call, operand, fragment->source, batch, head);
    const int64_t token = fragment->first + (slot - fragment->slot) * fragment->step;
    ahead.data = (const char *)source.data + token * source.step * size;
    ahead.rows = bsd_min(rows, BSD_CPU_MAX_ROWS);
    ahead.row_bytes = call->head_dim * size;
    ahead.stride_bytes = fragment->step * source.step * size;
  }
  return ahead;
}

void bsd_cpu_step_values(const bsd_call *call, const bsd_cpu_walk *walk,
                         const bsd_operand_f32 *operand, int64_t batch, int64_t head, float *into) {
  memset(into, 0, (size_t)walk->rows * sizeof *into);
  const bsd_fragment *fragment = fragments_of(walk);
  for (int32_t f = 0; f < walk->tile->nfragments; f++, fragment++) {
    const float *values;
    if (fragment->source == 0) {
      values = operand->local + (batch * call->heads + head) * call->tokens;
    } else {
      const bsd_received *message = &operand->received[fragment->source - 1];
      values = (const float *)message->data + batch * message->batch_rows + message->head_row[head];
    }
    const int64_t first = bsd_max(fragment->slot - walk->slot, 0);
    const int64_t end = bsd_min(fragment->slot - walk->slot + fragment->count, walk->rows);
    for (int64_t i = first; i < end; i++)
      into[i] = values[fragment->first + (walk->slot + i - fragment->slot) * fragment->step];
  }
}
