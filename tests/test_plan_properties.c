/* test_plan_properties.c - what must hold for every plan, over random patterns and rank by rank, with no
 * exchange run: counts, bytes and positions as the oracle's, what one sends the other receives. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"
#include "support/library.h"
#include "support/random_problem.h"
#include "support/scale.h"
#include "support/tensors.h"

static bsd_context *context;

static void start(void) {
  context = library_context(1);
}

static void finish(void) {
  bsd_context_destroy(context);
}

static bsd_plan *offline(const random_problem *problem, const random_layout *layout, int rank,
                         int nranks) {
  bsd_pattern *pattern =
      problem->text[0] ? library_pattern_text(problem->text) : library_pattern(&problem->p.pattern);
  bsd_problem wanted = library_problem(&problem->p, problem->dtype, layout->spec);
  bsd_plan *plan = NULL;
  library_expect(bsd_plan_create_offline(context, pattern, &wanted, rank, nranks, &plan), context,
                 "bsd_plan_create_offline");
  bsd_pattern_destroy(pattern);
  return plan;
}

static const char *describe(const random_problem *problem, const random_layout *layout,
                            int nranks) {
  static char text[3200];
  char described[3000];
  snprintf(text, sizeof text, "[layout %d on %d ranks, %s]", layout->spec.kind, nranks,
           random_problem_describe(problem, described, sizeof described));
  return text;
}

/* ---- small: everything against the oracle ---- */

/* The oracle's own layout for the one that auto took. */
static oracle_layout layout_of(const random_layout *layout, const char *words) {
  oracle_layout taken = layout->oracle;
  long long group, unit;
  if (layout->spec.kind == BSD_LAYOUT_AUTO && strcmp(words, "zigzag") == 0)
    taken.kind = ORACLE_ZIGZAG;
  if (sscanf(words, "dilated:%lld:%lld", &group, &unit) == 2)
    taken = (oracle_layout){.kind = ORACLE_INTERLEAVED, .group = group, .unit = unit};
  return taken;
}

static void check_positions(bsd_plan *plan, const oracle_problem *p, const int32_t *owner, int rank,
                            const char *where) {
  int64_t local, runs, next = 0, seen = 0;
  ck_assert_int_eq(bsd_plan_local_length(plan, &local), BSD_OK);
  int64_t *positions = oracle_alloc(local, sizeof *positions);
  ck_assert_int_eq(bsd_plan_local_positions(plan, positions), BSD_OK);
  for (int64_t i = 0; i < p->n; i++)
    if (owner[i] == rank)
      ck_assert_msg(next < local && positions[next++] == i, "position %lld %s", (long long)i,
                    where);
  ck_assert_msg(next == local, "%lld local tokens %s", (long long)local, where);
  ck_assert_int_eq(bsd_plan_position_runs(plan, NULL, 0, &runs), BSD_OK);
  bsd_position_run *run = oracle_alloc(runs, sizeof *run);
  ck_assert_int_eq(bsd_plan_position_runs(plan, run, runs, &runs), BSD_OK);
  for (int64_t x = 0; x < runs; x++)
    for (int64_t y = 0; y < run[x].count; y++)
      ck_assert_msg(seen < local && positions[seen++] == run[x].first + y, "runs %s", where);
  ck_assert_msg(seen == local, "runs %s", where);
  free(run);
  free(positions);
}

static void check_peers(bsd_plan *plan, const oracle_plan *want, int rank, const char *where) {
  int P = want->nranks;
  for (int peer = 0; peer < P; peer++) {
    int64_t bytes[4];
    ck_assert_int_eq(bsd_plan_peer_bytes(plan, peer, &bytes[0], &bytes[1], &bytes[2], &bytes[3]),
                     BSD_OK);
    ck_assert_msg(
        bytes[0] == want->forward[peer * P + rank] && bytes[1] == want->forward[rank * P + peer] &&
            bytes[2] == want->backward[peer * P + rank] &&
            bytes[3] == want->backward[rank * P + peer],
        "rank %d, peer %d: sends %lld, takes %lld; backward %lld, %lld; expected %lld, %lld; "
        "%lld, %lld %s",
        rank, peer, (long long)bytes[0], (long long)bytes[1], (long long)bytes[2],
        (long long)bytes[3], (long long)want->forward[peer * P + rank],
        (long long)want->forward[rank * P + peer], (long long)want->backward[peer * P + rank],
        (long long)want->backward[rank * P + peer], where);
  }
}

static void check_statistics(const bsd_plan_statistics *stats, const oracle_counts *counts,
                             const oracle_plan *want, int rank, const char *where) {
  ck_assert_msg(stats->active_blocks == counts->active_blocks,
                "%lld active blocks, expected %lld %s", (long long)stats->active_blocks,
                (long long)counts->active_blocks, where);
  ck_assert_msg(stats->active_pairs == counts->active_pairs, "%lld active pairs, expected %lld %s",
                (long long)stats->active_pairs, (long long)counts->active_pairs, where);
  ck_assert_msg(stats->density == counts->density, "density %.17g, expected %.17g %s",
                stats->density, counts->density, where);
  ck_assert_msg(stats->active_pairs_here == want->local_pairs[rank],
                "%lld pairs here, expected %lld %s", (long long)stats->active_pairs_here,
                (long long)want->local_pairs[rank], where);
  ck_assert_msg(stats->local_length == want->local_tokens[rank], "local length %s", where);
  ck_assert_msg(fabs(stats->imbalance - want->imbalance) < 1e-9,
                "imbalance %.12g, expected %.12g %s", stats->imbalance, want->imbalance, where);
  ck_assert_msg(stats->forward.bytes_lower_bound == want->bytes_forward,
                "forward %lld bytes, expected %lld %s", (long long)stats->forward.bytes_lower_bound,
                (long long)want->bytes_forward, where);
  ck_assert_msg(stats->backward.bytes_lower_bound == want->bytes_backward,
                "backward %lld bytes, expected %lld %s",
                (long long)stats->backward.bytes_lower_bound, (long long)want->bytes_backward,
                where);
}

/* What an all-gather would have moved. */
static void check_allgather(const bsd_plan_statistics *stats, const random_problem *problem, int P,
                            const char *where) {
  const oracle_problem *p = &problem->p;
  int64_t rows = (P - 1) * p->n * p->kv_heads * 2 * p->dim * p->batch;
  int64_t forward = rows * (int64_t)tensor_element_size(problem->dtype);
  ck_assert_msg(stats->forward.bytes_allgather == forward &&
                    stats->backward.bytes_allgather == forward + 4 * rows,
                "all-gather %lld and %lld %s", (long long)stats->forward.bytes_allgather,
                (long long)stats->backward.bytes_allgather, where);
}

static void check_plan(const random_problem *problem, const random_layout *layout, int P) {
  const oracle_problem *p = &problem->p;
  const char *where = describe(problem, layout, P);
  oracle_counts counts = oracle_count(p);
  oracle_plan want = {0};
  int32_t *owner = oracle_alloc(p->n, sizeof *owner);
  uint64_t hashes[2] = {0, 0};
  int64_t received = 0;
  for (int rank = 0; rank < P; rank++) {
    bsd_plan *plan = offline(problem, layout, rank, P);
    bsd_plan_statistics stats = library_stats(plan);
    if (rank == 0) {
      oracle_layout taken = layout_of(layout, stats.layout);
      oracle_owners(p, &taken, P, owner);
      want = oracle_plan_create(p, owner, P, (int64_t)tensor_element_size(problem->dtype));
    }
    check_statistics(&stats, &counts, &want, rank, where);
    check_allgather(&stats, problem, P, where);
    check_positions(plan, p, owner, rank, where);
    check_peers(plan, &want, rank, where);
    received += stats.forward.bytes_received_here;
    ck_assert_int_eq(bsd_plan_hash(plan, &hashes[rank > 0]), BSD_OK);
    ck_assert_msg(rank == 0 || hashes[0] == hashes[1], "ranks disagree on the hash %s", where);
    bsd_plan_destroy(plan);
  }
  ck_assert_msg(received == want.bytes_forward, "received %s", where);
  oracle_plan_free(&want);
  free(owner);
}

START_TEST(small_plans_are_the_oracles) {
  static const int ranks[] = {1, 2, 3, 4, 5, 8, 7};
  static const random_limits limits = {.largest_n = 400};
  for (int64_t x = 0; x < test_count(1500); x++) {
    random_problem *problem = random_problem_create((uint64_t)(10000 + x), limits);
    int P = ranks[x % 7];
    random_layout layout =
        random_layout_create(&problem->p, (bsd_layout_kind)(x % 5), P, problem->seed);
    check_plan(problem, &layout, P);
    random_layout_free(&layout);
    random_problem_free(problem);
  }
}
END_TEST

/* ---- large: what one sends, the other receives ---- */

static int64_t *peer_bytes(bsd_plan *plan, int P) {
  int64_t *bytes = oracle_alloc(4 * P, sizeof *bytes);
  for (int peer = 0; peer < P; peer++)
    ck_assert_int_eq(bsd_plan_peer_bytes(plan, peer, &bytes[4 * peer], &bytes[4 * peer + 1],
                                         &bytes[4 * peer + 2], &bytes[4 * peer + 3]),
                     BSD_OK);
  return bytes;
}

/* a's view of b against b's view of a. */
static void check_pair(const int64_t *of_a, int a, const int64_t *of_b, int b, const char *where) {
  const int64_t *x = &of_a[4 * b], *y = &of_b[4 * a];
  ck_assert_msg(x[0] == y[1] && x[1] == y[0] && x[2] == y[3] && x[3] == y[2],
                "rank %d sends %lld to rank %d, which takes %lld; backward %lld and %lld %s", a,
                (long long)x[0], b, (long long)y[1], (long long)x[2], (long long)y[3], where);
}

START_TEST(all_pairs_of_ranks_agree) {
  static const int ranks[] = {16, 33, 64};
  static const random_limits limits = {.largest_n = 600};
  for (int64_t x = 0; x < test_count(80); x++) {
    random_problem *problem = random_problem_create((uint64_t)(20000 + x), limits);
    int P = ranks[x % 3];
    int64_t *bytes[64];
    random_layout layout =
        random_layout_create(&problem->p, (bsd_layout_kind)(x % 5), P, problem->seed);
    for (int rank = 0; rank < P; rank++) {
      bsd_plan *plan = offline(problem, &layout, rank, P);
      bytes[rank] = peer_bytes(plan, P);
      bsd_plan_destroy(plan);
    }
    for (int a = 0; a < P; a++)
      for (int b = 0; b <= a; b++)
        check_pair(bytes[a], a, bytes[b], b, describe(problem, &layout, P));
    for (int rank = 0; rank < P; rank++)
      free(bytes[rank]);
    random_layout_free(&layout);
    random_problem_free(problem);
  }
}
END_TEST

/* One rank and up to four of those it talks to, of thousands. */
static void check_sampled(const random_problem *problem, const random_layout *layout, int P,
                          dice *d) {
  int a = (int)dice_range(d, 0, P - 1), left = 4;
  bsd_plan *plan = offline(problem, layout, a, P);
  int64_t *of_a = peer_bytes(plan, P);
  bsd_plan_destroy(plan);
  int first = (int)dice_range(d, 0, P - 1);
  for (int x = 0; x < P && left > 0; x++) {
    int b = (first + x) % P;
    if (of_a[4 * b] + of_a[4 * b + 1] + of_a[4 * b + 2] + of_a[4 * b + 3] == 0 && x > 0)
      continue;
    plan = offline(problem, layout, b, P);
    int64_t *of_b = peer_bytes(plan, P);
    check_pair(of_a, a, of_b, b, describe(problem, layout, P));
    free(of_b);
    bsd_plan_destroy(plan);
    left--;
  }
  free(of_a);
}

START_TEST(sampled_pairs_of_thousands_agree) {
  static const int ranks[] = {100, 500, 1000, 2048, 4096};
  static const random_limits limits = {.largest_n = 6000};
  for (int64_t x = 0; x < test_count(400); x++) {
    random_problem *problem = random_problem_create((uint64_t)(30000 + x), limits);
    dice d = {oracle_mix(problem->seed)};
    int P = ranks[x % 5];
    random_layout layout =
        random_layout_create(&problem->p, (bsd_layout_kind)(1 + x % 4), P, problem->seed);
    check_sampled(problem, &layout, P, &d);
    random_layout_free(&layout);
    random_problem_free(problem);
  }
}
END_TEST

/* ---- counts in closed form ---- */

static bsd_plan_statistics counted(const char *text, int64_t n, int64_t heads, int64_t block) {
  bsd_problem problem = {
      .struct_size = sizeof problem, .length = n, .heads = heads, .head_dim = 64, .block = block};
  bsd_pattern *pattern = library_pattern_text(text);
  bsd_plan *plan = NULL;
  library_expect(bsd_plan_create_offline(context, pattern, &problem, 0, 1, &plan), context, text);
  bsd_plan_statistics stats = library_stats(plan);
  bsd_plan_destroy(plan);
  bsd_pattern_destroy(pattern);
  return stats;
}

START_TEST(dilated_1_2_4_has_7mb_less_14_blocks) {
  for (int64_t mb = 4; mb < 70; mb++)
    ck_assert_int_eq(counted("blocks=dilated(1:2:4)", mb * 16, 1, 16).active_blocks, 7 * mb - 14);
}
END_TEST

START_TEST(local_2_2_has_5mb_less_6_blocks) {
  for (int64_t mb = 2; mb < 70; mb++)
    ck_assert_int_eq(counted("blocks=local(2,2)", mb * 16 - 3, 1, 16).active_blocks, 5 * mb - 6);
}
END_TEST

/* Keys per query, averaged over heads and positions: sum of w / r^2. */
START_TEST(longnet_keys_per_query) {
  bsd_plan_statistics stats = counted("w=128;w=256,r=2;w=512,r=4;w=1024,r=8", 1024, 8, 64);
  double keys = (double)stats.active_pairs / (8.0 * 1024);
  ck_assert_double_eq(keys, 128 + 256 / 4.0 + 512 / 16.0 + 1024 / 64.0);
}
END_TEST

/* dilated:g:u with u = block and steps that are multiples of g*P moves nothing. */
START_TEST(aligned_dilation_needs_no_exchange) {
  static const char *const texts[] = {"blocks=dilated(4:8:16)", "blocks=strided(8,rows=3)"};
  for (int x = 0; x < 2; x++)
    for (int rank = 0; rank < 4; rank++) {
      bsd_problem problem = {.struct_size = sizeof problem,
                             .length = 4096,
                             .heads = 2,
                             .head_dim = 64,
                             .block = 64,
                             .layout = {.kind = BSD_LAYOUT_DILATED, .group = 1, .unit = 64}};
      bsd_pattern *pattern = library_pattern_text(texts[x]);
      bsd_plan *plan = NULL;
      library_expect(bsd_plan_create_offline(context, pattern, &problem, rank, 4, &plan), context,
                     texts[x]);
      bsd_plan_statistics stats = library_stats(plan);
      ck_assert_int_eq(stats.forward.bytes_lower_bound, 0);
      ck_assert_int_eq(stats.backward.bytes_lower_bound, 0);
      bsd_plan_destroy(plan);
      bsd_pattern_destroy(pattern);
    }
}
END_TEST

/* Known failures of others: Block-Sparse-Attention 8, FastVideo 1423. */
START_TEST(sparse_holds_no_more_memory_than_dense) {
  bsd_plan_statistics dense = counted("blocks=full", 8192, 8, 64);
  static const char *const texts[] = {"blocks=strided(1:2,density=0.1)", "blocks=local(4,4)",
                                      "w=2048;w=8192,r=4"};
  for (int x = 0; x < 3; x++)
    ck_assert_msg(counted(texts[x], 8192, 8, 64).workspace_bytes <=
                      dense.workspace_bytes + (int64_t)8192 * 8 * 65 * 4 * 3,
                  "%s: %lld bytes, dense %lld", texts[x],
                  (long long)counted(texts[x], 8192, 8, 64).workspace_bytes,
                  (long long)dense.workspace_bytes);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("plan properties");
  TCase *tests = tcase_create("plan properties");
  tcase_set_timeout(tests, 300);
  tcase_add_checked_fixture(tests, start, finish);
  tcase_add_test(tests, small_plans_are_the_oracles);
  tcase_add_test(tests, all_pairs_of_ranks_agree);
  tcase_add_test(tests, sampled_pairs_of_thousands_agree);
  tcase_add_test(tests, dilated_1_2_4_has_7mb_less_14_blocks);
  tcase_add_test(tests, local_2_2_has_5mb_less_6_blocks);
  tcase_add_test(tests, longnet_keys_per_query);
  tcase_add_test(tests, aligned_dilation_needs_no_exchange);
  tcase_add_test(tests, sparse_holds_no_more_memory_than_dense);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
