/* task.h - a pattern joined to a problem: what is computed, in global terms. Knows no ranks.
 *
 * Holds copies of everything the caller passed, defaults filled in and ranges checked; answers which
 * heads a branch serves, their offsets, the segments of documents, and which heads share lists. */
#ifndef BSD_TASK_H
#define BSD_TASK_H

#include <stdint.h>

#include "pattern.h"
#include "status.h"

typedef struct bsd_task {
  bsd_pattern *pattern;
  int64_t batch, length, heads, kv_heads, head_dim, block;
  int64_t group; /* query heads per KV head */
  bsd_dtype dtype;
  int causal, allow_atomics, allow_tf32;
  float scale;
  int64_t documents;   /* >= 1 */
  int64_t *cu_seqlens; /* documents + 1 offsets, always there */
  int64_t head_first, heads_total;

  /* KV heads of one class want the same tokens; query heads of one class share every list. */
  int64_t kv_classes, head_classes;
  int32_t *kv_class;           /* [kv_heads] */
  int32_t *head_class;         /* [heads] */
  int32_t *head_class_head;    /* [head_classes] first head of the class */
  int32_t *head_class_kv;      /* [head_classes] its KV class */
  int64_t *head_class_ptr;     /* [head_classes + 1] offsets into head_class_members */
  int32_t *head_class_members; /* query heads by class, ascending */
} bsd_task;

/* The positions that one head selects in one segment of one document under one branch. */
typedef struct bsd_segment {
  int64_t document, number;
  int64_t first;  /* position of gathered token 0 */
  int64_t step;   /* the dilation */
  int64_t tokens; /* m */
  int64_t blocks; /* mb */
} bsd_segment;

bsd_status bsd_task_create(const bsd_pattern *pattern, const bsd_problem *problem, bsd_task **task,
                           bsd_error *error);
void bsd_task_destroy(bsd_task *task);

/* Hashes for comparing ranks: of the pattern, and of each group of the problem's fields. */
uint64_t bsd_task_problem_hash(const bsd_task *task);
uint64_t bsd_task_documents_hash(const bsd_task *task);

/* Whether the branch serves a (local) head under the combine rule. */
int bsd_task_serves(const bsd_task *task, int64_t branch, int64_t head);

/* Offset of a (local) head in a branch. */
int64_t bsd_task_offset(const bsd_task *task, int64_t branch, int64_t head);

/* Whether several passes add to one output: of queries (o, dq), of keys (dk, dv); and whether they do, or some
 * tokens may be in no row of a pass, so that outputs are cleared beforehand. */
int bsd_task_merges_rows(const bsd_task *task);
int bsd_task_merges_columns(const bsd_task *task);
int bsd_task_clears_rows(const bsd_task *task);
int bsd_task_clears_columns(const bsd_task *task);

/* Smallest w > 0 of the pattern, 0 if there is none. */
int64_t bsd_task_smallest_segment(const bsd_task *task);

/* Document that holds a position (an empty one never does). */
int64_t bsd_task_document(const bsd_task *task, int64_t position);

/* Number of segments of a document in a branch, and one of them for a head's offset. */
int64_t bsd_task_segments(const bsd_task *task, int64_t branch, int64_t document);
bsd_segment bsd_task_segment(const bsd_task *task, int64_t branch, int64_t offset, int64_t document,
                             int64_t number);

/* Pairs of all documents for one head: the denominator of density, n^2 or n(n+1)/2 each. As double:
 * n^2 passes 2^63 from n = 3.04e9 on. */
double bsd_task_pairs_per_head(const bsd_task *task);

int64_t bsd_dtype_bytes(bsd_dtype dtype);
const char *bsd_dtype_name(bsd_dtype dtype);

#endif
