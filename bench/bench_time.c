/* bench_time.c - warm-up and timed runs of one pass: medians over the iterations' slowest ranks. */
#include "bench/bench_time.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int finished(const bench_session *session, bsd_plan *plan, bsd_status status,
                    cli_error *error) {
  if (status == BSD_OK)
    status = bsd_plan_wait(plan, 0);
  if (status == BSD_OK)
    return CLI_GOOD;
  return cli_library_failed(session->world, session->context, status, error);
}

int bench_forward(const bench_session *session, bsd_plan *plan, bench_tensors *x,
                  cli_error *error) {
  bsd_status status = bsd_forward(plan, &x->q, &x->k, &x->v, &x->o, x->lse, NULL);
  return finished(session, plan, status, error);
}

int bench_backward(const bench_session *session, bsd_plan *plan, bench_tensors *x,
                   cli_error *error) {
  bsd_status status = bsd_backward(plan, &x->q, &x->k, &x->v, &x->o, x->lse, &x->d_o, NULL, &x->dq,
                                   &x->dk, &x->dv, NULL);
  return finished(session, plan, status, error);
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

/* Per iteration: time, exposed time and time of the exchange on this rank. */
typedef struct samples {
  double *ms, *exposed, *exchange;
} samples;

static int run_all(const bench_session *session, bsd_plan *plan, bench_tensors *x, int forward,
                   const samples *out, bsd_run_statistics *last, cli_error *error) {
  const bench_options *o = session->options;
  int code = CLI_GOOD;
  for (int64_t i = -o->warmup; i < o->iterations && code == CLI_GOOD; i++) {
    bench_progress_show(session->progress, forward ? "fwd" : "bwd", i + o->warmup,
                        o->iterations + o->warmup);
    code = cli_barrier(session->world, error);
    double start = now_ms();
    if (code == CLI_GOOD)
      code = forward ? bench_forward(session, plan, x, error)
                     : bench_backward(session, plan, x, error);
    double taken = now_ms() - start;
    bsd_plan_run_stats(plan, last);
    if (i < 0)
      continue;
    out->ms[i] = taken;
    out->exposed[i] = forward ? last->forward_exposed_ms : last->backward_exposed_ms;
    out->exchange[i] = forward ? last->forward_exchange_ms : last->backward_exchange_ms;
  }
  return cli_agree(session->world, code, error);
}

/* Fills timing and traffic from the samples of all ranks. */
static int reduce(const bench_session *session, const samples *s, int64_t received, double flops,
                  bench_timing *timing, bench_traffic *traffic, cli_error *error) {
  int count = (int)session->options->iterations;
  int code = cli_max(session->world, s->ms, 3 * count, error); /* the three lie behind each other */
  if (code == CLI_GOOD)
    code = bench_sum(session->world, received, &traffic->bytes_moved, error);
  if (code != CLI_GOOD)
    return code;
  *timing = bench_timing_of(s->ms, count, flops);
  if (session->world->size == 1)
    return CLI_GOOD;
  double exposed = bench_timing_of(s->exposed, count, 0).ms;
  double exchange = bench_timing_of(s->exchange, count, 0).ms;
  traffic->exposed_ms = exposed;
  traffic->overlap = exchange > 0 ? fmax(0, 1 - exposed / exchange) : 1;
  return CLI_GOOD;
}

int bench_time(const bench_session *session, bsd_plan *plan, bench_tensors *tensors, int forward,
               double flops, bench_timing *timing, bench_traffic *traffic, cli_error *error) {
  int64_t count = session->options->iterations;
  double *memory = calloc((size_t)(3 * count), sizeof *memory);
  if (memory == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for %lld samples", (long long)count);
  samples s = {memory, memory + count, memory + 2 * count};
  bsd_run_statistics last = {.struct_size = sizeof last};
  int code = run_all(session, plan, tensors, forward, &s, &last, error);
  if (code == CLI_GOOD)
    code = reduce(session, &s, forward ? last.forward_bytes_received : last.backward_bytes_received,
                  flops, timing, traffic, error);
  free(memory);
  return code;
}
