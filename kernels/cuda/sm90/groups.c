/* groups.c - row groups: members of a list that walk the union of their lists together. See groups.h.
 *
 * Members that come one after another in a list's *sequence* are tried as a group: the query heads of a KV
 * head, the tiles of a block, then the rows at the distance at which the list's rows resemble each other
 * most (the step of `strided`). */
#include "groups.h"

#include "../../../src/memory.h"

enum {
  DISTANCES = 8, /* tried */
  SAMPLES = 32   /* rows compared for each */
};

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

/* Classes of rows at the distance one after another, each cut into chunks of `width` members, its last ones into
 * narrow chunks; chunks of the classes in turn, so that work stays local. starts[c]: the first member of chunk c. */
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

/* Members of a class's next chunk: of `size`, `done` are in chunks already. */
static int64_t chunk_size(const bsd_sm90_widths *widths, int64_t size, int64_t done) {
  const int64_t wide = size * (1000 - widths->narrow_share) / 1000;
  if (widths->narrow_share == 0 || done + widths->width <= wide)
    return bsd_min(size - done, widths->width);
  return bsd_min(size - done, widths->narrow);
}

static bsd_status make_sequence(const bsd_sm90_cut *cut, int64_t heads,
                                const bsd_sm90_widths *widths, sequence *s, bsd_error *error) {
  const int64_t distance = widths->width > 1 ? best_distance(cut) : 1;
  const int64_t total = cut->nmembers * heads;
  int64_t sizes[DISTANCES], done[DISTANCES] = {0};
  for (int64_t class = 0; class < distance; class ++)
    sizes[class] = class_size(cut, distance, class) * heads;
  BSD_TRY(bsd_alloc(&s->members, total, sizeof *s->members, error));
  BSD_TRY(bsd_alloc(&s->starts, total + 1, sizeof *s->starts, error));
  s->nmembers = s->nchunks = 0;
  while (s->nmembers < total)
    for (int64_t class = 0; class < distance; class ++) {
      const int64_t end = done[class] + chunk_size(widths, sizes[class], done[class]);
      if (end > done[class])
        s->starts[s->nchunks++] = s->nmembers;
      for (int64_t m = done[class]; m < end; m++)
        s->members[s->nmembers++] =
            (member){(int32_t)class_member(cut, distance, class, m / heads), (int32_t)(m % heads)};
      done[class] = end;
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
static bsd_status merge(bsd_sm90_arrays *to, const bsd_sm90_cut *cut, const member *members, int n,
                        int64_t *length, int64_t *own, bsd_error *error) {
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
static bsd_status add_group(bsd_sm90_arrays *to, const bsd_sm90_cut *cut, const member *members,
                            int n, bsd_sm90_sharing *sharing, bsd_error *error) {
  int64_t length, own;
  BSD_TRY(merge(to, cut, members, n, &length, &own, error));
  BSD_TRY(bsd_grow(&to->items, &to->item_room, to->nitems + 1, sizeof *to->items, error));
  bsd_sm90_item item = {.count = (int32_t)length, .begin = to->nentries};
  for (int m = 0; m < BSD_SM90_MEMBERS; m++) {
    item.rows[m] = m < n ? cut->row[members[m].own] : -1;
    item.heads[m] = m < n ? members[m].head : 0;
  }
  sharing->own += own;
  sharing->walked += length;
  to->nentries += length;
  to->items[to->nitems++] = item;
  return BSD_OK;
}

bsd_status bsd_sm90_add_groups(bsd_sm90_arrays *to, const bsd_sm90_cut *cut, int64_t heads,
                               const bsd_sm90_widths *widths, bsd_sm90_sharing *sharing,
                               bsd_error *error) {
  sequence s = {NULL, 0, NULL, 0};
  bsd_status status = make_sequence(cut, heads, widths, &s, error);
  for (int64_t c = 0; c < s.nchunks && status == BSD_OK; c++)
    status = add_group(to, cut, s.members + s.starts[c], (int)(s.starts[c + 1] - s.starts[c]),
                       sharing, error);
  bsd_free(s.members);
  bsd_free(s.starts);
  return status;
}
