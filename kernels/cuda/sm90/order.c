/* order.c - deals work items to the CTAs of a launch so that all end at about the same time. See order.h.
 *
 * Items are sorted, longest first inside runs of KV heads whose keys and values the L2 cache holds; each goes
 * to the CTA that has least to do. */
#include "order.h"

#include <stdlib.h>
#include <string.h>

#include "../../../src/memory.h"

enum { ITEM_COST = 3 }; /* what an item costs beside its entries, in entries */

/* Keys and values of the KV heads of a run: what the L2 cache holds. */
static const int64_t run_bytes = INT64_C(32) << 20;

typedef struct keyed_item {
  int64_t run, weight, place;
} keyed_item;

static int compare(int64_t a, int64_t b) {
  return (a > b) - (a < b);
}

/* By run of KV heads, longest first, else as made. */
static int compare_items(const void *a, const void *b) {
  const keyed_item *x = a, *y = b;
  const int by_run = compare(x->run, y->run), by_weight = compare(y->weight, x->weight);
  return by_run ? by_run : by_weight ? by_weight : compare(x->place, y->place);
}

int bsd_sm90_members(const bsd_sm90_item *item) {
  int members = 0;
  for (int m = 0; m < BSD_SM90_MEMBERS; m++)
    members += item->rows[m] >= 0;
  return members;
}

static void sort_items(const bsd_kernel_shape *shape, const bsd_pass *pass,
                       const bsd_sm90_item *items, int64_t n, const int *cost, keyed_item *sorted) {
  int64_t blocks = 1;
  for (int64_t i = 0; i < pass->nlists; i++)
    blocks = bsd_max(blocks, pass->lists[i].nblocks);
  const int64_t head_bytes = blocks * shape->block * shape->head_dim * 4;
  const int64_t run = bsd_max(1, run_bytes / head_bytes);
  for (int64_t i = 0; i < n; i++) {
    const int64_t entries = (int64_t)items[i].count * items[i].nheads + ITEM_COST;
    sorted[i] =
        (keyed_item){items[i].kv_head / run, entries * cost[bsd_sm90_members(&items[i])], i};
  }
  if (n > 0)
    qsort(sorted, (size_t)n, sizeof *sorted, compare_items);
}

typedef struct place {
  int64_t load, cta, items;
} place;

static int is_less(const place *a, const place *b) {
  return a->load != b->load ? a->load < b->load : a->cta < b->cta;
}

/* Restores the heap after its first element has grown. */
static void sink(place *heap, int64_t n) {
  for (int64_t i = 0, child; (child = 2 * i + 1) < n; i = child) {
    if (child + 1 < n && is_less(&heap[child + 1], &heap[child]))
      child++;
    if (is_less(&heap[i], &heap[child]))
      return;
    const place p = heap[i];
    heap[i] = heap[child];
    heap[child] = p;
  }
}

/* Deals the items, in order, each to the CTA that has least to do; to[i]: where item i goes. Returns the
 * number of items with the empty ones. */
static int64_t deal(const keyed_item *sorted, int64_t n, int64_t places, place *heap, int64_t *to) {
  int64_t rounds = 0;
  for (int64_t c = 0; c < places; c++)
    heap[c] = (place){0, c, 0};
  for (int64_t i = 0; i < n; i++) {
    to[i] = heap->items++ * places + heap->cta;
    rounds = bsd_max(rounds, heap->items);
    heap->load += sorted[i].weight;
    sink(heap, places);
  }
  return n <= places ? n : rounds * places;
}

/* What ordering n items takes. */
typedef struct room {
  keyed_item *sorted;
  place *heap;
  int64_t *to;
} room;

static bsd_status make_room(int64_t n, int64_t places, room *r, bsd_error *error) {
  BSD_TRY(bsd_alloc(&r->sorted, n, sizeof *r->sorted, error));
  BSD_TRY(bsd_alloc(&r->heap, places, sizeof *r->heap, error));
  return bsd_alloc(&r->to, n, sizeof *r->to, error);
}

static void free_room(room *r) {
  bsd_free(r->sorted);
  bsd_free(r->heap);
  bsd_free(r->to);
}

bsd_status bsd_sm90_load_of(const bsd_kernel_shape *shape, const bsd_pass *pass,
                            const bsd_sm90_item *items, int64_t n, int64_t places, const int *cost,
                            bsd_sm90_load *load, bsd_error *error) {
  room r = {NULL, NULL, NULL};
  const bsd_status status = make_room(n, places, &r, error);
  if (status == BSD_OK) {
    sort_items(shape, pass, items, n, cost, r.sorted);
    (void)deal(r.sorted, n, places, r.heap, r.to);
    *load = (bsd_sm90_load){0, 0};
    for (int64_t c = 0; c < places; c++) {
      load->most = bsd_max(load->most, r.heap[c].load);
      load->all += r.heap[c].load;
    }
  }
  free_room(&r);
  return status;
}

bsd_status bsd_sm90_order_items(const bsd_kernel_shape *shape, const bsd_pass *pass, int64_t first,
                                int64_t places, const int *cost, bsd_sm90_arrays *out,
                                bsd_error *error) {
  const int64_t n = out->nitems - first;
  room r = {NULL, NULL, NULL};
  bsd_sm90_item *from = NULL;
  bsd_status status = make_room(n, places, &r, error);
  if (status == BSD_OK)
    status = bsd_alloc(&from, n, sizeof *from, error);
  if (status == BSD_OK && n > 0) {
    memcpy(from, out->items + first, (size_t)n * sizeof *from);
    sort_items(shape, pass, from, n, cost, r.sorted);
    const int64_t dealt = deal(r.sorted, n, places, r.heap, r.to);
    status = bsd_grow(&out->items, &out->item_room, first + dealt, sizeof *out->items, error);
    for (int64_t i = 0; i < dealt && status == BSD_OK; i++)
      out->items[first + i] = (bsd_sm90_item){.rows = {-1, -1, -1, -1}, .nheads = 1};
    for (int64_t i = 0; i < n && status == BSD_OK; i++)
      out->items[first + r.to[i]] = from[r.sorted[i].place];
    out->nitems = first + dealt;
  }
  free_room(&r);
  bsd_free(from);
  return status;
}
