/* test_attention.c - random problems, end to end, through the public functions alone.
 *
 * On one rank: against the fp64 oracle, and with other numbers of threads. On any number of ranks: the bits
 * of one rank, for every layout, and no byte moved beyond the lower bound. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "oracle.h"
#include "src/context.h"
#include "support/attention.h"
#include "support/device.h"
#include "support/library.h"
#include "support/random_problem.h"
#include "support/scale.h"
#include "support/suite.h"
#include "support/tensors.h"
#include "support/world.h"

static const random_limits limits = {.largest_n = 330, .work = 12000000};

static attention_case case_of(const random_problem *problem) {
  return (attention_case){
      .p = &problem->p, .text = problem->text, .dtype = problem->dtype, .order = problem->order};
}

static attention_inputs inputs_of(const random_problem *problem) {
  return attention_inputs_create(&problem->p, problem->dtype, problem->with_dlse, problem->seed);
}

static char message[4096];

static const char *explain(const random_problem *problem, const char *what, const char *why) {
  char described[3000];
  snprintf(message, sizeof message, "%s: %s [%s]", what, why,
           random_problem_describe(problem, described, sizeof described));
  return message;
}

/* ---- one rank ---- */

START_TEST(one_rank_is_the_oracle) {
  bsd_context *context = library_context(1);
  for (int64_t x = 0; world_size() == 1 && x < test_count(120); x++) {
    random_problem *problem = random_problem_create((uint64_t)(1000 + x), limits);
    attention_inputs inputs = inputs_of(problem);
    attention_case c = case_of(problem);
    attention_result result = attention_run(context, &c, &inputs);
    oracle_counts counts = oracle_count(c.p);
    char why[500];
    ck_assert_msg(result.active_blocks == counts.active_blocks &&
                      result.active_pairs == counts.active_pairs,
                  "%s", explain(problem, "one rank", "other counts than the oracle's"));
    ck_assert_msg(attention_matches(&c, c.p, &inputs, &result, why, sizeof why), "%s",
                  explain(problem, "one rank", why));
    attention_result_free(&result);
    attention_inputs_free(&inputs);
    random_problem_free(problem);
  }
  bsd_context_destroy(context);
}
END_TEST

START_TEST(threads_do_not_change_bits) {
  bsd_context *one = library_context(1), *several[] = {library_context(2), library_context(3)};
  for (int64_t x = 0; world_size() == 1 && x < test_count(40); x++) {
    random_problem *problem = random_problem_create((uint64_t)(2000 + x), limits);
    attention_inputs inputs = inputs_of(problem);
    attention_case c = case_of(problem);
    attention_result a = attention_run(one, &c, &inputs);
    attention_result b = attention_run(several[x % 2], &c, &inputs);
    const char *what = "";
    ck_assert_msg(attention_equal(&c, &a, &b, &what), "%s",
                  explain(problem, "threads change", what));
    attention_result_free(&a);
    attention_result_free(&b);
    attention_inputs_free(&inputs);
    random_problem_free(problem);
  }
  bsd_context_destroy(one);
  bsd_context_destroy(several[0]);
  bsd_context_destroy(several[1]);
}
END_TEST

/* ---- any number of ranks ---- */

/* The oracle's layout of the words that the plan gives for the one taken. */
static oracle_layout layout_taken(const char *words, const random_layout *asked) {
  oracle_layout layout = asked->oracle;
  long long group, unit;
  if (strcmp(words, "contiguous") == 0)
    layout.kind = ORACLE_CONTIGUOUS;
  else if (strcmp(words, "zigzag") == 0)
    layout.kind = ORACLE_ZIGZAG;
  else if (sscanf(words, "dilated:%lld:%lld", &group, &unit) == 2)
    layout = (oracle_layout){.kind = ORACLE_INTERLEAVED, .group = group, .unit = unit};
  else
    ck_assert_str_eq(words, "custom");
  return layout;
}

/* Positions as the oracle's layout has them: all of this rank's, ascending. */
static int positions_right(const oracle_problem *p, const int32_t *owner,
                           const attention_result *result) {
  int64_t x = 0;
  for (int64_t i = 0; i < p->n; i++)
    if (owner[i] == world_rank() && (x >= result->nlocal || result->positions[x++] != i))
      return 0;
  return x == result->nlocal;
}

/* Bytes received: each rank's as the oracle counts them, and together the plan's lower bound. */
static void check_bytes(const random_problem *problem, const oracle_layout *layout,
                        const attention_result *result) {
  const oracle_problem *p = &problem->p;
  int ranks = world_size(), rank = world_rank();
  int32_t *owner = oracle_alloc(p->n, sizeof *owner);
  oracle_owners(p, layout, ranks, owner);
  suite_expect(positions_right(p, owner, result), explain(problem, result->layout, "positions"));
  oracle_plan plan =
      oracle_plan_create(p, owner, ranks, (int64_t)tensor_element_size(problem->dtype));
  int64_t forward = 0, backward = 0;
  for (int peer = 0; peer < ranks; peer++) {
    forward += plan.forward[rank * ranks + peer];
    backward += plan.backward[rank * ranks + peer];
  }
  suite_expect(result->forward_received == forward && result->backward_received == backward,
               explain(problem, result->layout, "this rank's received bytes are not the oracle's"));
  suite_expect(world_sum(result->forward_received) == result->forward_bound &&
                   world_sum(result->backward_received) == result->backward_bound &&
                   result->forward_bound == plan.bytes_forward &&
                   result->backward_bound == plan.bytes_backward,
               explain(problem, result->layout, "bytes moved are not the lower bound"));
  oracle_plan_free(&plan);
  free(owner);
}

static void check_layout(bsd_context *context, const random_problem *problem,
                         const attention_inputs *inputs, const attention_result *reference,
                         bsd_layout_kind kind) {
  random_layout layout = random_layout_create(&problem->p, kind, world_size(), problem->seed);
  attention_case c = case_of(problem);
  c.layout = layout.spec;
  attention_result result = attention_run(context, &c, inputs);
  const char *what = "";
  int same = world_rank() != 0 || attention_equal(&c, reference, &result, &what);
  suite_expect(same, explain(problem, result.layout, what));
  oracle_layout taken = layout_taken(result.layout, &layout);
  check_bytes(problem, &taken, &result);
  attention_result_free(&result);
  random_layout_free(&layout);
}

START_TEST(ranks_do_not_change_bits) {
  static const bsd_layout_kind kinds[] = {BSD_LAYOUT_AUTO, BSD_LAYOUT_CONTIGUOUS, BSD_LAYOUT_ZIGZAG,
                                          BSD_LAYOUT_DILATED, BSD_LAYOUT_CUSTOM};
  bsd_context *context = world_context(1), *alone = library_context(1);
  uint64_t digest = 0;
  for (int64_t x = 0; x < test_count(40); x++) {
    random_problem *problem = random_problem_create((uint64_t)(3000 + x), limits);
    attention_inputs inputs = inputs_of(problem);
    attention_case c = case_of(problem);
    attention_result reference = {0};
    if (world_rank() == 0) {
      reference = attention_run(alone, &c, &inputs);
      digest = attention_digest(&c, &reference, digest);
    }
    for (int64_t y = 0; y < 2; y++)
      check_layout(context, problem, &inputs, &reference, kinds[(2 * x + y) % 5]);
    attention_result_free(&reference);
    attention_inputs_free(&inputs);
    random_problem_free(problem);
  }
  bsd_context_destroy(context);
  bsd_context_destroy(alone);
  if (world_rank() == 0)
    printf("digest of %" PRId64 " problems on %d ranks: %016" PRIx64 "\n", test_count(40),
           world_size(), digest);
}
END_TEST

/* A digest on rank 0. */
START_TEST(repeats_do_not_change_bits) {
  bsd_context *context = world_context(1);
  random_problem *problem = random_problem_create(5000, limits);
  attention_inputs inputs = inputs_of(problem);
  attention_case c = case_of(problem);
  uint64_t first = 0;
  for (int64_t x = 0; x < test_count(20); x++) {
    attention_result result = attention_run(context, &c, &inputs);
    uint64_t digest = world_rank() == 0 ? attention_digest(&c, &result, 0) : 0;
    suite_expect(x == 0 || digest == first, explain(problem, "a repeat", "other bits"));
    first = digest;
    attention_result_free(&result);
  }
  attention_inputs_free(&inputs);
  random_problem_free(problem);
  bsd_context_destroy(context);
}
END_TEST

/* ---- scatter and gather ---- */

/* What element y of position i's row holds. */
static float mark(const oracle_problem *p, int64_t b, int64_t i, int64_t y) {
  return (float)((b * p->n + i) * p->heads * p->dim + y);
}

/* [B][count][H*D] marks of `count` positions: those given, or a run from `first`. */
static float *marks(const oracle_problem *p, const int64_t *positions, int64_t first,
                    int64_t count) {
  int64_t width = p->heads * p->dim;
  float *x = oracle_alloc(p->batch * count * width, sizeof *x);
  for (int64_t b = 0, e = 0; b < p->batch; b++)
    for (int64_t i = 0; i < count; i++)
      for (int64_t y = 0; y < width; y++)
        x[e++] = mark(p, b, positions ? positions[i] : first + i, y);
  return x;
}

/* Each rank brings [first, end) and must get its own positions, and its run back. */
static int moves_right(bsd_context *context, bsd_plan *plan, const oracle_problem *p, int64_t first,
                       int64_t end) {
  int64_t local = 0, width = p->heads * p->dim, run = p->batch * (end - first) * width;
  library_expect(bsd_plan_local_length(plan, &local), context, "bsd_plan_local_length");
  int64_t *positions = oracle_alloc(local, sizeof *positions);
  library_expect(bsd_plan_local_positions(plan, positions), context, "bsd_plan_local_positions");
  float *brought = marks(p, NULL, first, end - first), *wanted = marks(p, positions, 0, local);
  float *held = oracle_alloc(p->batch * local * width, sizeof *held);
  float *back = oracle_alloc(run, sizeof *back);
  int64_t held_bytes = p->batch * local * width * (int64_t)sizeof *held;
  float *pushed = device_push(held, held_bytes);
  library_expect(bsd_scatter(plan, BSD_TENSOR_Q, brought, first, end - first, pushed, NULL),
                 context, "bsd_scatter");
  library_expect(bsd_gather(plan, BSD_TENSOR_Q, pushed, first, end - first, back, NULL), context,
                 "bsd_gather");
  device_pull(held, pushed, held_bytes);
  int good = memcmp(held, wanted, (size_t)held_bytes) == 0 &&
             memcmp(back, brought, (size_t)run * sizeof *back) == 0;
  free(positions);
  free(brought);
  free(wanted);
  device_drop(held, pushed);
  free(held);
  free(back);
  return good;
}

START_TEST(scatter_and_gather_are_inverse) {
  bsd_context *context = world_context(1);
  int64_t rank = world_rank(), ranks = world_size();
  for (int64_t x = 0; x < test_count(15); x++) {
    random_problem *problem = random_problem_create((uint64_t)(4000 + x), limits);
    int64_t n = problem->p.n;
    random_layout layout =
        random_layout_create(&problem->p, (bsd_layout_kind)(x % 5), world_size(), 4000);
    bsd_problem wanted = library_problem(&problem->p, BSD_F32, layout.spec);
    bsd_pattern *pattern = library_pattern(&problem->p.pattern);
    bsd_plan *plan = NULL;
    library_expect(device_plan_create(context, pattern, &wanted, &plan), context,
                   "bsd_plan_create");
    int good = x % 3 == 0 ? moves_right(context, plan, &problem->p, rank == 0 ? 0 : n, n)
                          : moves_right(context, plan, &problem->p, n * rank / ranks,
                                        n * (rank + 1) / ranks);
    suite_expect(good, explain(problem, "scatter and gather", "not the positions' values"));
    bsd_plan_destroy(plan);
    bsd_pattern_destroy(pattern);
    random_layout_free(&layout);
    random_problem_free(problem);
  }
  bsd_context_destroy(context);
}
END_TEST

/* ---- a gather from a device's memory ---- */

/* What copies out of the pretended device wrote to on the host. */
static struct {
  int64_t bytes;
  const char *first, *end;
} written;

static bsd_status watch_copy_out(void *device, void *host, const void *from, int64_t bytes,
                                 void *stream, bsd_error *error) {
  const char *begin = host;
  (void)device, (void)stream, (void)error;
  if (written.bytes == 0 || begin < written.first)
    written.first = begin;
  if (written.bytes == 0 || begin + bytes > written.end)
    written.end = begin + bytes;
  written.bytes += bytes;
  memcpy(host, from, (size_t)bytes);
  return BSD_OK;
}

/* All ranks ask for the lse of [first, end), which this rank's backend copies out as a device's would. Returns
 * what is wrong, NULL if nothing. */
static const char *gather_lse(bsd_context *context, bsd_plan *plan, const oracle_problem *p,
                              int64_t first, int64_t end) {
  int64_t local = 0, planes = p->batch * p->heads, count = end - first, wanted = 0, wrong = 0;
  library_expect(bsd_plan_local_length(plan, &local), context, "bsd_plan_local_length");
  int64_t *positions = oracle_alloc(local, sizeof *positions);
  library_expect(bsd_plan_local_positions(plan, positions), context, "bsd_plan_local_positions");
  float *held = oracle_alloc(planes * local, sizeof *held);
  float *back = oracle_alloc(planes * count, sizeof *back);
  for (int64_t x = 0; x < planes * local; x++)
    held[x] = (float)(x / local * p->n + positions[x % local]);
  for (int64_t x = 0; x < local; x++)
    wanted += positions[x] >= first && positions[x] < end;
  const bsd_backend_table *backend = context->backend;
  bsd_backend_table pretended = *backend;
  pretended.id = BSD_BACKEND_CUDA;
  pretended.copy_out = watch_copy_out;
  memset(&written, 0, sizeof written);
  context->backend = &pretended;
  bsd_status status = bsd_gather(plan, BSD_TENSOR_LSE, held, first, count, back, NULL);
  context->backend = backend;
  library_expect(status, context, "bsd_gather");
  for (int64_t x = 0; x < planes * count; x++)
    wrong += back[x] != (float)(x / count * p->n + first + x % count);
  free(positions);
  free(held);
  free(back);
  if (wrong > 0)
    return "not the positions' values";
  if (written.bytes != planes * wanted * (int64_t)sizeof(float))
    return "other tokens copied than those wanted";
  return written.end - written.first == written.bytes ? NULL
                                                      : "host memory for more than is wanted";
}

START_TEST(gathers_from_a_device_take_only_what_is_wanted) {
  bsd_context *context = world_context(1);
  for (int64_t x = 0; x < test_count(15) && device_backend() == BSD_BACKEND_CPU; x++) {
    random_problem *problem = random_problem_create((uint64_t)(5000 + x), limits);
    int64_t n = problem->p.n, first = n * (x % 4) / 4, count = x % 5 == 0 ? n : 1 + x % 7 * n / 16;
    random_layout layout =
        random_layout_create(&problem->p, (bsd_layout_kind)(x % 5), world_size(), 5000);
    bsd_problem wanted = library_problem(&problem->p, BSD_F32, layout.spec);
    bsd_pattern *pattern = library_pattern(&problem->p.pattern);
    bsd_plan *plan = NULL;
    library_expect(bsd_plan_create(context, pattern, &wanted, &plan), context, "bsd_plan_create");
    const char *wrong = gather_lse(context, plan, &problem->p, count == n ? 0 : first,
                                   first + count < n && count < n ? first + count : n);
    suite_expect(wrong == NULL, explain(problem, "gather from a device", wrong ? wrong : ""));
    bsd_plan_destroy(plan);
    bsd_pattern_destroy(pattern);
    random_layout_free(&layout);
    random_problem_free(problem);
  }
  bsd_context_destroy(context);
}
END_TEST

int main(int argc, char **argv) {
  TCase *tests = tcase_create("attention");
  tcase_set_timeout(tests, 300);
  tcase_add_test(tests, one_rank_is_the_oracle);
  tcase_add_test(tests, threads_do_not_change_bits);
  tcase_add_test(tests, ranks_do_not_change_bits);
  tcase_add_test(tests, repeats_do_not_change_bits);
  tcase_add_test(tests, scatter_and_gather_are_inverse);
  tcase_add_test(tests, gathers_from_a_device_take_only_what_is_wanted);
  return suite_run("attention", tests, &argc, &argv);
}
