/* test_vectors.c - every case of tests/vectors/plans.json through the public functions. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "oracle.h"
#include "support/library.h"
#include "support/vectors.h"

static bsd_problem problem_of(const vector_case *c, const vector_layout *layout) {
  bsd_layout_kind kind =
      strcmp(layout->layout, "zigzag") == 0 ? BSD_LAYOUT_ZIGZAG : BSD_LAYOUT_CONTIGUOUS;
  return (bsd_problem){.struct_size = sizeof(bsd_problem),
                       .batch = 1,
                       .length = c->n,
                       .heads = c->heads,
                       .kv_heads = c->kv_heads,
                       .head_dim = 64,
                       .dtype = BSD_F32,
                       .causal = c->causal,
                       .block = c->block,
                       .cu_seqlens = c->cu_seqlens,
                       .documents = c->documents,
                       .layout = {.kind = kind}};
}

/* One rank's plan; adds the bytes it receives. */
static void check_rank(bsd_context *context, const vector_case *c, const vector_layout *want,
                       int rank, int64_t *forward, int64_t *backward) {
  bsd_pattern *pattern = library_pattern_text(c->pattern);
  bsd_problem problem = problem_of(c, want);
  bsd_plan *plan = NULL;
  library_expect(bsd_plan_create_offline(context, pattern, &problem, rank, want->nranks, &plan),
                 context, c->name);
  bsd_plan_statistics stats = library_stats(plan);
  const char *name = c->name;
  ck_assert_msg(stats.active_blocks == c->active_blocks, "%s: active blocks %lld", name,
                (long long)stats.active_blocks);
  ck_assert_msg(stats.active_pairs == c->active_pairs, "%s: active pairs %lld", name,
                (long long)stats.active_pairs);
  ck_assert_msg(stats.density == c->density, "%s: density %.17g", name, stats.density);
  ck_assert_msg(stats.local_length == want->local_tokens[rank], "%s %s P=%d rank %d: %lld tokens",
                name, want->layout, want->nranks, rank, (long long)stats.local_length);
  ck_assert_msg(fabs(stats.imbalance - want->imbalance) <= 5.1e-7, "%s %s P=%d: imbalance %.9g",
                name, want->layout, want->nranks, stats.imbalance);
  ck_assert_msg(stats.forward.bytes_lower_bound == want->bytes_forward &&
                    stats.backward.bytes_lower_bound == want->bytes_backward,
                "%s %s P=%d: bytes %lld and %lld", name, want->layout, want->nranks,
                (long long)stats.forward.bytes_lower_bound,
                (long long)stats.backward.bytes_lower_bound);
  ck_assert_str_eq(stats.layout, want->layout);
  *forward += stats.forward.bytes_received_here;
  *backward += stats.backward.bytes_received_here;
  bsd_plan_destroy(plan);
  bsd_pattern_destroy(pattern);
}

START_TEST(known_plans) {
  vector_file file = vectors_load();
  const vector_case *c = &file.cases[_i];
  bsd_context *context = library_context(1);
  for (int64_t x = 0; x < c->nlayouts; x++) {
    const vector_layout *want = &c->layouts[x];
    int64_t forward = 0, backward = 0;
    for (int rank = 0; rank < want->nranks; rank++)
      check_rank(context, c, want, rank, &forward, &backward);
    ck_assert_msg(forward == want->bytes_forward && backward == want->bytes_backward,
                  "%s %s P=%d: the ranks receive %lld and %lld", c->name, want->layout,
                  want->nranks, (long long)forward, (long long)backward);
  }
  bsd_context_destroy(context);
  vectors_free(&file);
}
END_TEST

int main(void) {
  vector_file file = vectors_load();
  Suite *suite = suite_create("vectors");
  TCase *tests = tcase_create("vectors");
  tcase_set_timeout(tests, 120);
  tcase_add_loop_test(tests, known_plans, 0, (int)file.ncases);
  vectors_free(&file);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
