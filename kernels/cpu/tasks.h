/* tasks.h - a pass cut into tasks that threads take in any order, and the scratch of a thread.
 *
 * An own tile of `block` slots is cut into *strips* of up to 64 slots. A task is one strip of one row, for
 * one head and batch entry. No two tasks of a stage write the same output. */
#ifndef BSD_CPU_TASKS_H
#define BSD_CPU_TASKS_H

#include "cpu.h"

enum { BSD_CPU_MAX_ROWS = 64 }; /* of the other side that are multiplied at once */

/* Whether own tokens are queries (forward, dq: a task per query head) or keys (dk, dv: per KV head). */
typedef enum bsd_cpu_side { BSD_CPU_OWN_QUERIES, BSD_CPU_OWN_KEYS } bsd_cpu_side;

typedef struct bsd_cpu_task {
  const bsd_list *list;
  int64_t batch;
  int64_t head;  /* query head or KV head */
  int64_t row;   /* of the list */
  int64_t strip; /* of the row's tile */
} bsd_cpu_task;

int64_t bsd_cpu_task_count(const bsd_call *call, const bsd_pass *pass, int stage,
                           bsd_cpu_side side);

/* The index-th task. False if there is nothing to do: no query head of the list reads its KV head. */
int bsd_cpu_task_at(const bsd_call *call, const bsd_pass *pass, int stage, bsd_cpu_side side,
                    int64_t index, bsd_cpu_task *task);

/* Slots of a strip. */
static inline int64_t bsd_cpu_width(const bsd_call *call) {
  return call->block < BSD_CPU_MAX_WIDTH ? call->block : BSD_CPU_MAX_WIDTH;
}

/* Scratch of one thread, every array aligned to 64 bytes; width is a strip's, D the head dimension. */
typedef struct bsd_cpu_scratch {
  float *own[2];   /* [D][width] the own side's q and do, or k and v, transposed */
  float *rows[2];  /* [64][D] the other side's rows where they cannot be read in place */
  float *scores;   /* [64][width] */
  float *products; /* [64][width] do v^T */
  float *part[2];  /* [D][width] sums over a chunk of the row's blocks */
  float *total[2]; /* [D][width] sums over its chunks */
  float *line;     /* [D] one token's row on its way */
  float *maximum, *sum, *factor;    /* [64] softmax of a chunk */
  float *total_maximum, *total_sum; /* [64] and of its chunks */
  float *lse, *delta;               /* [64] */
} bsd_cpu_scratch;

/* bsd_kernels.scratch_bytes: for all threads. */
int64_t bsd_cpu_scratch_bytes(void *device, const bsd_call *call);

/* The part of call->scratch that belongs to the calling OpenMP thread. */
bsd_cpu_scratch bsd_cpu_scratch_here(const bsd_call *call);

#endif
