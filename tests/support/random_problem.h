/* random_problem.h - seeded random problems: patterns over every term, rule and window, ragged shapes,
 * documents, types, layouts and memory orders.
 *
 * The problem is a pure function of (seed, limits), never of the number of ranks, so that the same
 * problem can be run on any number of them; only the layout looks at the ranks. */
#ifndef TESTS_RANDOM_PROBLEM_H
#define TESTS_RANDOM_PROBLEM_H

#include <stdint.h>

#include "bsdattn.h"
#include "oracle.h"
#include "support/dice.h"

/* How the local tensors lie in memory. */
typedef enum memory_order {
  ORDER_PACKED,     /* [B][n][H][D], strides left zero */
  ORDER_HEAD_MAJOR, /* [B][H][n][D] */
  ORDER_FUSED,      /* q, k, v side by side in one tensor */
  ORDER_PADDED      /* gaps after each head, position and batch entry */
} memory_order;

typedef struct random_limits {
  int64_t largest_n;
  int64_t work; /* at most B * H * n * n * D; 0: no limit */
} random_limits;

typedef struct random_problem {
  uint64_t seed;
  oracle_problem p; /* points into this struct's arrays */
  char text[2048];  /* the pattern's text; empty if a csr term has none */
  bsd_dtype dtype;
  memory_order order;
  int with_dlse, with_lse;
  int64_t *cu_seqlens;
  int64_t *csr_arrays[2 * ORACLE_MAX_BRANCHES * ORACLE_MAX_TERMS];
  int ncsr;
} random_problem;

random_problem *random_problem_create(uint64_t seed, random_limits limits);
void random_problem_free(random_problem *problem);

/* A layout for nranks: `kind` is any of bsd_layout_kind; unit_ranks is freed by random_layout_free. */
typedef struct random_layout {
  bsd_layout_spec spec;
  oracle_layout oracle; /* of no meaning for AUTO */
  int32_t *unit_ranks;
} random_layout;

random_layout random_layout_create(const oracle_problem *p, bsd_layout_kind kind, int nranks,
                                   uint64_t seed);
void random_layout_free(random_layout *layout);

/* One line that names everything needed to run the problem again. */
const char *random_problem_describe(const random_problem *problem, char *buffer, size_t size);

#endif
