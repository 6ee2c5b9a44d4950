/* share_exchange.c - what crosses shards: peers' sets, and tiles as fragments of what arrives.
 *
 * Receive: the tokens of needed tiles that other ranks own. Send: this rank's keys of a column go to every
 * owner of a query in one of its rows, its queries of a row to every owner of a key in one of its columns;
 * the owners are read off the tiles' fragments, so that both ends derive the same sets. */
#include <string.h>

#include "memory.h"
#include "share.h"

/* ---- peers ------------------------------------------------------------------------------- */

static bsd_status add_peer(bsd_share *share, int rank, bsd_peer **peer, bsd_error *error) {
  const bsd_task *task = share->task;
  bsd_peer *p;
  BSD_TRY(
      bsd_grow(&share->peers, &share->peer_capacity, share->npeers + 1, sizeof(bsd_peer), error));
  p = &share->peers[share->npeers];
  memset(p, 0, sizeof *p);
  p->rank = rank;
  share->npeers++;
  BSD_TRY(bsd_alloc(&p->kv_receive, task->kv_classes, sizeof(bsd_bitset), error));
  BSD_TRY(bsd_alloc(&p->kv_send, task->kv_classes, sizeof(bsd_bitset), error));
  BSD_TRY(bsd_alloc(&p->q_receive, task->head_classes, sizeof(bsd_bitset), error));
  BSD_TRY(bsd_alloc(&p->q_send, task->head_classes, sizeof(bsd_bitset), error));
  *peer = p;
  return BSD_OK;
}

/* While collecting, peer_of[rank] is the index of a peer plus one. */
static bsd_status find_peer(bsd_share *share, int32_t *peer_of, int rank, bsd_peer **peer,
                            bsd_error *error) {
  if (peer_of[rank] == 0) {
    BSD_TRY(add_peer(share, rank, peer, error));
    peer_of[rank] = (int32_t)share->npeers;
  }
  *peer = &share->peers[peer_of[rank] - 1];
  return BSD_OK;
}

/* Ring order; there are few peers in most patterns and many only where all exchange with all. */
static void sort_peers(bsd_share *share, int32_t *peer_of) {
  int nranks = share->layout->nranks, step;
  int64_t i, out = 0;
  for (step = 1; step < nranks; step++) { /* selection by walking the ring: O(P), stable */
    int rank = (share->rank - step + nranks) % nranks;
    if (peer_of[rank] == 0)
      continue;
    for (i = out; share->peers[i].rank != rank; i++)
      ;
    if (i != out) {
      bsd_peer other = share->peers[out];
      share->peers[out] = share->peers[i];
      share->peers[i] = other;
    }
    peer_of[rank] = (int32_t)++out;
  }
}

/* ---- walking a needed tile --------------------------------------------------------------- */

/* The tiles of a side in order: segment and block of each. */
typedef struct tile_walk {
  bsd_bitset_cursor cursor;
  int64_t segment;
} tile_walk;

static int next_tile(const bsd_share_list *list, const bsd_side *side, tile_walk *walk,
                     int64_t *block) {
  int64_t key;
  if (!bsd_bitset_next(&side->needed, &walk->cursor, &key))
    return 0;
  while (walk->segment + 1 < list->nsegments && key >= list->block_base[walk->segment + 1])
    walk->segment++;
  *block = key - list->block_base[walk->segment];
  return 1;
}

int64_t bsd_share_block_tokens(const bsd_share *share, const bsd_segment *segment, int64_t block) {
  return bsd_min(share->task->block, segment->tokens - block * share->task->block);
}

bsd_piece bsd_share_piece(const bsd_share *share, const bsd_segment *segment, int64_t block,
                          int64_t slot) {
  int64_t run, left = bsd_share_block_tokens(share, segment, block) - slot;
  bsd_piece p;
  p.slot = slot;
  p.position = segment->first + (block * share->task->block + slot) * segment->step;
  p.owner = bsd_layout_owner(share->layout, p.position, &p.local, &run);
  p.count = bsd_min(left, (run - 1) / segment->step + 1);
  return p;
}

/* ---- receive sets ------------------------------------------------------------------------ */

static bsd_bitset *receive_set(const bsd_share *share, const bsd_share_list *list, bsd_peer *peer,
                               int which) {
  return which == BSD_ROWS ? &peer->kv_receive[share->task->head_class_kv[list->head_class]]
                           : &peer->q_receive[list->head_class];
}

static bsd_status collect_remote(bsd_share *share, bsd_share_list *list, int which,
                                 int32_t *peer_of, bsd_error *error) {
  bsd_side *side = &list->side[which];
  tile_walk walk = {{0, 0}, 0};
  int64_t block, slot;
  while (next_tile(list, side, &walk, &block)) {
    const bsd_segment *segment = &list->segments[walk.segment];
    int64_t tokens = bsd_share_block_tokens(share, segment, block);
    for (slot = 0; slot < tokens;) {
      bsd_piece p = bsd_share_piece(share, segment, block, slot);
      if (p.owner != share->rank) {
        bsd_peer *peer;
        BSD_TRY(find_peer(share, peer_of, p.owner, &peer, error));
        BSD_TRY(bsd_bitset_add_run(receive_set(share, list, peer, which), p.position, segment->step,
                                   p.count, error));
      }
      slot += p.count;
    }
  }
  return BSD_OK;
}

static bsd_status seal_all(bsd_bitset *sets, int64_t count, bsd_error *error) {
  int64_t i;
  for (i = 0; i < count; i++)
    BSD_TRY(bsd_bitset_seal(&sets[i], error));
  return BSD_OK;
}

/* ---- fragments --------------------------------------------------------------------------- */

static bsd_status push_fragment(bsd_side *side, bsd_tile *tile, bsd_fragment f, bsd_error *error) {
  if (tile->nfragments > 0) { /* does it go on where the last one ended? */
    bsd_fragment *last = &side->fragments[side->nfragments - 1];
    int64_t gap = f.first - (last->first + (last->count - 1) * last->step);
    if (last->source == f.source && last->slot + last->count == f.slot && gap > 0 &&
        (last->count == 1 || last->step == gap) && (f.count == 1 || f.step == gap)) {
      last->step = gap;
      last->count = (int16_t)(last->count + f.count);
      return BSD_OK;
    }
  }
  BSD_TRY(bsd_grow(&side->fragments, &side->fragment_capacity, side->nfragments + 1,
                   sizeof(bsd_fragment), error));
  side->fragments[side->nfragments++] = f;
  tile->nfragments++;
  return BSD_OK;
}

/* Where a remote piece's tokens stand in what arrives: runs of the set's ranks. */
static bsd_status push_remote(bsd_side *side, bsd_tile *tile, const bsd_bitset *set,
                              const bsd_piece *p, int64_t step, int32_t source, bsd_error *error) {
  int64_t first = bsd_bitset_rank(set, p->position), i;
  int64_t last = bsd_bitset_rank(set, p->position + (p->count - 1) * step);
  int64_t spread = last - first, gap = p->count > 1 ? spread / (p->count - 1) : 1;
  if (spread == p->count - 1 || spread == (p->count - 1) * step)
    return push_fragment(
        side, tile, (bsd_fragment){first, gap, source, (int16_t)p->slot, (int16_t)p->count}, error);
  for (i = 0; i < p->count; i++)
    BSD_TRY(push_fragment(side, tile,
                          (bsd_fragment){bsd_bitset_rank(set, p->position + i * step), 1, source,
                                         (int16_t)(p->slot + i), 1},
                          error));
  return BSD_OK;
}

static bsd_status make_tile(bsd_share *share, bsd_share_list *list, int which,
                            const int32_t *peer_of, const bsd_segment *segment, int64_t block,
                            bsd_tile *tile, bsd_error *error) {
  bsd_side *side = &list->side[which];
  int64_t tokens = bsd_share_block_tokens(share, segment, block), slot;
  *tile = (bsd_tile){block * share->task->block, side->nfragments, 0, (int32_t)tokens};
  for (slot = 0; slot < tokens;) {
    bsd_piece p = bsd_share_piece(share, segment, block, slot);
    if (p.owner == share->rank) {
      bsd_fragment f = {p.local, segment->step, 0, (int16_t)slot, (int16_t)p.count};
      BSD_TRY(push_fragment(side, tile, f, error));
    } else {
      int32_t index = peer_of[p.owner];
      const bsd_bitset *set = receive_set(share, list, &share->peers[index - 1], which);
      BSD_TRY(push_remote(side, tile, set, &p, segment->step, index, error));
    }
    slot += p.count;
  }
  return BSD_OK;
}

static bsd_status make_tiles(bsd_share *share, bsd_share_list *list, int which,
                             const int32_t *peer_of, bsd_error *error) {
  bsd_side *side = &list->side[which];
  tile_walk walk = {{0, 0}, 0};
  int64_t block, i = 0;
  BSD_TRY(bsd_alloc(&side->tiles, side->needed.members, sizeof(bsd_tile), error));
  while (next_tile(list, side, &walk, &block))
    BSD_TRY(make_tile(share, list, which, peer_of, &list->segments[walk.segment], block,
                      &side->tiles[i++], error));
  return BSD_OK;
}

/* ---- entries ----------------------------------------------------------------------------- */

static bsd_status push_entry(bsd_side *side, int64_t begin, int64_t first, int64_t step,
                             int64_t count, bsd_error *error) {
  if (side->nentries > begin) { /* of the same row: does it go on? */
    bsd_entry *last = &side->entries[side->nentries - 1];
    int64_t gap = first - (last->first + (int64_t)(last->count - 1) * last->step);
    if ((last->count == 1 || last->step == gap) && (count == 1 || step == gap)) {
      last->step = (int32_t)gap;
      last->count += (int32_t)count;
      return BSD_OK;
    }
  }
  BSD_TRY(bsd_grow(&side->entries, &side->entry_capacity, side->nentries + 1, sizeof(bsd_entry),
                   error));
  side->entries[side->nentries++] = (bsd_entry){(int32_t)first, (int32_t)step, (int32_t)count};
  return BSD_OK;
}

/* Rank of a key among the needed ones; most lists need every block of a stretch. */
static int64_t tile_number(const bsd_side *side, int64_t key) {
  const bsd_bitset *set = &side->needed;
  if (set->members == set->word[set->words - 1].index * 64 + 64 -
                          __builtin_clzll(set->word[set->words - 1].bits)) /* all from 0 on */
    return key;
  return bsd_bitset_rank(set, key);
}

static bsd_status enter_run(bsd_side *side, int64_t begin, const bsd_run *run, bsd_error *error) {
  int64_t first = tile_number(side, run->first), last, spread, i;
  if (run->count == 1)
    return push_entry(side, begin, first, 1, 1, error);
  last = tile_number(side, run->first + (run->count - 1) * run->step);
  spread = last - first;
  if (spread == run->count - 1 || spread == (run->count - 1) * run->step)
    return push_entry(side, begin, first, spread / (run->count - 1), run->count, error);
  for (i = 0; i < run->count; i++)
    BSD_TRY(push_entry(side, begin, tile_number(side, run->first + i * run->step), 1, 1, error));
  return BSD_OK;
}

static bsd_status make_entries(const bsd_share_list *list, bsd_side *side, bsd_error *error) {
  int64_t i, j;
  if (side->needed.members > INT32_MAX)
    return bsd_fail(error, BSD_ERR_UNSUPPORTED,
                    "this rank needs %lld blocks in one list but at most 2^31-1 are supported",
                    (long long)side->needed.members);
  BSD_TRY(bsd_alloc(&side->entry_ptr, list->nown + 1, sizeof(int64_t), error));
  for (i = 0; i < list->nown; i++) {
    int64_t begin = side->nentries;
    side->entry_ptr[i] = begin;
    for (j = side->run_ptr[i]; j < side->run_ptr[i + 1]; j++)
      BSD_TRY(enter_run(side, begin, &side->runs.run[j], error));
  }
  side->entry_ptr[list->nown] = side->nentries;
  return BSD_OK;
}

/* ---- send sets --------------------------------------------------------------------------- */

/* The other side's tile has tokens of some peers: the own tile's tokens go to each of them, once. */
static bsd_status send_for_tile(bsd_share *share, const bsd_share_list *list, int which,
                                const bsd_tile *tile, int64_t own, int64_t *stamp,
                                bsd_error *error) {
  const bsd_side *side = &list->side[which];
  const bsd_tile *mine = &list->own_tiles[own];
  int64_t f, m;
  for (f = tile->fragment; f < tile->fragment + tile->nfragments; f++) {
    int32_t source = side->fragments[f].source;
    bsd_bitset *set;
    if (source == 0 || stamp[source - 1] == own + 1)
      continue;
    stamp[source - 1] = own + 1;
    set = which == BSD_ROWS
              ? &share->peers[source - 1].q_send[list->head_class]
              : &share->peers[source - 1].kv_send[share->task->head_class_kv[list->head_class]];
    for (m = mine->fragment; m < mine->fragment + mine->nfragments; m++) {
      const bsd_fragment *t = &list->own_fragments[m];
      BSD_TRY(bsd_bitset_add_run(set, t->first, t->step, t->count, error));
    }
  }
  return BSD_OK;
}

/* Tiles before each that have a remote fragment: long local runs are skipped at once. */
static bsd_status count_remote(const bsd_side *side, int64_t **before, bsd_error *error) {
  int64_t n = side->needed.members, i, f;
  BSD_TRY(bsd_alloc(before, n + 1, sizeof(int64_t), error));
  for (i = 0; i < n; i++) {
    const bsd_tile *tile = &side->tiles[i];
    int remote = 0;
    for (f = tile->fragment; f < tile->fragment + tile->nfragments; f++)
      remote |= side->fragments[f].source != 0;
    (*before)[i + 1] = (*before)[i] + remote;
  }
  return BSD_OK;
}

static bsd_status collect_sends(bsd_share *share, const bsd_share_list *list, int which,
                                int64_t *stamp, const int64_t *remote_before, bsd_error *error) {
  const bsd_side *side = &list->side[which];
  int64_t own, e, i;
  if (share->npeers == 0)
    return BSD_OK;
  memset(stamp, 0, sizeof(int64_t) * (size_t)share->npeers);
  for (own = 0; own < list->nown; own++)
    for (e = side->entry_ptr[own]; e < side->entry_ptr[own + 1]; e++) {
      const bsd_entry *run = &side->entries[e];
      int64_t last = run->first + (int64_t)(run->count - 1) * run->step;
      if (remote_before[last + 1] == remote_before[run->first])
        continue;
      for (i = run->first; i <= last; i += run->step)
        BSD_TRY(send_for_tile(share, list, which, &side->tiles[i], own, stamp, error));
    }
  return BSD_OK;
}

static bsd_status make_sends(bsd_share *share, bsd_error *error) {
  int64_t *stamp, *before = NULL, i;
  bsd_status status = BSD_OK;
  int which;
  BSD_TRY(bsd_alloc(&stamp, share->npeers, sizeof(int64_t), error));
  for (i = 0; i < share->nlists && status == BSD_OK; i++)
    for (which = BSD_ROWS; which <= BSD_COLUMNS && status == BSD_OK; which++) {
      status = count_remote(&share->lists[i].side[which], &before, error);
      if (status == BSD_OK)
        status = collect_sends(share, &share->lists[i], which, stamp, before, error);
      bsd_free(before);
      before = NULL;
    }
  bsd_free(stamp);
  return status;
}

/* ---- all together ------------------------------------------------------------------------ */

static void count_bytes(bsd_share *share) {
  int64_t bytes = sizeof *share, i;
  int which;
  for (i = 0; i < share->nlists; i++) {
    const bsd_share_list *list = &share->lists[i];
    bytes += list->segment_capacity * (int64_t)sizeof(bsd_segment);
    bytes += list->base_capacity * (int64_t)sizeof(int64_t);
    bytes += list->own_capacity * (int64_t)sizeof(bsd_own_tile);
    bytes += list->tile_capacity * (int64_t)sizeof(bsd_tile);
    bytes += list->own_fragment_capacity * (int64_t)sizeof(bsd_fragment);
    for (which = BSD_ROWS; which <= BSD_COLUMNS; which++) {
      const bsd_side *side = &list->side[which];
      bytes += side->runs.capacity * (int64_t)sizeof(bsd_run);
      bytes += side->needed.capacity * (int64_t)sizeof(bsd_bitset_word);
      bytes += side->entry_capacity * (int64_t)sizeof(bsd_entry);
      bytes += 2 * (list->nown + 1) * (int64_t)sizeof(int64_t);
      bytes += side->needed.members * (int64_t)sizeof(bsd_tile);
      bytes += side->fragment_capacity * (int64_t)sizeof(bsd_fragment);
    }
  }
  for (i = 0; i < share->npeers; i++) {
    const bsd_peer *peer = &share->peers[i];
    int64_t c;
    for (c = 0; c < share->task->kv_classes; c++)
      bytes += (peer->kv_receive[c].capacity + peer->kv_send[c].capacity) * 24;
    for (c = 0; c < share->task->head_classes; c++)
      bytes += (peer->q_receive[c].capacity + peer->q_send[c].capacity) * 24;
  }
  share->bytes = bytes;
}

static bsd_status connect(bsd_share *share, int32_t *peer_of, bsd_error *error) {
  const bsd_task *task = share->task;
  int64_t i;
  int which;
  for (i = 0; i < share->nlists; i++)
    for (which = BSD_ROWS; which <= BSD_COLUMNS; which++)
      BSD_TRY(collect_remote(share, &share->lists[i], which, peer_of, error));
  sort_peers(share, peer_of);
  for (i = 0; i < share->npeers; i++) {
    BSD_TRY(seal_all(share->peers[i].kv_receive, task->kv_classes, error));
    BSD_TRY(seal_all(share->peers[i].q_receive, task->head_classes, error));
  }
  for (i = 0; i < share->nlists; i++)
    for (which = BSD_ROWS; which <= BSD_COLUMNS; which++) {
      BSD_TRY(make_tiles(share, &share->lists[i], which, peer_of, error));
      BSD_TRY(make_entries(&share->lists[i], &share->lists[i].side[which], error));
    }
  BSD_TRY(make_sends(share, error));
  for (i = 0; i < share->npeers; i++) {
    BSD_TRY(seal_all(share->peers[i].kv_send, task->kv_classes, error));
    BSD_TRY(seal_all(share->peers[i].q_send, task->head_classes, error));
  }
  count_bytes(share);
  return BSD_OK;
}

bsd_status bsd_share_connect(bsd_share *share, bsd_error *error) {
  int32_t *peer_of;
  bsd_status status;
  BSD_TRY(bsd_alloc(&peer_of, share->layout->nranks, sizeof(int32_t), error));
  status = connect(share, peer_of, error);
  bsd_free(peer_of);
  return status;
}
