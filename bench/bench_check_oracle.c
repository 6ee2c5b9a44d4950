/* bench_check_oracle.c - the oracle on one KV head of one batch entry. */
#include "bench/bench_check_oracle.h"

#include <stdlib.h>
#include <string.h>

#include "bench/bench_random.h"
#include "src/pattern.h"

/* ---- the pattern ------------------------------------------------------------------------- */

/* The text with each csr(...) written as `full`, in place. */
static void hide_csr(char *text) {
  for (char *p; (p = strstr(text, "csr(")) != NULL;) {
    char *end = strchr(p, ')');
    if (end == NULL)
      return;
    memcpy(p, "full", 4);
    memmove(p + 4, end + 1, strlen(end + 1) + 1);
  }
}

/* Puts the csr terms of the library's pattern where the oracle read `full`. */
static void take_csr(const bsd_pattern *pattern, oracle_pattern *out) {
  for (int64_t x = 0; x < pattern->nbranches; x++)
    for (int64_t y = 0; y < pattern->branches[x].nterms; y++) {
      const bsd_pattern_term *term = &pattern->branches[x].terms[y];
      if (term->kind == BSD_TERM_CSR)
        out->branches[x].terms[y] = (oracle_term){.kind = ORACLE_CSR,
                                                  .csr_rows = term->csr_rows,
                                                  .csr_heads = term->csr_heads,
                                                  .csr_ptr = term->csr_ptr,
                                                  .csr_columns = term->csr_columns};
    }
}

int bench_oracle_pattern(const bsd_pattern *pattern, const char *text, oracle_pattern *out) {
  char *plain = strdup(text);
  if (plain == NULL)
    return 0;
  hide_csr(plain);
  int good = oracle_parse(plain, out) && out->nbranches == pattern->nbranches;
  free(plain);
  for (int64_t x = 0; good && x < pattern->nbranches; x++)
    good = out->branches[x].nterms == pattern->branches[x].nterms;
  if (good)
    take_csr(pattern, out);
  return good;
}

/* ---- the unit ---------------------------------------------------------------------------- */

/* Heads first .. first+count-1 of batch entry b of a tensor, as floats [n][count][D]. */
static float *group_of(const bench_session *session, const bsd_problem *problem, bench_tensor_id id,
                       int64_t heads, int64_t b, int64_t first, int64_t count) {
  int64_t n = problem->length, D = problem->head_dim;
  float *out = oracle_alloc(n * count * D, sizeof *out);
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; i++)
    bench_random_floats(session->options->seed, id, problem->dtype,
                        ((b * n + i) * heads + first) * D, count * D, out + i * count * D);
  return out;
}

bench_unit bench_unit_create(const bench_session *session, const bsd_problem *problem,
                             const oracle_pattern *pattern, int64_t b, int64_t group) {
  int64_t G = problem->heads / problem->kv_heads;
  bench_unit unit = {.b = b, .group = group};
  unit.p = (oracle_problem){.batch = 1,
                            .n = problem->length,
                            .heads = G,
                            .kv_heads = 1,
                            .dim = problem->head_dim,
                            .block = problem->block,
                            .causal = problem->causal,
                            .scale = problem->scale,
                            .cu_seqlens = problem->cu_seqlens,
                            .documents = problem->documents,
                            .head_first = group * G,
                            .heads_total = problem->heads,
                            .pattern = *pattern};
  unit.in.q = group_of(session, problem, BENCH_Q, problem->heads, b, group * G, G);
  unit.in.k = group_of(session, problem, BENCH_K, problem->kv_heads, b, group, 1);
  unit.in.v = group_of(session, problem, BENCH_V, problem->kv_heads, b, group, 1);
  if (session->options->pass & BENCH_BACKWARD)
    unit.in.d_o = group_of(session, problem, BENCH_DO, problem->heads, b, group * G, G);
  unit.cache = oracle_cache_create(&unit.p);
  return unit;
}

void bench_unit_free(bench_unit *unit) {
  free((void *)unit->in.q);
  free((void *)unit->in.k);
  free((void *)unit->in.v);
  free((void *)unit->in.d_o);
  oracle_cache_free(&unit->cache);
  free(unit->seeing);
}

static int64_t keys_of(const bench_unit *unit, int64_t h, int64_t i) {
  int32_t *m = oracle_alloc(unit->p.n, sizeof *m);
  int64_t keys = 0;
  oracle_query_row(&unit->p, h, i, m);
  for (int64_t j = 0; j < unit->p.n; j++)
    keys += m[j];
  free(m);
  return keys;
}

void bench_unit_queries(bench_unit *unit, const int64_t *positions, int64_t count, double *o,
                        double *lse, double *dq, double *floor) {
  int64_t G = unit->p.heads, D = unit->p.dim, most = 0;
#pragma omp parallel for schedule(dynamic) reduction(max : most)
  for (int64_t x = 0; x < count * G; x++) {
    int64_t i = positions[x / G], h = x % G, keys = keys_of(unit, h, i);
    oracle_query(&unit->p, &unit->in, 0, h, i, o + x * D, lse + x, dq ? dq + x * D : NULL,
                 floor ? floor + x : NULL);
    most = keys > most ? keys : most;
  }
  unit->most_keys = most > unit->most_keys ? most : unit->most_keys;
}

/* ---- keys -------------------------------------------------------------------------------- */

int64_t bench_unit_see(bench_unit *unit, const int64_t *keys, int64_t count) {
  int64_t n = unit->p.n, G = unit->p.heads, rows = 0;
  unit->seeing = oracle_alloc(G * n, 1);
#pragma omp parallel for schedule(dynamic) collapse(2)
  for (int64_t h = 0; h < G; h++)
    for (int64_t x = 0; x < count; x++) {
      int32_t *m = oracle_alloc(n, sizeof *m);
      oracle_key_column(&unit->p, h, keys[x], m);
      for (int64_t i = 0; i < n; i++)
        if (m[i] != 0) {
#pragma omp atomic write
          unit->seeing[h * n + i] = 1;
        }
      free(m);
    }
  for (int64_t row = 0; row < G * n; row++)
    rows += unit->seeing[row];
  return rows;
}

void bench_unit_know(bench_unit *unit) {
  int64_t n = unit->p.n, G = unit->p.heads, D = unit->p.dim;
#pragma omp parallel for schedule(dynamic, 16)
  for (int64_t row = 0; row < G * n; row++) {
    if (!unit->seeing[row] || unit->cache.known[row])
      continue;
    double o[256];
    int64_t h = row / n, i = row % n;
    oracle_query(&unit->p, &unit->in, 0, h, i, o, &unit->cache.lse[row], NULL, NULL);
    const float *d_o = unit->in.d_o + (i * G + h) * D;
    double delta = 0;
    for (int64_t d = 0; d < D; d++)
      delta += o[d] * d_o[d];
    unit->cache.delta[row] = delta;
    unit->cache.known[row] = 1;
  }
}

void bench_unit_keys(bench_unit *unit, const int64_t *keys, int64_t count, double *dk, double *dv,
                     double *floor) {
  int64_t D = unit->p.dim;
#pragma omp parallel for schedule(dynamic)
  for (int64_t x = 0; x < count; x++)
    oracle_key(&unit->p, &unit->in, &unit->cache, 0, 0, keys[x], dk + x * D, dv + x * D, floor + x);
}
