/* plan_lists.c - turns a share into passes of lists whose rows are ordered by stage.
 *
 * A row belongs to the stage in which its last remote block arrives, and to no earlier stage than a row of
 * an earlier pass that writes one of its tokens: so passes add up in their order whatever arrives when,
 * and a token's bits never depend on the stages. */
#include <string.h>

#include "memory.h"
#include "plan.h"

typedef struct stage_work { /* while stages are being worked out */
  const bsd_share *share;
  const bsd_schedule *schedule;
  uint8_t *source_stage;  /* [npeers + 1] */
  uint8_t **row_stage[2]; /* by side and share list: [nown] */
  uint8_t *token_stage;   /* [local tokens] */
  int64_t *list_of;       /* [branch * head_classes + head class]: share list, or -1 */
} stage_work;

static const bsd_share_list *list_at(const stage_work *w, int64_t branch, int64_t head_class,
                                     int64_t *index) {
  *index = w->list_of[branch * w->share->task->head_classes + head_class];
  return *index < 0 ? NULL : &w->share->lists[*index];
}

/* ---- stages ------------------------------------------------------------------------------ */

static uint8_t tile_stage(const stage_work *w, const bsd_side *side, const bsd_tile *tile) {
  uint8_t stage = 0;
  int64_t f;
  for (f = tile->fragment; f < tile->fragment + tile->nfragments; f++)
    if (w->source_stage[side->fragments[f].source] > stage)
      stage = w->source_stage[side->fragments[f].source];
  return stage;
}

/* Stage by what a row needs. The last remote tile before or at each tile makes local runs cheap. */
static bsd_status need_stages(const stage_work *w, const bsd_share_list *list, int which,
                              uint8_t *row_stage, bsd_error *error) {
  const bsd_side *side = &list->side[which];
  int64_t n = side->needed.members, i, e, t, *remote_before;
  uint8_t *stage_of;
  BSD_TRY(bsd_alloc(&remote_before, n + 1, sizeof(int64_t), error));
  if (bsd_alloc(&stage_of, n, 1, error) != BSD_OK) {
    bsd_free(remote_before);
    return BSD_ERR_MEMORY;
  }
  for (i = 0; i < n; i++) {
    stage_of[i] = tile_stage(w, side, &side->tiles[i]);
    remote_before[i + 1] = remote_before[i] + (stage_of[i] != 0);
  }
  for (i = 0; i < list->nown; i++)
    for (e = side->entry_ptr[i]; e < side->entry_ptr[i + 1]; e++) {
      const bsd_entry *run = &side->entries[e];
      int64_t last = run->first + (int64_t)(run->count - 1) * run->step;
      if (remote_before[last + 1] == remote_before[run->first])
        continue;
      for (t = run->first; t <= last; t += run->step)
        if (stage_of[t] > row_stage[i])
          row_stage[i] = stage_of[t];
    }
  bsd_free(remote_before);
  bsd_free(stage_of);
  return BSD_OK;
}

/* One pass over the rows of a list: raises a row's stage to its tokens', then the tokens' to the row's.
 * Returns whether a row was raised. */
static int raise_stages(stage_work *w, const bsd_share_list *list, uint8_t *row_stage) {
  int64_t i, f, j;
  int raised = 0;
  for (i = 0; i < list->nown; i++) {
    const bsd_tile *tile = &list->own_tiles[i];
    uint8_t stage = row_stage[i];
    for (f = tile->fragment; f < tile->fragment + tile->nfragments; f++) {
      const bsd_fragment *t = &list->own_fragments[f];
      for (j = 0; j < t->count; j++)
        if (w->token_stage[t->first + j * t->step] > stage)
          stage = w->token_stage[t->first + j * t->step];
    }
    raised |= stage > row_stage[i];
    row_stage[i] = stage;
    for (f = tile->fragment; stage > 0 && f < tile->fragment + tile->nfragments; f++) {
      const bsd_fragment *t = &list->own_fragments[f];
      for (j = 0; j < t->count; j++)
        w->token_stage[t->first + j * t->step] = stage;
    }
  }
  return raised;
}

/* Forward and dq: passes are branches, outputs belong to a query head. */
static void order_row_stages(stage_work *w, int64_t tokens) {
  const bsd_task *task = w->share->task;
  int64_t c, b, index;
  for (c = 0; c < task->head_classes; c++) {
    memset(w->token_stage, 0, (size_t)tokens);
    for (b = 0; b < task->pattern->nbranches; b++)
      if (list_at(w, b, c, &index) != NULL)
        raise_stages(w, &w->share->lists[index], w->row_stage[BSD_ROWS][index]);
  }
}

/* dk, dv: passes are (head of the group, branch), outputs belong to a KV head. Heads of one group may
 * share a list, so that a raise in a late pass may concern an early one: repeat until nothing rises. */
static void order_column_stages(stage_work *w, int64_t tokens) {
  const bsd_task *task = w->share->task;
  int64_t g, e, b, index, done_classes = 0;
  for (g = 0; g < task->kv_heads; g++) {
    int raised = 1;
    if (task->kv_class[g] != done_classes) /* the first KV head of each class */
      continue;
    done_classes++;
    while (raised) {
      raised = 0;
      memset(w->token_stage, 0, (size_t)tokens);
      for (e = 0; e < task->group; e++)
        for (b = 0; b < task->pattern->nbranches; b++)
          if (list_at(w, b, task->head_class[g * task->group + e], &index) != NULL)
            raised |= raise_stages(w, &w->share->lists[index], w->row_stage[BSD_COLUMNS][index]);
    }
  }
}

/* ---- rows in stage order ----------------------------------------------------------------- */

static bsd_status order_list(const bsd_share_list *list, int which, const uint8_t *row_stage,
                             int stages, bsd_ordered_list *out, bsd_error *error) {
  const bsd_side *side = &list->side[which];
  int64_t i, n = 0, entries = 0;
  int s;
  BSD_TRY(bsd_alloc(&out->rows, list->nown, sizeof(bsd_tile), error));
  BSD_TRY(bsd_alloc(&out->row_ptr, list->nown + 1, sizeof(int64_t), error));
  BSD_TRY(bsd_alloc(&out->entries, side->nentries, sizeof(bsd_entry), error));
  for (s = 0; s < stages; s++) {
    out->stage_first[s] = n;
    for (i = 0; i < list->nown; i++) {
      int64_t count = side->entry_ptr[i + 1] - side->entry_ptr[i];
      if (row_stage[i] != s)
        continue;
      out->rows[n] = list->own_tiles[i];
      out->row_ptr[n++] = entries;
      if (count > 0)
        memcpy(out->entries + entries, side->entries + side->entry_ptr[i],
               sizeof(bsd_entry) * (size_t)count);
      entries += count;
    }
  }
  out->row_ptr[n] = entries;
  for (; s <= BSD_MAX_STAGES; s++)
    out->stage_first[s] = n;
  return BSD_OK;
}

static bsd_status order_all(stage_work *w, bsd_plan_lists *lists, bsd_error *error) {
  const bsd_share *share = w->share;
  int64_t i, tokens = bsd_layout_local_length(share->layout, share->rank);
  int which;
  BSD_TRY(bsd_alloc(&w->source_stage, share->npeers + 1, 1, error));
  BSD_TRY(bsd_alloc(&w->token_stage, tokens, 1, error));
  for (i = 0; i < share->npeers; i++)
    w->source_stage[i + 1] = (uint8_t)bsd_schedule_stage(w->schedule, i);
  for (which = BSD_ROWS; which <= BSD_COLUMNS; which++) {
    BSD_TRY(bsd_alloc(&w->row_stage[which], share->nlists, sizeof(uint8_t *), error));
    for (i = 0; i < share->nlists; i++) {
      BSD_TRY(bsd_alloc(&w->row_stage[which][i], share->lists[i].nown, 1, error));
      BSD_TRY(need_stages(w, &share->lists[i], which, w->row_stage[which][i], error));
    }
  }
  order_row_stages(w, tokens);
  order_column_stages(w, tokens);
  for (which = BSD_ROWS; which <= BSD_COLUMNS; which++) {
    BSD_TRY(bsd_alloc(&lists->ordered[which], share->nlists, sizeof(bsd_ordered_list), error));
    for (i = 0; i < share->nlists; i++)
      BSD_TRY(order_list(&share->lists[i], which, w->row_stage[which][i], w->schedule->stages,
                         &lists->ordered[which][i], error));
  }
  return BSD_OK;
}

static void free_stage_work(stage_work *w) {
  int64_t i;
  int which;
  bsd_free(w->source_stage);
  bsd_free(w->token_stage);
  bsd_free(w->list_of);
  for (which = BSD_ROWS; which <= BSD_COLUMNS; which++) {
    for (i = 0; w->row_stage[which] != NULL && i < w->share->nlists; i++)
      bsd_free(w->row_stage[which][i]);
    bsd_free(w->row_stage[which]);
  }
}

/* ---- passes ------------------------------------------------------------------------------ */

static bsd_list make_list(const bsd_share *share, const bsd_plan_lists *lists, int64_t index,
                          int which, const int32_t *heads, int64_t nheads) {
  const bsd_share_list *from = &share->lists[index];
  const bsd_side *side = &from->side[which];
  const bsd_pattern_branch *branch = &share->task->pattern->branches[from->branch];
  bsd_list list = {.branch = from->branch,
                   .causal = share->task->causal,
                   .left = branch->left,
                   .right = branch->right,
                   .whole_segments = branch->dilation == 1,
                   .nheads = nheads,
                   .heads = heads,
                   .nrows = from->nown,
                   .rows = from->own_tiles,
                   .row_fragments = from->own_fragments,
                   .nrow_fragments = from->nown_fragments,
                   .row_ptr = side->entry_ptr,
                   .entries = side->entries,
                   .nblocks = side->needed.members,
                   .blocks = side->tiles,
                   .fragments = side->fragments,
                   .nfragments = side->nfragments,
                   .stage_first = {0, from->nown, from->nown, from->nown}};
  if (lists->ordered[which] != NULL) {
    const bsd_ordered_list *ordered = &lists->ordered[which][index];
    list.rows = ordered->rows;
    list.row_ptr = ordered->row_ptr;
    list.entries = ordered->entries;
    memcpy(list.stage_first, ordered->stage_first, sizeof list.stage_first);
  }
  return list;
}

/* Members of a head class whose place in the group is e, into heads; their number. */
static int64_t heads_of(const bsd_task *task, int64_t head_class, int64_t e, int32_t *heads) {
  int64_t i, n = 0;
  for (i = task->head_class_ptr[head_class]; i < task->head_class_ptr[head_class + 1]; i++)
    if (task->head_class_members[i] % task->group == e)
      heads[n++] = task->head_class_members[i];
  return n;
}

static bsd_status make_passes(const stage_work *w, bsd_plan_lists *lists, bsd_error *error) {
  const bsd_task *task = w->share->task;
  int64_t branches = task->pattern->nbranches, classes = task->head_classes, b, c, e, index;
  int64_t heads = 0;
  bsd_list *list;
  lists->nrow_passes = branches;
  lists->ncolumn_passes = branches * task->group;
  BSD_TRY(bsd_alloc(&lists->rows, lists->nrow_passes, sizeof(bsd_pass), error));
  BSD_TRY(bsd_alloc(&lists->columns, lists->ncolumn_passes, sizeof(bsd_pass), error));
  BSD_TRY(
      bsd_alloc(&lists->storage, branches * classes * (1 + task->group), sizeof(bsd_list), error));
  BSD_TRY(bsd_alloc(&lists->heads, branches * task->heads, sizeof(int32_t), error));
  list = lists->storage;
  for (b = 0; b < branches; b++) {
    lists->rows[b].lists = list;
    for (c = 0; c < classes; c++)
      if (list_at(w, b, c, &index) != NULL)
        *list++ = make_list(w->share, lists, index, BSD_ROWS,
                            task->head_class_members + task->head_class_ptr[c],
                            task->head_class_ptr[c + 1] - task->head_class_ptr[c]);
    lists->rows[b].nlists = list - lists->rows[b].lists;
  }
  for (e = 0; e < task->group; e++)
    for (b = 0; b < branches; b++) {
      bsd_pass *pass = &lists->columns[e * branches + b];
      pass->lists = list;
      pass->rows_are_keys = 1;
      for (c = 0; c < classes; c++) {
        int64_t n;
        if (list_at(w, b, c, &index) == NULL)
          continue;
        n = heads_of(task, c, e, lists->heads + heads);
        if (n > 0)
          *list++ = make_list(w->share, lists, index, BSD_COLUMNS, lists->heads + heads, n);
        heads += n;
      }
      pass->nlists = list - pass->lists;
    }
  return BSD_OK;
}

static bsd_status index_lists(stage_work *w, bsd_error *error) {
  const bsd_task *task = w->share->task;
  int64_t n = task->pattern->nbranches * task->head_classes, i;
  BSD_TRY(bsd_alloc(&w->list_of, n, sizeof(int64_t), error));
  for (i = 0; i < n; i++)
    w->list_of[i] = -1;
  for (i = 0; i < w->share->nlists; i++)
    w->list_of[w->share->lists[i].branch * task->head_classes + w->share->lists[i].head_class] = i;
  return BSD_OK;
}

bsd_status bsd_plan_lists_create(const bsd_share *share, const bsd_schedule *schedule,
                                 bsd_plan_lists *lists, bsd_error *error) {
  stage_work w = {.share = share, .schedule = schedule};
  bsd_status status = index_lists(&w, error);
  if (status == BSD_OK && schedule->stages > 1)
    status = order_all(&w, lists, error);
  if (status == BSD_OK)
    status = make_passes(&w, lists, error);
  free_stage_work(&w);
  return status; /* the caller frees *lists also after a failure */
}

void bsd_plan_lists_free(bsd_plan_lists *lists, int64_t nshare_lists) {
  int64_t i;
  int which;
  for (which = BSD_ROWS; which <= BSD_COLUMNS; which++) {
    for (i = 0; lists->ordered[which] != NULL && i < nshare_lists; i++) {
      bsd_free(lists->ordered[which][i].rows);
      bsd_free(lists->ordered[which][i].row_ptr);
      bsd_free(lists->ordered[which][i].entries);
    }
    bsd_free(lists->ordered[which]);
  }
  bsd_free(lists->rows);
  bsd_free(lists->columns);
  bsd_free(lists->storage);
  bsd_free(lists->heads);
  memset(lists, 0, sizeof *lists);
}
