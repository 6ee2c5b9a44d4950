/* bench_host.c - how long the host is busy with a call of the library, or a replay of one, on a GPU. */
#include "bench/bench_host.h"

#include <time.h>

#include "bench/bench_time.h"
#include "bench/bench_time_stream.h"

enum { CALLS = 10, SAMPLES = 7 };
static const double short_call = 5; /* ms: a longer one is launched by itself */

typedef struct busy {
  const bench_session *session;
  bsd_plan *plan;
  bench_tensors *x;
  int forward, calls;
  void *graph; /* NULL: calls */
} busy;

static double now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int launch(const busy *b, cli_error *error) {
  if (b->graph != NULL)
    return cli_device_replay(&b->session->world->device, b->graph, error);
  return bench_launch(b->session, b->plan, b->x, b->forward, error);
}

/* The mean of `calls`, from an idle device on: the median of a few times that, the worst rank's. */
static int time_launches(const busy *b, double *us, cli_error *error) {
  double samples[SAMPLES] = {0};
  int code = CLI_GOOD;
  for (int i = 0; i < SAMPLES && code == CLI_GOOD; i++) {
    double start = now_us();
    for (int call = 0; call < b->calls && code == CLI_GOOD; call++)
      code = launch(b, error);
    samples[i] = (now_us() - start) / b->calls;
    if (code == CLI_GOOD)
      code = bench_complete(b->session, b->plan, error);
  }
  code = cli_agree(b->session->world, code, error);
  if (code != CLI_GOOD)
    return code;
  *us = bench_timing_of(samples, SAMPLES, 0).ms;
  return cli_max(b->session->world, us, 1, error);
}

static int capture(busy *b, cli_error *error) {
  const cli_device *device = &b->session->world->device;
  cli_error ignored = {""};
  int code = cli_device_capture_begin(device, error);
  if (code != CLI_GOOD)
    return code;
  code = launch(b, error);
  int ended = cli_device_capture_end(device, &b->graph, code == CLI_GOOD ? error : &ignored);
  return code == CLI_GOOD ? ended : code;
}

int bench_host_run(const bench_session *session, bsd_plan *plan, bench_tensors *tensors,
                   int forward, double ms, bench_host *host, cli_error *error) {
  busy b = {session, plan, tensors, forward, ms > short_call ? 1 : CALLS, NULL};
  if (!bench_time_on_stream(session))
    return CLI_GOOD;
  int code = time_launches(&b, &host->call, error);
  if (code != CLI_GOOD || (session->world->size > 1 && !session->options->graph))
    return code;
  code = cli_agree(session->world, capture(&b, error), error);
  if (code == CLI_GOOD)
    code = time_launches(&b, &host->replay, error);
  cli_device_graph_free(&session->world->device, b.graph);
  return code;
}
