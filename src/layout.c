/* layout.c - position <-> (rank, local index), in closed form.
 *
 * Contiguous and zigzag cut the units into P or 2P *parts*; part r ends before unit floor((r+1)*N/R).
 * Dilated deals *groups* of g*u tokens to the ranks in turn. Custom looks its units up in the caller's
 * own table. Nothing here costs more than O(log units) per call, and only custom allocates. */
#include "layout.h"

#include <inttypes.h>
#include <stdio.h>

#include "hash.h"
#include "memory.h"

/* ---- parts: contiguous and zigzag --------------------------------------------------------- */

static int64_t part_count(const bsd_layout *layout) {
  return layout->kind == BSD_LAYOUT_ZIGZAG ? 2 * (int64_t)layout->nranks : layout->nranks;
}

/* First position of part `part`; part_count gives n. floor(part*N/R) is taken apart so that it cannot
 * overflow: part <= R, so part*(N/R) <= N. */
static int64_t part_first(const bsd_layout *layout, int64_t part) {
  int64_t parts = part_count(layout);
  int64_t first = part * (layout->units / parts) + part * (layout->units % parts) / parts;
  return first >= layout->units ? layout->length : first * layout->unit;
}

/* The part that holds a position: the largest r with floor(r*N/R) <= x, that is r*N < (x+1)*R. */
static int64_t part_of(const bsd_layout *layout, int64_t position) {
  int64_t x = position / layout->unit;
  return (int64_t)(((__int128)(x + 1) * part_count(layout) - 1) / layout->units);
}

/* A rank's one or two runs with touching ones merged and empty ones dropped; returns their number. */
static int part_runs(const bsd_layout *layout, int rank, bsd_position_run runs[2]) {
  int64_t part[2] = {rank, 2 * (int64_t)layout->nranks - 1 - rank};
  int nparts = layout->kind == BSD_LAYOUT_ZIGZAG ? 2 : 1, count = 0;
  for (int i = 0; i < nparts; i++) {
    int64_t first = part_first(layout, part[i]);
    int64_t tokens = part_first(layout, part[i] + 1) - first;
    if (tokens == 0)
      continue;
    if (count == 1 && runs[0].first + runs[0].count == first)
      runs[0].count += tokens;
    else
      runs[count++] = (bsd_position_run){first, tokens};
  }
  return count;
}

static int part_owner(const bsd_layout *layout, int64_t position, int64_t *local, int64_t *run) {
  int64_t part = part_of(layout, position);
  int rank = (int)(part < layout->nranks ? part : 2 * (int64_t)layout->nranks - 1 - part);
  bsd_position_run runs[2];
  int count = part_runs(layout, rank, runs);
  int second = count == 2 && position >= runs[1].first;
  int64_t offset = position - runs[second].first;
  *local = offset + (second ? runs[0].count : 0);
  *run = runs[second].count - offset;
  return rank;
}

/* ---- groups: dilated ---------------------------------------------------------------------- */

/* Tokens of a group; one group that holds everything where g*u would pass n, so it cannot overflow. */
static int64_t group_tokens(const bsd_layout *layout) {
  return layout->group >= layout->units ? layout->length : layout->group * layout->unit;
}

/* Groups of a rank. With one rank all groups touch: one run, n tokens long. */
static int64_t rank_groups(const bsd_layout *layout, int rank) {
  int64_t groups = layout->nranks == 1 ? 1 : bsd_ceil_div(layout->length, group_tokens(layout));
  return rank < groups ? (groups - 1 - rank) / layout->nranks + 1 : 0;
}

static bsd_position_run group_run(const bsd_layout *layout, int rank, int64_t k, int64_t *local) {
  int64_t tokens = layout->nranks == 1 ? layout->length : group_tokens(layout);
  int64_t first = (rank + k * layout->nranks) * tokens;
  *local = k * tokens;
  return (bsd_position_run){first, bsd_min(tokens, layout->length - first)};
}

static int group_owner(const bsd_layout *layout, int64_t position, int64_t *local, int64_t *run) {
  int64_t group = layout->nranks == 1 ? 0 : position / group_tokens(layout);
  int rank = (int)(group % layout->nranks);
  bsd_position_run whole = group_run(layout, rank, group / layout->nranks, local);
  *local += position - whole.first;
  *run = whole.first + whole.count - position;
  return rank;
}

/* ---- the caller's units: custom ----------------------------------------------------------- */

static int64_t custom_count(const bsd_layout *layout, int rank) {
  return layout->rank_ptr[rank + 1] - layout->rank_ptr[rank];
}

/* Only the sequence's last unit is ragged and it is its rank's last, so local = index * unit. */
static bsd_position_run custom_run(const bsd_layout *layout, int rank, int64_t k, int64_t *local) {
  int64_t first = layout->rank_units[layout->rank_ptr[rank] + k] * layout->unit;
  *local = k * layout->unit;
  return (bsd_position_run){first, bsd_min(layout->unit, layout->length - first)};
}

static int custom_owner(const bsd_layout *layout, int64_t position, int64_t *local, int64_t *run) {
  int64_t x = position / layout->unit, offset = position % layout->unit;
  *local = layout->unit_local[x] * layout->unit + offset;
  *run = bsd_min(layout->unit - offset, layout->length - position);
  return layout->unit_rank[x];
}

/* First of the rank's units that is `unit` or later. */
static int64_t custom_find(const bsd_layout *layout, int rank, int64_t unit) {
  const int64_t *units = layout->rank_units + layout->rank_ptr[rank];
  int64_t low = 0, high = custom_count(layout, rank);
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (units[middle] < unit)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* Copies the caller's ranks and sorts the units by rank (a counting sort: ascending in each). */
static bsd_status custom_fill(bsd_layout *layout, const int32_t *unit_ranks, bsd_error *error) {
  BSD_TRY(bsd_alloc(&layout->unit_rank, layout->units, sizeof(int32_t), error));
  BSD_TRY(bsd_alloc(&layout->unit_local, layout->units, sizeof(int64_t), error));
  BSD_TRY(bsd_alloc(&layout->rank_ptr, (int64_t)layout->nranks + 1, sizeof(int64_t), error));
  BSD_TRY(bsd_alloc(&layout->rank_units, layout->units, sizeof(int64_t), error));
  for (int64_t x = 0; x < layout->units; x++) {
    layout->unit_rank[x] = unit_ranks[x];
    layout->unit_local[x] = layout->rank_ptr[unit_ranks[x] + 1]++;
  }
  for (int p = 0; p < layout->nranks; p++)
    layout->rank_ptr[p + 1] += layout->rank_ptr[p];
  for (int64_t x = 0; x < layout->units; x++)
    layout->rank_units[layout->rank_ptr[unit_ranks[x]] + layout->unit_local[x]] = x;
  return BSD_OK;
}

/* ---- making one --------------------------------------------------------------------------- */

static bsd_status check_dilated(const bsd_layout_spec *spec, bsd_error *error) {
  if (spec->group < 1)
    return bsd_fail(error, BSD_ERR_ARG,
                    "layout dilated: group is %" PRId64 ", but must be at least 1 unit",
                    spec->group);
  if (spec->unit < 1)
    return bsd_fail(error, BSD_ERR_ARG,
                    "layout dilated: unit is %" PRId64 ", but must be at least 1 token",
                    spec->unit);
  return BSD_OK;
}

static bsd_status check_custom(const bsd_layout_spec *spec, int64_t units, int nranks,
                               bsd_error *error) {
  if (!spec->unit_ranks)
    return bsd_fail(error, BSD_ERR_ARG,
                    "layout custom: unit_ranks is NULL, but must hold one rank per unit");
  if (spec->nunits != units)
    return bsd_fail(error, BSD_ERR_ARG,
                    "layout custom: nunits is %" PRId64
                    ", but must be ceil(length / block) = %" PRId64,
                    spec->nunits, units);
  for (int64_t x = 0; x < units; x++)
    if (spec->unit_ranks[x] < 0 || spec->unit_ranks[x] >= nranks)
      return bsd_fail(error, BSD_ERR_ARG,
                      "layout custom: unit_ranks[%" PRId64 "] is %d, but must be 0 .. %d", x,
                      (int)spec->unit_ranks[x], nranks - 1);
  return BSD_OK;
}

/* The shortest segment where there are enough of them to give each part one, else the block. */
static int64_t part_unit(int64_t length, int64_t parts, int64_t smallest_segment, int64_t block) {
  if (smallest_segment > 0 && bsd_ceil_div(length, smallest_segment) >= parts)
    return smallest_segment;
  return block;
}

static bsd_status check_sizes(int64_t length, int nranks, int64_t smallest_segment, int64_t block,
                              bsd_error *error) {
  if (length < 1)
    return bsd_fail(error, BSD_ERR_ARG, "layout: length is %" PRId64 ", but must be at least 1",
                    length);
  if (nranks < 1)
    return bsd_fail(error, BSD_ERR_ARG, "layout: nranks is %d, but must be at least 1", nranks);
  if (smallest_segment < 0)
    return bsd_fail(error, BSD_ERR_ARG,
                    "layout: smallest segment is %" PRId64 ", but must be 0 (none) or more",
                    smallest_segment);
  if (block < 1)
    return bsd_fail(error, BSD_ERR_ARG, "layout: block is %" PRId64 ", but must be at least 1",
                    block);
  return BSD_OK;
}

bsd_status bsd_layout_create(const bsd_layout_spec *spec, int64_t length, int nranks,
                             int64_t smallest_segment, int64_t block, bsd_layout *layout,
                             bsd_error *error) {
  bsd_layout made = {.kind = spec->kind, .length = length, .nranks = nranks};
  BSD_TRY(check_sizes(length, nranks, smallest_segment, block, error));
  switch (spec->kind) {
  case BSD_LAYOUT_CONTIGUOUS:
  case BSD_LAYOUT_ZIGZAG:
    made.unit = part_unit(length, part_count(&made), smallest_segment, block);
    break;
  case BSD_LAYOUT_DILATED:
    BSD_TRY(check_dilated(spec, error));
    made.unit = spec->unit;
    made.group = spec->group;
    break;
  case BSD_LAYOUT_CUSTOM:
    BSD_TRY(check_custom(spec, bsd_ceil_div(length, block), nranks, error));
    made.unit = block;
    break;
  default:
    return bsd_fail(error, BSD_ERR_ARG,
                    "layout: kind is %d, but must be contiguous (1), zigzag (2), dilated (3) or "
                    "custom (4)",
                    (int)spec->kind);
  }
  made.units = bsd_ceil_div(length, made.unit);
  if (made.kind == BSD_LAYOUT_CUSTOM) {
    bsd_status status = custom_fill(&made, spec->unit_ranks, error);
    if (status != BSD_OK) {
      bsd_layout_free(&made);
      return status;
    }
  }
  *layout = made;
  return BSD_OK;
}

void bsd_layout_free(bsd_layout *layout) {
  bsd_free(layout->unit_rank);
  bsd_free(layout->unit_local);
  bsd_free(layout->rank_ptr);
  bsd_free(layout->rank_units);
  *layout = (bsd_layout){0};
}

/* ---- asking it ---------------------------------------------------------------------------- */

int bsd_layout_owner(const bsd_layout *layout, int64_t position, int64_t *local, int64_t *run) {
  int64_t here, rest;
  int rank;
  if (layout->kind == BSD_LAYOUT_DILATED)
    rank = group_owner(layout, position, &here, &rest);
  else if (layout->kind == BSD_LAYOUT_CUSTOM)
    rank = custom_owner(layout, position, &here, &rest);
  else
    rank = part_owner(layout, position, &here, &rest);
  if (local)
    *local = here;
  if (run)
    *run = rest;
  return rank;
}

int64_t bsd_layout_local_length(const bsd_layout *layout, int rank) {
  int64_t count = bsd_layout_run_count(layout, rank), local;
  if (count == 0)
    return 0;
  bsd_position_run last = bsd_layout_run(layout, rank, count - 1, &local);
  return local + last.count;
}

int64_t bsd_layout_run_count(const bsd_layout *layout, int rank) {
  bsd_position_run runs[2];
  if (layout->kind == BSD_LAYOUT_DILATED)
    return rank_groups(layout, rank);
  if (layout->kind == BSD_LAYOUT_CUSTOM)
    return custom_count(layout, rank);
  return part_runs(layout, rank, runs);
}

bsd_position_run bsd_layout_run(const bsd_layout *layout, int rank, int64_t k, int64_t *local) {
  bsd_position_run runs[2], run;
  int64_t here;
  if (layout->kind == BSD_LAYOUT_DILATED) {
    run = group_run(layout, rank, k, &here);
  } else if (layout->kind == BSD_LAYOUT_CUSTOM) {
    run = custom_run(layout, rank, k, &here);
  } else {
    part_runs(layout, rank, runs);
    run = runs[k];
    here = k == 0 ? 0 : runs[0].count;
  }
  if (local)
    *local = here;
  return run;
}

int64_t bsd_layout_find_run(const bsd_layout *layout, int rank, int64_t position) {
  int64_t count = bsd_layout_run_count(layout, rank);
  if (position < 0)
    return 0;
  if (position >= layout->length)
    return count;
  if (layout->kind == BSD_LAYOUT_CUSTOM)
    return custom_find(layout, rank, position / layout->unit);
  if (layout->kind == BSD_LAYOUT_DILATED) {
    int64_t group = layout->nranks == 1 ? 0 : position / group_tokens(layout);
    return group <= rank ? 0 : bsd_min(count, bsd_ceil_div(group - rank, layout->nranks));
  }
  int64_t k = 0;
  for (; k < count; k++) {
    bsd_position_run run = bsd_layout_run(layout, rank, k, NULL);
    if (run.first + run.count > position)
      break;
  }
  return k;
}

void bsd_layout_format(const bsd_layout *layout, char *text, size_t size) {
  if (layout->kind == BSD_LAYOUT_DILATED)
    snprintf(text, size, "dilated:%" PRId64 ":%" PRId64, layout->group, layout->unit);
  else if (layout->kind == BSD_LAYOUT_CUSTOM)
    snprintf(text, size, "custom");
  else
    snprintf(text, size, "%s", layout->kind == BSD_LAYOUT_ZIGZAG ? "zigzag" : "contiguous");
}

uint64_t bsd_layout_hash(const bsd_layout *layout) {
  bsd_hash hash;
  bsd_hash_begin(&hash);
  bsd_hash_i64(&hash, layout->kind);
  bsd_hash_i64(&hash, layout->length);
  bsd_hash_i64(&hash, layout->nranks);
  bsd_hash_i64(&hash, layout->unit);
  bsd_hash_i64(&hash, layout->group);
  if (layout->kind == BSD_LAYOUT_CUSTOM)
    bsd_hash_bytes(&hash, layout->unit_rank, (size_t)layout->units * sizeof(int32_t));
  return bsd_hash_value(&hash);
}

/* ---- its invariant ------------------------------------------------------------------------ */

/* The rank's runs ascend inside [0, n), none is empty, and their local indices follow on. */
static int runs_are_valid(const bsd_layout *layout, int rank) {
  int64_t end = 0, tokens = 0, local, count = bsd_layout_run_count(layout, rank);
  for (int64_t k = 0; k < count; k++) {
    bsd_position_run run = bsd_layout_run(layout, rank, k, &local);
    if (run.count < 1 || run.first < end || run.count > layout->length - run.first)
      return 0;
    if (local != tokens)
      return 0;
    tokens += run.count;
    end = run.first + run.count;
  }
  return tokens == bsd_layout_local_length(layout, rank);
}

/* The owner of `position` has a run that begins there, *rest tokens long, and also owns its last one. */
static int owner_agrees(const bsd_layout *layout, int64_t position, int64_t *rest) {
  int64_t local, first_local, last_local, last_rest;
  int rank = bsd_layout_owner(layout, position, &local, rest);
  if (rank < 0 || rank >= layout->nranks)
    return 0;
  int64_t k = bsd_layout_find_run(layout, rank, position);
  if (k >= bsd_layout_run_count(layout, rank))
    return 0;
  bsd_position_run run = bsd_layout_run(layout, rank, k, &first_local);
  if (run.first != position || run.count != *rest || first_local != local)
    return 0;
  int64_t last = position + run.count - 1;
  return bsd_layout_owner(layout, last, &last_local, &last_rest) == rank &&
         last_local == local + run.count - 1 && last_rest == 1;
}

int bsd_layout_is_valid(const bsd_layout *layout) {
  int64_t total = 0;
  for (int p = 0; p < layout->nranks; p++) {
    if (!runs_are_valid(layout, p))
      return 0;
    total += bsd_layout_local_length(layout, p);
  }
  if (total != layout->length)
    return 0;
  /* From run to run through the owner's eyes: with the total above, each run is met exactly once. */
  for (int64_t position = 0, rest; position < layout->length; position += rest)
    if (!owner_agrees(layout, position, &rest))
      return 0;
  return 1;
}
