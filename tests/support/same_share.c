/* same_share.c - see same_share.h. The structs compared by their bytes have no padding. */
#include "support/same_share.h"

#include <string.h>

static int same(const void *a, const void *b, int64_t count, size_t size) {
  return count == 0 || memcmp(a, b, (size_t)count * size) == 0;
}

static int same_set(const bsd_bitset *a, const bsd_bitset *b) {
  return a->words == b->words && a->members == b->members &&
         same(a->word, b->word, a->words, sizeof *a->word) &&
         same(a->before, b->before, a->words, sizeof *a->before);
}

static int same_sets(const bsd_bitset *a, const bsd_bitset *b, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    if (!same_set(&a[i], &b[i]))
      return 0;
  return 1;
}

static const char *side_difference(const bsd_side *a, const bsd_side *b, int64_t nown) {
  if (!same(a->run_ptr, b->run_ptr, nown + 1, sizeof *a->run_ptr) ||
      !same(a->runs.run, b->runs.run, a->runs.count, sizeof *a->runs.run))
    return "runs";
  if (!same_set(&a->needed, &b->needed))
    return "needed blocks";
  if (a->nentries != b->nentries ||
      !same(a->entry_ptr, b->entry_ptr, nown + 1, sizeof *a->entry_ptr) ||
      !same(a->entries, b->entries, a->nentries, sizeof *a->entries))
    return "entries";
  if (!same(a->tiles, b->tiles, a->needed.members, sizeof *a->tiles) ||
      a->nfragments != b->nfragments ||
      !same(a->fragments, b->fragments, a->nfragments, sizeof *a->fragments))
    return "tiles";
  return NULL;
}

static const char *list_difference(const bsd_share_list *a, const bsd_share_list *b) {
  if (a->branch != b->branch || a->head_class != b->head_class || a->nown != b->nown ||
      !same(a->own, b->own, a->nown, sizeof *a->own) ||
      !same(a->own_tiles, b->own_tiles, a->nown, sizeof *a->own_tiles) ||
      a->nown_fragments != b->nown_fragments ||
      !same(a->own_fragments, b->own_fragments, a->nown_fragments, sizeof *a->own_fragments))
    return "own tiles";
  const char *what = side_difference(&a->side[BSD_ROWS], &b->side[BSD_ROWS], a->nown);
  return what ? what : side_difference(&a->side[BSD_COLUMNS], &b->side[BSD_COLUMNS], a->nown);
}

static int same_peer(const bsd_peer *a, const bsd_peer *b, const bsd_task *task) {
  return a->rank == b->rank && same_sets(a->kv_receive, b->kv_receive, task->kv_classes) &&
         same_sets(a->kv_send, b->kv_send, task->kv_classes) &&
         same_sets(a->q_receive, b->q_receive, task->head_classes) &&
         same_sets(a->q_send, b->q_send, task->head_classes);
}

static const char *difference(const bsd_share *a, const bsd_share *b) {
  if (a->nlists != b->nlists || a->npeers != b->npeers || a->pairs != b->pairs ||
      a->active_blocks != b->active_blocks)
    return "counts";
  for (int64_t i = 0; i < a->nlists; i++) {
    const char *what = list_difference(&a->lists[i], &b->lists[i]);
    if (what)
      return what;
  }
  for (int64_t i = 0; i < a->npeers; i++)
    if (!same_peer(&a->peers[i], &b->peers[i], a->task))
      return "peers";
  return NULL;
}

int same_share(const bsd_share *a, const bsd_share *b, const char **what) {
  const char *found = difference(a, b);
  if (what)
    *what = found ? found : "nothing";
  return found == NULL;
}
