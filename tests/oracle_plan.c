/* oracle_plan.c - layouts, needs and bytes by brute force. See oracle.h. */
#include <stdlib.h>
#include <string.h>

#include "oracle.h"

/* ---- layouts ---- */

static int64_t smallest_segment(const oracle_problem *p) {
  int64_t smallest = 0;
  for (int64_t x = 0; x < p->pattern.nbranches; x++) {
    int64_t w = p->pattern.branches[x].w;
    if (w > 0 && (smallest == 0 || w < smallest))
      smallest = w;
  }
  return smallest;
}

/* The sequence as `runs` runs of whole units; run[i] for each position. */
static void cut_into_runs(const oracle_problem *p, int64_t runs, int32_t *run) {
  int64_t w = smallest_segment(p);
  int64_t unit = w > 0 && (p->n + w - 1) / w >= runs ? w : p->block;
  int64_t N = (p->n + unit - 1) / unit;
  for (int64_t x = 0; x < runs; x++)
    for (int64_t y = x * N / runs; y < (x + 1) * N / runs; y++)
      for (int64_t i = y * unit; i < (y + 1) * unit && i < p->n; i++)
        run[i] = (int32_t)x;
}

void oracle_owners(const oracle_problem *p, const oracle_layout *layout, int nranks,
                   int32_t *owner) {
  if (layout->kind == ORACLE_CONTIGUOUS)
    cut_into_runs(p, nranks, owner);
  if (layout->kind == ORACLE_ZIGZAG)
    cut_into_runs(p, 2 * (int64_t)nranks, owner);
  for (int64_t i = 0; i < p->n; i++) {
    if (layout->kind == ORACLE_ZIGZAG && owner[i] >= nranks)
      owner[i] = 2 * nranks - 1 - owner[i];
    if (layout->kind == ORACLE_INTERLEAVED)
      owner[i] = (int32_t)(i / layout->unit / layout->group % nranks);
    if (layout->kind == ORACLE_CUSTOM)
      owner[i] = layout->unit_ranks[i / p->block];
  }
}

/* ---- needs ---- */

/* One bit of memory per (rank, head, position) that a rank needs. */
typedef struct needs {
  unsigned char *kv; /* [P][Hkv][n] */
  unsigned char *q;  /* [P][H][n] */
} needs;

/* Marks the tokens of block `wanted` for every rank that holds a token of block `holder`. */
static void mark(const oracle_problem *p, const oracle_segment *segment, const int32_t *owner,
                 int64_t holder, int64_t wanted, int64_t heads, int64_t head, unsigned char *need) {
  int64_t B = p->block, m = segment->m;
  for (int64_t t = holder * B; t < (holder + 1) * B && t < m; t++) {
    int32_t rank = owner[segment->first + t * segment->r];
    if (t > holder * B && rank == owner[segment->first + (t - 1) * segment->r])
      continue;
    unsigned char *mine = need + (rank * heads + head) * p->n;
    for (int64_t u = wanted * B; u < (wanted + 1) * B && u < m; u++)
      mine[segment->first + u * segment->r] = 1;
  }
}

static void collect_needs(const oracle_problem *p, const int32_t *owner, needs *needs,
                          oracle_plan *plan) {
  for (int64_t x = 0; x < p->pattern.nbranches; x++)
    for (int64_t h = 0; h < p->heads; h++) {
      int64_t cursor = 0, g = h / (p->heads / p->kv_heads);
      oracle_segment segment;
      while (oracle_serves(p, x, h) && oracle_next_segment(p, x, h, &segment, &cursor)) {
        unsigned char *active = oracle_alloc(segment.mb, 1);
        for (int64_t I = 0; I < segment.mb; I++) {
          oracle_block_row(p, x, h, &segment, I, active, NULL);
          for (int64_t J = 0; J < segment.mb; J++) {
            if (!active[J])
              continue;
            mark(p, &segment, owner, I, J, p->kv_heads, g, needs->kv);
            mark(p, &segment, owner, J, I, p->heads, h, needs->q);
          }
        }
        free(active);
      }
    }
  int32_t *m = oracle_alloc(p->n, sizeof *m);
  for (int64_t h = 0; h < p->heads; h++)
    for (int64_t i = 0; i < p->n; i++) {
      oracle_query_row(p, h, i, m);
      for (int64_t j = 0; j < p->n; j++)
        plan->local_pairs[owner[i]] += m[j];
    }
  free(m);
}

static void add_bytes(const oracle_problem *p, const int32_t *owner, const unsigned char *need,
                      int64_t heads, int64_t bytes, int nranks, int64_t *received) {
  for (int64_t rank = 0; rank < nranks; rank++)
    for (int64_t h = 0; h < heads; h++)
      for (int64_t i = 0; i < p->n; i++)
        if (need[(rank * heads + h) * p->n + i] && owner[i] != rank)
          received[rank * nranks + owner[i]] += bytes;
}

static void summarise(oracle_plan *plan) {
  int64_t worst = 0, all = 0, P = plan->nranks;
  for (int64_t x = 0; x < P * P; x++) {
    plan->bytes_forward += plan->forward[x];
    plan->bytes_backward += plan->backward[x];
  }
  for (int64_t rank = 0; rank < P; rank++) {
    all += plan->local_pairs[rank];
    worst = plan->local_pairs[rank] > worst ? plan->local_pairs[rank] : worst;
  }
  plan->imbalance = all ? (double)worst * (double)P / (double)all : 1;
}

oracle_plan oracle_plan_create(const oracle_problem *p, const int32_t *owner, int nranks,
                               int64_t element_size) {
  int64_t P = nranks;
  oracle_plan plan = {.nranks = nranks,
                      .local_tokens = oracle_alloc(P, sizeof(int64_t)),
                      .local_pairs = oracle_alloc(P, sizeof(int64_t)),
                      .forward = oracle_alloc(P * P, sizeof(int64_t)),
                      .backward = oracle_alloc(P * P, sizeof(int64_t))};
  needs needs = {oracle_alloc(P * p->kv_heads * p->n, 1), oracle_alloc(P * p->heads * p->n, 1)};
  for (int64_t i = 0; i < p->n; i++)
    plan.local_tokens[owner[i]]++;
  collect_needs(p, owner, &needs, &plan);
  int64_t pair = p->batch * 2 * p->dim * element_size; /* k and v, or q and do */
  int64_t scalars = p->batch * 2 * 4;                  /* lse and delta - dlse, fp32 */
  add_bytes(p, owner, needs.kv, p->kv_heads, pair, nranks, plan.forward);
  memcpy(plan.backward, plan.forward, (size_t)(P * P) * sizeof(int64_t));
  add_bytes(p, owner, needs.q, p->heads, pair + scalars, nranks, plan.backward);
  free(needs.kv);
  free(needs.q);
  summarise(&plan);
  return plan;
}

void oracle_plan_free(oracle_plan *plan) {
  free(plan->local_tokens);
  free(plan->local_pairs);
  free(plan->forward);
  free(plan->backward);
}
