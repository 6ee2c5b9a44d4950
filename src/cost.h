/* cost.h - what a pass takes: counts of work times measured constants.
 *
 * A plan resolves the caller's model (bsdattn.h) once to the constants of its own kernels and shape; they are
 * plain data, so that rank 0's can be given to all ranks. Knows no patterns and no schedules. */
#ifndef BSD_COST_H
#define BSD_COST_H

#include "status.h"

/* Work of a pass or of one stage of it; heads and batch entries multiplied in. */
typedef struct bsd_work {
  double launches;
  double rows;   /* own tiles */
  double blocks; /* active blocks of these rows */
  double alone;  /* of them, those that no neighbouring row has too */
  double tail;   /* blocks of the longest row, summed over launches */
  double bytes;  /* cleared, merged and rounded beside the products */
} bsd_work;

typedef struct bsd_cost_terms { /* seconds of one of each */
  double launch, row, block, alone, tail, byte;
} bsd_cost_terms;

enum { BSD_LINK_HOST = 0, BSD_LINK_NETWORK = 1, BSD_LINKS };

/* A model resolved for one shape. */
typedef struct bsd_cost {
  bsd_cost_terms pass[2]; /* forward, backward */
  bsd_cost_link link[BSD_LINKS];
  int64_t host_ranks; /* ranks r and s share a host if r / host_ranks = s / host_ranks; 0: all do */
} bsd_cost;

/* The shape whose constants are wanted. */
typedef struct bsd_cost_shape {
  const char *kernel[2]; /* family of the forward and of the backward */
  bsd_dtype dtype;
  int64_t head_dim, block;
} bsd_cost_shape;

/* Of each pass the rate of `model` (NULL: none) for that kernel whose dtype, head_dim and block are nearest,
 * scaled to the shape: rows as block x D, blocks as block^2 x D. Kernels that the model does not have, and links
 * without bandwidth, are the built-in ones. */
bsd_cost bsd_cost_resolve(const bsd_cost_model *model, const bsd_cost_shape *shape);

double bsd_cost_seconds(const bsd_cost_terms *terms, const bsd_work *work);

/* From the posting of `messages` of together `bytes` on one link to the end of the last. */
double bsd_cost_exchange(const bsd_cost_link *link, double messages, double bytes);

/* Errors: ARG naming the member that is not finite or negative. A model is a caller's: nothing is kept. */
bsd_status bsd_cost_check(const bsd_cost_model *model, bsd_error *error);

#endif
