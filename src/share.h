/* share.h - one rank's share of a task under a layout: its rows and columns, and what crosses shards.
 *
 * For each (branch, class of heads) the rank's own tiles with, for each, the active key blocks (side ROWS:
 * forward and dq) and the active query blocks (side COLUMNS: dk, dv). For each peer the sets of tokens to
 * receive and to send. Columns that have no closed form (random) are made of rows: the ranks send them to one
 * another, or one rank alone evaluates all rows of the segments that it has keys in. Cost and memory O(the
 * rank's active blocks) or less, save for such a rank alone. */
#ifndef BSD_SHARE_H
#define BSD_SHARE_H

#include "bitset.h"
#include "layout.h"
#include "lists.h"
#include "task.h"

enum { BSD_ROWS = 0, BSD_COLUMNS = 1 };

typedef struct bsd_own_tile {
  int64_t segment; /* index into the list's segments */
  int64_t block;   /* block number in the segment */
} bsd_own_tile;

/* One direction of a list. `needed` numbers the other side's blocks: a segment's block J is key
 * block_base + J, tiles are the needed keys in order. */
typedef struct bsd_side {
  bsd_runs runs;    /* active blocks of each own tile as runs of keys */
  int64_t *run_ptr; /* [own + 1] */
  bsd_bitset needed;
  bsd_entry *entries; /* the same as runs of tile numbers */
  int64_t nentries, entry_capacity;
  int64_t *entry_ptr; /* [own + 1] */
  bsd_tile *tiles;    /* [needed.members] */
  bsd_fragment *fragments;
  int64_t nfragments, fragment_capacity;
} bsd_side;

typedef struct bsd_share_list {
  int branch;
  int32_t head_class;
  bsd_segment *segments;
  int64_t *block_base; /* key of each segment's block 0 */
  int64_t nsegments, segment_capacity, base_capacity;
  bsd_own_tile *own;
  bsd_tile *own_tiles; /* their fragments (source 0) in own_fragments */
  int64_t nown, own_capacity, tile_capacity;
  bsd_fragment *own_fragments;
  int64_t nown_fragments, own_fragment_capacity;
  bsd_side side[2];
} bsd_share_list;

/* A rank with which tokens are exchanged. Received sets hold positions, sent sets local indices; both are
 * in ascending order of position, so that the two ends agree on the order of a message. */
typedef struct bsd_peer {
  int rank;
  bsd_bitset *kv_receive, *kv_send; /* [kv_classes] */
  bsd_bitset *q_receive, *q_send;   /* [head_classes] */
} bsd_peer;

typedef struct bsd_share {
  const bsd_task *task;
  const bsd_layout *layout;
  int rank;
  bsd_share_list *lists; /* by branch, then head class; only served ones */
  int64_t nlists;
  bsd_peer *peers; /* by ring step: rank - s receives first; fragment source = index + 1 */
  int64_t npeers, peer_capacity;
  int64_t pairs;         /* of this rank's queries, all heads, one batch entry */
  int64_t active_blocks; /* of rows whose first query is here, all heads */
  int64_t bytes;         /* memory that this structure holds */
} bsd_share;

/* Rows that one rank tells another of, as records (share_transpose.c): what it needs for its columns. */
typedef struct bsd_row_records {
  int64_t *word;
  int64_t count, capacity; /* words */
  int from;                /* the rank that knows the rows */
} bsd_row_records;

/* Made by this rank alone. */
bsd_status bsd_share_create(const bsd_task *task, const bsd_layout *layout, int rank,
                            bsd_share **share, bsd_error *error);
void bsd_share_destroy(bsd_share *share);

/* Whether columns of the task are made of rows. Then, where all ranks plan at once: each begins its share,
 * appends what others need to their records, and finishes it with the records that it was sent, its own
 * among them (they are written to). */
int bsd_share_needs_rows(const bsd_task *task);
bsd_status bsd_share_begin(const bsd_task *task, const bsd_layout *layout, int rank,
                           bsd_share **share, bsd_error *error);
bsd_status bsd_share_pack_rows(const bsd_share *share, bsd_row_records *to, /* [ranks] */
                               bsd_error *error);
bsd_status bsd_share_finish(bsd_share *share, bsd_row_records *from, int64_t nfrom,
                            bsd_error *error);

/* The index of the list of a branch and head class; -1 where the branch does not serve the class. */
int64_t bsd_share_find(const bsd_share *share, int64_t branch, int64_t head_class);

/* Tokens of all heads of the task in per-class sets, one batch entry. */
int64_t bsd_share_kv_tokens(const bsd_share *share, const bsd_bitset *per_kv_class);
int64_t bsd_share_q_tokens(const bsd_share *share, const bsd_bitset *per_head_class);

/* plan_validity.c: tiles ascending, entries inside them, fragments cover what they must. */
int bsd_share_is_valid(const bsd_share *share);

/* share.c: the runs from `from` on are block numbers of a list's segment: makes them keys, notes them as needed. */
bsd_status bsd_share_note_needed(bsd_share_list *list, bsd_side *side, int64_t segment,
                                 int64_t from, bsd_error *error);

/* share_transpose.c: records of all rows that have entries in own columns; columns of all lists from records.
 * Errors: PEER naming the rank whose records say what cannot be. */
bsd_status bsd_share_evaluate_rows(const bsd_share *share, bsd_row_records *records,
                                   bsd_error *error);
bsd_status bsd_share_transpose(bsd_share *share, bsd_row_records *from, int64_t nfrom,
                               bsd_error *error);

/* share_exchange.c: a piece of a block: tokens at position, position + step, ... that one rank holds in one
 * run. The one that begins at a slot. */
typedef struct bsd_piece {
  int owner;
  int64_t position, local, slot, count;
} bsd_piece;
int64_t bsd_share_block_tokens(const bsd_share *share, const bsd_segment *segment, int64_t block);
bsd_piece bsd_share_piece(const bsd_share *share, const bsd_segment *segment, int64_t block,
                          int64_t slot);

/* share_exchange.c: peers' sets, fragments and entries, for a share whose lists have their runs. */
bsd_status bsd_share_connect(bsd_share *share, bsd_error *error);

#endif
