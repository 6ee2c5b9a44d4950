/* bench_check_oracle.h - the oracle on one KV head of one batch entry: a problem of its own, whose query
 * heads are the group's, so that long sequences need the tensors of one group only. */
#ifndef BENCH_CHECK_ORACLE_H
#define BENCH_CHECK_ORACLE_H

#include "bench/bench_session.h"
#include "tests/oracle.h"

/* The oracle's own reading of the pattern text; csr terms, which it does not read, are taken from the
 * library's pattern. False if it cannot hold it. */
int bench_oracle_pattern(const bsd_pattern *pattern, const char *text, oracle_pattern *out);

typedef struct bench_unit { /* one KV head of one batch entry */
  int64_t b, group;
  oracle_problem p; /* heads: the group's, kv_heads 1, batch 1 */
  oracle_inputs in; /* owned */
  oracle_cache cache;
  int64_t most_keys;     /* of the query rows compared */
  unsigned char *seeing; /* [G][n] query rows that see a sampled key; NULL before bench_unit_see */
} bench_unit;

/* Makes the inputs of the group again from their seed; the pattern is copied. Ends the program if there
 * is no memory. cu_seqlens stays the problem's. */
bench_unit bench_unit_create(const bench_session *session, const bsd_problem *problem,
                             const oracle_pattern *pattern, int64_t b, int64_t group);
void bench_unit_free(bench_unit *unit);

/* Expected values of the query rows at positions[0 .. count-1], all heads of the group:
 * o, dq [count][G][D], lse [count][G], floor [count][G]; dq and floor may be NULL. Fills most_keys. */
void bench_unit_queries(bench_unit *unit, const int64_t *positions, int64_t count, double *o,
                        double *lse, double *dq, double *floor);

/* Finds the query rows that see one of the keys, and how many they are. */
int64_t bench_unit_see(bench_unit *unit, const int64_t *keys, int64_t count);

/* Makes lse and delta known for each of them. */
void bench_unit_know(bench_unit *unit);

/* Expected dk, dv [count][D] and floor [count] of keys, from lse and delta that are known. */
void bench_unit_keys(bench_unit *unit, const int64_t *keys, int64_t count, double *dk, double *dv,
                     double *floor);

#endif
