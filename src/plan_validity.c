/* plan_validity.c - the invariants of shares and of stage-ordered lists, for tests: nothing else calls them. */
#include <string.h>

#include "memory.h"
#include "plan.h"

/* ---- shares ------------------------------------------------------------------------------ */

/* Own tiles ascend by segment and block; their fragments are local tokens of this rank, in slot order. */
static int own_tiles_are_valid(const bsd_share_list *list, int64_t block, int64_t local_length) {
  int64_t i, f;
  for (i = 0; i < list->nown; i++) {
    const bsd_own_tile *own = &list->own[i], *before = own - 1;
    const bsd_tile *tile = &list->own_tiles[i];
    int slot = 0;
    if (i > 0 && (before->segment > own->segment ||
                  (before->segment == own->segment && before->block >= own->block)))
      return 0;
    if (tile->t0 != own->block * block || tile->nfragments < 1 || tile->tokens < 1)
      return 0;
    for (f = tile->fragment; f < tile->fragment + tile->nfragments; f++) {
      const bsd_fragment *t = &list->own_fragments[f];
      if (t->source != 0 || t->count < 1 || t->slot < slot || t->slot + t->count > tile->tokens ||
          t->first < 0 || t->first + (t->count - 1) * t->step >= local_length)
        return 0;
      slot = t->slot + t->count;
    }
  }
  return 1;
}

/* The tokens that a fragment's source holds for a list's side. */
static int64_t source_tokens(const bsd_share *share, const bsd_share_list *list, int which,
                             int32_t source) {
  if (source == 0)
    return bsd_layout_local_length(share->layout, share->rank);
  return which == BSD_ROWS ? share->peers[source - 1]
                                 .kv_receive[share->task->head_class_kv[list->head_class]]
                                 .members
                           : share->peers[source - 1].q_receive[list->head_class].members;
}

/* A needed tile's fragments cover each of its slots once, in order, from sources that hold them. */
static int tiles_are_valid(const bsd_share *share, const bsd_share_list *list, int which) {
  const bsd_side *side = &list->side[which];
  int64_t i, f;
  for (i = 0; i < side->needed.members; i++) {
    const bsd_tile *tile = &side->tiles[i];
    int slot = 0;
    for (f = tile->fragment; f < tile->fragment + tile->nfragments; f++) {
      const bsd_fragment *t = &side->fragments[f];
      if (t->source < 0 || t->source > share->npeers || t->slot != slot || t->count < 1 ||
          t->first < 0 ||
          t->first + (t->count - 1) * t->step >= source_tokens(share, list, which, t->source))
        return 0;
      slot += t->count;
    }
    if (slot != tile->tokens)
      return 0;
  }
  return 1;
}

/* A row's entries are tile numbers in range, ascending. */
static int entries_are_valid(const bsd_share_list *list, const bsd_side *side) {
  int64_t i, e;
  for (i = 0; i < list->nown; i++) {
    int64_t last = -1;
    if (side->entry_ptr[i] > side->entry_ptr[i + 1])
      return 0;
    for (e = side->entry_ptr[i]; e < side->entry_ptr[i + 1]; e++) {
      const bsd_entry *run = &side->entries[e];
      if (run->count < 1 || run->step < 1 || run->first <= last)
        return 0;
      last = run->first + (int64_t)(run->count - 1) * run->step;
    }
    if (last >= side->needed.members)
      return 0;
  }
  return side->entry_ptr[list->nown] == side->nentries;
}

static int peers_are_valid(const bsd_share *share) {
  int64_t i, c;
  for (i = 0; i < share->npeers; i++) {
    const bsd_peer *peer = &share->peers[i];
    if (peer->rank < 0 || peer->rank >= share->layout->nranks || peer->rank == share->rank)
      return 0;
    for (c = 0; c < share->task->kv_classes; c++)
      if (!bsd_bitset_is_valid(&peer->kv_receive[c]) || !bsd_bitset_is_valid(&peer->kv_send[c]))
        return 0;
    for (c = 0; c < share->task->head_classes; c++)
      if (!bsd_bitset_is_valid(&peer->q_receive[c]) || !bsd_bitset_is_valid(&peer->q_send[c]))
        return 0;
  }
  return 1;
}

int bsd_share_is_valid(const bsd_share *share) {
  int64_t local_length = bsd_layout_local_length(share->layout, share->rank), i;
  int which;
  if (!peers_are_valid(share))
    return 0;
  for (i = 0; i < share->nlists; i++) {
    const bsd_share_list *list = &share->lists[i];
    if (!own_tiles_are_valid(list, share->task->block, local_length))
      return 0;
    for (which = BSD_ROWS; which <= BSD_COLUMNS; which++)
      if (!bsd_bitset_is_valid(&list->side[which].needed) || !tiles_are_valid(share, list, which) ||
          !entries_are_valid(list, &list->side[which]))
        return 0;
  }
  return 1;
}

/* ---- lists in stage order ---------------------------------------------------------------- */

/* The stage in which the last of a row's tiles arrives. */
static int needed_stage(const bsd_list *list, const bsd_schedule *schedule, int64_t row) {
  int64_t e, i, f;
  int needed = 0;
  for (e = list->row_ptr[row]; e < list->row_ptr[row + 1]; e++)
    for (i = 0; i < list->entries[e].count; i++) {
      const bsd_tile *tile = &list->blocks[list->entries[e].first + i * list->entries[e].step];
      for (f = tile->fragment; f < tile->fragment + tile->nfragments; f++) {
        int32_t source = list->fragments[f].source;
        int stage = source == 0 ? 0 : bsd_schedule_stage(schedule, source - 1);
        needed = stage > needed ? stage : needed;
      }
    }
  return needed;
}

/* Raises the stages of a row's tokens to `stage`; 0 if one of them was written in a later one. */
static int advance_tokens(const bsd_list *list, int64_t row, int stage, uint8_t *token_stage) {
  const bsd_tile *tile = &list->rows[row];
  int64_t f, j;
  for (f = tile->fragment; f < tile->fragment + tile->nfragments; f++) {
    const bsd_fragment *t = &list->row_fragments[f];
    for (j = 0; j < t->count; j++) {
      uint8_t *at = &token_stage[t->first + j * t->step];
      if (*at > stage)
        return 0;
      *at = (uint8_t)stage;
    }
  }
  return 1;
}

static int serves(const bsd_list *list, int64_t head, int64_t group) {
  int64_t i;
  for (i = 0; i < list->nheads; i++)
    if (list->heads[i] / group == head)
      return 1;
  return 0;
}

/* All passes of one output head: query heads have group 1, KV heads the query heads of their group. */
static int passes_are_valid(const bsd_pass *passes, int64_t npasses, const bsd_schedule *schedule,
                            int64_t head, int64_t group, uint8_t *token_stage) {
  int64_t p, l, row;
  int stage;
  for (p = 0; p < npasses; p++)
    for (l = 0; l < passes[p].nlists; l++) {
      const bsd_list *list = &passes[p].lists[l];
      if (!serves(list, head, group))
        continue;
      if (list->stage_first[0] != 0 || list->stage_first[schedule->stages] != list->nrows)
        return 0;
      for (stage = 0; stage < schedule->stages; stage++)
        for (row = list->stage_first[stage]; row < list->stage_first[stage + 1]; row++)
          if (needed_stage(list, schedule, row) > stage ||
              !advance_tokens(list, row, stage, token_stage))
            return 0;
    }
  return 1;
}

int bsd_plan_lists_is_valid(const bsd_plan_lists *lists, const bsd_share *share,
                            const bsd_schedule *schedule) {
  const bsd_task *task = share->task;
  int64_t tokens = bsd_layout_local_length(share->layout, share->rank), h;
  uint8_t *token_stage;
  int valid = 1;
  if (bsd_alloc(&token_stage, tokens + 1, 1, NULL) != BSD_OK)
    return 0;
  for (h = 0; h < task->heads && valid; h++) {
    memset(token_stage, 0, (size_t)tokens + 1);
    valid = passes_are_valid(lists->rows, lists->nrow_passes, schedule, h, 1, token_stage);
  }
  for (h = 0; h < task->kv_heads && valid; h++) {
    memset(token_stage, 0, (size_t)tokens + 1);
    valid = passes_are_valid(lists->columns, lists->ncolumn_passes, schedule, h, task->group,
                             token_stage);
  }
  bsd_free(token_stage);
  return valid;
}
