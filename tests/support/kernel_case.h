/* kernel_case.h - a random call of the kernel table, built by hand: values, lists, the reference.
 *
 * There are one or two segments of gathered tokens. Each token lies in the local tensors (source 0) or in
 * one of two messages; the kernels are to compute what the local tokens get. Passes, lists, heads, block
 * bitmaps, masks and the fragments are drawn at random; the reference is a plain fp64 loop over the
 * bitmaps. Values that reach no result (queries that see no key, keys that no query sees) are NaN. */
#ifndef TESTS_KERNEL_CASE_H
#define TESTS_KERNEL_CASE_H

#include "bsdattn.h"
#include "src/lists.h"

enum { CASE_SOURCES = 3, CASE_SEGMENTS = 2, CASE_STAGES = 2, CASE_LISTS = 3, CASE_PASSES = 2 };

/* What is asked for. */
typedef struct case_options {
  uint64_t seed;
  bsd_dtype dtype;
  int64_t dim, block;
  int64_t tokens; /* of all segments, about */
  int sources;    /* 1: all tokens local */
  int npasses;    /* 2: with accumulators */
  double density; /* of the block bitmaps */
} case_options;

/* The rule of one list, and the list in both directions. */
typedef struct case_list {
  int causal;
  int64_t left, right;
  int32_t heads[16];
  int64_t nheads;
  unsigned char *active[CASE_SEGMENTS]; /* [mb][mb] query block, key block */
} case_list;

typedef struct kernel_case {
  case_options options;
  int64_t batch, heads, kv_heads;
  float scale;
  int64_t segments, first[CASE_SEGMENTS + 1]; /* tokens of segment s: first[s] .. first[s+1]-1 */
  int64_t total;                              /* tokens of all segments */
  int *source;                                /* [total] */
  int64_t *index;                             /* [total] token index in its source */
  int64_t length[CASE_SOURCES];               /* tokens in each source */

  case_list lists[CASE_PASSES][CASE_LISTS];
  int64_t nlists;
  bsd_pass forward[CASE_PASSES], backward[CASE_PASSES];

  float *q, *k, *v, *d_o, *dlse;          /* [B][total][heads][D], dlse [B][H][total] */
  double *o, *dq, *dk, *dv, *lse, *delta; /* the reference, alike; delta holds delta - dlse */
  /* For the backward: lse, but -inf for some queries that see keys. Those count for nothing. */
  double *lse_in;
  double *o_floor, *dv_floor;  /* per row: what o and dv are without cancellation */
  double *dq_floor, *dk_floor; /* and dq and dk */
} kernel_case;

/* An allocation that fails ends the program. */
kernel_case *kernel_case_make(const case_options *options);
void kernel_case_free(kernel_case *c);

/* A pure function of *state, which it advances: 0 .. limit-1. */
int64_t case_draw(uint64_t *state, int64_t limit);

/* kernel_lists.c: builds c->forward and c->backward from bitmaps and sources. */
void case_build_lists(kernel_case *c, uint64_t *state);
void case_free_lists(kernel_case *c);

#endif
