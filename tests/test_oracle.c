/* test_oracle.c - is the oracle itself right? Known plans, known samples, self-consistency.
 *
 * The library is not linked here: this suite must hold before it exists. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"
#include "support/vectors.h"

static oracle_problem problem_of(const vector_case *c) {
  oracle_problem p = {.batch = 1,
                      .n = c->n,
                      .heads = c->heads,
                      .kv_heads = c->kv_heads,
                      .dim = 64,
                      .block = c->block,
                      .causal = c->causal,
                      .cu_seqlens = c->cu_seqlens,
                      .documents = c->documents};
  ck_assert_msg(oracle_parse(c->pattern, &p.pattern), "%s: cannot read \"%s\"", c->name,
                c->pattern);
  return p;
}

START_TEST(known_counts) {
  vector_file file = vectors_load();
  ck_assert_int_gt(file.ncases, 0);
  for (int64_t x = 0; x < file.ncases; x++) {
    const vector_case *c = &file.cases[x];
    oracle_problem p = problem_of(c);
    oracle_counts counts = oracle_count(&p);
    ck_assert_msg(counts.active_blocks == c->active_blocks, "%s: %lld blocks, expected %lld",
                  c->name, (long long)counts.active_blocks, (long long)c->active_blocks);
    ck_assert_msg(counts.active_pairs == c->active_pairs, "%s: %lld pairs, expected %lld", c->name,
                  (long long)counts.active_pairs, (long long)c->active_pairs);
    ck_assert_msg(counts.density == c->density, "%s: density %.17g, expected %.17g", c->name,
                  counts.density, c->density);
  }
  vectors_free(&file);
}
END_TEST

static void check_layout(const vector_case *c, const oracle_problem *p, const vector_layout *want) {
  oracle_layout layout = {.kind = strcmp(want->layout, "zigzag") == 0 ? ORACLE_ZIGZAG
                                                                      : ORACLE_CONTIGUOUS};
  int32_t *owner = oracle_alloc(p->n, sizeof *owner);
  oracle_owners(p, &layout, want->nranks, owner);
  oracle_plan plan = oracle_plan_create(p, owner, want->nranks, 4);
  for (int rank = 0; rank < want->nranks; rank++)
    ck_assert_msg(plan.local_tokens[rank] == want->local_tokens[rank],
                  "%s %s P=%d: rank %d has %lld tokens, expected %lld", c->name, want->layout,
                  want->nranks, rank, (long long)plan.local_tokens[rank],
                  (long long)want->local_tokens[rank]);
  ck_assert_msg(plan.bytes_forward == want->bytes_forward,
                "%s %s P=%d: forward %lld, expected %lld", c->name, want->layout, want->nranks,
                (long long)plan.bytes_forward, (long long)want->bytes_forward);
  ck_assert_msg(plan.bytes_backward == want->bytes_backward,
                "%s %s P=%d: backward %lld, expected %lld", c->name, want->layout, want->nranks,
                (long long)plan.bytes_backward, (long long)want->bytes_backward);
  ck_assert_msg(fabs(plan.imbalance - want->imbalance) <= 5.1e-7,
                "%s %s P=%d: imbalance %.9g, expected %.9g", c->name, want->layout, want->nranks,
                plan.imbalance, want->imbalance);
  oracle_plan_free(&plan);
  free(owner);
}

START_TEST(known_layouts_and_bytes) {
  vector_file file = vectors_load();
  for (int64_t x = 0; x < file.ncases; x++) {
    oracle_problem p = problem_of(&file.cases[x]);
    ck_assert_int_gt(file.cases[x].nlayouts, 0);
    for (int64_t y = 0; y < file.cases[x].nlayouts; y++)
      check_layout(&file.cases[x], &p, &file.cases[x].layouts[y]);
  }
  vectors_free(&file);
}
END_TEST

/* The published samples of random(k, seed). */
START_TEST(known_random_rows) {
  static const struct {
    uint64_t seed;
    int64_t head, segment, row, N, k, columns[5];
  } sample[] = {{0, 0, 0, 0, 8, 3, {0, 2, 4}},
                {42, 3, 1, 17, 128, 5, {13, 18, 48, 54, 83}},
                {42, 3, 1, 17, 18, 5, {1, 2, 6, 9, 15}},
                {7, 0, 0, 1000, 16384, 4, {1071, 4466, 5031, 7860}}};
  for (size_t x = 0; x < sizeof sample / sizeof *sample; x++) {
    oracle_term term = {.kind = ORACLE_RANDOM, .count = sample[x].k, .seed = sample[x].seed};
    unsigned char *row = oracle_alloc(sample[x].N, 1);
    oracle_term_row(&term, sample[x].row, sample[x].head, sample[x].segment, sample[x].N,
                    sample[x].N == sample[x].row + 1, row);
    for (int64_t J = 0, c = 0; J < sample[x].N; J++)
      if (row[J])
        ck_assert_int_eq(J, sample[x].columns[c++]);
    free(row);
  }
}
END_TEST

/* Three evaluations of the same mathematics: pair by pair, by row, by column. */
START_TEST(rows_and_columns_agree_with_pairs) {
  vector_file file = vectors_load();
  int32_t row[400], column[400];
  for (int64_t x = 0; x < file.ncases; x++) {
    oracle_problem p = problem_of(&file.cases[x]);
    if (p.n > 200)
      continue;
    int64_t pairs = 0;
    for (int64_t h = 0; h < p.heads; h++)
      for (int64_t i = 0; i < p.n; i++) {
        oracle_query_row(&p, h, i, row);
        for (int64_t j = 0; j < p.n; j++) {
          ck_assert_int_eq(row[j], oracle_multiplicity(&p, h, i, j));
          pairs += row[j];
        }
        oracle_key_column(&p, h, i, column);
        for (int64_t j = 0; j < p.n; j += 7)
          ck_assert_int_eq(column[j], oracle_multiplicity(&p, h, j, i));
      }
    ck_assert_int_eq(pairs, file.cases[x].active_pairs);
  }
  vectors_free(&file);
}
END_TEST

/* A small problem with everything in it: branches that overlap, GQA, documents, dlse. */
typedef struct small {
  oracle_problem p;
  float *q, *k, *v, *d_o, *dlse;
  int64_t queries, keys, rows;
} small;

static const int64_t small_documents[] = {0, 9, 9, 21};

static float *noise(int64_t count, uint64_t seed) {
  float *x = oracle_alloc(count, sizeof *x);
  for (int64_t e = 0; e < count; e++)
    x[e] = (float)((double)(oracle_mix(seed * 1000003 + (uint64_t)e) >> 11) * 0x1p-52 - 1);
  return x;
}

static small small_create(void) {
  small s = {.p = {.batch = 1,
                   .n = 21,
                   .heads = 4,
                   .kv_heads = 2,
                   .dim = 3,
                   .block = 2, /* the oracle takes any block */
                   .causal = 1,
                   .cu_seqlens = small_documents,
                   .documents = 3}};
  ck_assert(
      oracle_parse("w=8;w=16,r=2,offset=kv;blocks=strided(2,rows=2),window=3:-1", &s.p.pattern));
  s.rows = s.p.n * s.p.heads;
  s.queries = s.rows * s.p.dim;
  s.keys = s.p.n * s.p.kv_heads * s.p.dim;
  s.q = noise(s.queries, 1);
  s.k = noise(s.keys, 2);
  s.v = noise(s.keys, 3);
  s.d_o = noise(s.queries, 4);
  s.dlse = noise(s.rows, 5);
  return s;
}

static void small_free(small *s) {
  free(s->q);
  free(s->k);
  free(s->v);
  free(s->d_o);
  free(s->dlse);
}

/* The scalar whose gradient backward gives: <do, o> + <dlse, lse>. */
static double loss(const small *s) {
  oracle_inputs in = {s->q, s->k, s->v, NULL, NULL};
  double *o = oracle_alloc(s->queries, sizeof *o), *lse = oracle_alloc(s->rows, sizeof *lse),
         sum = 0;
  oracle_attention(&s->p, &in, &(oracle_outputs){.o = o, .lse = lse});
  for (int64_t e = 0; e < s->queries; e++)
    sum += s->d_o[e] * o[e];
  for (int64_t e = 0; e < s->rows; e++)
    sum += isinf(lse[e]) ? 0 : s->dlse[e] * lse[e];
  free(o);
  free(lse);
  return sum;
}

static void check_gradient(const small *s, float *x, const double *gradient, int64_t count) {
  for (int64_t e = 0; e < count; e++) {
    float kept = x[e], high = kept + 0x1p-10f, low = kept - 0x1p-10f;
    x[e] = high;
    double up = loss(s);
    x[e] = low;
    double down = loss(s);
    x[e] = kept;
    ck_assert_double_eq_tol((up - down) / ((double)high - low), gradient[e], 1e-5);
  }
}

START_TEST(gradients_are_those_of_the_forward) {
  small s = small_create();
  oracle_inputs in = {s.q, s.k, s.v, s.d_o, s.dlse};
  double *dq = oracle_alloc(s.queries, sizeof *dq), *dk = oracle_alloc(s.keys, sizeof *dk),
         *dv = oracle_alloc(s.keys, sizeof *dv);
  oracle_attention(&s.p, &in, &(oracle_outputs){.dq = dq, .dk = dk, .dv = dv});
  check_gradient(&s, s.q, dq, s.queries);
  check_gradient(&s, s.k, dk, s.keys);
  check_gradient(&s, s.v, dv, s.keys);
  free(dq);
  free(dk);
  free(dv);
  small_free(&s);
}
END_TEST

/* The two ways to the gradient of a key, and the two floors, agree. */
START_TEST(a_sampled_key_is_the_full_one) {
  small s = small_create();
  oracle_inputs in = {s.q, s.k, s.v, s.d_o, s.dlse};
  int64_t D = s.p.dim;
  double *dk = oracle_alloc(s.keys, sizeof *dk), *dv = oracle_alloc(s.keys, sizeof *dv),
         *floors = oracle_alloc(s.keys / D, sizeof *floors), one_dk[3], one_dv[3], one_floor;
  oracle_attention(&s.p, &in, &(oracle_outputs){.dk = dk, .dv = dv, .dk_floor = floors});
  oracle_cache cache = oracle_cache_create(&s.p);
  for (int64_t j = 0; j < s.p.n; j++)
    for (int64_t g = 0; g < s.p.kv_heads; g++) {
      int64_t row = j * s.p.kv_heads + g;
      oracle_key(&s.p, &in, &cache, 0, g, j, one_dk, one_dv, &one_floor);
      ck_assert_double_eq_tol(one_floor, floors[row], 1e-12);
      for (int64_t d = 0; d < D; d++) {
        ck_assert_double_eq_tol(one_dk[d], dk[row * D + d], 1e-12);
        ck_assert_double_eq_tol(one_dv[d], dv[row * D + d], 1e-12);
      }
    }
  oracle_cache_free(&cache);
  free(dk);
  free(dv);
  free(floors);
  small_free(&s);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("oracle");
  TCase *tests = tcase_create("oracle");
  tcase_set_timeout(tests, 120);
  tcase_add_test(tests, known_counts);
  tcase_add_test(tests, known_layouts_and_bytes);
  tcase_add_test(tests, known_random_rows);
  tcase_add_test(tests, rows_and_columns_agree_with_pairs);
  tcase_add_test(tests, gradients_are_those_of_the_forward);
  tcase_add_test(tests, a_sampled_key_is_the_full_one);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
