/* attention.h - one forward and one backward through the public API, on all ranks of a context.
 *
 * Each rank has the whole inputs, copies its own positions into local tensors of the asked memory order,
 * runs, and rank 0 gets the results in global order. On the way every run is checked for what holds always:
 * inputs are not written, nothing is written beside the outputs, and every output is written (they start
 * as NaN). */
#ifndef TESTS_ATTENTION_H
#define TESTS_ATTENTION_H

#include <stdint.h>

#include "bsdattn.h"
#include "oracle.h"
#include "support/random_problem.h"

typedef struct attention_inputs { /* values of the type, in global order: see oracle_inputs */
  float *q, *k, *v, *d_o, *dlse;
} attention_inputs;

/* Normal data. with_dlse 0: dlse is NULL. */
attention_inputs attention_inputs_create(const oracle_problem *p, bsd_dtype dtype, int with_dlse,
                                         uint64_t seed);
void attention_inputs_free(attention_inputs *inputs);
oracle_inputs attention_oracle_inputs(const attention_inputs *inputs);

typedef struct attention_case {
  const oracle_problem *p;
  const char *text; /* the pattern's text; NULL or empty: through bsd_pattern_add_branch */
  bsd_dtype dtype;
  bsd_layout_spec layout;
  memory_order order;
  int forward_only;
  int own_workspace; /* brings the workspace, full of NaN bytes, in place of the plan's */
} attention_case;

typedef struct attention_result {
  void *o, *dq, *dk, *dv; /* of the type, packed, in global order; on rank 0, else NULL */
  float *lse;
  char layout[64];                             /* the layout taken, in words */
  int64_t forward_bound, backward_bound;       /* bytes, all ranks, by the plan */
  int64_t forward_received, backward_received; /* bytes that this rank's run received */
  int64_t active_blocks, active_pairs;
  int rounded; /* the kernel rounds probabilities to the type */
  int64_t *positions, nlocal;
} attention_result;

/* Collective over the context's ranks. Ends the program if a call fails. */
attention_result attention_run(bsd_context *context, const attention_case *c,
                               const attention_inputs *inputs);
void attention_result_free(attention_result *result);

/* True if all results are equal to the bit; else *what names the tensor that is not. */
int attention_equal(const attention_case *c, const attention_result *a, const attention_result *b,
                    const char **what);

/* XXH3 over o, lse, dq, dk, dv in this order, begun from `seed`. */
uint64_t attention_digest(const attention_case *c, const attention_result *result, uint64_t seed);

/* True if the result is within the bounds of the oracle's for `described` (c->p, or a description with a
 * planted error); else a sentence in why. */
int attention_matches(const attention_case *c, const oracle_problem *described,
                      const attention_inputs *inputs, const attention_result *result, char *why,
                      size_t size);

/* A problem of one batch entry with a pattern from text (dim: see device_head_dim). Ends the program if that cannot be read. */
oracle_problem attention_shape(const char *text, int64_t n, int64_t heads, int64_t kv_heads,
                               int64_t dim, int64_t block, int causal);

/* A tensor of the type as floats. */
float *attention_floats(const void *tensor, int64_t count, bsd_dtype dtype);

int64_t attention_query_elements(const oracle_problem *p);
int64_t attention_key_elements(const oracle_problem *p);

#endif
