/* tiles.c - cuts the blocks of a list into tiles of 64 slots. See tiles.h. */
#include "tiles.h"

#include <inttypes.h>
#include <string.h>

#include "../../../src/memory.h"

enum { SLOTS = 64, COUNTED_STEPS = 64 };

static const int64_t unbounded = INT64_C(1) << 60;

/* The fragment that covers all slots [first, first + 64) of a tile, or NULL. */
static const bsd_fragment *whole_fragment(const bsd_tile *tile, const bsd_fragment *fragments,
                                          int64_t first) {
  for (int32_t f = 0; f < tile->nfragments; f++) {
    const bsd_fragment *at = &fragments[tile->fragment + f];
    if (at->slot <= first && at->slot + at->count >= first + SLOTS)
      return at;
  }
  return NULL;
}

/* ---- which steps get a map --------------------------------------------------------------------- */

typedef struct step_count {
  int64_t step, tiles;
} step_count;

static void count_steps(const bsd_tile *tiles, int64_t ntiles, const bsd_fragment *fragments,
                        int64_t parts, step_count *counts) {
  for (int64_t t = 0; t < ntiles; t++)
    for (int64_t part = 0; part < parts; part++) {
      const bsd_fragment *f = whole_fragment(&tiles[t], fragments, part * SLOTS);
      if (f == NULL || f->source != 0)
        continue;
      for (int c = 0; c < COUNTED_STEPS; c++)
        if (counts[c].step == f->step || counts[c].tiles == 0) {
          counts[c].step = f->step;
          counts[c].tiles++;
          break;
        }
    }
}

bsd_status bsd_sm90_choose_steps(const bsd_pass *pass, int64_t block, bsd_sm90_arrays *to,
                                 bsd_error *error) {
  step_count *counts;
  BSD_TRY(bsd_alloc(&counts, COUNTED_STEPS, sizeof *counts, error));
  for (int64_t i = 0; i < pass->nlists; i++) {
    const bsd_list *l = &pass->lists[i];
    count_steps(l->rows, l->nrows, l->row_fragments, block / SLOTS, counts);
    count_steps(l->blocks, l->nblocks, l->fragments, block / SLOTS, counts);
  }
  for (int s = 0; s < BSD_SM90_STEPS; s++) {
    int best = 0;
    for (int c = 1; c < COUNTED_STEPS; c++)
      if (counts[c].tiles > counts[best].tiles)
        best = c;
    to->steps[s] = counts[best].tiles > 0 ? (int32_t)counts[best].step : 0;
    counts[best].tiles = 0;
  }
  bsd_free(counts);
  return BSD_OK;
}

/* ---- tiles ------------------------------------------------------------------------------------- */

/* Slots [0, 64) of the part from `first` on; those outside [keep, end) hold no token. */
static bsd_status gather(const bsd_tile *tile, const bsd_fragment *fragments, int64_t first,
                         int64_t keep, int64_t end, bsd_sm90_arrays *to, bsd_error *error) {
  BSD_TRY(bsd_grow(&to->slots, &to->slot_room, to->nslots + SLOTS, sizeof *to->slots, error));
  if (to->nslots + SLOTS > INT32_MAX)
    return bsd_fail(error, BSD_ERR_UNSUPPORTED,
                    "kernel sm90 looks up %" PRId64 " tokens one by one, but counts to 2^31 - 1",
                    to->nslots + SLOTS);
  bsd_sm90_slot *slots = to->slots + to->nslots;
  for (int s = 0; s < SLOTS; s++)
    slots[s] = (bsd_sm90_slot){-1, 0};
  for (int32_t f = 0; f < tile->nfragments; f++) {
    const bsd_fragment *at = &fragments[tile->fragment + f];
    for (int32_t i = 0; i < at->count; i++) {
      const int64_t slot = at->slot + i - first;
      if (slot >= keep && slot < end)
        slots[slot] = (bsd_sm90_slot){(int32_t)(at->first + i * at->step), at->source};
    }
  }
  to->nslots += SLOTS;
  return BSD_OK;
}

static int map_of(const bsd_sm90_arrays *to, const bsd_fragment *f) {
  if (f != NULL && f->source > 0)
    return f->step == 1 && f->source <= 1 << BSD_SM90_MAP_SHIFT ? BSD_SM90_MESSAGE
                                                                : BSD_SM90_GATHER;
  for (int s = 0; s < BSD_SM90_STEPS && f != NULL; s++)
    if (to->steps[s] == f->step && f->step < 1 << BSD_SM90_MAP_SHIFT)
      return s;
  return BSD_SM90_GATHER;
}

/* The part of a block that begins at slot `first`, with the slots [keep, end) of those it has. */
static bsd_status make_tile(const bsd_tile *tile, const bsd_fragment *fragments, int64_t first,
                            int64_t keep, int64_t end, bsd_sm90_arrays *to, bsd_sm90_tile *made,
                            bsd_error *error) {
  const bsd_fragment *f = keep == 0 && end == SLOTS ? whole_fragment(tile, fragments, first) : NULL;
  const int map = map_of(to, f);
  const int64_t tokens = bsd_min(SLOTS, tile->tokens - first);
  made->t64 = (int32_t)((tile->t0 + first) / SLOTS);
  made->keys = (int32_t)(tokens << 16);
  if (map == BSD_SM90_GATHER) {
    made->at = (int32_t)to->nslots;
    made->how = (uint32_t)BSD_SM90_GATHER << BSD_SM90_MAP_SHIFT;
    return gather(tile, fragments, first, keep, end, to, error);
  }
  const int64_t token = f->first + (first - f->slot) * f->step;
  if (map == BSD_SM90_MESSAGE) {
    made->at = (int32_t)token;
    made->how = (uint32_t)map << BSD_SM90_MAP_SHIFT | (uint32_t)(f->source - 1);
    return BSD_OK;
  }
  made->at = (int32_t)(token / f->step);
  made->how = (uint32_t)(map << BSD_SM90_MAP_SHIFT) | (uint32_t)(token % f->step);
  return BSD_OK;
}

static bsd_status add_tile(const bsd_tile *tile, const bsd_fragment *fragments, int64_t first,
                           int64_t keep, int64_t end, bsd_sm90_arrays *to, int32_t *index,
                           bsd_error *error) {
  if (to->ntiles >= 1 << BSD_SM90_TILE_BITS)
    return bsd_fail(error, BSD_ERR_UNSUPPORTED,
                    "kernel sm90 numbers up to 2^%d tiles of 64 tokens in a pass of one rank",
                    BSD_SM90_TILE_BITS);
  BSD_TRY(bsd_grow(&to->tiles, &to->tile_room, to->ntiles + 1, sizeof *to->tiles, error));
  BSD_TRY(make_tile(tile, fragments, first, keep, end, to, &to->tiles[to->ntiles], error));
  *index = (int32_t)to->ntiles++;
  return BSD_OK;
}

static bsd_status check_tokens(const bsd_fragment *fragments, int64_t count, bsd_error *error) {
  for (int64_t i = 0; i < count; i++) {
    const int64_t last = fragments[i].first + (fragments[i].count - 1) * fragments[i].step;
    if (last > INT32_MAX)
      return bsd_fail(error, BSD_ERR_UNSUPPORTED,
                      "token index %" PRId64 " is too large: kernel sm90 numbers the tokens of one "
                      "rank or message up to 2^31 - 1",
                      last);
  }
  return BSD_OK;
}

bsd_status bsd_sm90_cut_blocks(bsd_sm90_cut *cut, bsd_sm90_arrays *to, bsd_error *error) {
  const bsd_list *l = cut->list;
  BSD_TRY(check_tokens(l->row_fragments, l->nrow_fragments, error));
  BSD_TRY(check_tokens(l->fragments, l->nfragments, error));
  BSD_TRY(bsd_grow(&cut->tile_of, &cut->tile_room, l->nblocks * cut->parts, sizeof *cut->tile_of,
                   error));
  for (int64_t b = 0; b < l->nblocks; b++)
    for (int64_t part = 0; part < cut->parts; part++) {
      const int64_t first = part * SLOTS, tokens = bsd_min(SLOTS, l->blocks[b].tokens - first);
      int32_t *index = &cut->tile_of[b * cut->parts + part];
      *index = -1;
      if (tokens > 0)
        BSD_TRY(add_tile(&l->blocks[b], l->fragments, first, 0, tokens, to, index, error));
    }
  return BSD_OK;
}

/* ---- steps of own tiles ------------------------------------------------------------------------ */

/* One own tile against one tile of the other side: slots of both, and the band lowest <= j - i <= highest
 * that counts, i the query's slot, j the key's. */
typedef struct pairing {
  int64_t own, other;
  int64_t lowest, highest;
} pairing;

static pairing pair_up(const bsd_sm90_cut *cut, int64_t own_t0, int64_t own, int64_t other_t0,
                       int64_t other) {
  const bsd_list *l = cut->list;
  const int64_t shift = cut->rows_are_keys ? other_t0 - own_t0 : own_t0 - other_t0;
  const int64_t lowest = l->left < 0 ? -unbounded : -l->left;
  const int64_t highest = l->causal ? 0 : l->right < 0 ? unbounded : l->right;
  return (pairing){own, other, lowest + shift, highest + shift};
}

static void add_step(bsd_sm90_cut *cut, int32_t order, int32_t tile, int masked) {
  cut->steps[cut->nsteps++] = (bsd_sm90_step){order, tile, masked};
}

/* Whether all pairs of two full tiles count. */
static int is_whole(const pairing *p) {
  return p->own == SLOTS && p->other == SLOTS && p->lowest <= 1 - SLOTS && p->highest >= SLOTS - 1;
}

/* Adds the step if some pair counts. A tile of which only some slots meet own ones is made anew without the
 * others: what they hold (NaN) must not be read. */
static bsd_status pair_tiles(bsd_sm90_cut *cut, const pairing *p, const bsd_tile *block,
                             int64_t first, int32_t order, bsd_sm90_arrays *to, bsd_error *error) {
  const int64_t queries = cut->rows_are_keys ? p->other : p->own;
  const int64_t keys = cut->rows_are_keys ? p->own : p->other;
  if (p->lowest > keys - 1 || p->highest < -(queries - 1) || p->lowest > p->highest)
    return BSD_OK;
  const int masked = p->other < SLOTS || -(queries - 1) < p->lowest || keys - 1 > p->highest;
  const int64_t seen = bsd_max(0, cut->rows_are_keys ? -p->highest : p->lowest);
  const int64_t last = cut->rows_are_keys ? keys - 1 - p->lowest : p->highest + queries - 1;
  const int64_t end = bsd_min(p->other, last + 1);
  int32_t tile = cut->tile_of[order];
  if (seen > 0 || end < p->other)
    BSD_TRY(add_tile(block, cut->list->fragments, first, seen, end, to, &tile, error));
  add_step(cut, order, tile, masked);
  return BSD_OK;
}

static bsd_status pair_with_block(bsd_sm90_cut *cut, int64_t own_t0, int64_t own, int32_t b,
                                  bsd_sm90_arrays *to, bsd_error *error) {
  const bsd_tile *block = &cut->list->blocks[b];
  for (int64_t part = 0; part < cut->parts; part++) {
    const int64_t first = part * SLOTS, tokens = bsd_min(SLOTS, block->tokens - first);
    if (tokens <= 0)
      break;
    const pairing p = pair_up(cut, own_t0, own, block->t0 + first, tokens);
    const int32_t order = (int32_t)(b * cut->parts + part);
    if (is_whole(&p))
      add_step(cut, order, cut->tile_of[order], 0);
    else
      BSD_TRY(pair_tiles(cut, &p, block, first, order, to, error));
  }
  return BSD_OK;
}

static int covers_a_slot(const bsd_tile *row, const bsd_fragment *fragments, int64_t first) {
  for (int32_t f = 0; f < row->nfragments; f++) {
    const bsd_fragment *at = &fragments[row->fragment + f];
    if (at->slot < first + SLOTS && at->slot + at->count > first)
      return 1;
  }
  return 0;
}

/* Whether the last own tile has the same steps as one of row r: without bounds they follow from the row's
 * entries alone, which are often those of the row before. */
static int repeats_last(const bsd_sm90_cut *cut, int64_t r) {
  const bsd_list *l = cut->list;
  if (cut->nmembers == 0 || l->causal || l->left >= 0 || l->right >= 0)
    return 0;
  const bsd_entry *a = l->entries + l->row_ptr[cut->last_row], *b = l->entries + l->row_ptr[r];
  const int64_t count = l->row_ptr[r + 1] - l->row_ptr[r];
  return count == l->row_ptr[cut->last_row + 1] - l->row_ptr[cut->last_row] &&
         (count == 0 || memcmp(a, b, (size_t)count * sizeof *a) == 0);
}

static void repeat_steps(bsd_sm90_cut *cut) {
  const int64_t begin = cut->step_ptr[cut->nmembers - 1], count = cut->nsteps - begin;
  if (count > 0)
    memcpy(cut->steps + cut->nsteps, cut->steps + begin, (size_t)count * sizeof *cut->steps);
  cut->nsteps += count;
}

static bsd_status pair_with_row(bsd_sm90_cut *cut, int64_t r, int64_t own_t0, int64_t own,
                                bsd_sm90_arrays *to, bsd_error *error) {
  const bsd_list *l = cut->list;
  for (int64_t e = l->row_ptr[r]; e < l->row_ptr[r + 1]; e++)
    for (int32_t i = 0; i < l->entries[e].count; i++)
      BSD_TRY(pair_with_block(cut, own_t0, own, l->entries[e].first + i * l->entries[e].step, to,
                              error));
  return BSD_OK;
}

static bsd_status cut_row_part(bsd_sm90_cut *cut, int64_t r, int64_t first, bsd_sm90_arrays *to,
                               bsd_error *error) {
  const bsd_list *l = cut->list;
  const bsd_tile *row = &l->rows[r];
  const int64_t own = bsd_min(SLOTS, row->tokens - first);
  if (own <= 0 || !covers_a_slot(row, l->row_fragments, first))
    return BSD_OK;
  BSD_TRY(bsd_grow(&to->rows, &to->row_room, to->nrows + 1, sizeof *to->rows, error));
  BSD_TRY(bsd_grow(&cut->row, &cut->member_room, cut->nmembers + 1, sizeof *cut->row, error));
  BSD_TRY(
      bsd_grow(&cut->step_ptr, &cut->ptr_room, cut->nmembers + 2, sizeof *cut->step_ptr, error));
  BSD_TRY(make_tile(row, l->row_fragments, first, 0, own, to, &to->rows[to->nrows], error));
  if (repeats_last(cut, r))
    repeat_steps(cut);
  else
    BSD_TRY(pair_with_row(cut, r, row->t0 + first, own, to, error));
  cut->last_row = r;
  cut->row[cut->nmembers++] = (int32_t)to->nrows++;
  cut->step_ptr[cut->nmembers] = cut->nsteps;
  return BSD_OK;
}

/* Steps of rows [from, to) at most. */
static int64_t count_steps_of(const bsd_sm90_cut *cut, int64_t from, int64_t to) {
  const bsd_list *l = cut->list;
  int64_t blocks = 0;
  for (int64_t e = from < to ? l->row_ptr[from] : 0; from < to && e < l->row_ptr[to]; e++)
    blocks += l->entries[e].count;
  return blocks * cut->parts * cut->parts;
}

bsd_status bsd_sm90_cut_rows(bsd_sm90_cut *cut, int stage, bsd_sm90_arrays *to, bsd_error *error) {
  const int64_t from = cut->list->stage_first[stage], end = cut->list->stage_first[stage + 1];
  cut->nmembers = cut->nsteps = 0;
  BSD_TRY(bsd_grow(&cut->step_ptr, &cut->ptr_room, 1, sizeof *cut->step_ptr, error));
  BSD_TRY(bsd_grow(&cut->steps, &cut->step_room, count_steps_of(cut, from, end), sizeof *cut->steps,
                   error));
  cut->step_ptr[0] = 0;
  for (int64_t r = from; r < end; r++)
    for (int64_t part = 0; part < cut->parts; part++)
      BSD_TRY(cut_row_part(cut, r, part * SLOTS, to, error));
  return BSD_OK;
}

void bsd_sm90_cut_free(bsd_sm90_cut *cut) {
  bsd_free(cut->tile_of);
  bsd_free(cut->row);
  bsd_free(cut->step_ptr);
  bsd_free(cut->steps);
}
