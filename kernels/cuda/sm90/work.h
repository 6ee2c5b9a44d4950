/* work.h - block lists as the sm90 kernels walk them: tiles of 64 slots, row groups, work items.
 *
 * A block of 64, 128 or 256 tokens is cut into tiles of 64 slots. A *member* is one own tile of one query
 * head (of one KV head for dk, dv); an *item* is up to `width` members that read the same KV head and walk
 * the union of their lists once (dk, dv: once for each query head), with a bit per member in each entry. A
 * member's own list, in order, is what its bits say, so grouping changes no result. All arrays lie in one piece
 * of device memory. */
#ifndef BSD_SM90_WORK_H
#define BSD_SM90_WORK_H

#include "../launch.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  BSD_SM90_MEMBERS = 4,    /* at most, of an item */
  BSD_SM90_FIRST = 32,     /* entries that stand in the item itself too, with their tiles */
  BSD_SM90_STEPS = 4,      /* tensor maps of a launch: distinct distances between a tile's tokens */
  BSD_SM90_GATHER = 255,   /* in place of a map: the tile's tokens are looked up one by one */
  BSD_SM90_MESSAGE = 254,  /* the same: they are consecutive rows of a message */
  BSD_SM90_TILE_BITS = 24, /* of an entry: the tile's number; then active bits, then mask bits */
  BSD_SM90_MASK_SHIFT = 28,
  BSD_SM90_MAP_SHIFT = 24, /* of bsd_sm90_tile.how */
  BSD_SM90_FORWARD = 0,    /* places in bsd_sm90_pass.maps */
  BSD_SM90_BACKWARD = 1
};

/* A tile. By map: slot s holds token (at + s)*step + residue, all 64 are tokens. Of a message: slot s holds
 * token at + s of source residue + 1, all 64 are tokens. Gathered: slot s holds slots[at + s]. */
typedef struct bsd_sm90_tile {
  int32_t at;
  uint32_t how; /* map << 24 | residue */
  int32_t t64;  /* gathered index of slot 0, divided by 64 */
  int32_t keys; /* first | end << 16: the slots that hold tokens of the segment */
} bsd_sm90_tile;

typedef struct bsd_sm90_slot { /* index -1: no token */
  int32_t index, source;
} bsd_sm90_slot;

typedef struct bsd_sm90_item {
  int32_t kv_head, count;          /* entries */
  int64_t begin;                   /* of the entries */
  int32_t rows[BSD_SM90_MEMBERS];  /* own tiles, -1: no member */
  int32_t heads[BSD_SM90_MEMBERS]; /* query heads; dk, dv: the KV head */
  int64_t lowest, highest; /* a pair counts iff lowest <= key - query <= highest, gathered */
  int32_t heads_at,
      nheads; /* dk, dv: the KV head's query heads, in bsd_sm90_pass.heads; else 0, 1 */
  /* copies, so that one load of a warp brings all that an item begins with: */
  int32_t own_at[BSD_SM90_MEMBERS]; /* of the own tiles */
  uint32_t own_how[BSD_SM90_MEMBERS];
  int32_t own_t64[BSD_SM90_MEMBERS];
  int32_t unused[2];
  uint32_t first[BSD_SM90_FIRST];   /* entries; 0 from count on */
  int32_t first_at[BSD_SM90_FIRST]; /* of their tiles */
  uint32_t first_how[BSD_SM90_FIRST];
} bsd_sm90_item; /* 512 bytes */

/* Items in the order of a launch of `places` CTAs, of which each takes every places-th item: so chosen that
 * all have about the same work. An item may be empty (no entries, no members) to keep that step. */
typedef struct bsd_sm90_stage {
  const bsd_sm90_item *items; /* device */
  int64_t nitems;
  int grouped; /* items of up to `width` members; else of one */
} bsd_sm90_stage;

/* One pass. Pointers to device memory. */
typedef struct bsd_sm90_pass {
  const uint32_t *entries;
  const bsd_sm90_tile *tiles, *rows; /* the other side's and own ones, of all lists */
  const bsd_sm90_slot *slots;
  const int32_t *heads;          /* query heads that items of dk, dv go through */
  int32_t steps[BSD_SM90_STEPS]; /* 0: unused */
  bsd_sm90_stage stages[BSD_MAX_STAGES];
  void *maps[2]; /* host, owned: tensor maps of the last calls (maps.h), by kernel */
} bsd_sm90_pass;

typedef struct bsd_sm90_work {
  bsd_sm90_pass *passes;
  int64_t npasses;
  void *memory; /* device */
  int64_t bytes;
} bsd_sm90_work;

/* What items are made for. */
typedef struct bsd_sm90_kernel {
  int width;         /* members of an item where grouping pays; 1: never group */
  int forced;        /* group always */
  int64_t places[2]; /* CTAs of a launch of grouped items, and of items of one member */
  /* Of an entry in a grouped item, by its members, in hundredths. Where narrower items cost less, they fill the last
   * round. */
  int cost[BSD_SM90_MEMBERS + 1];
} bsd_sm90_kernel;

/* Uploads. Errors: MEMORY, UNSUPPORTED (2^24 tiles in a pass, 2^31 slots or tokens), BACKEND. */
bsd_status bsd_sm90_work_create(const bsd_kernel_shape *shape, const bsd_pass *passes,
                                int64_t npasses, const bsd_sm90_kernel *kernel,
                                bsd_sm90_work **work, bsd_error *error);
void bsd_sm90_work_destroy(bsd_sm90_work *work);

#ifdef __cplusplus
}
#endif

#endif
