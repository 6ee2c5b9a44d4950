/* bench_check.c - compares a run's outputs with the fp64 oracle, all rows or a sample.
 *
 *  1. how much: positions of query rows and of key columns, and KV heads, chosen by what they cost
 *  2. the library's rows at those positions are gathered to every rank
 *  3. the KV heads are dealt to the ranks in turn; each makes its heads' inputs again and runs the oracle
 *  4. the bounds are judged per rank, the worst rank's figures are everyone's */
#include "bench/bench_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_check_oracle.h"
#include "bench/bench_check_sample.h"
#include "bench/bench_random.h"
#include "tests/support/compare.h"

int bench_check_judge(const bsd_pattern *pattern, const char *text, cli_error *error) {
  oracle_pattern *out = oracle_alloc(1, sizeof *out);
  int good = bench_oracle_pattern(pattern, text, out);
  free(out);
  if (good)
    return CLI_GOOD;
  return cli_fail(
      error, CLI_UNUSABLE,
      "--check: the oracle holds at most %d branches of %d terms of %d steps, fewer than '%.200s'",
      ORACLE_MAX_BRANCHES, ORACLE_MAX_TERMS, ORACLE_MAX_STEPS, text);
}

/* ---- the library's rows ------------------------------------------------------------------ */

/* What a check needs in one place. */
typedef struct checking {
  const bench_session *session;
  bsd_plan *plan;
  const bsd_problem *problem;
  const bench_tensors *tensors;
  bench_sample sample;
  int from_library;       /* rows that see a key started from the library's o and lse */
  void *o, *dq, *dk, *dv; /* gathered [B][rows of the sample][heads][D] */
  float *lse;             /* [B][H][rows] */
} checking;

/* Gathers positions[0 .. count-1] of a tensor of `planes` planes of rows of `bytes`, to all ranks. */
static int gather(checking *c, bsd_tensor_kind kind, const void *local, int64_t planes,
                  int64_t bytes, const int64_t *positions, int64_t count, void *out,
                  cli_error *error) {
  char *row = oracle_alloc(planes * bytes, 1), *all = out;
  bsd_status status = BSD_OK;
  if (count == c->problem->length)
    status = bsd_gather(c->plan, kind, local, 0, count, out, NULL);
  else
    for (int64_t x = 0; x < count && status == BSD_OK; x++) {
      status = bsd_gather(c->plan, kind, local, positions[x], 1, row, NULL);
      for (int64_t b = 0; b < planes; b++)
        memcpy(all + (b * count + x) * bytes, row + b * bytes, (size_t)bytes);
    }
  free(row);
  if (status == BSD_OK)
    return CLI_GOOD;
  return cli_library_failed(c->session->world, c->session->context, status, error);
}

static int gather_all(checking *c, int backward, cli_error *error) {
  const bsd_problem *p = c->problem;
  const bench_sample *s = &c->sample;
  int64_t row = p->head_dim * (int64_t)cli_dtype_size(p->dtype);
  int64_t q_row = p->heads * row, kv_row = p->kv_heads * row;
  c->o = oracle_alloc(p->batch * s->nqueries, (size_t)q_row);
  c->lse = oracle_alloc(p->batch * p->heads * s->nqueries, sizeof(float));
  int code = gather(c, BSD_TENSOR_Q, c->tensors->o.data, p->batch, q_row, s->queries, s->nqueries,
                    c->o, error);
  if (code == CLI_GOOD)
    code = gather(c, BSD_TENSOR_LSE, c->tensors->lse, p->batch * p->heads, sizeof(float),
                  s->queries, s->nqueries, c->lse, error);
  if (code != CLI_GOOD || !backward)
    return code;
  c->dq = oracle_alloc(p->batch * s->nqueries, (size_t)q_row);
  c->dk = oracle_alloc(p->batch * s->nkeys, (size_t)kv_row);
  c->dv = oracle_alloc(p->batch * s->nkeys, (size_t)kv_row);
  code = gather(c, BSD_TENSOR_Q, c->tensors->dq.data, p->batch, q_row, s->queries, s->nqueries,
                c->dq, error);
  if (code == CLI_GOOD)
    code = gather(c, BSD_TENSOR_KV, c->tensors->dk.data, p->batch, kv_row, s->keys, s->nkeys, c->dk,
                  error);
  if (code == CLI_GOOD)
    code = gather(c, BSD_TENSOR_KV, c->tensors->dv.data, p->batch, kv_row, s->keys, s->nkeys, c->dv,
                  error);
  return code;
}

/* ---- lse and delta from the library's own results ---------------------------------------- */

enum { CHUNK_BYTES = 64 << 20 };

/* Takes rows first .. first+count-1 of the library's o [B][count][H][D] and lse [B][H][count]. */
static void take_rows(const checking *c, bench_unit *unit, int64_t first, int64_t count,
                      const void *o, const float *lse) {
  const bsd_problem *p = c->problem;
  int64_t n = p->length, H = p->heads, D = p->head_dim, G = H / p->kv_heads;
#pragma omp parallel for schedule(static)
  for (int64_t x = 0; x < count * G; x++) {
    int64_t i = x / G, h = x % G, head = unit->group * G + h, at = h * n + first + i;
    double delta = 0;
    for (int64_t d = 0; d < D; d++)
      delta += (double)bench_element(p->dtype, o, ((unit->b * count + i) * H + head) * D + d) *
               unit->in.d_o[((first + i) * G + h) * D + d];
    unit->cache.lse[at] = lse[(unit->b * H + head) * count + i];
    unit->cache.delta[at] = delta;
    unit->cache.known[at] = 1;
  }
}

/* Where the oracle would need too long for the rows that see a key, it starts from the library's o and
 * lse (whose own sample is compared besides): every row of the unit becomes known. */
static int know_from_library(checking *c, bench_unit *unit, int mine, cli_error *error) {
  const bsd_problem *p = c->problem;
  int64_t row = p->batch * p->heads * p->head_dim * (int64_t)cli_dtype_size(p->dtype);
  int64_t chunk = row < CHUNK_BYTES ? CHUNK_BYTES / row : 1;
  chunk = chunk < p->length ? chunk : p->length;
  void *o = oracle_alloc(chunk, (size_t)row);
  float *lse = oracle_alloc(p->batch * p->heads * chunk, sizeof *lse);
  int code = cli_barrier(c->session->world, error); /* a gather has the deadline of an exchange */
  for (int64_t first = 0; first < p->length && code == CLI_GOOD; first += chunk) {
    int64_t count = p->length - first < chunk ? p->length - first : chunk, want = mine ? count : 0;
    bsd_status status = bsd_gather(c->plan, BSD_TENSOR_Q, c->tensors->o.data, first, want, o, NULL);
    if (status == BSD_OK)
      status = bsd_gather(c->plan, BSD_TENSOR_LSE, c->tensors->lse, first, want, lse, NULL);
    if (status != BSD_OK)
      code = cli_library_failed(c->session->world, c->session->context, status, error);
    else if (mine)
      take_rows(c, unit, first, count, o, lse);
  }
  free(o);
  free(lse);
  return code;
}

/* Makes lse and delta known where a sampled key needs them. */
static int know(checking *c, bench_unit *unit, int mine, cli_error *error) {
  double rows = 0; /* the same decision on all ranks */
  int code = CLI_GOOD;
  if (c->sample.most_rows > 0) {
    if (mine)
      rows = (double)bench_unit_see(unit, c->sample.keys, c->sample.nkeys);
    code = cli_max(c->session->world, &rows, 1, error);
  }
  if (code != CLI_GOOD)
    return code;
  if (c->sample.most_rows == 0 || rows > (double)c->sample.most_rows) {
    c->from_library = 1;
    return know_from_library(c, unit, mine, error);
  }
  if (mine)
    bench_unit_know(unit);
  return CLI_GOOD;
}

/* ---- comparing --------------------------------------------------------------------------- */

/* Found and expected values of one tensor, rows behind rows, over this rank's units. */
typedef struct pile {
  float *found;
  double *expected, *floor;
  int64_t rows;
} pile;

typedef struct piles {
  pile o, lse, dq, dk, dv;
  int64_t most_keys;
} piles;

static pile pile_create(int64_t rows, int64_t width) {
  return (pile){oracle_alloc(rows * width, sizeof(float)),
                oracle_alloc(rows * width, sizeof(double)), oracle_alloc(rows, sizeof(double)), 0};
}

static void pile_free(pile *x) {
  free(x->found);
  free(x->expected);
  free(x->floor);
}

/* Copies the unit's rows of a gathered tensor [B][count][heads][D] (heads first .. first+G-1). */
static void find(const checking *c, pile *to, const void *gathered, int64_t b, int64_t count,
                 int64_t heads, int64_t first, int64_t G) {
  int64_t D = c->problem->head_dim;
  for (int64_t x = 0; x < count * G * D; x++)
    to->found[to->rows * D + x] = bench_element(
        c->problem->dtype, gathered, ((b * count + x / (G * D)) * heads + first) * D + x % (G * D));
}

static void find_lse(const checking *c, pile *to, const bench_unit *unit, int64_t G) {
  int64_t count = c->sample.nqueries, H = c->problem->heads;
  for (int64_t x = 0; x < count * G; x++)
    to->found[to->rows + x] = c->lse[(unit->b * H + unit->group * G + x % G) * count + x / G];
}

static void pile_queries(const checking *c, bench_unit *unit, int backward, piles *to) {
  int64_t D = c->problem->head_dim, H = c->problem->heads, G = unit->p.heads;
  int64_t count = c->sample.nqueries, first = unit->group * G, at = to->o.rows;
  bench_unit_queries(unit, c->sample.queries, count, to->o.expected + at * D, to->lse.expected + at,
                     backward ? to->dq.expected + at * D : NULL, to->dq.floor + at);
  find(c, &to->o, c->o, unit->b, count, H, first, G);
  find_lse(c, &to->lse, unit, G);
  if (backward)
    find(c, &to->dq, c->dq, unit->b, count, H, first, G);
  to->o.rows = to->lse.rows = to->dq.rows = at + count * G;
  to->most_keys = unit->most_keys > to->most_keys ? unit->most_keys : to->most_keys;
}

static void pile_keys(const checking *c, bench_unit *unit, piles *to) {
  int64_t D = c->problem->head_dim, Hkv = c->problem->kv_heads, count = c->sample.nkeys;
  int64_t at = to->dk.rows;
  bench_unit_keys(unit, c->sample.keys, count, to->dk.expected + at * D, to->dv.expected + at * D,
                  to->dk.floor + at);
  find(c, &to->dk, c->dk, unit->b, count, Hkv, unit->group, 1);
  find(c, &to->dv, c->dv, unit->b, count, Hkv, unit->group, 1);
  to->dk.rows = to->dv.rows = at + count;
}

static int run_units(checking *c, const oracle_pattern *pattern, int backward, piles *to,
                     cli_error *error) {
  const cli_world *world = c->session->world;
  int code = CLI_GOOD;
  for (int64_t x = 0; x < c->sample.nunits && code == CLI_GOOD; x++) {
    int mine = x % world->size == world->rank;
    int64_t b = c->sample.units[x] / c->problem->kv_heads;
    int64_t group = c->sample.units[x] % c->problem->kv_heads;
    bench_unit unit = {0};
    bench_progress_show(c->session->progress, "check", x, c->sample.nunits);
    if (mine) {
      unit = bench_unit_create(c->session, c->problem, pattern, b, group);
      pile_queries(c, &unit, backward, to);
    }
    if (backward)
      code = know(c, &unit, mine, error);
    if (backward && mine && code == CLI_GOOD)
      pile_keys(c, &unit, to);
    if (mine)
      bench_unit_free(&unit);
  }
  return code;
}

/* ---- the verdict ------------------------------------------------------------------------- */

static double judge(const checking *c, compare_kind kind, int64_t most_keys, const pile *x,
                    const double *floor, const char *kernel, double *failed) {
  int rounds = strcmp(kernel, "sm80") == 0 || strcmp(kernel, "sm90") == 0;
  compare_bounds bounds = {c->problem->dtype, kind, rounds, most_keys};
  if (x->rows == 0)
    return 0;
  compare_report report =
      compare_tensor(bounds, x->found, x->expected, x->rows, c->problem->head_dim, floor);
  if (!report.pass)
    *failed = 1;
  return isnan(report.error) ? INFINITY : report.error;
}

static int conclude(const checking *c, const piles *p, const bsd_plan_statistics *stats,
                    bench_check *check, cli_error *error) {
  int pass = c->session->options->pass;
  double worst[6] = {0}, *failed = &worst[5];
  worst[0] = judge(c, COMPARE_OUTPUT, p->most_keys, &p->o, NULL, stats->kernel, failed);
  if (p->lse.rows > 0) {
    compare_report report =
        compare_lse(c->problem->dtype, p->lse.found, p->lse.expected, p->lse.rows);
    worst[1] = isnan(report.error) ? INFINITY : report.error;
    *failed = report.pass ? *failed : 1;
  }
  if (pass & BENCH_BACKWARD) {
    const char *kernel = stats->kernel_backward;
    worst[2] = judge(c, COMPARE_GRADIENT, 0, &p->dq, p->dq.floor, kernel, failed);
    worst[3] = judge(c, COMPARE_GRADIENT, 0, &p->dk, p->dk.floor, kernel, failed);
    worst[4] = judge(c, COMPARE_GRADIENT, 0, &p->dv, NULL, kernel, failed);
  }
  int code = cli_max(c->session->world, worst, 6, error);
  *check = (bench_check){NAN,
                         NAN,
                         NAN,
                         NAN,
                         NAN,
                         .pass = *failed == 0,
                         .rows = c->sample.nqueries,
                         .keys = pass & BENCH_BACKWARD ? c->sample.nkeys : 0,
                         .units = c->sample.nunits,
                         .from_library = c->from_library};
  if (pass & BENCH_FORWARD) {
    check->o = worst[0];
    check->lse = worst[1];
  }
  if (pass & BENCH_BACKWARD) {
    check->dq = worst[2];
    check->dk = worst[3];
    check->dv = worst[4];
  }
  return code;
}

int bench_check_run(const bench_session *session, const bench_case *item, bsd_plan *plan,
                    const bsd_problem *problem, const bench_tensors *tensors,
                    const bsd_plan_statistics *stats, bench_check *check, cli_error *error) {
  int backward = (session->options->pass & BENCH_BACKWARD) != 0;
  checking c = {.session = session, .plan = plan, .problem = problem, .tensors = tensors};
  c.sample = bench_sample_create(problem, stats->active_pairs, backward);
  int64_t units = (c.sample.nunits + session->world->size - 1) / session->world->size;
  int64_t queries = units * c.sample.nqueries * (problem->heads / problem->kv_heads);
  int64_t keys = backward ? units * c.sample.nkeys : 0, D = problem->head_dim;
  piles p = {pile_create(queries, D), pile_create(queries, 1), pile_create(queries, D),
             pile_create(keys, D),    pile_create(keys, D),    0};
  oracle_pattern *pattern = oracle_alloc(1, sizeof *pattern);
  int code = gather_all(&c, backward, error);
  if (code == CLI_GOOD && bench_oracle_pattern(item->pattern, item->text, pattern))
    code = run_units(&c, pattern, backward, &p, error);
  code = cli_agree(session->world, code, error);
  if (code == CLI_GOOD)
    code = conclude(&c, &p, stats, check, error);
  free(pattern);
  pile_free(&p.o);
  pile_free(&p.lse);
  pile_free(&p.dq);
  pile_free(&p.dk);
  pile_free(&p.dv);
  free(c.o);
  free(c.lse);
  free(c.dq);
  free(c.dk);
  free(c.dv);
  bench_sample_free(&c.sample);
  return code;
}
