/* work.c - row groups and their work items; puts them into device memory. See work.h.
 *
 * Members that come one after another in a list's *sequence* are tried as a group: the query heads of a KV
 * head, the tiles of a block, then the rows at the distance at which the list's rows resemble each other
 * most (the step of `strided`). A stage is grouped if an entry of the unions serves enough members on average,
 * less what the last round of items leaves idle of the CTAs; else its items are of one member. Items are dealt
 * to the CTAs of a launch so that all end at about the same time. */
#include "work.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../../../src/memory.h"
#include "order.h"
#include "tiles.h"

enum {
  DISTANCES = 8, /* tried */
  SAMPLES = 32,  /* rows compared for each */
  ALIGNMENT = 256
};

/* Hundredths of a member that an entry of the unions must serve on average where items fill all rounds, by the
 * width of the items; below, items of one member are faster. */
static const int64_t least_shared[BSD_SM90_MEMBERS + 1] = {0, 0, 130, 170, 190};

typedef struct builder {
  const bsd_kernel_shape *shape;
  const bsd_pass *pass;
  int width;
  int forced;            /* groups stand whatever they share */
  const int64_t *places; /* CTAs of a launch of grouped items, of single ones */
  bsd_sm90_arrays to;
  bsd_sm90_cut *cuts;     /* of the pass's lists, at the stage under work */
  int64_t shared, walked; /* of a stage: entries of members, entries of unions */
} builder;

/* ---- the sequence of own tiles ----------------------------------------------------------------- */

/* Entries that two members share. */
static int64_t overlap(const bsd_sm90_cut *cut, int64_t a, int64_t b) {
  int64_t i = cut->step_ptr[a], j = cut->step_ptr[b], shared = 0;
  while (i < cut->step_ptr[a + 1] && j < cut->step_ptr[b + 1]) {
    const bsd_sm90_step *x = &cut->steps[i], *y = &cut->steps[j];
    shared += x->order == y->order;
    i += x->order <= y->order;
    j += y->order <= x->order;
  }
  return shared;
}

/* The distance, in blocks of `parts` members, at which rows share most. */
static int64_t best_distance(const bsd_sm90_cut *cut) {
  const int64_t blocks = cut->nmembers / cut->parts;
  int64_t best = 1, most = -1;
  for (int64_t d = 1; d <= DISTANCES && d < blocks; d++) {
    const int64_t samples = bsd_min(SAMPLES, blocks - d);
    int64_t shared = 0;
    for (int64_t s = 0; s < samples; s++) {
      const int64_t row = (blocks - d - 1) * s / bsd_max(1, samples - 1);
      shared += overlap(cut, row * cut->parts, (row + d) * cut->parts);
    }
    shared = shared * SAMPLES / samples;
    if (shared > most) {
      most = shared;
      best = d;
    }
  }
  return best;
}

typedef struct member {
  int32_t own, head; /* own tile in the cut; place among the KV head's query heads */
} member;

/* Classes of rows at the distance one after another, each cut into chunks of `width` members; chunks of the
 * classes in turn, so that work stays local. starts[c]: the first member of chunk c. */
typedef struct sequence {
  member *members;
  int64_t nmembers;
  int64_t *starts;
  int64_t nchunks;
} sequence;

static int64_t class_size(const bsd_sm90_cut *cut, int64_t distance, int64_t class) {
  const int64_t blocks = bsd_ceil_div(cut->nmembers, cut->parts);
  int64_t members = 0;
  for (int64_t b = class; b < blocks; b += distance)
    members += bsd_min(cut->parts, cut->nmembers - b * cut->parts);
  return members;
}

/* Own tile number i of a class, in order. */
static int64_t class_member(const bsd_sm90_cut *cut, int64_t distance, int64_t class, int64_t i) {
  return (class + i / cut->parts * distance) * cut->parts + i % cut->parts;
}

static bsd_status make_sequence(const bsd_sm90_cut *cut, int64_t heads, int width, sequence *s,
                                bsd_error *error) {
  const int64_t distance = width > 1 ? best_distance(cut) : 1;
  const int64_t total = cut->nmembers * heads;
  int64_t sizes[DISTANCES];
  for (int64_t class = 0; class < distance; class ++)
    sizes[class] = class_size(cut, distance, class) * heads;
  BSD_TRY(bsd_alloc(&s->members, total, sizeof *s->members, error));
  BSD_TRY(bsd_alloc(&s->starts, total + 1, sizeof *s->starts, error));
  s->nmembers = s->nchunks = 0;
  for (int64_t chunk = 0; s->nmembers < total; chunk++)
    for (int64_t class = 0; class < distance; class ++) {
      if (chunk * width >= sizes[class])
        continue;
      s->starts[s->nchunks++] = s->nmembers;
      for (int64_t m = chunk * width; m < bsd_min(sizes[class], (chunk + 1) * width); m++)
        s->members[s->nmembers++] =
            (member){(int32_t)class_member(cut, distance, class, m / heads), (int32_t)(m % heads)};
    }
  s->starts[s->nchunks] = total;
  return BSD_OK;
}

/* ---- groups ------------------------------------------------------------------------------------ */

/* Where each member of a group stands in its steps. */
typedef struct group_walk {
  const bsd_sm90_step *at[BSD_SM90_MEMBERS], *end[BSD_SM90_MEMBERS];
  int n;
} group_walk;

/* Takes the steps that all members have next, as long as they are the same, to entries; how many. */
static int64_t take_common(group_walk *w, uint32_t *entries) {
  const uint32_t all = ((1u << w->n) - 1) << BSD_SM90_TILE_BITS;
  int64_t most = w->end[0] - w->at[0], count;
  for (int m = 1; m < w->n; m++)
    most = bsd_min(most, w->end[m] - w->at[m]);
  for (count = 0; count < most; count++) {
    const int32_t tile = w->at[0][count].tile;
    uint32_t masked = 0;
    int same = 1;
    for (int m = 0; m < w->n; m++) {
      same &= w->at[m][count].tile == tile;
      masked |= (uint32_t)w->at[m][count].masked << m;
    }
    if (!same)
      break;
    entries[count] = (uint32_t)tile | all | masked << BSD_SM90_MASK_SHIFT;
  }
  for (int m = 0; m < w->n; m++)
    w->at[m] += count;
  return count;
}

/* The step that comes first among those where the members stand; NULL: all are at their ends. */
static const bsd_sm90_step *least_step(const group_walk *w) {
  const bsd_sm90_step *least = NULL;
  for (int m = 0; m < w->n; m++) {
    const bsd_sm90_step *s = w->at[m];
    if (s < w->end[m] && (least == NULL || s->order < least->order ||
                          (s->order == least->order && s->tile < least->tile)))
      least = s;
  }
  return least;
}

/* Takes the steps of one tile from the members that stand at it; its entry. */
static uint32_t take_tile(group_walk *w, int32_t tile) {
  uint32_t entry = (uint32_t)tile;
  for (int m = 0; m < w->n; m++)
    if (w->at[m] < w->end[m] && w->at[m]->tile == tile) {
      entry |= 1u << (BSD_SM90_TILE_BITS + m);
      entry |= (uint32_t)w->at[m]->masked << (BSD_SM90_MASK_SHIFT + m);
      w->at[m]++;
    }
  return entry;
}

/* The union of the members' lists as entries at the end of to->entries; *length of it, *own of them all.
 * Neighbours have most of their lists in common. */
static bsd_status merge(builder *b, const bsd_sm90_cut *cut, const member *members, int n,
                        int64_t *length, int64_t *own, bsd_error *error) {
  bsd_sm90_arrays *to = &b->to;
  group_walk w = {.n = n};
  *own = 0;
  for (int m = 0; m < n; m++) {
    w.at[m] = cut->steps + cut->step_ptr[members[m].own];
    w.end[m] = cut->steps + cut->step_ptr[members[m].own + 1];
    *own += w.end[m] - w.at[m];
  }
  BSD_TRY(
      bsd_grow(&to->entries, &to->entry_room, to->nentries + *own + 1, sizeof *to->entries, error));
  uint32_t *entry = to->entries + to->nentries;
  for (;;) {
    entry += take_common(&w, entry);
    const bsd_sm90_step *least = least_step(&w);
    if (least == NULL)
      break;
    *entry++ = take_tile(&w, least->tile);
  }
  *length = entry - (to->entries + to->nentries);
  return BSD_OK;
}

/* Adds members [0, n) as one item; its heads are places yet. Members that share little are not parted: items
 * of fewer members would leave consumers idle. */
static bsd_status add_group(builder *b, const bsd_sm90_cut *cut, const member *members, int n,
                            bsd_error *error) {
  int64_t length, own;
  BSD_TRY(merge(b, cut, members, n, &length, &own, error));
  bsd_sm90_arrays *to = &b->to;
  BSD_TRY(bsd_grow(&to->items, &to->item_room, to->nitems + 1, sizeof *to->items, error));
  bsd_sm90_item item = {.count = (int32_t)length, .begin = to->nentries};
  for (int m = 0; m < BSD_SM90_MEMBERS; m++) {
    item.rows[m] = m < n ? cut->row[members[m].own] : -1;
    item.heads[m] = m < n ? members[m].head : 0;
  }
  b->shared += own;
  b->walked += length;
  to->nentries += length;
  to->items[to->nitems++] = item;
  return BSD_OK;
}

/* Items of a list for a KV head with so many query heads, heads as places. */
static bsd_status add_groups(builder *b, const bsd_sm90_cut *cut, int64_t heads, int width,
                             bsd_error *error) {
  sequence s = {NULL, 0, NULL, 0};
  bsd_status status = make_sequence(cut, heads, width, &s, error);
  for (int64_t c = 0; c < s.nchunks && status == BSD_OK; c++)
    status =
        add_group(b, cut, s.members + s.starts[c], (int)(s.starts[c + 1] - s.starts[c]), error);
  bsd_free(s.members);
  bsd_free(s.starts);
  return status;
}

/* ---- items of all heads ------------------------------------------------------------------------ */

/* Query heads [place, end) of the list, which items of dk, dv go through. */
static bsd_status add_heads(bsd_sm90_arrays *a, const bsd_list *l, int64_t place, int64_t end,
                            bsd_error *error) {
  BSD_TRY(bsd_grow(&a->heads, &a->head_room, a->nheads + end - place, sizeof *a->heads, error));
  for (int64_t h = place; h < end; h++)
    a->heads[a->nheads++] = l->heads[h];
  return BSD_OK;
}

/* The groups' items for the query heads at [place, end) of the list, which read one KV head, at the end of
 * `out`. */
static bsd_status copy_items(builder *b, int32_t kv, const bsd_sm90_cut *cut, int64_t place,
                             int64_t end, bsd_sm90_arrays *out, bsd_error *error) {
  bsd_sm90_arrays *a = &b->to;
  const bsd_list *l = cut->list;
  const int32_t heads_at = (int32_t)a->nheads;
  if (cut->rows_are_keys)
    BSD_TRY(add_heads(a, l, place, end, error));
  BSD_TRY(
      bsd_grow(&out->items, &out->item_room, out->nitems + a->nitems, sizeof *out->items, error));
  for (int64_t i = 0; i < a->nitems; i++) {
    bsd_sm90_item *item = &out->items[out->nitems++];
    *item = a->items[i];
    item->kv_head = kv;
    item->lowest = l->left < 0 ? -(INT64_C(1) << 60) : -l->left;
    item->highest = l->causal ? 0 : l->right < 0 ? INT64_C(1) << 60 : l->right;
    item->heads_at = cut->rows_are_keys ? heads_at : 0;
    item->nheads = cut->rows_are_keys ? (int32_t)(end - place) : 1;
    for (int m = 0; m < BSD_SM90_MEMBERS; m++)
      item->heads[m] = item->rows[m] < 0    ? 0
                       : cut->rows_are_keys ? kv
                                            : l->heads[place + item->heads[m]];
  }
  return BSD_OK;
}

/* Items of one list for each of its heads, at the end of `out`. The groups for so many heads of a KV head are
 * made once. For dk, dv members are own tiles alone. */
static bsd_status add_list(builder *b, const bsd_sm90_cut *cut, int width, bsd_sm90_arrays *out,
                           bsd_error *error) {
  const bsd_list *l = cut->list;
  const int64_t group = b->shape->heads / b->shape->kv_heads;
  int64_t made_for = 0;
  for (int64_t h = 0, end; h < l->nheads; h = end) {
    const int32_t kv = (int32_t)(l->heads[h] / group);
    for (end = h + 1; end < l->nheads && l->heads[end] / group == kv; end++)
      ;
    const int64_t walks = cut->rows_are_keys ? 1 : end - h;
    if (walks != made_for) {
      made_for = walks;
      b->to.nitems = 0;
      BSD_TRY(add_groups(b, cut, made_for, width, error));
    }
    BSD_TRY(copy_items(b, kv, cut, h, end, out, error));
  }
  return BSD_OK;
}

/* ---- one stage, one pass ------------------------------------------------------------------------ */

/* What an item holds a copy of. */
static void fill_items(const bsd_sm90_arrays *a, bsd_sm90_arrays *out) {
  for (int64_t i = 0; i < out->nitems; i++) {
    bsd_sm90_item *item = &out->items[i];
    const int64_t count = bsd_min(item->count, BSD_SM90_FIRST);
    for (int64_t e = 0; e < count; e++) {
      const uint32_t entry = a->entries[item->begin + e];
      const bsd_sm90_tile *tile = &a->tiles[entry & ((1 << BSD_SM90_TILE_BITS) - 1)];
      item->first[e] = entry;
      item->first_at[e] = tile->at;
      item->first_how[e] = tile->how;
    }
    for (int m = 0; m < BSD_SM90_MEMBERS; m++)
      if (item->rows[m] >= 0) {
        item->own_at[m] = a->rows[item->rows[m]].at;
        item->own_how[m] = a->rows[item->rows[m]].how;
        item->own_t64[m] = a->rows[item->rows[m]].t64;
      }
  }
}

/* Items of all lists' own tiles, in items of `width`, at the end of `out`. */
static bsd_status try_width(builder *b, int width, bsd_sm90_arrays *out, bsd_error *error) {
  b->shared = b->walked = 0;
  for (int64_t i = 0; i < b->pass->nlists; i++)
    BSD_TRY(add_list(b, &b->cuts[i], width, out, error));
  return BSD_OK;
}

/* Part of a launch's CTAs that work, on average over the rounds of equal items. */
static double filled(int64_t items, int64_t places) {
  return (double)items / (double)(places * bsd_max(1, bsd_ceil_div(items, places)));
}

/* Whether these items are walked faster than their members one by one. */
static int pays(const builder *b, const bsd_sm90_item *items, int64_t nitems) {
  int64_t members = 0;
  for (int64_t i = 0; i < nitems; i++)
    for (int m = 0; m < BSD_SM90_MEMBERS; m++)
      members += items[i].rows[m] >= 0;
  const double grouped = (double)b->shared * filled(nitems, b->places[0]);
  const double single = (double)b->walked * filled(members, b->places[1]);
  return grouped * 100 >= single * (double)least_shared[b->width];
}

static bsd_status add_stage(builder *b, int stage, bsd_sm90_arrays *out, bsd_sm90_stage *made,
                            bsd_error *error) {
  const int64_t first = out->nitems, nentries = b->to.nentries, nheads = b->to.nheads;
  for (int64_t i = 0; i < b->pass->nlists; i++)
    BSD_TRY(bsd_sm90_cut_rows(&b->cuts[i], stage, &b->to, error));
  BSD_TRY(try_width(b, b->width, out, error));
  made->grouped = b->width > 1 && (b->forced || pays(b, out->items + first, out->nitems - first));
  if (b->width > 1 && !made->grouped) {
    b->to.nentries = nentries;
    b->to.nheads = nheads;
    out->nitems = first;
    BSD_TRY(try_width(b, 1, out, error));
  }
  made->items = NULL;
  BSD_TRY(
      bsd_sm90_order_items(b->shape, b->pass, first, b->places[made->grouped ? 0 : 1], out, error));
  made->nitems = out->nitems - first;
  return BSD_OK;
}

static void empty(bsd_sm90_arrays *a) {
  a->ntiles = a->nrows = a->nslots = a->nentries = a->nitems = a->nheads = 0;
}

/* A pass on the host: arrays, items of all stages one after another. */
static bsd_status build_pass(builder *b, bsd_sm90_arrays *out, bsd_sm90_pass *made,
                             bsd_error *error) {
  empty(&b->to);
  out->nitems = 0;
  BSD_TRY(bsd_sm90_choose_steps(b->pass, b->shape->block, &b->to, error));
  for (int64_t i = 0; i < b->pass->nlists; i++) {
    b->cuts[i].list = &b->pass->lists[i];
    b->cuts[i].rows_are_keys = b->pass->rows_are_keys;
    b->cuts[i].parts = b->shape->block / 64;
    BSD_TRY(bsd_sm90_cut_blocks(&b->cuts[i], &b->to, error));
  }
  for (int stage = 0; stage < BSD_MAX_STAGES; stage++)
    BSD_TRY(add_stage(b, stage, out, &made->stages[stage], error));
  memcpy(made->steps, b->to.steps, sizeof made->steps);
  return BSD_OK;
}

/* ---- device memory ------------------------------------------------------------------------------ */

typedef struct piece {
  char *host;
  int64_t size, room;
} piece;

/* Appends an array; *offset is where. */
static bsd_status put(piece *p, const void *from, int64_t count, int64_t size, int64_t *offset,
                      bsd_error *error) {
  const int64_t at = bsd_ceil_div(p->size, ALIGNMENT) * ALIGNMENT;
  BSD_TRY(bsd_grow(&p->host, &p->room, at + count * size + ALIGNMENT, 1, error));
  memset(p->host + p->size, 0, (size_t)(at - p->size));
  if (count > 0)
    memcpy(p->host + at, from, (size_t)(count * size));
  p->size = at + count * size;
  *offset = at;
  return BSD_OK;
}

static bsd_status put_pass(piece *p, const bsd_sm90_arrays *a, const bsd_sm90_arrays *out,
                           bsd_sm90_pass *made, bsd_error *error) {
  int64_t entries, tiles, rows, slots, heads, items;
  BSD_TRY(put(p, a->entries, a->nentries, sizeof *a->entries, &entries, error));
  BSD_TRY(put(p, a->tiles, a->ntiles, sizeof *a->tiles, &tiles, error));
  BSD_TRY(put(p, a->rows, a->nrows, sizeof *a->rows, &rows, error));
  BSD_TRY(put(p, a->slots, a->nslots, sizeof *a->slots, &slots, error));
  BSD_TRY(put(p, a->heads, a->nheads, sizeof *a->heads, &heads, error));
  BSD_TRY(put(p, out->items, out->nitems, sizeof *out->items, &items, error));
  made->entries = (const void *)(uintptr_t)entries;
  made->tiles = (const void *)(uintptr_t)tiles;
  made->rows = (const void *)(uintptr_t)rows;
  made->slots = (const void *)(uintptr_t)slots;
  made->heads = (const void *)(uintptr_t)heads;
  for (int stage = 0; stage < BSD_MAX_STAGES; stage++) {
    made->stages[stage].items = (const void *)(uintptr_t)items;
    items += made->stages[stage].nitems * (int64_t)sizeof *out->items;
  }
  return BSD_OK;
}

/* Offsets become device addresses. */
static void move_pass(bsd_sm90_pass *pass, const char *base) {
  pass->entries = (const void *)(base + (uintptr_t)pass->entries);
  pass->tiles = (const void *)(base + (uintptr_t)pass->tiles);
  pass->rows = (const void *)(base + (uintptr_t)pass->rows);
  pass->slots = (const void *)(base + (uintptr_t)pass->slots);
  pass->heads = (const void *)(base + (uintptr_t)pass->heads);
  for (int stage = 0; stage < BSD_MAX_STAGES; stage++)
    pass->stages[stage].items = (const void *)(base + (uintptr_t)pass->stages[stage].items);
}

static void free_arrays(bsd_sm90_arrays *a) {
  bsd_free(a->tiles);
  bsd_free(a->rows);
  bsd_free(a->slots);
  bsd_free(a->entries);
  bsd_free(a->items);
  bsd_free(a->heads);
}

/* All passes one after another, in the same memory: there may be many, and pages that are new each time take
 * longer than what is written to them. */
static bsd_status make_passes(builder *b, const bsd_pass *passes, piece *p, bsd_sm90_work *made,
                              bsd_error *error) {
  bsd_sm90_arrays out = {0};
  bsd_status status = BSD_OK;
  int64_t ncuts = 0;
  for (int64_t i = 0; i < made->npasses; i++)
    ncuts = bsd_max(ncuts, passes[i].nlists);
  BSD_TRY(bsd_alloc(&b->cuts, ncuts, sizeof *b->cuts, error));
  for (int64_t i = 0; i < made->npasses && status == BSD_OK; i++) {
    b->pass = &passes[i];
    status = build_pass(b, &out, &made->passes[i], error);
    if (status != BSD_OK)
      break;
    fill_items(&b->to, &out);
    status = put_pass(p, &b->to, &out, &made->passes[i], error);
  }
  for (int64_t i = 0; i < ncuts; i++)
    bsd_sm90_cut_free(&b->cuts[i]);
  bsd_free(b->cuts);
  free_arrays(&b->to);
  free_arrays(&out);
  return status;
}

static bsd_status upload(const piece *p, bsd_sm90_work *work, bsd_error *error) {
  work->bytes = p->size;
  if (p->size == 0)
    return BSD_OK;
  BSD_TRY(bsd_cuda_check_memory(cudaMalloc(&work->memory, (size_t)p->size), p->size, error));
  for (int64_t i = 0; i < work->npasses; i++)
    move_pass(&work->passes[i], work->memory);
  return bsd_cuda_check(cudaMemcpy(work->memory, p->host, (size_t)p->size, cudaMemcpyHostToDevice),
                        "copying row groups to the device", error);
}

bsd_status bsd_sm90_work_create(const bsd_kernel_shape *shape, const bsd_pass *passes,
                                int64_t npasses, int width, const int64_t places[2],
                                bsd_sm90_work **work, bsd_error *error) {
  builder b = {.shape = shape, .width = abs(width), .forced = width < 0, .places = places};
  piece p = {NULL, 0, 0};
  bsd_sm90_work *made;
  BSD_TRY(bsd_alloc(&made, 1, sizeof *made, error));
  made->npasses = npasses;
  bsd_status status = bsd_alloc(&made->passes, npasses, sizeof *made->passes, error);
  if (status == BSD_OK)
    status = make_passes(&b, passes, &p, made, error);
  if (status == BSD_OK)
    status = upload(&p, made, error);
  bsd_free(p.host);
  if (status == BSD_OK)
    *work = made;
  else
    bsd_sm90_work_destroy(made);
  return status;
}

void bsd_sm90_work_destroy(bsd_sm90_work *work) {
  if (work == NULL)
    return;
  if (work->memory != NULL)
    (void)cudaFree(work->memory);
  for (int64_t i = 0; work->passes && i < work->npasses; i++)
    for (int kernel = 0; kernel < 2; kernel++)
      bsd_free(work->passes[i].maps[kernel]);
  bsd_free(work->passes);
  bsd_free(work);
}
