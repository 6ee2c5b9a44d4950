/* oracle_attention.c - forward and backward in fp64 over m_h(i,j). See oracle.h.
 *
 *   o_i = sum_j m exp(s_ij) v_j / sum_j m exp(s_ij),  lse_i = log sum_j m exp(s_ij)
 *   P = m exp(s - lse), delta = sum_d do o, ds = P (do v^T - delta + dlse)
 *   dq = scale ds k, dk = scale ds^T q, dv = P^T do */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"

static double scale_of(const oracle_problem *p) {
  return p->scale != 0 ? p->scale : 1 / sqrt((double)p->dim);
}

static int64_t kv_head(const oracle_problem *p, int64_t h) {
  return h / (p->heads / p->kv_heads);
}

/* Row (b, i, head) of a [B][n][heads][D] tensor. */
static int64_t row_at(const oracle_problem *p, int64_t b, int64_t i, int64_t heads, int64_t h) {
  return ((b * p->n + i) * heads + h) * p->dim;
}

static double dot(const float *a, const float *b, int64_t dim) {
  double sum = 0;
  for (int64_t d = 0; d < dim; d++)
    sum += (double)a[d] * b[d];
  return sum;
}

static void add_scaled(double *x, double factor, const float *y, int64_t dim) {
  for (int64_t d = 0; d < dim; d++)
    x[d] += factor * y[d];
}

/* What one query row knows of itself: the keys it sees, and P = m exp(s - lse) of each. */
typedef struct query_state {
  double lse, delta, dlse;
  int32_t *m;   /* [n] */
  int64_t *key; /* [room] ascending */
  double *P;    /* [room] */
  int64_t keys, room;
  double *o; /* [D] */
} query_state;

static query_state state_create(const oracle_problem *p) {
  query_state state = {.m = oracle_alloc(p->n, sizeof(int32_t)),
                       .o = oracle_alloc(p->dim, sizeof(double))};
  return state;
}

static void make_room(const oracle_problem *p, query_state *state) {
  int64_t keys = 0;
  for (int64_t j = 0; j < p->n; j++)
    keys += state->m[j] != 0;
  if (keys <= state->room)
    return;
  free(state->key);
  free(state->P);
  state->key = oracle_alloc(keys, sizeof(int64_t));
  state->P = oracle_alloc(keys, sizeof(double));
  state->room = keys;
}

static void state_free(query_state *state) {
  free(state->m);
  free(state->key);
  free(state->P);
  free(state->o);
}

/* The keys, lse and P of one query. */
static void run_softmax(const oracle_problem *p, const oracle_inputs *in, int64_t b, int64_t h,
                        int64_t i, query_state *state) {
  const float *q = in->q + row_at(p, b, i, p->heads, h);
  double largest = -INFINITY, sum = 0;
  oracle_query_row(p, h, i, state->m);
  make_room(p, state);
  state->keys = 0;
  for (int64_t j = 0; j < p->n; j++) {
    if (state->m[j] == 0)
      continue;
    const float *k = in->k + row_at(p, b, j, p->kv_heads, kv_head(p, h));
    double s = scale_of(p) * dot(q, k, p->dim);
    largest = fmax(largest, s);
    state->key[state->keys] = j;
    state->P[state->keys++] = s;
  }
  for (int64_t x = 0; x < state->keys; x++) {
    state->P[x] = state->m[state->key[x]] * exp(state->P[x] - largest);
    sum += state->P[x];
  }
  for (int64_t x = 0; x < state->keys; x++)
    state->P[x] /= sum;
  state->lse = state->keys ? largest + log(sum) : -INFINITY;
}

static void run_query(const oracle_problem *p, const oracle_inputs *in, int64_t b, int64_t h,
                      int64_t i, query_state *state) {
  int64_t D = p->dim, row = row_at(p, b, i, p->heads, h);
  run_softmax(p, in, b, h, i, state);
  memset(state->o, 0, (size_t)D * sizeof(double));
  for (int64_t x = 0; x < state->keys; x++)
    add_scaled(state->o, state->P[x],
               in->v + row_at(p, b, state->key[x], p->kv_heads, kv_head(p, h)), D);
  state->delta = 0;
  for (int64_t d = 0; in->d_o && state->keys && d < D; d++)
    state->delta += in->d_o[row + d] * state->o[d];
  state->dlse = in->dlse ? in->dlse[(b * p->heads + h) * p->n + i] : 0;
}

/* ds of the pair (i, j). */
static double ds_of(const oracle_problem *p, const oracle_inputs *in, int64_t b, int64_t h,
                    int64_t i, int64_t j, double P, double delta, double dlse) {
  const float *d_o = in->d_o + row_at(p, b, i, p->heads, h);
  const float *v = in->v + row_at(p, b, j, p->kv_heads, kv_head(p, h));
  return P * (dot(d_o, v, p->dim) - delta + dlse);
}

static double floor_of(const oracle_problem *p, double squares) {
  return scale_of(p) * sqrt((double)p->dim) * sqrt(squares);
}

void oracle_query(const oracle_problem *p, const oracle_inputs *in, int64_t b, int64_t h, int64_t i,
                  double *o, double *lse, double *dq, double *dq_floor) {
  query_state state = state_create(p);
  run_query(p, in, b, h, i, &state);
  if (o)
    memcpy(o, state.o, (size_t)p->dim * sizeof *o);
  if (lse)
    *lse = state.lse;
  double squares = 0;
  if (dq)
    memset(dq, 0, (size_t)p->dim * sizeof *dq);
  for (int64_t x = 0; x < state.keys; x++) {
    int64_t j = state.key[x];
    squares += state.P[x] * state.P[x];
    if (dq)
      add_scaled(dq, scale_of(p) * ds_of(p, in, b, h, i, j, state.P[x], state.delta, state.dlse),
                 in->k + row_at(p, b, j, p->kv_heads, kv_head(p, h)), p->dim);
  }
  if (dq_floor)
    *dq_floor = floor_of(p, squares);
  state_free(&state);
}

/* Adds what query (b, h, i) gives to the keys it sees; dk_floor holds sums of P^2 meanwhile. */
static void scatter_to_keys(const oracle_problem *p, const oracle_inputs *in,
                            const oracle_outputs *out, int64_t b, int64_t h, int64_t i) {
  int64_t D = p->dim, mine = row_at(p, b, i, p->heads, h);
  query_state state = state_create(p);
  run_query(p, in, b, h, i, &state);
  for (int64_t x = 0; x < state.keys; x++) {
    int64_t j = state.key[x], at = row_at(p, b, j, p->kv_heads, kv_head(p, h));
    double P = state.P[x];
    if (out->dv)
      add_scaled(out->dv + at, P, in->d_o + mine, D);
    if (out->dk)
      add_scaled(out->dk + at, scale_of(p) * ds_of(p, in, b, h, i, j, P, state.delta, state.dlse),
                 in->q + mine, D);
    if (out->dk_floor)
      out->dk_floor[at / D] += P * P;
  }
  state_free(&state);
}

void oracle_attention(const oracle_problem *p, const oracle_inputs *in, const oracle_outputs *out) {
  int64_t D = p->dim, keys = p->batch * p->n * p->kv_heads;
  if (out->dk)
    memset(out->dk, 0, (size_t)(keys * D) * sizeof(double));
  if (out->dv)
    memset(out->dv, 0, (size_t)(keys * D) * sizeof(double));
  if (out->dk_floor)
    memset(out->dk_floor, 0, (size_t)keys * sizeof(double));
  for (int64_t b = 0; b < p->batch; b++)
    for (int64_t h = 0; h < p->heads; h++)
      for (int64_t i = 0; i < p->n; i++) {
        int64_t at = row_at(p, b, i, p->heads, h);
        oracle_query(p, in, b, h, i, out->o ? out->o + at : NULL,
                     out->lse ? out->lse + (b * p->heads + h) * p->n + i : NULL,
                     out->dq ? out->dq + at : NULL, out->dq_floor ? out->dq_floor + at / D : NULL);
        if (out->dk || out->dv)
          scatter_to_keys(p, in, out, b, h, i);
      }
  for (int64_t x = 0; out->dk_floor && x < keys; x++)
    out->dk_floor[x] = floor_of(p, out->dk_floor[x]);
}

/* ---- a sample of keys ---- */

oracle_cache oracle_cache_create(const oracle_problem *p) {
  int64_t rows = p->batch * p->heads * p->n;
  oracle_cache cache = {oracle_alloc(rows, sizeof(double)), oracle_alloc(rows, sizeof(double)),
                        oracle_alloc(rows, 1)};
  return cache;
}

void oracle_cache_free(oracle_cache *cache) {
  free(cache->lse);
  free(cache->delta);
  free(cache->known);
}

void oracle_key(const oracle_problem *p, const oracle_inputs *in, oracle_cache *cache, int64_t b,
                int64_t g, int64_t j, double *dk, double *dv, double *dk_floor) {
  int64_t D = p->dim, group = p->heads / p->kv_heads;
  const float *k = in->k + row_at(p, b, j, p->kv_heads, g);
  int32_t *m = oracle_alloc(p->n, sizeof *m);
  query_state state = state_create(p);
  double squares = 0;
  memset(dk, 0, (size_t)D * sizeof *dk);
  memset(dv, 0, (size_t)D * sizeof *dv);
  for (int64_t h = g * group; h < (g + 1) * group; h++) {
    oracle_key_column(p, h, j, m);
    for (int64_t i = 0; i < p->n; i++) {
      int64_t row = (b * p->heads + h) * p->n + i, at = row_at(p, b, i, p->heads, h);
      if (m[i] == 0)
        continue;
      if (!cache->known[row]) {
        run_query(p, in, b, h, i, &state);
        cache->lse[row] = state.lse;
        cache->delta[row] = state.delta;
        cache->known[row] = 1;
      }
      double P = m[i] * exp(scale_of(p) * dot(in->q + at, k, D) - cache->lse[row]);
      double ds = ds_of(p, in, b, h, i, j, P, cache->delta[row], in->dlse ? in->dlse[row] : 0);
      add_scaled(dv, P, in->d_o + at, D);
      add_scaled(dk, scale_of(p) * ds, in->q + at, D);
      squares += P * P;
    }
  }
  if (dk_floor)
    *dk_floor = floor_of(p, squares);
  state_free(&state);
  free(m);
}
