/* plan_lists.c - turns a share into passes of lists whose rows are ordered by stage: a row belongs to the stage
 * of the last message that it waits for (arrivals.h). */
#include <string.h>

#include "memory.h"
#include "plan.h"

typedef struct stage_work { /* while lists are being made */
  const bsd_share *share;
  const bsd_schedule *schedule;
  const bsd_arrivals *arrivals;
  uint8_t *source_stage; /* [npeers + 1] */
} stage_work;

/* ---- rows in stage order ----------------------------------------------------------------- */

static bsd_status order_list(const stage_work *w, int64_t index, int which, bsd_ordered_list *out,
                             bsd_error *error) {
  const bsd_share_list *list = &w->share->lists[index];
  const bsd_side *side = &list->side[which];
  int64_t i, n = 0, entries = 0;
  int s;
  BSD_TRY(bsd_alloc(&out->rows, list->nown, sizeof(bsd_tile), error));
  BSD_TRY(bsd_alloc(&out->row_ptr, list->nown + 1, sizeof(int64_t), error));
  BSD_TRY(bsd_alloc(&out->entries, side->nentries, sizeof(bsd_entry), error));
  for (s = 0; s < w->schedule->stages; s++) {
    out->stage_first[s] = n;
    for (i = 0; i < list->nown; i++) {
      int64_t count = side->entry_ptr[i + 1] - side->entry_ptr[i];
      if (w->source_stage[bsd_arrivals_last(w->arrivals, which, index, i)] != s)
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
  int64_t i;
  int which;
  BSD_TRY(bsd_alloc(&w->source_stage, share->npeers + 1, 1, error));
  for (i = 0; i < share->npeers; i++)
    w->source_stage[i + 1] = (uint8_t)bsd_schedule_stage(w->schedule, i);
  for (which = BSD_ROWS; which <= BSD_COLUMNS; which++) {
    BSD_TRY(bsd_alloc(&lists->ordered[which], share->nlists, sizeof(bsd_ordered_list), error));
    for (i = 0; i < share->nlists; i++)
      BSD_TRY(order_list(w, i, which, &lists->ordered[which][i], error));
  }
  return BSD_OK;
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
      if ((index = bsd_share_find(w->share, b, c)) >= 0)
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
        if ((index = bsd_share_find(w->share, b, c)) < 0)
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

bsd_status bsd_plan_lists_create(const bsd_share *share, const bsd_schedule *schedule,
                                 const bsd_arrivals *arrivals, bsd_plan_lists *lists,
                                 bsd_error *error) {
  stage_work w = {.share = share, .schedule = schedule, .arrivals = arrivals};
  bsd_status status = BSD_OK;
  if (schedule->stages > 1)
    status = order_all(&w, lists, error);
  if (status == BSD_OK)
    status = make_passes(&w, lists, error);
  bsd_free(w.source_stage);
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
