/* strips.h - the own side of a task: up to 64 slots, loaded as the columns of a matrix and stored back. */
#ifndef BSD_CPU_STRIPS_H
#define BSD_CPU_STRIPS_H

#include "tasks.h"

typedef struct bsd_cpu_strip {
  int64_t origin;      /* gathered index of slot 0 */
  int64_t width;       /* slots */
  int64_t first, last; /* the first and the last slot that is present; first > last: none is */
  int64_t token[BSD_CPU_MAX_WIDTH]; /* local token of each slot, -1: missing */
} bsd_cpu_strip;

void bsd_cpu_strip_of(const bsd_call *call, const bsd_cpu_task *task, bsd_cpu_strip *strip);

/* to[d][s] = factor * tensor(batch, token[s], head)[d]; a missing slot gives 0. line: [D] of scratch. */
void bsd_cpu_strip_load(const bsd_call *call, const bsd_cpu_vectors *vectors,
                        const bsd_tensor *tensor, int64_t batch, int64_t head,
                        const bsd_cpu_strip *strip, float factor, float *line, float *to);

/* tensor(batch, token[s], head)[d] = factor[s] * from[d][s], rounded to the dtype; a factor of 0 gives 0
 * whatever `from` holds. Missing slots are left alone. */
void bsd_cpu_strip_store(const bsd_call *call, const bsd_tensor *tensor, int64_t batch,
                         int64_t head, const bsd_cpu_strip *strip, const float *factor,
                         const float *from);

/* The same, added to an fp32 accumulator [B][heads][n][D]. */
void bsd_cpu_strip_add(const bsd_call *call, float *accumulator, int64_t heads, int64_t batch,
                       int64_t head, const bsd_cpu_strip *strip, const float *factor,
                       const float *from);

/* The address of a tensor's first element of a token, in the dtype. */
void *bsd_cpu_element(const bsd_call *call, const bsd_tensor *tensor, int64_t batch, int64_t token,
                      int64_t head);

#endif
