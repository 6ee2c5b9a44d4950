/* work.c - work items of all lists; puts them into device memory. See work.h.
 *
 * A stage is grouped if an entry of the unions serves enough members on average, less what the last round of
 * items leaves idle of the CTAs; else its items are of one member. Where the last round of few leaves many CTAs
 * idle, the last groups are narrower, so that all CTAs have a part of it. Items are dealt to the CTAs of a launch
 * so that all end at about the same time. */
#include "work.h"

#include <inttypes.h>
#include <string.h>

#include "../../../src/memory.h"
#include "groups.h"
#include "order.h"

enum {
  ALIGNMENT = 256,
  FEW_ROUNDS = 4, /* more lose little by the last one, in which the next launch begins */
  UNEVEN = 103    /* hundredths of the average that the CTA with most to do may have */
};

/* Hundredths of a member that an entry of the unions must serve on average where items fill all rounds, by the
 * width of the items; below, items of one member are faster. */
static const int64_t least_shared[BSD_SM90_MEMBERS + 1] = {0, 0, 130, 170, 190};

typedef struct builder {
  const bsd_kernel_shape *shape;
  const bsd_pass *pass;
  const bsd_sm90_kernel *kernel;
  bsd_sm90_arrays to;
  bsd_sm90_cut *cuts;       /* of the pass's lists, at the stage under work */
  bsd_sm90_sharing sharing; /* of its items */
} builder;

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
static bsd_status add_list(builder *b, const bsd_sm90_cut *cut, const bsd_sm90_widths *widths,
                           bsd_sm90_arrays *out, bsd_error *error) {
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
      BSD_TRY(bsd_sm90_add_groups(&b->to, cut, made_for, widths, &b->sharing, error));
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

/* How much there is before a stage's items. */
typedef struct snapshot {
  int64_t nentries, nheads, nitems;
} snapshot;

/* Items of all lists' own tiles at the end of `out`, in place of those that stand there behind `before`. */
static bsd_status make_items(builder *b, const snapshot *before, const bsd_sm90_widths *widths,
                             bsd_sm90_arrays *out, bsd_error *error) {
  b->to.nentries = before->nentries;
  b->to.nheads = before->nheads;
  out->nitems = before->nitems;
  b->sharing = (bsd_sm90_sharing){0, 0};
  for (int64_t i = 0; i < b->pass->nlists; i++)
    BSD_TRY(add_list(b, &b->cuts[i], widths, out, error));
  return BSD_OK;
}

static int64_t members_of(const bsd_sm90_item *items, int64_t nitems) {
  int64_t members = 0;
  for (int64_t i = 0; i < nitems; i++)
    members += bsd_sm90_members(&items[i]);
  return members;
}

/* Part of a launch's CTAs that work, on average over the rounds of equal items. Few items of a batch entry are
 * followed by those of the next; more are dealt in whole rounds. */
static double filled(int64_t items, int64_t batch, int64_t places) {
  if (items <= places)
    items *= batch;
  return (double)items / (double)(places * bsd_max(1, bsd_ceil_div(items, places)));
}

/* Whether these items are walked faster than their members one by one. */
static int pays(const builder *b, const bsd_sm90_item *items, int64_t nitems) {
  const bsd_sm90_kernel *k = b->kernel;
  const double grouped = (double)b->sharing.own * filled(nitems, b->shape->batch, k->places[0]);
  const double single =
      (double)b->sharing.walked * filled(members_of(items, nitems), b->shape->batch, k->places[1]);
  return grouped * 100 >= single * (double)least_shared[k->width];
}

/* How long, in hundredths of a wide item, CTAs take for so many wide items and so many narrow ones of this cost, all
 * of the same length. */
static int64_t time_of(int64_t wide, int64_t narrow, int64_t cost, int64_t places) {
  const int64_t low = wide / places * 100, ahead = wide % places; /* CTAs that have one more */
  int64_t time = bsd_max(ahead ? low + 100 : low, (wide * 100 + narrow * cost) / places);
  while ((places - ahead) * ((time - low) / cost) +
             (ahead ? ahead * ((time - low - 100) / cost) : 0) <
         narrow)
    time++;
  return time;
}

/* The share of `members` in narrow groups that makes the launch shortest; 0: none. */
static int64_t best_share(const bsd_sm90_kernel *k, int64_t members, int narrow) {
  const int64_t most = members / k->width;
  int64_t best = most, least = time_of(bsd_ceil_div(members, k->width), 0, 100, k->places[0]);
  for (int64_t wide = most - 1; wide >= 0; wide--) {
    const int64_t time = time_of(wide, bsd_ceil_div(members - wide * k->width, narrow),
                                 k->cost[narrow], k->places[0]);
    if (time < least) {
      least = time;
      best = wide;
    }
  }
  return best == most ? 0 : bsd_ceil_div((members - best * k->width) * 1000, members);
}

/* Makes items of wide groups alone anew with narrow ones too, where that ends a launch of few rounds sooner. */
static bsd_status fill_rounds(builder *b, const snapshot *before, bsd_sm90_arrays *out,
                              bsd_error *error) {
  const bsd_sm90_kernel *k = b->kernel;
  const int64_t n = out->nitems - before->nitems;
  bsd_sm90_widths made = {k->width, 1, 0}, best = made;
  bsd_sm90_load load;
  if (n > FEW_ROUNDS * k->places[0] || (n <= k->places[0] && b->shape->batch > 1))
    return BSD_OK;
  BSD_TRY(bsd_sm90_load_of(b->shape, b->pass, out->items + before->nitems, n, k->places[0], k->cost,
                           &load, error));
  if (load.most * 100 * k->places[0] <= load.all * UNEVEN)
    return BSD_OK;
  const int64_t members = members_of(out->items + before->nitems, n);
  int64_t least = load.most;
  for (int narrow = 1; narrow < k->width; narrow++) {
    made = (bsd_sm90_widths){k->width, narrow, best_share(k, members, narrow)};
    if (made.narrow_share == 0)
      continue;
    BSD_TRY(make_items(b, before, &made, out, error));
    BSD_TRY(bsd_sm90_load_of(b->shape, b->pass, out->items + before->nitems,
                             out->nitems - before->nitems, k->places[0], k->cost, &load, error));
    if (load.most < least) {
      least = load.most;
      best = made;
    }
  }
  if (made.narrow == best.narrow && made.narrow_share == best.narrow_share)
    return BSD_OK;
  return make_items(b, before, &best, out, error);
}

static bsd_status add_stage(builder *b, int stage, bsd_sm90_arrays *out, bsd_sm90_stage *made,
                            bsd_error *error) {
  const bsd_sm90_kernel *k = b->kernel;
  const snapshot before = {b->to.nentries, b->to.nheads, out->nitems};
  const bsd_sm90_widths wide = {k->width, 1, 0}, single = {1, 1, 0};
  static const int alone[] = {0, 100};
  for (int64_t i = 0; i < b->pass->nlists; i++)
    BSD_TRY(bsd_sm90_cut_rows(&b->cuts[i], stage, &b->to, error));
  BSD_TRY(make_items(b, &before, &wide, out, error));
  made->grouped = k->width > 1 &&
                  (k->forced || pays(b, out->items + before.nitems, out->nitems - before.nitems));
  if (k->width > 1 && !made->grouped)
    BSD_TRY(make_items(b, &before, &single, out, error));
  if (made->grouped)
    BSD_TRY(fill_rounds(b, &before, out, error));
  made->items = NULL;
  BSD_TRY(bsd_sm90_order_items(b->shape, b->pass, before.nitems, k->places[made->grouped ? 0 : 1],
                               made->grouped ? k->cost : alone, out, error));
  made->nitems = out->nitems - before.nitems;
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
  return bsd_cuda_upload(work->memory, p->host, p->size, "copying row groups to the device", error);
}

bsd_status bsd_sm90_work_create(const bsd_kernel_shape *shape, const bsd_pass *passes,
                                int64_t npasses, const bsd_sm90_kernel *kernel,
                                bsd_sm90_work **work, bsd_error *error) {
  builder b = {.shape = shape, .kernel = kernel};
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
