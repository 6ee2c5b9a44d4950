/* oracle.h - the reference: attention as a plain fp64 loop over the multiplicity m_h(i,j).
 *
 * It is written from the mathematics alone and shares no code, header or data structure with the
 * library: what the two agree on, they agree on independently. Patterns are plain structs of fixed
 * size (copy one, change a field, and a planted error is made); a row costs O(n), which is what a
 * reference may cost. Needs only libc. An allocation that fails ends the program. */
#ifndef TESTS_ORACLE_H
#define TESTS_ORACLE_H

#include <stddef.h>
#include <stdint.h>

enum { ORACLE_MAX_STEPS = 16, ORACLE_MAX_TERMS = 8, ORACLE_MAX_BRANCHES = 32 };

typedef enum oracle_kind {
  ORACLE_FULL,
  ORACLE_LOCAL,
  ORACLE_DILATED,
  ORACLE_STRIDED,
  ORACLE_GLOBAL,
  ORACLE_RANDOM,
  ORACLE_CSR
} oracle_kind;

typedef enum oracle_offset { ORACLE_MOD, ORACLE_GROUP, ORACLE_KV } oracle_offset;

typedef struct oracle_term {
  oracle_kind kind;
  int64_t left, right;             /* LOCAL, -1 unlimited */
  int64_t steps[ORACLE_MAX_STEPS]; /* DILATED, STRIDED */
  int64_t nsteps;
  int64_t rows;       /* STRIDED: blocks per row, or 0: */
  int64_t billionths; /* its density */
  int64_t count;      /* GLOBAL g, RANDOM k */
  uint64_t seed;
  int64_t csr_rows, csr_heads; /* CSR: borrowed arrays, head after head */
  const int64_t *csr_ptr, *csr_columns;
} oracle_term;

typedef struct oracle_branch {
  int64_t w, r; /* segment length (0: the document), dilation */
  oracle_offset offset;
  int has_window;
  int64_t left, right; /* gathered tokens, -1 unlimited */
  oracle_term terms[ORACLE_MAX_TERMS];
  int64_t nterms; /* >= 1 */
} oracle_branch;

typedef struct oracle_pattern {
  int combine_heads; /* each group of heads has a branch of its own */
  oracle_branch branches[ORACLE_MAX_BRANCHES];
  int64_t nbranches;
} oracle_pattern;

typedef struct oracle_problem {
  int64_t batch, n, heads, kv_heads, dim, block;
  int causal;
  double scale;              /* 0: 1/sqrt(dim) */
  const int64_t *cu_seqlens; /* documents + 1 offsets, borrowed; NULL: one document */
  int64_t documents;
  int64_t head_first, heads_total; /* heads_total 0: heads */
  oracle_pattern pattern;
} oracle_problem;

/* Reads the library's pattern text with a parser of its own; true if it could. csr(...) is not read. */
int oracle_parse(const char *text, oracle_pattern *pattern);

/* ---- which pairs attend (oracle_pattern.c) ---- */

uint64_t oracle_mix(uint64_t z);

/* Adds term's active columns of block row I to row[0..mb-1] (set to 1). head is global. */
void oracle_term_row(const oracle_term *term, int64_t I, int64_t head, int64_t segment, int64_t mb,
                     int causal, unsigned char *row);

/* True if the branch serves local head h. */
int oracle_serves(const oracle_problem *p, int64_t branch, int64_t h);

/* One segment of one branch as one head sees it: `first + t*r` are its m gathered positions. */
typedef struct oracle_segment {
  int64_t first, r, m, mb;
  int64_t number; /* in its document */
} oracle_segment;

/* The segments of (branch, local head h), in order: *cursor is 0 at first; false when there are none
 * left. Segments that select nothing are given too, with m = 0. */
int oracle_next_segment(const oracle_problem *p, int64_t branch, int64_t h, oracle_segment *segment,
                        int64_t *cursor);

/* Columns of block row I that are active: in the union of terms and with at least one pair that causal
 * and window allow. pairs[J] (may be NULL) gets the number of those pairs. */
void oracle_block_row(const oracle_problem *p, int64_t branch, int64_t h,
                      const oracle_segment *segment, int64_t I, unsigned char *active,
                      int64_t *pairs);

/* m_h(i,j), and the same for a whole query row (m[j], j < n) or key column (m[i], i < n). */
int64_t oracle_multiplicity(const oracle_problem *p, int64_t h, int64_t i, int64_t j);
void oracle_query_row(const oracle_problem *p, int64_t h, int64_t i, int32_t *m);
void oracle_key_column(const oracle_problem *p, int64_t h, int64_t j, int32_t *m);

typedef struct oracle_counts {
  int64_t active_blocks, active_pairs;
  double density;
} oracle_counts;

oracle_counts oracle_count(const oracle_problem *p);

/* ---- attention (oracle_attention.c) ---- */

/* Inputs already rounded to their type: q, d_o [B][n][H][D], k, v [B][n][Hkv][D], dlse [B][H][n]. */
typedef struct oracle_inputs {
  const float *q, *k, *v;
  const float *d_o;  /* NULL: forward only */
  const float *dlse; /* NULL: none */
} oracle_inputs;

/* Outputs; any may be NULL. The two floors are scale*sqrt(D)*sqrt(sum P^2) of each row of dq (i, h)
 * and dk (j, KV head): the size that its terms have before they cancel. */
typedef struct oracle_outputs {
  double *o;        /* [B][n][H][D] */
  double *lse;      /* [B][H][n] */
  double *dq;       /* [B][n][H][D] */
  double *dk, *dv;  /* [B][n][Hkv][D] */
  double *dq_floor; /* [B][n][H] */
  double *dk_floor; /* [B][n][Hkv] */
} oracle_outputs;

/* All rows. */
void oracle_attention(const oracle_problem *p, const oracle_inputs *in, const oracle_outputs *out);

/* One query row: o[D], lse, dq[D] (NULL without d_o), its floor. */
void oracle_query(const oracle_problem *p, const oracle_inputs *in, int64_t b, int64_t h, int64_t i,
                  double *o, double *lse, double *dq, double *dq_floor);

/* lse and delta of query rows, filled as keys ask for them. */
typedef struct oracle_cache {
  double *lse, *delta; /* [B][H][n] */
  unsigned char *known;
} oracle_cache;

oracle_cache oracle_cache_create(const oracle_problem *p);
void oracle_cache_free(oracle_cache *cache);

/* One key row of KV head g: dk[D], dv[D] and the floor of dk. */
void oracle_key(const oracle_problem *p, const oracle_inputs *in, oracle_cache *cache, int64_t b,
                int64_t g, int64_t j, double *dk, double *dv, double *dk_floor);

/* ---- who needs what (oracle_plan.c) ---- */

typedef enum oracle_layout_kind {
  ORACLE_CONTIGUOUS,
  ORACLE_ZIGZAG,
  ORACLE_INTERLEAVED, /* unit x of `unit` tokens on rank (x / group) mod P */
  ORACLE_CUSTOM       /* unit x of `block` tokens on rank unit_ranks[x] */
} oracle_layout_kind;

typedef struct oracle_layout {
  oracle_layout_kind kind;
  int64_t group, unit;
  const int32_t *unit_ranks;
} oracle_layout;

/* owner[i] for each position. */
void oracle_owners(const oracle_problem *p, const oracle_layout *layout, int nranks,
                   int32_t *owner);

typedef struct oracle_plan {
  int nranks;
  int64_t *local_tokens;                 /* [P] */
  int64_t *local_pairs;                  /* [P] pairs of the rank's queries, one batch entry */
  int64_t *forward, *backward;           /* [P][P]: bytes that rank p receives from rank q */
  int64_t bytes_forward, bytes_backward; /* summed over ranks */
  double imbalance;                      /* worst rank's pairs over the mean, 1 without work */
} oracle_plan;

/* By brute force over the blocks: which tokens each rank needs and does not hold. element_size is that
 * of the tensors' type; lse and delta are fp32. */
oracle_plan oracle_plan_create(const oracle_problem *p, const int32_t *owner, int nranks,
                               int64_t element_size);
void oracle_plan_free(oracle_plan *plan);

/* Zeroed memory, or the program ends. */
void *oracle_alloc(int64_t count, size_t size);

#endif
