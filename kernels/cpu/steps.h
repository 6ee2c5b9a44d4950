/* steps.h - the other side of a task: a walk over the blocks of a row's list, in steps.
 *
 * A *step* is up to 64 rows of a block, cut down to those that the strip's band reaches: a row that no
 * slot of the strip may see is never read. What is left to mask is said by slot intervals. */
#ifndef BSD_CPU_STEPS_H
#define BSD_CPU_STEPS_H

#include "strips.h"

/* Pairs that count, by gathered coordinates: lowest <= other - own <= highest. */
typedef struct bsd_cpu_band {
  int64_t lowest, highest;
} bsd_cpu_band;

typedef struct bsd_cpu_walk {
  const bsd_list *list;
  const bsd_cpu_strip *strip;
  bsd_cpu_band band;
  int64_t entry, last_entry; /* of the list's entries */
  int64_t in_entry;          /* tiles of the entry that were begun */
  int64_t blocks;            /* blocks that were begun */
  int64_t next_slot;         /* where the block's next step begins */

  const bsd_tile *tile; /* the step's block */
  int64_t chunk;        /* its chunk of the row's list */
  int64_t slot, rows;   /* slots of the block */
  int masked;           /* first and last are to be heeded */
  int holes;            /* some rows count for nothing: first > last */
  int32_t first[BSD_CPU_MAX_ROWS], last[BSD_CPU_MAX_ROWS];
} bsd_cpu_walk;

void bsd_cpu_walk_begin(bsd_cpu_walk *walk, const bsd_cpu_task *task, const bsd_cpu_strip *strip,
                        bsd_cpu_side side);

/* Goes to the next step; false if none is left. */
int bsd_cpu_walk_next(bsd_cpu_walk *walk);

/* Row i of the step counts for nothing from now on. */
void bsd_cpu_walk_drop(bsd_cpu_walk *walk, int64_t i);

/* The masks as vectors.h wants them: NULL where all slots of all rows count. */
static inline const int32_t *bsd_cpu_walk_first(const bsd_cpu_walk *walk) {
  return walk->masked ? walk->first : NULL;
}
static inline const int32_t *bsd_cpu_walk_last(const bsd_cpu_walk *walk) {
  return walk->masked ? walk->last : NULL;
}

/* The step's rows of one head of a tensor as fp32, *stride floats apart: in place where that can be,
 * else copied into `into` ([64][D]), with zeros for rows that count for nothing. */
const float *bsd_cpu_step_rows(const bsd_call *call, const bsd_cpu_vectors *vectors,
                               const bsd_cpu_walk *walk, const bsd_operand *operand, int64_t batch,
                               int64_t head, float *into, int64_t *stride);

/* Where the rows of the next step probably lie, to be fetched into the cache; no rows if none is left. */
bsd_cpu_ahead bsd_cpu_step_ahead(const bsd_call *call, const bsd_cpu_walk *walk,
                                 const bsd_operand *operand, int64_t batch, int64_t head);

/* The step's values of one query head of an fp32 [B][H][n] tensor. */
void bsd_cpu_step_values(const bsd_call *call, const bsd_cpu_walk *walk,
                         const bsd_operand_f32 *operand, int64_t batch, int64_t head, float *into);

#endif
