/* bench_time_stream.c - times a pass by a CUDA device's own clock, call by call or as a graph of calls.
 *
 * Single calls are bounded by what the host needs to launch them; a graph shows the device alone. Where there
 * are several sets of tensors each call takes the next one. */
#include "bench/bench_time_stream.h"

#include <string.h>

enum { CALLS = 20 };                 /* between two marks */
static const double short_call = 50; /* ms: a longer one is timed by itself */

int bench_time_on_stream(const bench_session *session) {
  return session->world->device.on_gpu &&
         strcmp(bsd_context_transport(session->context), "mpi") != 0;
}

/* What is timed: calls of the library, or a replay of them. */
typedef struct timed {
  const bench_session *session;
  bsd_plan *plan;
  bench_tensors *x;
  int forward;
  void *graph; /* NULL: calls */
} timed;

static int launch_calls(const timed *t, int64_t calls, cli_error *error) {
  int code = CLI_GOOD;
  for (int64_t i = 0; i < calls && code == CLI_GOOD; i++)
    code = bench_launch(t->session, t->plan, bench_tensors_of_call(t->x, i), t->forward, error);
  return code;
}

/* `calls` of them, as many as a graph holds, between two marks; *ms is the mean. */
static int time_calls(const timed *t, int64_t calls, double *ms, cli_error *error) {
  const cli_device *device = &t->session->world->device;
  int code = cli_device_mark(device, 0, error);
  if (code == CLI_GOOD)
    code = t->graph != NULL ? cli_device_replay(device, t->graph, error)
                            : launch_calls(t, calls, error);
  if (code == CLI_GOOD)
    code = cli_device_mark(device, 1, error);
  if (code == CLI_GOOD)
    code = bench_complete(t->session, t->plan, error);
  if (code == CLI_GOOD)
    code = cli_device_elapsed(device, ms, error);
  *ms /= (double)calls;
  return code;
}

/* At least one call, after which every connection is made; *ms is the slowest rank's last one. */
static int warm_up(const timed *t, bsd_run_statistics *last, double *ms, cli_error *error) {
  const bench_options *o = t->session->options;
  int code = CLI_GOOD;
  for (int64_t i = 0; (i < o->warmup || i == 0) && code == CLI_GOOD; i++) {
    bench_progress_show(t->session->progress, t->forward ? "fwd" : "bwd", i,
                        o->warmup + o->iterations);
    code = time_calls(t, 1, ms, error);
  }
  bsd_plan_run_stats(t->plan, last);
  code = cli_agree(t->session->world, code, error);
  return code == CLI_GOOD ? cli_max(t->session->world, ms, 1, error) : code;
}

static int capture(timed *t, int64_t calls, cli_error *error) {
  const cli_device *device = &t->session->world->device;
  cli_error ignored = {""};
  int code = cli_device_capture_begin(device, error);
  if (code != CLI_GOOD)
    return code;
  code = launch_calls(t, calls, error);
  int ended = cli_device_capture_end(device, &t->graph, code == CLI_GOOD ? error : &ignored);
  return code == CLI_GOOD ? ended : code;
}

static int run_samples(const timed *t, int64_t calls, double *samples, cli_error *error) {
  const bench_options *o = t->session->options;
  int code = CLI_GOOD;
  for (int64_t i = 0; i < o->iterations && code == CLI_GOOD; i++) {
    double ms = 0;
    bench_progress_show(t->session->progress, t->forward ? "fwd" : "bwd", o->warmup + i,
                        o->warmup + o->iterations);
    code = cli_barrier(t->session->world, error);
    if (code == CLI_GOOD)
      code = time_calls(t, calls, &ms, error);
    samples[i] = ms;
  }
  return cli_agree(t->session->world, code, error);
}

/* Between two marks: CALLS, one where a call takes long, but in any case each set of tensors equally often. */
static int64_t calls_between_marks(const timed *t, double ms) {
  int64_t sets = t->x->nothers + 1, calls = ms > short_call ? 1 : CALLS;
  return (calls + sets - 1) / sets * sets;
}

int bench_time_stream(const bench_session *session, bsd_plan *plan, bench_tensors *x, int forward,
                      double *samples, bsd_run_statistics *last, cli_error *error) {
  timed t = {session, plan, x, forward, NULL};
  double ms = 0;
  int code = warm_up(&t, last, &ms, error);
  int64_t calls = calls_between_marks(&t, ms);
  if (code == CLI_GOOD && session->options->graph)
    code = cli_agree(session->world, capture(&t, calls, error), error);
  if (code == CLI_GOOD)
    code = run_samples(&t, calls, samples, error);
  cli_device_graph_free(&session->world->device, t.graph);
  return code;
}
