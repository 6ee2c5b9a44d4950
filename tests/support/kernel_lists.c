/* kernel_lists.c - the lists of a kernel_case: tiles, fragments and entries, forward and transposed. */
#include "support/kernel_case.h"

#include <stdlib.h>
#include <string.h>

#include "support/tensors.h"

static void *room(int64_t count, size_t size) {
  void *memory = calloc((size_t)count + 1, size);
  if (!memory)
    abort();
  return memory;
}

static int64_t blocks_of(const kernel_case *c, int64_t segment) {
  const int64_t tokens = c->first[segment + 1] - c->first[segment];
  return (tokens + c->options.block - 1) / c->options.block;
}

/* Appends the fragments of one tile: runs of slots in one source with a constant step. */
static int32_t add_fragments(const kernel_case *c, int64_t token, int64_t tokens, int only_local,
                             bsd_fragment *fragments) {
  int32_t count = 0;
  for (int64_t s = 0; s < tokens; s++) {
    const int source = c->source[token + s];
    if (only_local && source != 0)
      continue;
    bsd_fragment *last = count > 0 ? &fragments[count - 1] : NULL;
    const int follows = last && last->source == source && last->slot + last->count == s;
    const int64_t gap = follows ? c->index[token + s] - c->index[token + s - 1] : 1;
    if (follows && (last->count == 1 || last->step == gap)) {
      last->step = gap;
      last->count++;
      continue;
    }
    fragments[count++] = (bsd_fragment){
        .first = c->index[token + s], .step = 1, .source = source, .slot = (int16_t)s, .count = 1};
  }
  return count;
}

static bsd_tile make_tile(const kernel_case *c, int64_t segment, int64_t block, int only_local,
                          bsd_fragment *fragments, int64_t *nfragments) {
  bsd_tile tile = {.t0 = block * c->options.block, .fragment = *nfragments};
  const int64_t token = c->first[segment] + tile.t0;
  const int64_t left = c->first[segment + 1] - token;
  tile.tokens = (int32_t)(left < c->options.block ? left : c->options.block);
  tile.nfragments = add_fragments(c, token, tile.tokens, only_local, fragments + *nfragments);
  *nfragments += tile.nfragments;
  return tile;
}

static int is_active(const case_list *rule, int64_t segment, int64_t mb, int64_t own, int64_t other,
                     int transposed) {
  return transposed ? rule->active[segment][other * mb + own]
                    : rule->active[segment][own * mb + other];
}

/* The entries of one row: ascending tile numbers as runs, cut at random. */
static void add_entries(const kernel_case *c, const case_list *rule, int64_t segment, int64_t own,
                        int64_t tile_base, int transposed, uint64_t *state, bsd_entry *entries,
                        int64_t *count) {
  const int64_t mb = blocks_of(c, segment), begin = *count;
  for (int64_t other = 0; other < mb; other++) {
    if (!is_active(rule, segment, mb, own, other, transposed))
      continue;
    const int32_t tile = (int32_t)(tile_base + other);
    bsd_entry *last = *count > begin ? &entries[*count - 1] : NULL;
    const int32_t gap = last ? tile - (last->first + (last->count - 1) * last->step) : 0;
    if (last && (last->count == 1 || last->step == gap) && case_draw(state, 8) != 0) {
      last->step = gap;
      last->count++;
    } else {
      entries[(*count)++] = (bsd_entry){.first = tile, .step = 1, .count = 1};
    }
  }
}

static void build_list(const kernel_case *c, const case_list *rule, int transposed, uint64_t *state,
                       bsd_list *list) {
  int64_t mb = 0, pairs = 0;
  for (int64_t s = 0; s < c->segments; s++) {
    mb += blocks_of(c, s);
    pairs += blocks_of(c, s) * blocks_of(c, s);
  }
  bsd_tile *rows = room(mb, sizeof *rows), *blocks = room(mb, sizeof *blocks);
  bsd_fragment *own = room(c->total, sizeof *own), *others = room(c->total, sizeof *others);
  bsd_entry *entries = room(pairs, sizeof *entries);
  int64_t *row_ptr = room(mb + 1, sizeof *row_ptr);
  int *stage = room(mb, sizeof *stage);
  int64_t nblocks = 0, nrows = 0, nentries = 0, nown = 0, nothers = 0;
  for (int64_t s = 0; s < c->segments; s++)
    for (int64_t b = 0; b < blocks_of(c, s); b++) {
      stage[nblocks] = (int)case_draw(state, CASE_STAGES);
      blocks[nblocks++] = make_tile(c, s, b, 0, others, &nothers);
    }
  for (int pass_stage = 0; pass_stage < CASE_STAGES; pass_stage++) {
    list->stage_first[pass_stage] = nrows;
    int64_t base = 0;
    for (int64_t s = 0; s < c->segments; base += blocks_of(c, s), s++)
      for (int64_t b = 0; b < blocks_of(c, s); b++) {
        if (stage[base + b] != pass_stage)
          continue;
        const bsd_tile tile = make_tile(c, s, b, 1, own, &nown);
        if (tile.nfragments == 0)
          continue;
        rows[nrows++] = tile;
        add_entries(c, rule, s, b, base, transposed, state, entries, &nentries);
        row_ptr[nrows] = nentries;
      }
  }
  for (int i = CASE_STAGES; i <= BSD_MAX_STAGES; i++)
    list->stage_first[i] = nrows;
  list->causal = rule->causal;
  list->left = rule->left;
  list->right = rule->right;
  list->nheads = rule->nheads;
  list->heads = rule->heads;
  list->nrows = nrows;
  list->rows = rows;
  list->row_fragments = own;
  list->nrow_fragments = nown;
  list->row_ptr = row_ptr;
  list->entries = entries;
  list->nblocks = nblocks;
  list->blocks = blocks;
  list->fragments = others;
  list->nfragments = nothers;
  free(stage);
}

static void build_pass(const kernel_case *c, const case_list *rules, int transposed,
                       uint64_t *state, bsd_pass *pass) {
  pass->nlists = c->nlists;
  pass->rows_are_keys = transposed;
  pass->lists = room(c->nlists, sizeof *pass->lists);
  for (int64_t i = 0; i < c->nlists; i++)
    build_list(c, &rules[i], transposed, state, &pass->lists[i]);
}

void case_build_lists(kernel_case *c, uint64_t *state) {
  for (int p = 0; p < c->options.npasses; p++) {
    build_pass(c, c->lists[p], 0, state, &c->forward[p]);
    build_pass(c, c->lists[p], 1, state, &c->backward[p]);
  }
}

static void free_pass(bsd_pass *pass) {
  for (int64_t i = 0; i < pass->nlists; i++) {
    bsd_list *list = &pass->lists[i];
    free((void *)list->rows);
    free((void *)list->blocks);
    free((void *)list->row_fragments);
    free((void *)list->fragments);
    free((void *)list->row_ptr);
    free((void *)list->entries);
  }
  free(pass->lists);
}

void case_free_lists(kernel_case *c) {
  for (int p = 0; p < c->options.npasses; p++) {
    free_pass(&c->forward[p]);
    free_pass(&c->backward[p]);
  }
}
