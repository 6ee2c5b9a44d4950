/* lists.c - puts passes into one piece of device memory. See lists.h.
 *
 * The piece is built on the host, where a pointer is its offset in the piece; once the device address is
 * known, pointers are moved by it and the piece is copied. */
#include "lists.h"

#include <inttypes.h>
#include <string.h>

#include "../../src/memory.h"
#include "launch.h"

enum { ALIGNMENT = 256 };

/* Keys and values of a run of heads: what the L2 cache of a large GPU holds. */
static const int64_t run_bytes = INT64_C(32) << 20;

typedef struct piece {
  char *host;
  int64_t size, capacity;
} piece;

/* Room for count elements, zeroed; *offset is where. */
static bsd_status take(piece *p, int64_t count, int64_t size, int64_t *offset, bsd_error *error) {
  int64_t at = bsd_ceil_div(p->size, ALIGNMENT) * ALIGNMENT, bytes;
  if (!bsd_mul(count, size, &bytes) || !bsd_add(at, bytes, &bytes))
    return bsd_fail(error, BSD_ERR_MEMORY, "lists of %" PRId64 " elements cannot be sized", count);
  BSD_TRY(bsd_grow(&p->host, &p->capacity, bytes + ALIGNMENT, 1, error));
  memset(p->host + p->size, 0, (size_t)(bytes + ALIGNMENT - p->size));
  p->size = bytes;
  *offset = at;
  return BSD_OK;
}

/* ---- one list --------------------------------------------------------------------------------- */

static bsd_status check_int32(int64_t value, const char *what, bsd_error *error) {
  if (value >= 0 && value <= INT32_MAX)
    return BSD_OK;
  return bsd_fail(error, BSD_ERR_UNSUPPORTED,
                  "%s is %" PRId64 ", but the cuda backend numbers up to 2^31 - 1 on one rank",
                  what, value);
}

static bsd_status put_fragments(piece *p, const bsd_fragment *from, int64_t count, int64_t *offset,
                                bsd_error *error) {
  BSD_TRY(take(p, count, sizeof(bsd_cuda_fragment), offset, error));
  bsd_cuda_fragment *to = (bsd_cuda_fragment *)(void *)(p->host + *offset);
  BSD_TRY(check_int32(count, "the number of fragments of a list", error));
  for (int64_t i = 0; i < count; i++) {
    const bsd_fragment *f = &from[i];
    const int64_t step = f->count > 1 ? f->step : 1;
    BSD_TRY(check_int32(f->first + (f->count - 1) * step, "a token index", error));
    to[i] = (bsd_cuda_fragment){.first = (int32_t)f->first,
                                .step = (int32_t)step,
                                .source = f->source,
                                .slot = f->slot,
                                .count = f->count};
  }
  return BSD_OK;
}

static bsd_status put_tiles(piece *p, const bsd_tile *from, int64_t count,
                            const bsd_fragment *fragments, int64_t *offset, bsd_error *error) {
  BSD_TRY(check_int32(count, "the number of blocks of a list", error));
  BSD_TRY(take(p, count, sizeof(bsd_cuda_tile), offset, error));
  bsd_cuda_tile *to = (bsd_cuda_tile *)(void *)(p->host + *offset);
  for (int64_t i = 0; i < count; i++) {
    const bsd_tile *tile = &from[i];
    to[i] = (bsd_cuda_tile){.t0 = tile->t0,
                            .fragment = (int32_t)tile->fragment,
                            .tokens = (int16_t)tile->tokens,
                            .nfragments = (int16_t)tile->nfragments};
    if (tile->nfragments == 0)
      continue;
    const bsd_fragment *f = &fragments[tile->fragment];
    to[i].first = (int32_t)f->first;
    to[i].step = f->count > 1 ? (int32_t)f->step : 1;
    to[i].source = f->source;
    to[i].slot = f->slot;
    to[i].count = f->count;
  }
  return BSD_OK;
}

static int64_t expanded_count(const bsd_list *list) {
  int64_t count = 0;
  for (int64_t e = list->row_ptr[0]; e < list->row_ptr[list->nrows]; e++)
    count += list->entries[e].count;
  return count;
}

static bsd_status put_entries(piece *p, const bsd_list *list, int64_t *tiles_at, int64_t *ptr_at,
                              bsd_error *error) {
  BSD_TRY(take(p, list->nrows > 0 ? expanded_count(list) : 0, sizeof(int32_t), tiles_at, error));
  BSD_TRY(take(p, list->nrows + 1, sizeof(int64_t), ptr_at, error));
  int32_t *tiles = (int32_t *)(void *)(p->host + *tiles_at);
  int64_t *ptr = (int64_t *)(void *)(p->host + *ptr_at), n = 0;
  for (int64_t row = 0; row < list->nrows; row++) {
    ptr[row] = n;
    for (int64_t e = list->row_ptr[row]; e < list->row_ptr[row + 1]; e++)
      for (int32_t i = 0; i < list->entries[e].count; i++)
        tiles[n++] = list->entries[e].first + i * list->entries[e].step;
  }
  ptr[list->nrows] = n;
  return BSD_OK;
}

static void *pointer_of(int64_t offset) {
  return (void *)(uintptr_t)offset;
}

static bsd_status put_heads(piece *p, const bsd_list *list, bsd_cuda_list *to, bsd_error *error) {
  int64_t at;
  BSD_TRY(take(p, list->nheads, sizeof(int32_t), &at, error));
  if (list->nheads > 0)
    memcpy(p->host + at, list->heads, (size_t)list->nheads * sizeof(int32_t));
  to->heads = pointer_of(at);
  to->nheads = (int32_t)list->nheads;
  return BSD_OK;
}

static bsd_status put_list(piece *p, const bsd_list *list, bsd_cuda_list *to, bsd_error *error) {
  const int64_t unbounded = INT64_C(1) << 60;
  int64_t rows, blocks, row_fragments, fragments, tiles, ptr;
  BSD_TRY(put_tiles(p, list->rows, list->nrows, list->row_fragments, &rows, error));
  BSD_TRY(put_tiles(p, list->blocks, list->nblocks, list->fragments, &blocks, error));
  BSD_TRY(put_fragments(p, list->row_fragments, list->nrow_fragments, &row_fragments, error));
  BSD_TRY(put_fragments(p, list->fragments, list->nfragments, &fragments, error));
  BSD_TRY(put_entries(p, list, &tiles, &ptr, error));
  *to = (bsd_cuda_list){.rows = pointer_of(rows),
                        .blocks = pointer_of(blocks),
                        .row_fragments = pointer_of(row_fragments),
                        .fragments = pointer_of(fragments),
                        .tiles = pointer_of(tiles),
                        .tile_ptr = pointer_of(ptr),
                        .nrows = (int32_t)list->nrows,
                        .nblocks = (int32_t)list->nblocks,
                        .branch = list->branch,
                        .lowest = list->left < 0 ? -unbounded : -list->left,
                        .highest = list->causal      ? 0
                                   : list->right < 0 ? unbounded
                                                     : list->right};
  return BSD_OK;
}

/* ---- all lists of all passes ------------------------------------------------------------------ */

/* An earlier list with the same arrays, whose copies serve this one as well; NULL: none. */
static const bsd_cuda_list *find_same(const bsd_pass *passes, const bsd_cuda_list *made,
                                      int64_t pass, int64_t index) {
  const bsd_list *wanted = &passes[pass].lists[index];
  for (int64_t p = 0; p <= pass; p++) {
    const int64_t n = p < pass ? passes[p].nlists : index;
    for (int64_t i = 0; i < n; i++) {
      const bsd_list *l = &passes[p].lists[i];
      if (l->rows == wanted->rows && l->blocks == wanted->blocks && l->entries == wanted->entries &&
          l->row_ptr == wanted->row_ptr && l->nrows == wanted->nrows &&
          l->causal == wanted->causal && l->left == wanted->left && l->right == wanted->right)
        return &made[i];
    }
    made += passes[p].nlists;
  }
  return NULL;
}

/* made: one per list of all passes, in order. */
static bsd_status put_lists(piece *p, const bsd_pass *passes, int64_t npasses, bsd_cuda_list *made,
                            bsd_error *error) {
  bsd_cuda_list *next = made;
  for (int64_t pass = 0; pass < npasses; pass++)
    for (int64_t i = 0; i < passes[pass].nlists; i++, next++) {
      const bsd_cuda_list *same = find_same(passes, made, pass, i);
      if (same != NULL)
        *next = *same;
      else
        BSD_TRY(put_list(p, &passes[pass].lists[i], next, error));
      BSD_TRY(put_heads(p, &passes[pass].lists[i], next, error));
    }
  return BSD_OK;
}

static void move_list(bsd_cuda_list *list, const char *base) {
  list->rows = (const void *)(base + (uintptr_t)list->rows);
  list->blocks = (const void *)(base + (uintptr_t)list->blocks);
  list->row_fragments = (const void *)(base + (uintptr_t)list->row_fragments);
  list->fragments = (const void *)(base + (uintptr_t)list->fragments);
  list->tiles = (const void *)(base + (uintptr_t)list->tiles);
  list->tile_ptr = (const void *)(base + (uintptr_t)list->tile_ptr);
  list->heads = (const void *)(base + (uintptr_t)list->heads);
}

/* ---- what the host keeps ---------------------------------------------------------------------- */

/* Whether each tile is one fragment that covers its tokens; *local: all of them in source 0. */
static int tiles_are_simple(const bsd_tile *tiles, int64_t count, const bsd_fragment *fragments,
                            int *local) {
  int simple = 1;
  for (int64_t i = 0; i < count; i++) {
    simple &= tiles[i].nfragments == 1 && fragments[tiles[i].fragment].slot == 0 &&
              fragments[tiles[i].fragment].count == tiles[i].tokens;
    for (int64_t f = 0; f < tiles[i].nfragments; f++)
      *local &= fragments[tiles[i].fragment + f].source == 0;
  }
  return simple;
}

static void summarise(const bsd_pass *pass, bsd_cuda_pass *to) {
  int own_local = 1;
  to->nlists = pass->nlists;
  to->simple_rows = to->simple_blocks = to->local_blocks = 1;
  for (int64_t i = 0; i < pass->nlists; i++) {
    const bsd_list *l = &pass->lists[i];
    to->simple_rows &= tiles_are_simple(l->rows, l->nrows, l->row_fragments, &own_local);
    to->simple_blocks &= tiles_are_simple(l->blocks, l->nblocks, l->fragments, &to->local_blocks);
    to->masked |= l->causal || l->left >= 0 || l->right >= 0;
  }
}

/* ---- items ------------------------------------------------------------------------------------ */

/* A head that a list of the pass serves. */
typedef struct served_head {
  int32_t head, list, place;
} served_head;

typedef struct item_work {
  const bsd_pass *pass;
  const bsd_cuda_list *lists; /* of the pass, pointers are offsets */
  const piece *p;
  served_head *heads; /* ascending */
  int64_t nheads;
  int64_t run; /* heads of a run */
} item_work;

/* All served heads in ascending order: lists' heads ascend, so a merge by smallest head. */
static bsd_status order_heads(item_work *w, bsd_error *error) {
  const bsd_pass *pass = w->pass;
  int64_t *next, total = 0;
  for (int64_t i = 0; i < pass->nlists; i++)
    total += pass->lists[i].nheads;
  BSD_TRY(bsd_alloc(&w->heads, total, sizeof *w->heads, error));
  BSD_TRY(bsd_alloc(&next, pass->nlists, sizeof *next, error));
  for (; w->nheads < total; w->nheads++) {
    int64_t best = -1;
    for (int64_t i = 0; i < pass->nlists; i++)
      if (next[i] < pass->lists[i].nheads &&
          (best < 0 || pass->lists[i].heads[next[i]] < pass->lists[best].heads[next[best]]))
        best = i;
    w->heads[w->nheads] = (served_head){.head = pass->lists[best].heads[next[best]],
                                        .list = (int32_t)best,
                                        .place = (int32_t)next[best]};
    next[best]++;
  }
  bsd_free(next);
  return BSD_OK;
}

static int64_t rows_of(const item_work *w, const served_head *h, int stage) {
  const bsd_list *list = &w->pass->lists[h->list];
  return list->stage_first[stage + 1] - list->stage_first[stage];
}

static bsd_cuda_item make_item(const item_work *w, const served_head *h, int64_t row) {
  const int64_t *ptr =
      (const int64_t *)(const void *)(w->p->host + (uintptr_t)w->lists[h->list].tile_ptr);
  return (bsd_cuda_item){.list = h->list,
                         .row = (int32_t)row,
                         .head = h->head,
                         .place = h->place,
                         .count = (int32_t)(ptr[row + 1] - ptr[row]),
                         .tiles = ptr[row]};
}

/* Items of the heads [from, to), longest first, else by head and row: a counting sort, starts[longest + 1]
 * is its room. */
static void sort_run(const item_work *w, int stage, int64_t from, int64_t to, int64_t longest,
                     int64_t *starts, bsd_cuda_item *items) {
  memset(starts, 0, (size_t)(longest + 2) * sizeof *starts);
  for (int fill = 0; fill < 2; fill++) {
    for (int64_t h = from; h < to; h++) {
      const int64_t first = w->pass->lists[w->heads[h].list].stage_first[stage];
      for (int64_t i = 0; i < rows_of(w, &w->heads[h], stage); i++) {
        const bsd_cuda_item item = make_item(w, &w->heads[h], first + i);
        if (fill)
          items[starts[longest - item.count]++] = item;
        else
          starts[longest - item.count + 1]++;
      }
    }
    for (int64_t c = 0; !fill && c <= longest; c++)
      starts[c + 1] += starts[c];
  }
}

static int64_t longest_row(const item_work *w, int stage, int64_t *total) {
  int64_t longest = 0;
  *total = 0;
  for (int64_t h = 0; h < w->nheads; h++) {
    const bsd_list *list = &w->pass->lists[w->heads[h].list];
    for (int64_t row = list->stage_first[stage]; row < list->stage_first[stage + 1]; row++) {
      const int64_t count = make_item(w, &w->heads[h], row).count;
      longest = bsd_max(longest, count);
      *total += count;
    }
  }
  return longest;
}

/* The stage's items go into the piece; *offset is where. */
static bsd_status put_items(piece *p, const item_work *w, int stage, bsd_cuda_stage *to,
                            int64_t *offset, bsd_error *error) {
  bsd_cuda_item *items;
  int64_t *starts;
  to->longest = longest_row(w, stage, &to->total);
  for (int64_t h = 0; h < w->nheads; h++)
    to->nitems += rows_of(w, &w->heads[h], stage);
  BSD_TRY(bsd_alloc(&starts, to->longest + 2, sizeof *starts, error));
  bsd_status status = take(p, to->nitems, sizeof *items, offset, error);
  items = (bsd_cuda_item *)(void *)(p->host + *offset);
  for (int64_t from = 0, end; from < w->nheads && status == BSD_OK; from = end) {
    for (end = from; end < w->nheads && w->heads[end].head / w->run == w->heads[from].head / w->run;
         end++)
      ;
    sort_run(w, stage, from, end, to->longest, starts, items);
    for (int64_t h = from; h < end; h++)
      items += rows_of(w, &w->heads[h], stage);
  }
  bsd_free(starts);
  return status;
}

/* Query heads whose keys and values together take run_bytes, at least one KV head's. */
static int64_t heads_in_run(const bsd_kernel_shape *shape, const bsd_pass *pass) {
  int64_t blocks = 1;
  for (int64_t i = 0; i < pass->nlists; i++)
    blocks = bsd_max(blocks, pass->lists[i].nblocks);
  const int64_t element = shape->dtype == BSD_F32 ? 4 : 2;
  const int64_t head = blocks * shape->block * shape->head_dim * element * 2;
  return bsd_max(1, run_bytes / head) * (shape->heads / shape->kv_heads);
}

static bsd_status put_pass_items(piece *p, const bsd_kernel_shape *shape, const bsd_pass *pass,
                                 const bsd_cuda_list *made, bsd_cuda_pass *to, bsd_error *error) {
  item_work w = {.pass = pass, .lists = made, .p = p, .run = heads_in_run(shape, pass)};
  bsd_status status = order_heads(&w, error);
  for (int stage = 0; stage < BSD_MAX_STAGES && status == BSD_OK; stage++) {
    int64_t at = 0;
    status = put_items(p, &w, stage, &to->stages[stage], &at, error);
    to->stages[stage].items = pointer_of(at);
  }
  bsd_free(w.heads);
  return status;
}

/* ---- making and freeing ------------------------------------------------------------------------ */

typedef struct list_build {
  piece p;
  bsd_cuda_list *made; /* of all passes */
  int64_t nmade;
} list_build;

static bsd_status build(list_build *b, const bsd_kernel_shape *shape, bsd_lists *lists,
                        bsd_error *error) {
  const bsd_pass *passes = lists->passes;
  for (int64_t pass = 0; pass < lists->npasses; pass++)
    b->nmade += passes[pass].nlists;
  BSD_TRY(bsd_alloc(&b->made, b->nmade, sizeof *b->made, error));
  BSD_TRY(put_lists(&b->p, passes, lists->npasses, b->made, error));
  const bsd_cuda_list *of_pass = b->made;
  for (int64_t pass = 0; pass < lists->npasses; pass++) {
    int64_t at;
    summarise(&passes[pass], &lists->work[pass]);
    BSD_TRY(put_pass_items(&b->p, shape, &passes[pass], of_pass, &lists->work[pass], error));
    BSD_TRY(take(&b->p, passes[pass].nlists, sizeof(bsd_cuda_list), &at, error));
    lists->work[pass].lists = pointer_of(at);
    of_pass += passes[pass].nlists;
  }
  return BSD_OK;
}

/* Turns offsets into device addresses and copies the piece. */
static bsd_status upload(list_build *b, bsd_lists *lists, bsd_error *error) {
  const bsd_cuda_list *of_pass = b->made;
  lists->bytes = b->p.size;
  if (lists->bytes == 0)
    return BSD_OK;
  BSD_TRY(
      bsd_cuda_check_memory(cudaMalloc(&lists->memory, (size_t)lists->bytes), lists->bytes, error));
  const char *base = lists->memory;
  for (int64_t i = 0; i < b->nmade; i++)
    move_list(&b->made[i], base);
  for (int64_t pass = 0; pass < lists->npasses; pass++) {
    bsd_cuda_pass *work = &lists->work[pass];
    if (work->nlists > 0)
      memcpy(b->p.host + (uintptr_t)work->lists, of_pass,
             (size_t)work->nlists * sizeof(bsd_cuda_list));
    of_pass += work->nlists;
    work->lists = (const void *)(base + (uintptr_t)work->lists);
    for (int stage = 0; stage < BSD_MAX_STAGES; stage++)
      work->stages[stage].items = (const void *)(base + (uintptr_t)work->stages[stage].items);
  }
  return bsd_cuda_upload(lists->memory, b->p.host, lists->bytes,
                         "copying block lists to the device", error);
}

bsd_status bsd_cuda_lists_create(const bsd_pass *passes, int64_t npasses, bsd_lists **lists,
                                 bsd_error *error) {
  bsd_lists *made;
  BSD_TRY(bsd_alloc(&made, 1, sizeof *made, error));
  made->passes = passes;
  made->npasses = npasses;
  *lists = made;
  return BSD_OK;
}

bsd_status bsd_cuda_lists_build(const bsd_kernel_shape *shape, bsd_lists *lists, bsd_error *error) {
  list_build b = {{NULL, 0, 0}, NULL, 0};
  bsd_status status = bsd_alloc(&lists->work, lists->npasses, sizeof *lists->work, error);
  if (status == BSD_OK)
    status = build(&b, shape, lists, error);
  if (status == BSD_OK)
    status = upload(&b, lists, error);
  bsd_free(b.p.host);
  bsd_free(b.made);
  return status;
}

void bsd_cuda_lists_destroy(bsd_lists *lists) {
  if (lists == NULL)
    return;
  if (lists->memory != NULL)
    (void)cudaFree(lists->memory);
  bsd_free(lists->work);
  bsd_free(lists);
}
