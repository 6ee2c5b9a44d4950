/* oracle_pattern.c - the multiplicity m_h(i,j), evaluated naively. See oracle.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"

void *oracle_alloc(int64_t count, size_t size) {
  void *memory = calloc(count > 0 ? (size_t)count : 1, size);
  if (!memory) {
    fprintf(stderr, "oracle: no memory for %lld elements of %zu bytes\n", (long long)count, size);
    exit(2);
  }
  return memory;
}

uint64_t oracle_mix(uint64_t z) {
  z += UINT64_C(0x9E3779B97F4A7C15);
  z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
  return z ^ (z >> 31);
}

/* ---- block patterns ---- */

static int64_t visible_blocks(int64_t I, int64_t mb, int causal) {
  return causal ? I + 1 : mb;
}

/* Takes column J if it is in range and there is still budget; true while J is in range. */
static int take(unsigned char *row, int64_t J, int64_t mb, int64_t *budget) {
  if (J < 0 || J >= mb)
    return 0;
  if (*budget > 0 && !row[J]) {
    row[J] = 1;
    --*budget;
  }
  return 1;
}

/* The row's own diagonal, multiples of the head's step to both sides, then neighbours. */
static void strided_row(const oracle_term *term, int64_t I, int64_t head, int64_t mb, int causal,
                        unsigned char *row) {
  int64_t d = term->steps[head % term->nsteps];
  int64_t visible = visible_blocks(I, mb, causal);
  int64_t budget = term->rows;
  if (budget == 0) {
    budget = (int64_t)((2 * (__int128)term->billionths * visible + 1000000000) / 2000000000);
    if (budget < 1)
      budget = 1;
  }
  if (budget > visible)
    budget = visible;
  take(row, I, mb, &budget);
  int64_t step[2] = {d, 1};
  for (int phase = 0; phase < 2; phase++)
    for (int64_t x = 1; budget > 0; x++) {
      int below = take(row, I - x * step[phase], mb, &budget);
      int above = causal ? 0 : take(row, I + x * step[phase], mb, &budget);
      if (!below && !above)
        break;
    }
}

/* Floyd's sample of k distinct columns. */
static void random_row(const oracle_term *term, int64_t I, int64_t head, int64_t segment,
                       int64_t mb, int causal, unsigned char *row) {
  uint64_t x = oracle_mix(term->seed);
  x = oracle_mix(x ^ (uint64_t)head);
  x = oracle_mix(x ^ (uint64_t)segment);
  x = oracle_mix(x ^ (uint64_t)I);
  int64_t N = visible_blocks(I, mb, causal);
  int64_t K = term->count < N ? term->count : N;
  for (int64_t c = 0; c < K; c++) {
    int64_t j = N - K + c;
    unsigned __int128 product = (unsigned __int128)oracle_mix(x ^ (uint64_t)c) * (uint64_t)(j + 1);
    int64_t t = (int64_t)(uint64_t)(product >> 64);
    row[row[t] ? j : t] = 1;
  }
}

static int plain_term_has(const oracle_term *term, int64_t I, int64_t J) {
  switch (term->kind) {
  case ORACLE_FULL:
    return 1;
  case ORACLE_LOCAL:
    return (term->left < 0 || J >= I - term->left) && (term->right < 0 || J <= I + term->right);
  case ORACLE_GLOBAL:
    return I < term->count || J < term->count;
  case ORACLE_DILATED:
    for (int64_t x = 0; x < term->nsteps; x++)
      if (J == I - term->steps[x] || J == I + term->steps[x])
        return 1;
    return J == I;
  default:
    return 0;
  }
}

static void csr_row(const oracle_term *term, int64_t I, int64_t head, int64_t mb,
                    unsigned char *row) {
  int64_t at = (term->csr_heads == 1 ? 0 : head) * term->csr_rows + I;
  for (int64_t e = term->csr_ptr[at]; e < term->csr_ptr[at + 1]; e++)
    if (term->csr_columns[e] < mb)
      row[term->csr_columns[e]] = 1;
}

void oracle_term_row(const oracle_term *term, int64_t I, int64_t head, int64_t segment, int64_t mb,
                     int causal, unsigned char *row) {
  unsigned char *own = oracle_alloc(mb, 1);
  if (term->kind == ORACLE_STRIDED)
    strided_row(term, I, head, mb, causal, own);
  else if (term->kind == ORACLE_RANDOM)
    random_row(term, I, head, segment, mb, causal, own);
  else if (term->kind == ORACLE_CSR)
    csr_row(term, I, head, mb, own);
  else
    for (int64_t J = 0; J < mb; J++)
      own[J] = (unsigned char)plain_term_has(term, I, J);
  for (int64_t J = 0; J < mb; J++)
    if (own[J] && (!causal || J <= I))
      row[J] = 1;
  free(own);
}

/* ---- branches ---- */

static int64_t total_heads(const oracle_problem *p) {
  return p->heads_total ? p->heads_total : p->heads;
}

int oracle_serves(const oracle_problem *p, int64_t branch, int64_t h) {
  if (!p->pattern.combine_heads)
    return 1;
  int64_t groups = p->pattern.nbranches, total = total_heads(p), first = 0;
  for (int64_t g = 0; g < groups; g++) {
    int64_t size = total / groups + (g < total % groups ? 1 : 0);
    if (g == branch)
      return p->head_first + h >= first && p->head_first + h < first + size;
    first += size;
  }
  return 0;
}

static int64_t branch_offset(const oracle_problem *p, const oracle_branch *branch, int64_t h) {
  int64_t head = p->head_first + h, r = branch->r;
  switch (branch->offset) {
  case ORACLE_GROUP:
    return head / ((total_heads(p) + r - 1) / r);
  case ORACLE_KV:
    return head / (p->heads / p->kv_heads) % r;
  default:
    return head % r;
  }
}

/* Document `d` as [*first, *end); false if there is none. */
static int document(const oracle_problem *p, int64_t d, int64_t *first, int64_t *end) {
  if (d >= (p->cu_seqlens ? p->documents : 1))
    return 0;
  *first = p->cu_seqlens ? p->cu_seqlens[d] : 0;
  *end = p->cu_seqlens ? p->cu_seqlens[d + 1] : p->n;
  return 1;
}

/* Segment `s` of the document [first, end) for (branch, head h); false if there is none. */
static int segment_of(const oracle_problem *p, const oracle_branch *branch, int64_t h,
                      int64_t first, int64_t end, int64_t s, oracle_segment *segment) {
  int64_t N = end - first, w = branch->w == 0 || branch->w >= N ? N : branch->w;
  if (N == 0 || s > (N - 1) / w)
    return 0;
  int64_t a = first + s * w, L = (s + 1) * w < N ? w : N - s * w;
  int64_t o = branch_offset(p, branch, h);
  segment->first = a + o;
  segment->r = branch->r;
  segment->m = o >= L ? 0 : (L - o + branch->r - 1) / branch->r;
  segment->mb = (segment->m + p->block - 1) / p->block;
  segment->number = s;
  return 1;
}

int oracle_next_segment(const oracle_problem *p, int64_t branch, int64_t h, oracle_segment *segment,
                        int64_t *cursor) {
  int64_t first, end, seen = 0;
  for (int64_t d = 0; document(p, d, &first, &end); d++) {
    const oracle_branch *b = &p->pattern.branches[branch];
    int64_t N = end - first, w = b->w == 0 || b->w >= N ? N : b->w;
    int64_t segments = N == 0 ? 0 : (N + w - 1) / w;
    if (*cursor < seen + segments) {
      segment_of(p, b, h, first, end, *cursor - seen, segment);
      ++*cursor;
      return 1;
    }
    seen += segments;
  }
  return 0;
}

/* Keys u of [low, high) that query t may see under causal and window, as [*low, *high). */
static void clip(const oracle_problem *p, const oracle_branch *branch, int64_t t, int64_t *low,
                 int64_t *high) {
  if (p->causal && *high > t + 1)
    *high = t + 1;
  if (branch->has_window && branch->left >= 0 && *low < t - branch->left)
    *low = t - branch->left;
  if (branch->has_window && branch->right >= 0 && t + branch->right < *high)
    *high = t + branch->right + 1;
}

static int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static void union_row(const oracle_problem *p, const oracle_branch *branch, int64_t h,
                      const oracle_segment *segment, int64_t I, unsigned char *row) {
  memset(row, 0, (size_t)segment->mb);
  for (int64_t x = 0; x < branch->nterms; x++)
    oracle_term_row(&branch->terms[x], I, p->head_first + h, segment->number, segment->mb,
                    p->causal, row);
}

void oracle_block_row(const oracle_problem *p, int64_t branch, int64_t h,
                      const oracle_segment *segment, int64_t I, unsigned char *active,
                      int64_t *pairs) {
  const oracle_branch *b = &p->pattern.branches[branch];
  union_row(p, b, h, segment, I, active);
  for (int64_t J = 0; J < segment->mb; J++) {
    int64_t allowed = 0;
    for (int64_t t = I * p->block; active[J] && t < smaller((I + 1) * p->block, segment->m); t++) {
      int64_t low = J * p->block, high = smaller((J + 1) * p->block, segment->m);
      clip(p, b, t, &low, &high);
      allowed += high > low ? high - low : 0;
    }
    active[J] = allowed > 0;
    if (pairs)
      pairs[J] = allowed;
  }
}

/* The segment of (branch, head) that selects position i, and i's place t in it; false if none does. */
static int locate(const oracle_problem *p, const oracle_branch *branch, int64_t h, int64_t i,
                  oracle_segment *segment, int64_t *t) {
  int64_t first = 0, end = 0, d = 0;
  while (document(p, d, &first, &end) && i >= end)
    d++;
  int64_t N = end - first, w = branch->w == 0 || branch->w >= N ? N : branch->w;
  segment_of(p, branch, h, first, end, (i - first) / w, segment);
  int64_t distance = i - segment->first;
  if (segment->m == 0 || distance < 0 || distance % branch->r != 0)
    return 0;
  *t = distance / branch->r;
  return 1;
}

int64_t oracle_multiplicity(const oracle_problem *p, int64_t h, int64_t i, int64_t j) {
  int64_t sum = 0;
  for (int64_t x = 0; x < p->pattern.nbranches; x++) {
    const oracle_branch *branch = &p->pattern.branches[x];
    oracle_segment si, sj;
    int64_t t, u;
    if (!oracle_serves(p, x, h) || !locate(p, branch, h, i, &si, &t) ||
        !locate(p, branch, h, j, &sj, &u) || si.first != sj.first)
      continue;
    if (p->causal && j > i)
      continue;
    if (branch->has_window && ((branch->left >= 0 && u < t - branch->left) ||
                               (branch->right >= 0 && u > t + branch->right)))
      continue;
    unsigned char *row = oracle_alloc(si.mb, 1);
    union_row(p, branch, h, &si, t / p->block, row);
    sum += row[u / p->block];
    free(row);
  }
  return sum;
}

void oracle_query_row(const oracle_problem *p, int64_t h, int64_t i, int32_t *m) {
  memset(m, 0, (size_t)p->n * sizeof *m);
  for (int64_t x = 0; x < p->pattern.nbranches; x++) {
    const oracle_branch *branch = &p->pattern.branches[x];
    oracle_segment segment;
    int64_t t;
    if (!oracle_serves(p, x, h) || !locate(p, branch, h, i, &segment, &t))
      continue;
    unsigned char *row = oracle_alloc(segment.mb, 1);
    union_row(p, branch, h, &segment, t / p->block, row);
    for (int64_t J = 0; J < segment.mb; J++) {
      int64_t low = J * p->block, high = smaller((J + 1) * p->block, segment.m);
      clip(p, branch, t, &low, &high);
      for (int64_t u = low; row[J] && u < high; u++)
        m[segment.first + u * segment.r]++;
    }
    free(row);
  }
}

void oracle_key_column(const oracle_problem *p, int64_t h, int64_t j, int32_t *m) {
  memset(m, 0, (size_t)p->n * sizeof *m);
  for (int64_t x = 0; x < p->pattern.nbranches; x++) {
    const oracle_branch *branch = &p->pattern.branches[x];
    oracle_segment segment;
    int64_t u;
    if (!oracle_serves(p, x, h) || !locate(p, branch, h, j, &segment, &u))
      continue;
    unsigned char *row = oracle_alloc(segment.mb, 1);
    for (int64_t I = 0; I < segment.mb; I++) {
      union_row(p, branch, h, &segment, I, row);
      for (int64_t t = I * p->block;
           row[u / p->block] && t < smaller((I + 1) * p->block, segment.m); t++) {
        int64_t low = u, high = u + 1;
        clip(p, branch, t, &low, &high);
        m[segment.first + t * segment.r] += high > low;
      }
    }
    free(row);
  }
}

oracle_counts oracle_count(const oracle_problem *p) {
  oracle_counts counts = {0, 0, 0};
  for (int64_t x = 0; x < p->pattern.nbranches; x++)
    for (int64_t h = 0; h < p->heads; h++) {
      oracle_segment segment;
      int64_t cursor = 0;
      while (oracle_serves(p, x, h) && oracle_next_segment(p, x, h, &segment, &cursor)) {
        unsigned char *active = oracle_alloc(segment.mb, 1);
        int64_t *pairs = oracle_alloc(segment.mb, sizeof *pairs);
        for (int64_t I = 0; I < segment.mb; I++) {
          oracle_block_row(p, x, h, &segment, I, active, pairs);
          for (int64_t J = 0; J < segment.mb; J++) {
            counts.active_blocks += active[J];
            counts.active_pairs += pairs[J];
          }
        }
        free(pairs);
        free(active);
      }
    }
  int64_t first, end;
  double all = 0;
  for (int64_t d = 0; document(p, d, &first, &end); d++) {
    double N = (double)(end - first);
    all += p->causal ? N * (N + 1) / 2 : N * N;
  }
  counts.density = (double)counts.active_pairs / ((double)p->heads * all);
  return counts;
}
