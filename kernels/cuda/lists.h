/* lists.h - block lists in device memory: what `prepare` makes of passes, for every kernel family that makes no
 * arrays of its own (sm90 does).
 *
 * Per pass and stage there is one array of *work items*, one per (list, own row, query head), so that a
 * single launch runs all lists of the pass: grid.x over items, grid.y over the batch. Runs of entries are
 * expanded into tile numbers. One device allocation and one copy per prepare; arrays that several lists
 * share are uploaded once. All structs are plain data that host C and device code read alike.
 *
 * Items are ordered by runs of heads whose keys and values fit in the L2 cache together, longest list first
 * in a run. No bit of any result depends on the order: no two items write the same output. */
#ifndef BSD_CUDA_LISTS_H
#define BSD_CUDA_LISTS_H

#ifdef __cplusplus
extern "C" {
#endif

#include "../kernels.h"

/* A fragment (src/lists.h) in 16 bytes: one vector load. */
typedef struct bsd_cuda_fragment {
  int32_t first, step, source;
  int16_t slot, count;
} bsd_cuda_fragment;

/* A tile in 32 bytes. Its first fragment stands inline, so that a tile of one fragment needs no further
 * look-up; nfragments 0: no slot is covered (then first .. count are 0). */
typedef struct bsd_cuda_tile {
  int64_t t0;                  /* gathered index of slot 0 */
  int32_t first, step, source; /* of the first fragment */
  int16_t slot, count;         /* of the first fragment */
  int32_t fragment;            /* its place in the list's array of fragments */
  int16_t tokens, nfragments;
} bsd_cuda_tile;

/* One list; all pointers are device pointers. */
typedef struct bsd_cuda_list {
  const bsd_cuda_tile *rows, *blocks;
  const bsd_cuda_fragment *row_fragments, *fragments;
  const int32_t
      *tiles; /* expanded entries: row i has tiles[tile_ptr[i]] .. tiles[tile_ptr[i + 1] - 1] */
  const int64_t *tile_ptr; /* [nrows + 1] */
  const int32_t *heads;    /* [nheads] query heads, ascending */
  int32_t nheads, nrows, nblocks, branch;
  int64_t lowest,
      highest; /* a pair counts iff lowest <= (key index - query index) <= highest, gathered */
} bsd_cuda_list;

enum { BSD_CUDA_UNBOUNDED = 1 << 30 }; /* see bsd_cuda_list: -/+ this many tokens are no bound */

/* One own row of one query head, in 32 bytes.
 * dk, dv: heads of a list that read the same KV head stand one after another in `heads`. The item of the
 * first of them does the work of all, in order; the others' items return at once. */
typedef struct bsd_cuda_item {
  int32_t list, row;
  int32_t head; /* query head, = lists[list].heads[place] */
  int32_t place;
  int32_t count; /* tiles in the row's list */
  int32_t unused;
  int64_t tiles; /* = lists[list].tile_ptr[row] */
} bsd_cuda_item;

/* What the host knows of one stage of a pass, to choose a launch without reading the device. */
typedef struct bsd_cuda_stage {
  const bsd_cuda_item *items; /* device */
  int64_t nitems;
  int64_t longest; /* tiles of the longest row */
  int64_t total;   /* tiles of all items */
} bsd_cuda_stage;

typedef struct bsd_cuda_pass {
  const bsd_cuda_list *lists; /* device, [nlists] */
  int64_t nlists;
  bsd_cuda_stage stages[BSD_MAX_STAGES];
  int simple_rows;   /* every own tile is one fragment that covers all its tokens */
  int simple_blocks; /* every tile of the other side is one fragment that covers all its tokens */
  int local_blocks;  /* every one lies in source 0 */
  int masked;        /* some list is causal or has a window */
} bsd_cuda_pass;

enum { BSD_CUDA_FAMILIES = 3 };

/* Lists made ready. extra[f] belongs to kernel family f (launch.h), which may hang its own arrays there. */
struct bsd_lists {
  const bsd_pass *passes; /* the caller's, host */
  int64_t npasses;
  bsd_cuda_pass *work; /* host, [npasses]; NULL: no kernel of these lists reads it */
  void *memory;        /* device: all arrays above */
  int64_t bytes;
  void *extra[BSD_CUDA_FAMILIES];
};

/* Without any arrays. Errors: MEMORY. */
bsd_status bsd_cuda_lists_create(const bsd_pass *passes, int64_t npasses, bsd_lists **lists,
                                 bsd_error *error);

/* Makes work and memory, for families that read them: uploaded by the time that it returns. After a failure the
 * caller destroys the lists. Errors: MEMORY, UNSUPPORTED (a token index or a number of blocks beyond 2^31),
 * BACKEND. */
bsd_status bsd_cuda_lists_build(const bsd_kernel_shape *shape, bsd_lists *lists, bsd_error *error);
void bsd_cuda_lists_destroy(bsd_lists *lists);

#ifdef __cplusplus
}
#endif

#endif
