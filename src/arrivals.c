/* arrivals.c - works out the last message that each row waits for. See arrivals.h. */
#include "arrivals.h"

#include <string.h>

#include "memory.h"

typedef struct arrivals_work {
  const bsd_share *share;
  bsd_arrivals *to;
  int32_t *token_last; /* [local tokens], of one output head at a time */
} arrivals_work;

/* ---- what a row reads -------------------------------------------------------------------- */

static int32_t tile_last(const bsd_side *side, const bsd_tile *tile) {
  int32_t last = 0;
  int64_t f;
  for (f = tile->fragment; f < tile->fragment + tile->nfragments; f++)
    if (side->fragments[f].source > last)
      last = side->fragments[f].source;
  return last;
}

/* The remote tiles before each tile make runs of local ones cheap. */
static bsd_status read_by_rows(const bsd_share_list *list, const bsd_side *side, int32_t *row_last,
                               bsd_error *error) {
  int64_t n = side->needed.members, i, e, t, *remote_before;
  int32_t *last_of;
  BSD_TRY(bsd_alloc(&remote_before, n + 1, sizeof(int64_t), error));
  if (bsd_alloc(&last_of, n, sizeof(int32_t), error) != BSD_OK) {
    bsd_free(remote_before);
    return BSD_ERR_MEMORY;
  }
  for (i = 0; i < n; i++) {
    last_of[i] = tile_last(side, &side->tiles[i]);
    remote_before[i + 1] = remote_before[i] + (last_of[i] != 0);
  }
  for (i = 0; i < list->nown; i++)
    for (e = side->entry_ptr[i]; e < side->entry_ptr[i + 1]; e++) {
      const bsd_entry *run = &side->entries[e];
      int64_t end = run->first + (int64_t)(run->count - 1) * run->step;
      if (remote_before[end + 1] == remote_before[run->first])
        continue;
      for (t = run->first; t <= end; t += run->step)
        if (last_of[t] > row_last[i])
          row_last[i] = last_of[t];
    }
  bsd_free(remote_before);
  bsd_free(last_of);
  return BSD_OK;
}

/* ---- what earlier passes wait for -------------------------------------------------------- */

/* One pass over the rows of a list: a row is raised to its tokens, then these to the row. Returns whether a
 * row was raised. */
static int raise(arrivals_work *w, const bsd_share_list *list, int32_t *row_last) {
  int64_t i, f, j;
  int raised = 0;
  for (i = 0; i < list->nown; i++) {
    const bsd_tile *tile = &list->own_tiles[i];
    int32_t last = row_last[i];
    for (f = tile->fragment; f < tile->fragment + tile->nfragments; f++) {
      const bsd_fragment *t = &list->own_fragments[f];
      for (j = 0; j < t->count; j++)
        if (w->token_last[t->first + j * t->step] > last)
          last = w->token_last[t->first + j * t->step];
    }
    raised |= last > row_last[i];
    row_last[i] = last;
    for (f = tile->fragment; last > 0 && f < tile->fragment + tile->nfragments; f++) {
      const bsd_fragment *t = &list->own_fragments[f];
      for (j = 0; j < t->count; j++)
        w->token_last[t->first + j * t->step] = last;
    }
  }
  return raised;
}

static int raise_pass(arrivals_work *w, int which, int64_t branch, int64_t head_class) {
  int64_t index = bsd_share_find(w->share, branch, head_class);
  return index >= 0 && raise(w, &w->share->lists[index], w->to->last[which][index]);
}

/* Forward and dq: passes are branches, outputs belong to a query head. */
static void order_rows(arrivals_work *w, int64_t tokens) {
  const bsd_task *task = w->share->task;
  int64_t c, b;
  for (c = 0; c < task->head_classes; c++) {
    memset(w->token_last, 0, sizeof(int32_t) * (size_t)tokens);
    for (b = 0; b < task->pattern->nbranches; b++)
      raise_pass(w, BSD_ROWS, b, c);
  }
}

/* dk, dv: passes are (head of the group, branch), outputs belong to a KV head. Heads of one group may
 * share a list, so that a raise in a late pass may concern an early one: repeat until nothing rises. */
static void order_columns(arrivals_work *w, int64_t tokens) {
  const bsd_task *task = w->share->task;
  int64_t g, e, b, done_classes = 0;
  for (g = 0; g < task->kv_heads; g++) {
    int raised = 1;
    if (task->kv_class[g] != done_classes) /* the first KV head of each class */
      continue;
    done_classes++;
    while (raised) {
      raised = 0;
      memset(w->token_last, 0, sizeof(int32_t) * (size_t)tokens);
      for (e = 0; e < task->group; e++)
        for (b = 0; b < task->pattern->nbranches; b++)
          raised |= raise_pass(w, BSD_COLUMNS, b, task->head_class[g * task->group + e]);
    }
  }
}

/* ---- all together ------------------------------------------------------------------------ */

static bsd_status work_out(arrivals_work *w, bsd_error *error) {
  const bsd_share *share = w->share;
  int64_t i, tokens = bsd_layout_local_length(share->layout, share->rank);
  int which;
  BSD_TRY(bsd_alloc(&w->token_last, tokens, sizeof(int32_t), error));
  for (which = BSD_ROWS; which <= BSD_COLUMNS; which++) {
    BSD_TRY(bsd_alloc(&w->to->last[which], share->nlists, sizeof(int32_t *), error));
    for (i = 0; i < share->nlists; i++) {
      BSD_TRY(bsd_alloc(&w->to->last[which][i], share->lists[i].nown, sizeof(int32_t), error));
      BSD_TRY(read_by_rows(&share->lists[i], &share->lists[i].side[which], w->to->last[which][i],
                           error));
    }
  }
  order_rows(w, tokens);
  order_columns(w, tokens);
  return BSD_OK;
}

bsd_status bsd_arrivals_create(const bsd_share *share, bsd_arrivals *arrivals, bsd_error *error) {
  bsd_arrivals made = {{NULL, NULL}, share->nlists};
  arrivals_work w = {.share = share, .to = &made};
  bsd_status status = share->npeers > 0 ? work_out(&w, error) : BSD_OK;
  bsd_free(w.token_last);
  if (status == BSD_OK)
    *arrivals = made;
  else
    bsd_arrivals_free(&made);
  return status;
}

void bsd_arrivals_free(bsd_arrivals *arrivals) {
  int64_t i;
  int which;
  for (which = BSD_ROWS; which <= BSD_COLUMNS; which++) {
    for (i = 0; arrivals->last[which] != NULL && i < arrivals->nlists; i++)
      bsd_free(arrivals->last[which][i]);
    bsd_free(arrivals->last[which]);
    arrivals->last[which] = NULL;
  }
}
