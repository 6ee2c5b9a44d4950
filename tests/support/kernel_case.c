/* kernel_case.c - draws a kernel_case and computes its reference. */
#include "support/kernel_case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/tensors.h"

static void *room(int64_t count, size_t size) {
  void *memory = calloc((size_t)count + 1, size);
  if (!memory)
    abort();
  return memory;
}

int64_t case_draw(uint64_t *state, int64_t limit) {
  uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
  z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
  return (int64_t)((z ^ z >> 31) % (uint64_t)limit);
}

/* ---- drawing ---------------------------------------------------------------------------------- */

static void draw_shape(kernel_case *c, uint64_t *state) {
  const int64_t group = 1 + case_draw(state, 3);
  c->batch = 1 + case_draw(state, 2);
  c->kv_heads = 1 + case_draw(state, 2);
  c->heads = group * c->kv_heads;
  c->scale = (float)(1 / sqrt((double)c->options.dim));
  c->segments = 1 + case_draw(state, CASE_SEGMENTS);
  const int64_t cut = c->segments == 1 ? 0 : case_draw(state, c->options.tokens / 2) + 1;
  c->first[1] = c->segments == 1 ? c->options.tokens : cut;
  c->first[2] = c->options.tokens;
  c->total = c->options.tokens;
}

/* Runs of tokens go to random sources, where they lie a step apart after some other tokens. */
static void draw_sources(kernel_case *c, uint64_t *state) {
  int64_t step[CASE_SOURCES];
  for (int s = 0; s < CASE_SOURCES; s++) {
    step[s] = 1 + case_draw(state, 3);
    c->length[s] = case_draw(state, 3);
  }
  c->source = room(c->total, sizeof *c->source);
  c->index = room(c->total, sizeof *c->index);
  int64_t token = 0;
  while (token < c->total) {
    const int source = (int)case_draw(state, c->options.sources);
    int64_t run = 1 + case_draw(state, case_draw(state, 2) ? 5 : 3 * c->options.block);
    for (; run > 0 && token < c->total; run--, token++) {
      c->source[token] = source;
      c->index[token] = c->length[source];
      c->length[source] += step[source];
    }
  }
}

static void draw_rule(const kernel_case *c, uint64_t *state, case_list *rule) {
  rule->causal = case_draw(state, 3) == 0;
  rule->left = case_draw(state, 2) ? -1 : case_draw(state, 2 * c->options.block);
  rule->right = case_draw(state, 2) ? -1 : case_draw(state, 2 * c->options.block);
  for (int64_t s = 0; s < c->segments; s++) {
    const int64_t tokens = c->first[s + 1] - c->first[s];
    const int64_t mb = (tokens + c->options.block - 1) / c->options.block;
    rule->active[s] = room(mb * mb, 1);
    for (int64_t i = 0; i < mb * mb; i++)
      rule->active[s][i] = case_draw(state, 1000) < (int64_t)(1000 * c->options.density);
  }
}

/* Each KV head goes to one list of each pass; now and then one of its query heads is served by none. */
static void draw_lists(kernel_case *c, uint64_t *state) {
  const int64_t group = c->heads / c->kv_heads;
  c->nlists = 1 + case_draw(state, CASE_LISTS);
  for (int p = 0; p < c->options.npasses; p++) {
    for (int64_t i = 0; i < c->nlists; i++)
      draw_rule(c, state, &c->lists[p][i]);
    for (int64_t kv = 0; kv < c->kv_heads; kv++) {
      case_list *rule = &c->lists[p][case_draw(state, c->nlists)];
      for (int64_t g = 0; g < group; g++)
        if (case_draw(state, 8) != 0)
          rule->heads[rule->nheads++] = (int32_t)(kv * group + g);
    }
  }
}

static void draw_values(kernel_case *c) {
  const int64_t queries = c->batch * c->total * c->heads, dim = c->options.dim;
  const int64_t keys = c->batch * c->total * c->kv_heads;
  const uint64_t seed = 10 * c->options.seed;
  c->q = tensor_normal(queries * dim, seed + 1, c->options.dtype);
  c->d_o = tensor_normal(queries * dim, seed + 2, c->options.dtype);
  c->k = tensor_normal(keys * dim, seed + 3, c->options.dtype);
  c->v = tensor_normal(keys * dim, seed + 4, c->options.dtype);
  c->dlse = tensor_normal(queries, seed + 5, BSD_F32);
}

/* ---- the reference ---------------------------------------------------------------------------- */

/* The number of passes that hold the pair of head h. */
static int multiplicity(const kernel_case *c, int64_t head, int64_t t, int64_t u) {
  int count = 0;
  const int segment = c->segments == 2 && t >= c->first[1];
  if (segment != (c->segments == 2 && u >= c->first[1]))
    return 0;
  const int64_t first = c->first[segment], block = c->options.block;
  const int64_t mb = (c->first[segment + 1] - first + block - 1) / block;
  for (int p = 0; p < c->options.npasses; p++)
    for (int64_t i = 0; i < c->nlists; i++) {
      const case_list *rule = &c->lists[p][i];
      int served = 0;
      for (int64_t h = 0; h < rule->nheads; h++)
        served |= rule->heads[h] == head;
      if (!served || !rule->active[segment][(t - first) / block * mb + (u - first) / block])
        continue;
      if ((rule->causal && u > t) || (rule->left >= 0 && u < t - rule->left) ||
          (rule->right >= 0 && u > t + rule->right))
        continue;
      count++;
    }
  return count;
}

static double dot(const float *a, const float *b, int64_t dim) {
  double sum = 0;
  for (int64_t d = 0; d < dim; d++)
    sum += (double)a[d] * b[d];
  return sum;
}

typedef struct one_query {
  int64_t batch, head, kv_head, token;
  int64_t row;    /* of q */
  int64_t stat;   /* of lse */
  double *weight; /* [total] multiplicity, then P */
} one_query;

static int64_t key_row(const kernel_case *c, const one_query *q, int64_t u) {
  return (q->batch * c->total + u) * c->kv_heads + q->kv_head;
}

static void reference_forward(kernel_case *c, const one_query *q) {
  const int64_t dim = c->options.dim;
  double maximum = -INFINITY, sum = 0;
  for (int64_t u = 0; u < c->total; u++) {
    if (q->weight[u] == 0)
      continue;
    const double s = c->scale * dot(c->q + q->row * dim, c->k + key_row(c, q, u) * dim, dim);
    maximum = fmax(maximum, s + log(q->weight[u]));
  }
  for (int64_t u = 0; u < c->total; u++) {
    if (q->weight[u] == 0)
      continue;
    const double s = c->scale * dot(c->q + q->row * dim, c->k + key_row(c, q, u) * dim, dim);
    q->weight[u] *= exp(s - maximum);
    sum += q->weight[u];
  }
  for (int64_t u = 0; u < c->total; u++) {
    if (q->weight[u] == 0)
      continue;
    q->weight[u] /= sum;
    for (int64_t d = 0; d < dim; d++)
      c->o[q->row * dim + d] += q->weight[u] * c->v[key_row(c, q, u) * dim + d];
  }
  c->lse[q->stat] = sum == 0 ? -INFINITY : maximum + log(sum);
}

static void reference_backward(kernel_case *c, const one_query *q) {
  const int64_t dim = c->options.dim;
  const double floor = c->scale * sqrt((double)dim);
  double delta = 0, squares = 0;
  for (int64_t d = 0; d < dim; d++)
    delta += (double)c->d_o[q->row * dim + d] * c->o[q->row * dim + d];
  delta -= c->dlse[q->stat];
  c->delta[q->stat] = delta;
  for (int64_t u = 0; u < c->total; u++) {
    const double p = q->weight[u];
    if (p == 0)
      continue;
    const int64_t key = key_row(c, q, u);
    const double ds = p * (dot(c->d_o + q->row * dim, c->v + key * dim, dim) - delta);
    for (int64_t d = 0; d < dim; d++) {
      c->dv[key * dim + d] += p * c->d_o[q->row * dim + d];
      c->dq[q->row * dim + d] += c->scale * ds * c->k[key * dim + d];
      c->dk[key * dim + d] += c->scale * ds * c->q[q->row * dim + d];
    }
    squares += p * p;
    c->dk_floor[key] = hypot(c->dk_floor[key], floor * p);
    c->dv_floor[key] = hypot(c->dv_floor[key], p);
  }
  c->o_floor[q->row] = sqrt(squares);
  c->dq_floor[q->row] = floor * sqrt(squares);
}

static void spoil(float *row, int64_t dim) {
  for (int64_t d = 0; d < dim; d++)
    row[d] = d % 2 ? NAN : INFINITY;
}

/* Fills the reference, then spoils every query that sees no key and every key that no query sees. */
static void compute_reference(kernel_case *c) {
  const int64_t queries = c->batch * c->total * c->heads, dim = c->options.dim;
  const int64_t keys = c->batch * c->total * c->kv_heads;
  uint64_t muting = c->options.seed + 1;
  char *seen = room(keys, 1);
  double *weight = room(c->total, sizeof *weight);
  c->o = room(queries * dim, sizeof *c->o);
  c->dq = room(queries * dim, sizeof *c->dq);
  c->dk = room(keys * dim, sizeof *c->dk);
  c->dv = room(keys * dim, sizeof *c->dv);
  c->lse = room(queries, sizeof *c->lse);
  c->lse_in = room(queries, sizeof *c->lse_in);
  c->delta = room(queries, sizeof *c->delta);
  c->o_floor = room(queries, sizeof *c->o_floor);
  c->dv_floor = room(keys, sizeof *c->dv_floor);
  c->dq_floor = room(queries, sizeof *c->dq_floor);
  c->dk_floor = room(keys, sizeof *c->dk_floor);
  for (int64_t row = 0; row < queries; row++) {
    one_query q = {.row = row, .weight = weight, .head = row % c->heads};
    q.kv_head = q.head / (c->heads / c->kv_heads);
    q.token = row / c->heads % c->total;
    q.batch = row / c->heads / c->total;
    q.stat = (q.batch * c->heads + q.head) * c->total + q.token;
    for (int64_t u = 0; u < c->total; u++) {
      weight[u] = multiplicity(c, q.head, q.token, u);
      seen[key_row(c, &q, u)] |= weight[u] > 0;
    }
    reference_forward(c, &q);
    c->lse_in[q.stat] = case_draw(&muting, 16) == 0 ? -INFINITY : c->lse[q.stat];
    if (c->lse[q.stat] == -INFINITY)
      spoil(c->q + row * dim, dim);
    if (c->lse_in[q.stat] == -INFINITY) {
      spoil(c->d_o + row * dim, dim);
      c->delta[q.stat] = NAN;
    } else {
      reference_backward(c, &q);
    }
  }
  for (int64_t key = 0; key < keys; key++)
    if (!seen[key]) {
      spoil(c->k + key * dim, dim);
      spoil(c->v + key * dim, dim);
    }
  free(seen);
  free(weight);
}

kernel_case *kernel_case_make(const case_options *options) {
  kernel_case *c = room(1, sizeof *c);
  uint64_t state = options->seed;
  c->options = *options;
  draw_shape(c, &state);
  draw_sources(c, &state);
  draw_lists(c, &state);
  case_build_lists(c, &state);
  draw_values(c);
  compute_reference(c);
  return c;
}

void kernel_case_free(kernel_case *c) {
  void *const arrays[] = {c->source, c->index,    c->q,        c->k,       c->v,        c->d_o,
                          c->dlse,   c->o,        c->dq,       c->dk,      c->dv,       c->lse,
                          c->delta,  c->dq_floor, c->dk_floor, c->o_floor, c->dv_floor, c->lse_in};
  case_free_lists(c);
  for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
    free(arrays[i]);
  for (int p = 0; p < c->options.npasses; p++)
    for (int64_t i = 0; i < c->nlists; i++)
      for (int64_t s = 0; s < c->segments; s++)
        free(c->lists[p][i].active[s]);
  free(c);
}
