/* bench_trace.c - traced runs beside the timed ones: what the exchange exposed, and when each part ran. */
#include "bench/bench_trace.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_time.h"
#include "bench/bench_time_stream.h"
#include "src/clock.h"
#include "src/plan.h"

enum { RUNS = 5, CLOCK_ROUNDS = 15 };

/* ---- runs -------------------------------------------------------------------------------- */

/* On a stream one run goes before the traced one without a wait between them: then the device, not the
 * launching host, sets the pace of what is traced. */
static int run_once(const bench_session *session, bsd_plan *plan, bench_tensors *x, int forward,
                    bsd_run_statistics *stats, cli_error *error) {
  int launches = bench_time_on_stream(session) ? 2 : 1, code = CLI_GOOD;
  bsd_status status = bsd_plan_set_tracing(plan, 1);
  if (status != BSD_OK)
    code = cli_library_failed(session->world, session->context, status, error);
  code = cli_agree(session->world, code, error);
  for (int i = 0; i < launches && code == CLI_GOOD; i++)
    code = bench_launch(session, plan, x, forward, error);
  if (code == CLI_GOOD)
    code = bench_complete(session, plan, error);
  bsd_plan_run_stats(plan, stats);
  return code;
}

/* The worst rank's times of each run, and of these the medians. */
static int run_all(const bench_session *session, bsd_plan *plan, bench_tensors *x, int forward,
                   bench_traffic *traffic, cli_error *error) {
  double exposed_exchange[2 * RUNS], *exchange = exposed_exchange + RUNS;
  bsd_run_statistics stats = {.struct_size = sizeof stats};
  int code = CLI_GOOD;
  for (int i = 0; i < RUNS && code == CLI_GOOD; i++) {
    code = run_once(session, plan, x, forward, &stats, error);
    exposed_exchange[i] = forward ? stats.forward_exposed_ms : stats.backward_exposed_ms;
    exchange[i] = forward ? stats.forward_exchange_ms : stats.backward_exchange_ms;
  }
  code = cli_agree(session->world, code, error);
  if (code != CLI_GOOD || session->world->size == 1)
    return code;
  code = cli_max(session->world, exposed_exchange, 2 * RUNS, error);
  traffic->exposed_ms = bench_timing_of(exposed_exchange, RUNS, 0).ms;
  double exchange_ms = bench_timing_of(exchange, RUNS, 0).ms;
  traffic->overlap = exchange_ms > 0 ? fmax(0, 1 - traffic->exposed_ms / exchange_ms) : 1;
  return code;
}

/* ---- one clock --------------------------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Seconds by which this rank's clock is ahead of rank 0's. The ranks of one host share a clock. Of several
 * hosts the ends of barriers are the same moment, but for delays whose median is small. */
static int measure_offset(cli_world *world, double *offset, cli_error *error) {
  *offset = 0;
  if (world->local_size == world->size)
    return CLI_GOOD;
  double mine[CLOCK_ROUNDS], *all = calloc((size_t)world->size, sizeof mine);
  int code = all != NULL ? CLI_GOOD : cli_fail(error, CLI_FAILED, "no memory for clocks");
  code = cli_agree(world, code, error);
  for (int i = 0; i < CLOCK_ROUNDS && code == CLI_GOOD; i++) {
    code = cli_barrier(world, error);
    mine[i] = bsd_now();
  }
  if (code == CLI_GOOD)
    code = cli_allgather(world, mine, sizeof mine, all, error);
  for (int i = 0; i < CLOCK_ROUNDS && code == CLI_GOOD; i++)
    mine[i] -= all[i]; /* rank 0's come first */
  qsort(mine, CLOCK_ROUNDS, sizeof *mine, compare_doubles);
  *offset = mine[CLOCK_ROUNDS / 2];
  free(all);
  return code;
}

/* ---- slices ------------------------------------------------------------------------------ */

/* The peers and bytes of an exchange's slice: of its step, or of all. */
static void take_step(const bsd_schedule *schedule, int pass, bench_slice *slice) {
  int64_t index = slice->slice.index;
  int one = index >= 0 || schedule->nsteps == 1;
  for (int64_t i = one && index >= 0 ? index : 0; i < schedule->nsteps; i++) {
    const bsd_step *step = &schedule->steps[i];
    if (one) {
      slice->step = step->step;
      slice->to = step->send_bytes[pass] > 0 ? step->send_peer : -1;
      slice->from = step->receive_bytes[pass] > 0 ? step->receive_peer : -1;
    }
    slice->sent += step->send_bytes[pass];
    slice->received += step->receive_bytes[pass];
    if (index >= 0)
      return;
  }
}

static bench_slice describe(const bsd_plan *plan, const bsd_trace_slice *slice, double offset) {
  bench_slice made = {.rank = plan->rank,
                      .pass = plan->last_pass,
                      .step = -1,
                      .to = -1,
                      .from = -1,
                      .slice = *slice};
  made.slice.start -= offset;
  made.slice.stop -= offset;
  if (slice->part == BSD_TRACE_EXCHANGE_STEP)
    take_step(&plan->schedule, plan->last_pass, &made);
  if (slice->part == BSD_TRACE_PACK)
    made.to = plan->schedule.steps[slice->index].send_peer;
  return made;
}

/* This rank's slices, `room` of them; those that are not there have the rank -1. */
static int read_slices(const bsd_plan *plan, double offset, bench_slice *out, int64_t room,
                       cli_error *error) {
  int64_t count = 0;
  bsd_trace_slice *slices = calloc((size_t)room + 1, sizeof *slices);
  if (slices == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for a trace");
  bsd_trace_read(plan->trace, slices, room, &count);
  for (int64_t i = 0; i < room; i++) {
    out[i].rank = -1;
    if (i < count)
      out[i] = describe(plan, &slices[i], offset);
  }
  free(slices);
  return CLI_GOOD;
}

/* Adds all ranks' slices to the trace. */
static int gather(const bench_session *session, const bsd_plan *plan, bench_trace *trace,
                  cli_error *error) {
  cli_world *world = session->world;
  int64_t count = 0;
  double room = 0, offset = 0;
  int code = measure_offset(world, &offset, error);
  bsd_trace_read(plan->trace, NULL, 0, &count);
  room = (double)count;
  if (code == CLI_GOOD)
    code = cli_max(world, &room, 1, error);
  if (code != CLI_GOOD)
    return code;
  size_t bytes = (size_t)room * sizeof(bench_slice);
  size_t total = (size_t)trace->count * sizeof(bench_slice) + bytes * (size_t)world->size;
  bench_slice *mine = malloc(bytes + 1), *grown = realloc(trace->slices, total + 1);
  if (grown != NULL)
    trace->slices = grown;
  if (mine == NULL || grown == NULL)
    code = cli_fail(error, CLI_FAILED, "no memory for a trace");
  else
    code = read_slices(plan, offset, mine, (int64_t)room, error);
  code = cli_agree(world, code, error);
  if (code == CLI_GOOD)
    code = cli_allgather(world, mine, (int)bytes, trace->slices + trace->count, error);
  if (code == CLI_GOOD)
    trace->count += (int64_t)room * world->size;
  free(mine);
  return code;
}

int bench_trace_run(const bench_session *session, bsd_plan *plan, bench_tensors *tensors,
                    int forward, bench_traffic *traffic, bench_trace *trace, cli_error *error) {
  const char *file = session->options->trace_file;
  if (session->world->size == 1 && file == NULL)
    return CLI_GOOD;
  int code = run_all(session, plan, tensors, forward, traffic, error);
  if (code == CLI_GOOD && file != NULL)
    code = gather(session, plan, trace, error);
  bsd_plan_set_tracing(plan, 0);
  return code;
}
