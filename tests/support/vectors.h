/* vectors.h - the known counts, layouts and bytes of tests/vectors/plans.json. */
#ifndef TESTS_VECTORS_H
#define TESTS_VECTORS_H

#include <stdint.h>

enum { VECTOR_MAX_RANKS = 8 };

typedef struct vector_layout { /* the case on P ranks */
  int nranks;
  const char *layout; /* "contiguous" or "zigzag" */
  int64_t local_tokens[VECTOR_MAX_RANKS];
  int64_t bytes_forward, bytes_backward; /* f32, head_dim 64, one batch entry, all ranks */
  double imbalance;                      /* to six decimals */
} vector_layout;

typedef struct vector_case {
  const char *name, *pattern;
  int64_t n, heads, kv_heads, block;
  int causal;
  int64_t *cu_seqlens; /* NULL: one document */
  int64_t documents;
  int64_t active_blocks, active_pairs;
  double density;
  vector_layout *layouts;
  int64_t nlayouts;
} vector_case;

typedef struct vector_file {
  vector_case *cases;
  int64_t ncases;
  void *json; /* owns the strings */
} vector_file;

/* Reads vectors/plans.json below $srcdir/tests (make sets srcdir) or the current folder. Ends the
 * program with a sentence if it cannot. */
vector_file vectors_load(void);
void vectors_free(vector_file *file);

#endif
