/* test_trace.c - traced runs: every part has its slice, the sums are consistent, the local rows run while
 * the exchange is under way, and a message that the network delays shows as exposed time. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fault_transport.h"
#include "src/plan.h"
#include "support/device.h"
#include "support/library.h"
#include "support/suite.h"
#include "support/world.h"

enum { HEADS = 2, DIM = 32, MAX_SLICES = 1024 };
#define CLOCK_MS 0.1 /* marks on two streams may be that far apart where they mean one moment */
#define DELAY    0.25

/* One plan over all ranks, and tensors for it. */
typedef struct bench {
  bsd_context *context;
  bsd_plan *plan;
  int64_t elements, rows; /* of a tensor, of lse */
  float *zeros;
  bsd_tensor q, k, v, o, d_o, dq, dk, dv;
  float *lse;
} bench;

static bsd_tensor make_tensor(bench *b, uint64_t seed) {
  float *host = calloc((size_t)b->elements + 1, sizeof *host);
  for (int64_t i = 0; i < b->elements; i++)
    host[i] = (float)((uint64_t)(i + 1) * (seed * 2 + 1) * 2654435761u % 1000) / 1000 - 0.5f;
  return (bsd_tensor){.data = device_push(host, b->elements * (int64_t)sizeof *host)};
}

static bench bench_create(const char *pattern_text, int64_t length, bsd_layout_kind layout,
                          int causal) {
  bench b = {.context = world_context(1)};
  bsd_pattern *pattern = library_pattern_text(pattern_text);
  bsd_problem problem = {.length = length,
                         .batch = 1,
                         .heads = HEADS,
                         .head_dim = DIM,
                         .block = 16,
                         .causal = causal,
                         .layout = {.kind = layout}};
  int64_t local = 0;
  problem.struct_size = sizeof problem;
  library_expect(bsd_plan_create(b.context, pattern, &problem, &b.plan), b.context, "a plan");
  bsd_pattern_destroy(pattern);
  library_expect(bsd_plan_local_length(b.plan, &local), b.context, "bsd_plan_local_length");
  b.rows = local * HEADS;
  b.elements = b.rows * DIM;
  bsd_tensor *tensors[] = {&b.q, &b.k, &b.v, &b.o, &b.d_o, &b.dq, &b.dk, &b.dv};
  for (uint64_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
    *tensors[i] = make_tensor(&b, i);
  b.zeros = calloc((size_t)b.rows + 1, sizeof *b.zeros);
  b.lse = device_push(b.zeros, b.rows * (int64_t)sizeof *b.zeros);
  return b;
}

static void bench_destroy(bench *b) {
  bsd_plan_destroy(b->plan);
  bsd_context_destroy(b->context);
}

static bsd_run_statistics run(bench *b, int pass) {
  bsd_run_statistics stats = {.struct_size = sizeof stats};
  bsd_status status = pass == BSD_FORWARD
                          ? bsd_forward(b->plan, &b->q, &b->k, &b->v, &b->o, b->lse, NULL)
                          : bsd_backward(b->plan, &b->q, &b->k, &b->v, &b->o, b->lse, &b->d_o, NULL,
                                         &b->dq, &b->dk, &b->dv, NULL);
  library_expect(status, b->context, "a run");
  library_expect(bsd_plan_wait(b->plan, 0), b->context, "bsd_plan_wait");
  library_expect(bsd_plan_run_stats(b->plan, &stats), b->context, "bsd_plan_run_stats");
  return stats;
}

static void trace(bench *b) {
  library_expect(bsd_plan_set_tracing(b->plan, 1), b->context, "bsd_plan_set_tracing");
  world_agree(1); /* no rank waits for another that has not begun */
}

/* ---- what must hold of any run ------------------------------------------------------------ */

static int holds_up(bsd_trace_part part) {
  return part == BSD_TRACE_STAGE_OUT || part == BSD_TRACE_POST || part == BSD_TRACE_PROGRESS ||
         part == BSD_TRACE_WAIT || part == BSD_TRACE_STAGE_IN;
}

/* A row's slices one behind the other; the compute row without gaps. */
static const char *judge_order(const bsd_trace_slice *slices, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    if (!(slices[i].start <= slices[i].stop))
      return "a slice that ends before it begins";
    if (i == 0 || slices[i].row != slices[i - 1].row)
      continue;
    if (slices[i].start < slices[i - 1].stop)
      return "slices of a row that overlap";
    if (slices[i].row == BSD_TRACE_COMPUTE && slices[i].start != slices[i - 1].stop)
      return "a gap on the compute row";
  }
  return NULL;
}

/* Each stage and pass of the plan's lists once, for both gradients. */
static const char *judge_rows(const bsd_plan *plan, int pass, const bsd_trace_slice *slices,
                              int64_t count) {
  int64_t rows = 0, columns = 0, stages = plan->schedule.stages;
  for (int64_t i = 0; i < count; i++) {
    rows += slices[i].part == (pass == BSD_FORWARD ? BSD_TRACE_FORWARD : BSD_TRACE_QUERY_GRADIENT);
    columns += slices[i].part == BSD_TRACE_KEY_GRADIENT;
  }
  if (rows != stages * plan->lists.nrow_passes)
    return "not one slice for each stage and pass of the rows";
  if (columns != (pass == BSD_FORWARD ? 0 : stages * plan->lists.ncolumn_passes))
    return "not one slice for each stage and pass of the columns";
  return NULL;
}

/* Slices of the exchange row: one for each step, or for each group of messages that complete together. */
static int64_t exchange_slices(const bsd_plan *plan) {
  if (!plan->context->comm->transport->asynchronous)
    return plan->schedule.nsteps;
  return plan->stages.count > 1 ? plan->stages.count - 1 : 1;
}

/* The exchange row holds each step or group, and the sums are those of the slices. */
static const char *judge_exchange(const bsd_plan *plan, double exposed_ms, double exchange_ms,
                                  const bsd_trace_slice *slices, int64_t count) {
  double exposed = 0, exchange = 0;
  int64_t steps = 0;
  for (int64_t i = 0; i < count; i++) {
    double ms = 1e3 * (slices[i].stop - slices[i].start);
    if (slices[i].row == BSD_TRACE_EXCHANGE)
      exchange += ms;
    else if (holds_up(slices[i].part))
      exposed += ms;
    steps += slices[i].part == BSD_TRACE_EXCHANGE_STEP;
  }
  if (plan->nranks == 1)
    return steps == 0 && isnan(exposed_ms) && isnan(exchange_ms) ? NULL : "one rank exchanges";
  if (steps != exchange_slices(plan))
    return "not one slice for each step or group";
  if (!(exposed_ms >= 0) || !(exchange_ms >= 0))
    return "exposed or exchange time below 0";
  if (fabs(exposed - exposed_ms) > 1e-6 || fabs(exchange - exchange_ms) > 1e-6)
    return "exposed or exchange time is not the sum of the slices";
  /* with the exchange serialised ranks share a GPU, which may turn to another rank between two streams' marks */
  if (steps > 0 && !plan->serialize && exposed_ms > exchange_ms + CLOCK_MS)
    return "more time exposed than the exchange took";
  return NULL;
}

/* The exchange is under way while what is local runs. */
static const char *judge_overlap(const bsd_plan *plan, const bsd_trace_slice *slices,
                                 int64_t count) {
  if (plan->schedule.stages == 1 || plan->serialize)
    return NULL;
  for (int64_t i = 0; i < count; i++)
    for (int64_t j = 0; j < count; j++)
      if (slices[i].row == BSD_TRACE_COMPUTE && slices[i].stage == 0 &&
          (slices[i].part == BSD_TRACE_FORWARD || slices[i].part == BSD_TRACE_KEY_GRADIENT) &&
          slices[j].part == BSD_TRACE_EXCHANGE_STEP && slices[i].start < slices[j].stop &&
          slices[j].start < slices[i].stop)
        return NULL;
  return "nothing local runs while the exchange is under way";
}

static const char *judge(const bench *b, int pass, const bsd_run_statistics *stats) {
  static bsd_trace_slice slices[MAX_SLICES];
  int64_t count = 0;
  double exposed = pass == BSD_FORWARD ? stats->forward_exposed_ms : stats->backward_exposed_ms;
  double exchange = pass == BSD_FORWARD ? stats->forward_exchange_ms : stats->backward_exchange_ms;
  bsd_trace_read(b->plan->trace, slices, MAX_SLICES, &count);
  if (count < 1 || count > MAX_SLICES)
    return "no slices, or too many";
  const char *wrong = judge_order(slices, count);
  wrong = wrong ? wrong : judge_rows(b->plan, pass, slices, count);
  wrong = wrong ? wrong : judge_exchange(b->plan, exposed, exchange, slices, count);
  return wrong ? wrong : judge_overlap(b->plan, slices, count);
}

static const char *const patterns[] = {"blocks=strided(1:2,density=0.2)",
                                       "w=64;w=0,r=4,blocks=local(1,1)+global(1)",
                                       "blocks=local(0,0)" /* nothing to exchange */};

START_TEST(runs_have_consistent_slices) {
  for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
    bench b = bench_create(patterns[i], 640, BSD_LAYOUT_CONTIGUOUS, 1);
    trace(&b);
    for (int repeat = 0; repeat < 6; repeat++) {
      bsd_run_statistics stats = run(&b, repeat % 2);
      const char *wrong = judge(&b, repeat % 2, &stats);
      suite_expect(wrong == NULL, wrong ? wrong : "");
    }
    bench_destroy(&b);
  }
}
END_TEST

START_TEST(untraced_runs_tell_no_times) {
  bench b = bench_create(patterns[0], 640, BSD_LAYOUT_ZIGZAG, 1);
  bsd_run_statistics before = run(&b, BSD_FORWARD);
  trace(&b);
  bsd_run_statistics traced = run(&b, BSD_FORWARD);
  library_expect(bsd_plan_set_tracing(b.plan, 0), b.context, "bsd_plan_set_tracing");
  bsd_run_statistics after = run(&b, BSD_FORWARD);
  int good = isnan(before.forward_exposed_ms) && isnan(after.forward_exposed_ms) &&
             isnan(traced.forward_exposed_ms) == (world_size() == 1) &&
             isnan(traced.backward_exposed_ms) &&
             before.forward_bytes_received == traced.forward_bytes_received;
  suite_expect(good, "times of runs that were not traced, or none of one that was");
  bench_destroy(&b);
}
END_TEST

/* ---- a network that is late ---------------------------------------------------------------- */

/* Rank 0's exposed milliseconds of a forward in which the last rank's message to it is late, or not. */
static double exposed_with(bench *b, int late) {
  world_agree(1);
  fault_delay_seconds = DELAY;
  if (late && world_rank() == world_size() - 1)
    faults_at(FAULT_DELAY, 1); /* the payload of its step 1; its header is message 0 */
  bsd_run_statistics stats = run(b, BSD_FORWARD);
  world_agree(1); /* held messages go while MPI is polled */
  faults_stop();
  return stats.forward_exposed_ms;
}

START_TEST(a_late_message_is_exposed) {
  if (world_size() < 2 || device_backend() != BSD_BACKEND_CPU)
    return;
  bench b = bench_create("blocks=full", 320, BSD_LAYOUT_CONTIGUOUS, 0);
  double on_time = INFINITY;
  trace(&b);
  for (int repeat = 0; repeat < 5; repeat++)
    on_time = fmin(on_time, exposed_with(&b, 0));
  double late = exposed_with(&b, 1);
  bsd_trace_slice slices[MAX_SLICES];
  int64_t count = 0;
  double longest = 0;
  bsd_trace_read(b.plan->trace, slices, MAX_SLICES, &count);
  for (int64_t i = 0; i < count; i++)
    if (slices[i].part == BSD_TRACE_EXCHANGE_STEP && slices[i].index == 0)
      longest = fmax(longest, slices[i].stop - slices[i].start);
  int receives = b.plan->schedule.nsteps > 0 && b.plan->schedule.steps[0].step == 1 &&
                 b.plan->schedule.steps[0].receive_bytes[BSD_FORWARD] > 0;
  int mine = world_rank() == 0;
  suite_expect(!mine || receives, "rank 0 receives nothing from the last rank: the test is void");
  suite_expect(!mine || on_time < 1e3 * DELAY / 2, "much is exposed though no message is late");
  suite_expect(!mine || late > 0.8e3 * DELAY, "a late message is not exposed");
  suite_expect(!mine || longest > 0.8 * DELAY, "the late step's slice is short");
  bench_destroy(&b);
}
END_TEST

int main(int argc, char **argv) {
  TCase *tests = tcase_create("trace");
  tcase_set_timeout(tests, 60);
  tcase_add_test(tests, runs_have_consistent_slices);
  tcase_add_test(tests, untraced_runs_tell_no_times);
  tcase_add_test(tests, a_late_message_is_exposed);
  return suite_run("trace", tests, &argc, &argv);
}
