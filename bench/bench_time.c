/* bench_time.c - warm-up and timed runs of one pass: medians over the iterations' slowest ranks. */
#include "bench/bench_time.h"

#include "bench/bench_time_stream.h"

#include <stdlib.h>
#include <time.h>

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

int bench_launch(const bench_session *session, bsd_plan *plan, bench_tensors *x, int forward,
                 cli_error *error) {
  void *stream = session->world->device.stream;
  bsd_status status = forward ? bsd_forward(plan, &x->q, &x->k, &x->v, &x->o, x->lse, stream)
                              : bsd_backward(plan, &x->q, &x->k, &x->v, &x->o, x->lse, &x->d_o,
                                             NULL, &x->dq, &x->dk, &x->dv, stream);
  if (status == BSD_OK)
    return CLI_GOOD;
  return cli_library_failed(session->world, session->context, status, error);
}

int bench_complete(const bench_session *session, bsd_plan *plan, cli_error *error) {
  bsd_status status = bsd_plan_wait(plan, 0);
  if (status == BSD_OK)
    return CLI_GOOD;
  return cli_library_failed(session->world, session->context, status, error);
}

int bench_pass(const bench_session *session, bsd_plan *plan, bench_tensors *x, int forward,
               cli_error *error) {
  int code = bench_launch(session, plan, x, forward, error);
  return code == CLI_GOOD ? bench_complete(session, plan, error) : code;
}

int bench_sum(cli_world *world, int64_t mine, int64_t *sum, cli_error *error) {
  int64_t *all = calloc((size_t)world->size, sizeof *all);
  if (all == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for a sum over %d ranks", world->size);
  int code = cli_allgather(world, &mine, sizeof mine, all, error);
  *sum = 0;
  for (int i = 0; i < world->size; i++)
    *sum += all[i];
  free(all);
  return code;
}

/* By the host's clock: each run from its call to its completion. */
static int run_all(const bench_session *session, bsd_plan *plan, bench_tensors *x, int forward,
                   double *ms, bsd_run_statistics *last, cli_error *error) {
  const bench_options *o = session->options;
  int code = CLI_GOOD;
  for (int64_t i = -o->warmup; i < o->iterations && code == CLI_GOOD; i++) {
    bench_progress_show(session->progress, forward ? "fwd" : "bwd", i + o->warmup,
                        o->iterations + o->warmup);
    code = cli_barrier(session->world, error);
    double start = now_ms();
    if (code == CLI_GOOD)
      code = bench_pass(session, plan, x, forward, error);
    double taken = now_ms() - start;
    bsd_plan_run_stats(plan, last);
    if (i >= 0)
      ms[i] = taken;
  }
  return cli_agree(session->world, code, error);
}

int bench_time(const bench_session *session, bsd_plan *plan, bench_tensors *tensors, int forward,
               double flops, bench_timing *timing, bench_traffic *traffic, cli_error *error) {
  int64_t count = session->options->iterations;
  double *ms = calloc((size_t)count, sizeof *ms);
  if (ms == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for %lld samples", (long long)count);
  bsd_run_statistics last = {.struct_size = sizeof last};
  int code = (bench_time_on_stream(session) ? bench_time_stream : run_all)(
      session, plan, tensors, forward, ms, &last, error);
  if (code == CLI_GOOD)
    code = cli_max(session->world, ms, (int)count, error);
  if (code == CLI_GOOD)
    code = bench_sum(session->world,
                     forward ? last.forward_bytes_received : last.backward_bytes_received,
                     &traffic->bytes_moved, error);
  if (code == CLI_GOOD)
    *timing = bench_timing_of(ms, count, flops);
  free(ms);
  return code;
}
