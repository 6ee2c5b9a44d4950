/* share.c - a rank's own tiles and their active blocks in both directions. See share.h.
 * Columns that are made of rows are share_transpose.c's, what crosses shards share_exchange.c's. */
#include "share.h"

#include "memory.h"
#include "rows.h"

/* ---- own tiles --------------------------------------------------------------------------- */

static bsd_status push_segment(bsd_share_list *list, const bsd_segment *segment, bsd_error *error) {
  int64_t n = list->nsegments;
  if (n > 0 && list->segments[n - 1].document == segment->document &&
      list->segments[n - 1].number == segment->number)
    return BSD_OK;
  BSD_TRY(bsd_grow(&list->segments, &list->segment_capacity, n + 1, sizeof(bsd_segment), error));
  BSD_TRY(bsd_grow(&list->block_base, &list->base_capacity, n + 1, sizeof(int64_t), error));
  list->segments[n] = *segment;
  list->block_base[n] = n == 0 ? 0 : list->block_base[n - 1] + list->segments[n - 1].blocks;
  list->nsegments++;
  return BSD_OK;
}

/* Adds gathered tokens a .. z of the last segment, which lie at local index `local` on, `step` apart. */
static bsd_status push_tokens(bsd_share_list *list, int64_t block_size, int64_t a, int64_t z,
                              int64_t local, bsd_error *error) {
  int64_t s = list->nsegments - 1, block = a / block_size, n = list->nown;
  const bsd_segment *segment = &list->segments[s];
  bsd_tile *tile;
  if (n == 0 || list->own[n - 1].segment != s || list->own[n - 1].block != block) {
    BSD_TRY(bsd_grow(&list->own, &list->own_capacity, n + 1, sizeof(bsd_own_tile), error));
    BSD_TRY(bsd_grow(&list->own_tiles, &list->tile_capacity, n + 1, sizeof(bsd_tile), error));
    list->own[n] = (bsd_own_tile){s, block};
    list->own_tiles[n] =
        (bsd_tile){block * block_size, list->nown_fragments, 0,
                   (int32_t)bsd_min(block_size, segment->tokens - block * block_size)};
    list->nown++;
  }
  tile = &list->own_tiles[list->nown - 1];
  BSD_TRY(bsd_grow(&list->own_fragments, &list->own_fragment_capacity, list->nown_fragments + 1,
                   sizeof(bsd_fragment), error));
  list->own_fragments[list->nown_fragments++] =
      (bsd_fragment){local, segment->step, 0, (int16_t)(a - tile->t0), (int16_t)(z - a + 1)};
  tile->nfragments++;
  return BSD_OK;
}

/* Adds the selected positions of [p, stop), which lie in one segment and one run of the layout. */
static bsd_status push_piece(bsd_share_list *list, const bsd_segment *segment, int64_t block_size,
                             int64_t p, int64_t stop, int64_t local, bsd_error *error) {
  int64_t r = segment->step, low, high, t;
  low = p <= segment->first ? 0 : bsd_ceil_div(p - segment->first, r);
  if (segment->tokens == 0 || stop <= segment->first)
    return BSD_OK;
  high = (stop - 1 - segment->first) / r;
  if (low > high)
    return BSD_OK;
  BSD_TRY(push_segment(list, segment, error));
  for (t = low; t <= high;) {
    int64_t end = bsd_min(high, (t / block_size + 1) * block_size - 1);
    BSD_TRY(push_tokens(list, block_size, t, end, local + segment->first + t * r - p, error));
    t = end + 1;
  }
  return BSD_OK;
}

static bsd_status find_own_tiles(const bsd_share *share, bsd_share_list *list, bsd_error *error) {
  const bsd_task *task = share->task;
  int64_t head = task->head_class_head[list->head_class], k;
  int64_t offset = bsd_task_offset(task, list->branch, head);
  int64_t w = task->pattern->branches[list->branch].segment;
  int64_t runs = bsd_layout_run_count(share->layout, share->rank);
  for (k = 0; k < runs; k++) {
    int64_t local;
    bsd_position_run run = bsd_layout_run(share->layout, share->rank, k, &local);
    int64_t p = run.first, end = run.first + run.count, d = bsd_task_document(task, p);
    while (p < end) {
      int64_t start = task->cu_seqlens[d], stop = task->cu_seqlens[d + 1], number = 0;
      bsd_segment segment;
      if (stop <= p) {
        d++;
        continue;
      }
      if (w > 0 && w < stop - start) {
        number = (p - start) / w;
        stop = bsd_min(stop, start + (number + 1) * w);
      }
      stop = bsd_min(stop, end);
      segment = bsd_task_segment(task, list->branch, offset, d, number);
      BSD_TRY(push_piece(list, &segment, task->block, p, stop, local + p - run.first, error));
      p = stop;
    }
  }
  return BSD_OK;
}

/* ---- active blocks of each own tile ------------------------------------------------------ */

bsd_status bsd_share_note_needed(bsd_share_list *list, bsd_side *side, int64_t segment,
                                 int64_t from, bsd_error *error) {
  int64_t i;
  for (i = from; i < side->runs.count; i++) {
    bsd_run *run = &side->runs.run[i];
    run->first += list->block_base[segment];
    BSD_TRY(bsd_bitset_add_run(&side->needed, run->first, run->step, run->count, error));
  }
  return BSD_OK;
}

static bsd_status evaluate_side(const bsd_task *task, bsd_share_list *list, int which,
                                bsd_error *error) {
  bsd_side *side = &list->side[which];
  int64_t head = task->head_class_head[list->head_class], i;
  for (i = 0; i < list->nown; i++) {
    const bsd_own_tile *own = &list->own[i];
    const bsd_segment *segment = &list->segments[own->segment];
    int64_t from = side->runs.count;
    side->run_ptr[i] = from;
    if (which == BSD_ROWS)
      BSD_TRY(bsd_rows_row(task, list->branch, head, segment, own->block, &side->runs, error));
    else
      BSD_TRY(bsd_rows_column(task, list->branch, head, segment, own->block, &side->runs, error));
    BSD_TRY(bsd_share_note_needed(list, side, own->segment, from, error));
  }
  side->run_ptr[list->nown] = side->runs.count;
  return bsd_bitset_seal(&side->needed, error);
}

/* Columns without a closed form are missing then. */
static bsd_status evaluate_list(const bsd_share *share, bsd_share_list *list, bsd_error *error) {
  const bsd_task *task = share->task;
  int which;
  BSD_TRY(find_own_tiles(share, list, error));
  for (which = BSD_ROWS; which <= BSD_COLUMNS; which++)
    BSD_TRY(bsd_alloc(&list->side[which].run_ptr, list->nown + 1, sizeof(int64_t), error));
  BSD_TRY(evaluate_side(task, list, BSD_ROWS, error));
  if (bsd_branch_has_columns(&task->pattern->branches[list->branch]))
    BSD_TRY(evaluate_side(task, list, BSD_COLUMNS, error));
  return BSD_OK;
}

/* ---- counts ------------------------------------------------------------------------------ */

static void count_list(bsd_share *share, const bsd_share_list *list) {
  const bsd_task *task = share->task;
  const bsd_side *side = &list->side[BSD_ROWS];
  int64_t heads =
      task->head_class_ptr[list->head_class + 1] - task->head_class_ptr[list->head_class];
  int64_t pairs = 0, blocks = 0, i, f, j;
  for (i = 0; i < list->nown; i++) {
    const bsd_tile *tile = &list->own_tiles[i];
    const bsd_segment *segment = &list->segments[list->own[i].segment];
    const bsd_run *runs = side->runs.run + side->run_ptr[i];
    int64_t nruns = side->run_ptr[i + 1] - side->run_ptr[i];
    int64_t base = list->block_base[list->own[i].segment];
    if (list->own_fragments[tile->fragment].slot == 0)
      for (j = 0; j < nruns; j++)
        blocks += runs[j].count;
    for (f = 0; f < tile->nfragments; f++) {
      const bsd_fragment *fragment = &list->own_fragments[tile->fragment + f];
      pairs += bsd_rows_pairs(task, list->branch, segment, base, tile->t0 + fragment->slot,
                              fragment->count, runs, nruns);
    }
  }
  share->pairs += heads * pairs;
  share->active_blocks += heads * blocks;
}

int64_t bsd_share_find(const bsd_share *share, int64_t branch, int64_t head_class) {
  int64_t low = 0, high = share->nlists;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    const bsd_share_list *list = &share->lists[middle];
    if (list->branch == branch && list->head_class == head_class)
      return middle;
    if (list->branch < branch || (list->branch == branch && list->head_class < head_class))
      low = middle + 1;
    else
      high = middle;
  }
  return -1;
}

int64_t bsd_share_kv_tokens(const bsd_share *share, const bsd_bitset *per_kv_class) {
  int64_t g, tokens = 0;
  for (g = 0; g < share->task->kv_heads; g++)
    tokens += per_kv_class[share->task->kv_class[g]].members;
  return tokens;
}

int64_t bsd_share_q_tokens(const bsd_share *share, const bsd_bitset *per_head_class) {
  int64_t h, tokens = 0;
  for (h = 0; h < share->task->heads; h++)
    tokens += per_head_class[share->task->head_class[h]].members;
  return tokens;
}

/* ---- life -------------------------------------------------------------------------------- */

static bsd_status make_lists(bsd_share *share, bsd_error *error) {
  const bsd_task *task = share->task;
  int64_t b, c;
  BSD_TRY(bsd_alloc(&share->lists, task->pattern->nbranches * task->head_classes,
                    sizeof(bsd_share_list), error));
  for (b = 0; b < task->pattern->nbranches; b++)
    for (c = 0; c < task->head_classes; c++) {
      bsd_share_list *list = &share->lists[share->nlists];
      if (!bsd_task_serves(task, b, task->head_class_head[c]))
        continue;
      list->branch = (int)b;
      list->head_class = (int32_t)c;
      share->nlists++;
      BSD_TRY(evaluate_list(share, list, error));
    }
  return BSD_OK;
}

int bsd_share_needs_rows(const bsd_task *task) {
  int64_t b;
  for (b = 0; b < task->pattern->nbranches; b++)
    if (!bsd_branch_has_columns(&task->pattern->branches[b]))
      return 1;
  return 0;
}

bsd_status bsd_share_begin(const bsd_task *task, const bsd_layout *layout, int rank,
                           bsd_share **share, bsd_error *error) {
  bsd_share *s;
  bsd_status status;
  BSD_TRY(bsd_alloc(&s, 1, sizeof *s, error));
  s->task = task;
  s->layout = layout;
  s->rank = rank;
  status = make_lists(s, error);
  if (status == BSD_OK)
    *share = s;
  else
    bsd_share_destroy(s);
  return status;
}

bsd_status bsd_share_finish(bsd_share *share, bsd_row_records *from, int64_t nfrom,
                            bsd_error *error) {
  int64_t i;
  BSD_TRY(bsd_share_transpose(share, from, nfrom, error));
  BSD_TRY(bsd_share_connect(share, error));
  for (i = 0; i < share->nlists; i++)
    count_list(share, &share->lists[i]);
  return BSD_OK;
}

bsd_status bsd_share_create(const bsd_task *task, const bsd_layout *layout, int rank,
                            bsd_share **share, bsd_error *error) {
  bsd_row_records records = {.from = rank};
  bsd_share *s;
  bsd_status status;
  BSD_TRY(bsd_share_begin(task, layout, rank, &s, error));
  status = bsd_share_evaluate_rows(s, &records, error);
  if (status == BSD_OK)
    status = bsd_share_finish(s, &records, 1, error);
  bsd_free(records.word);
  if (status == BSD_OK)
    *share = s;
  else
    bsd_share_destroy(s);
  return status;
}

static void free_side(bsd_side *side) {
  bsd_runs_free(&side->runs);
  bsd_free(side->run_ptr);
  bsd_bitset_free(&side->needed);
  bsd_free(side->entries);
  bsd_free(side->entry_ptr);
  bsd_free(side->tiles);
  bsd_free(side->fragments);
}

static void free_sets(bsd_bitset *sets, int64_t count) {
  int64_t i;
  for (i = 0; sets != NULL && i < count; i++)
    bsd_bitset_free(&sets[i]);
  bsd_free(sets);
}

void bsd_share_destroy(bsd_share *share) {
  int64_t i;
  if (share == NULL)
    return;
  for (i = 0; i < share->nlists; i++) {
    bsd_share_list *list = &share->lists[i];
    bsd_free(list->segments);
    bsd_free(list->block_base);
    bsd_free(list->own);
    bsd_free(list->own_tiles);
    bsd_free(list->own_fragments);
    free_side(&list->side[BSD_ROWS]);
    free_side(&list->side[BSD_COLUMNS]);
  }
  for (i = 0; i < share->npeers; i++) {
    bsd_peer *peer = &share->peers[i];
    free_sets(peer->kv_receive, share->task->kv_classes);
    free_sets(peer->kv_send, share->task->kv_classes);
    free_sets(peer->q_receive, share->task->head_classes);
    free_sets(peer->q_send, share->task->head_classes);
  }
  bsd_free(share->lists);
  bsd_free(share->peers);
  bsd_free(share);
}
