/* tiles.h - cuts the blocks of a list into tiles of 64 slots: the first half of work.c's job. */
#ifndef BSD_SM90_TILES_H
#define BSD_SM90_TILES_H

#include "work.h"

/* A pass under construction, on the host. */
typedef struct bsd_sm90_arrays {
  bsd_sm90_tile *tiles, *rows;
  int64_t ntiles, tile_room, nrows, row_room;
  bsd_sm90_slot *slots;
  int64_t nslots, slot_room;
  uint32_t *entries;
  int64_t nentries, entry_room;
  bsd_sm90_item *items;
  int64_t nitems, item_room;
  int32_t *heads;
  int64_t nheads, head_room;
  int32_t steps[BSD_SM90_STEPS];
} bsd_sm90_arrays;

/* One entry of one own tile's list. */
typedef struct bsd_sm90_step {
  int32_t order; /* the other side's tile, ascending */
  int32_t tile;  /* in arrays.tiles */
  int32_t masked;
} bsd_sm90_step;

/* A list cut into tiles: own tiles of one stage and their steps. */
typedef struct bsd_sm90_cut {
  const bsd_list *list;
  int rows_are_keys;
  int64_t parts;     /* tiles of a block */
  int32_t *tile_of;  /* [nblocks * parts] in arrays.tiles, -1: no token */
  int64_t nmembers;  /* own tiles of the stage */
  int32_t *row;      /* in arrays.rows */
  int64_t last_row;  /* of the list, that the last of them is of */
  int64_t *step_ptr; /* [nmembers + 1] */
  bsd_sm90_step *steps;
  int64_t tile_room, member_room, ptr_room, nsteps, step_room;
} bsd_sm90_cut;

/* The steps (distances between tokens) that get a tensor map: the most frequent of the pass's full tiles. */
bsd_status bsd_sm90_choose_steps(const bsd_pass *pass, int64_t block, bsd_sm90_arrays *to,
                                 bsd_error *error);

/* The other side's tiles go into `to`; then own tiles and steps of one stage. */
bsd_status bsd_sm90_cut_blocks(bsd_sm90_cut *cut, bsd_sm90_arrays *to, bsd_error *error);
bsd_status bsd_sm90_cut_rows(bsd_sm90_cut *cut, int stage, bsd_sm90_arrays *to, bsd_error *error);
void bsd_sm90_cut_free(bsd_sm90_cut *cut);

#endif
