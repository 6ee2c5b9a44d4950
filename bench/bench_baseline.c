/* bench_baseline.c - times the dense baseline, or says beforehand that it does not fit in memory. */
#include "bench/bench_baseline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench_memory.h"
#include "bench/bench_random.h"

enum { MOST_RUNS = 20, CALLS = 20, HOST_NAME = 64, ALIGNMENT = 256 };
static const double enough_ms = 2000; /* timed runs stop once they have taken this long together */
static const double short_call = 50;  /* ms: a longer one on a GPU is timed by itself */
static const double fits = 0.95;      /* of the memory that is available */

/* ---- the library ------------------------------------------------------------------------- */

int bench_baseline_open(bench_session *session, cli_error *error) {
  bench_dense wanted = session->options->baseline;
  snprintf(session->dense_text, sizeof session->dense_text, "not asked for");
  if (wanted == BENCH_DENSE_NONE)
    return CLI_GOOD;
  const bench_dense_library *library =
      session->world->device.on_gpu ? &bench_dense_on_cuda : &bench_dense_on_host;
  cli_error why = {""};
  int opened = library->open(&session->dense_state, &why);
  int code = cli_agree(session->world, opened, &why);
  if (code == CLI_GOOD) {
    session->dense = library;
    library->describe(session->dense_state, session->dense_text, sizeof session->dense_text);
    return CLI_GOOD;
  }
  if (opened == CLI_GOOD)
    library->close(session->dense_state);
  session->dense_state = NULL;
  if (code != CLI_UNUSABLE)
    return cli_fail(error, code, "%s", why.text);
  if (wanted == BENCH_DENSE_ALWAYS)
    return cli_fail(error, code, "--baseline is dense, but %s", why.text);
  snprintf(session->dense_text, sizeof session->dense_text, "none: %s", why.text);
  return CLI_GOOD;
}

void bench_baseline_close(bench_session *session) {
  if (session->dense != NULL)
    session->dense->close(session->dense_state);
  session->dense = NULL;
}

/* ---- memory ------------------------------------------------------------------------------ */

static int64_t groups_here(const bench_session *session, int64_t batch) {
  int64_t all = batch * session->options->kv_heads;
  return (all - session->world->rank + session->world->size - 1) / session->world->size;
}

static bsd_dtype dtype_of(const bench_session *session) {
  return session->dense->any_dtype ? session->dtype : BSD_F32;
}

/* Bytes that this rank's share takes, as a double: n^2 may pass 2^63. */
static double bytes_needed(const bench_session *session, int64_t n, int64_t batch) {
  const bench_options *o = session->options;
  int backward = (o->pass & BENCH_BACKWARD) != 0;
  double width = (double)cli_dtype_size(dtype_of(session));
  double heads = (double)groups_here(session, batch) * (double)(o->heads / o->kv_heads);
  double groups = (double)groups_here(session, batch), row = width * (double)o->dim * (double)n;
  double tensors = (heads + groups) * row * (backward ? 4 : 2);
  return tensors + heads * width * (double)n * (double)n * (backward ? 2 : 1) +
         (double)session->dense->workspace_bytes;
}

/* What a rank needs of which memory. */
typedef struct share {
  char memory[HOST_NAME + 16]; /* a host's, or one of its GPUs' */
  double needed, available;
} share;

static share share_of(const bench_session *session, double needed) {
  const cli_device *device = &session->world->device;
  char host[HOST_NAME] = "";
  share mine = {.needed = needed,
                .available = (double)(device->on_gpu ? cli_device_free_bytes(device)
                                                     : bench_memory_available())};
  gethostname(host, sizeof host - 1);
  snprintf(mine.memory, sizeof mine.memory, "%s %d", host, device->on_gpu ? device->number : -1);
  return mine;
}

/* Whether the shares of all ranks of each memory fit there together; the same answer on all ranks. */
static int judge_memory(const bench_session *session, double needed, int *fitting,
                        cli_error *error) {
  int size = session->world->size;
  share mine = share_of(session, needed);
  share *all = calloc((size_t)size, sizeof *all);
  if (all == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for %d ranks' needs", size);
  int code = cli_allgather(session->world, &mine, sizeof mine, all, error);
  *fitting = 1;
  for (int i = 0; i < size && code == CLI_GOOD; i++) {
    double together = 0, available = all[i].available;
    for (int j = 0; j < size; j++)
      if (strcmp(all[i].memory, all[j].memory) == 0) {
        together += all[j].needed;
        available = fmin(available, all[j].available);
      }
    if (together > fits * available)
      *fitting = 0;
  }
  free(all);
  return code;
}

/* ---- tensors ----------------------------------------------------------------------------- */

/* Elements first .. first+count-1 of a tensor as the baseline takes them: the session's type, or floats of
 * its values. */
static void make(const bench_session *session, bench_tensor_id id, int64_t first, int64_t count,
                 void *out) {
  if (dtype_of(session) == session->dtype)
    bench_random_fill(session->options->seed, id, session->dtype, first, count, out);
  else
    bench_random_floats(session->options->seed, id, session->dtype, first, count, out);
}

/* Head `head` of `heads` of batch entry b in global order, as [n][D], at element `at` of a tensor. */
static int fill_head(const bench_session *session, const bench_dense_call *call, bench_tensor_id id,
                     int64_t heads, int64_t b, int64_t head, const void *tensor, int64_t at,
                     cli_error *error) {
  int64_t n = call->n, dim = call->dim, width = (int64_t)cli_dtype_size(call->dtype);
  char *rows = malloc((size_t)(n * dim * width));
  if (rows == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for a head of %lld tokens", (long long)n);
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; i++)
    make(session, id, ((b * n + i) * heads + head) * dim, dim, rows + i * dim * width);
  int code = cli_device_write(call->device, (char *)(uintptr_t)tensor + at * width, rows,
                              n * dim * width, error);
  free(rows);
  return code;
}

static int fill(const bench_session *session, const bench_dense_call *call, cli_error *error) {
  const bench_options *o = session->options;
  int64_t size = call->n * call->dim;
  int code = CLI_GOOD;
  for (int64_t x = 0; x < call->groups && code == CLI_GOOD; x++) {
    int64_t global = session->world->rank + x * session->world->size;
    int64_t b = global / o->kv_heads, group = global % o->kv_heads;
    code = fill_head(session, call, BENCH_K, o->kv_heads, b, group, call->k, x * size, error);
    if (code == CLI_GOOD)
      code = fill_head(session, call, BENCH_V, o->kv_heads, b, group, call->v, x * size, error);
    for (int64_t h = 0; h < call->heads && code == CLI_GOOD; h++) {
      int64_t at = (x * call->heads + h) * size, head = group * call->heads + h;
      code = fill_head(session, call, BENCH_Q, o->heads, b, head, call->q, at, error);
      if (code == CLI_GOOD && call->d_o != NULL)
        code = fill_head(session, call, BENCH_DO, o->heads, b, head, call->d_o, at, error);
    }
  }
  return code;
}

static int64_t aligned(int64_t bytes) {
  return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* The next `bytes` of a piece of memory. */
static void *cut(char **rest, int64_t bytes) {
  void *piece = *rest;
  *rest += aligned(bytes);
  return piece;
}

/* One piece of memory, cut into the call's arrays and filled; zeros first, so that the system gives the
 * pages now and not while the clock runs. */
static int allocate(const bench_session *session, bench_dense_call *call, void **memory,
                    cli_error *error) {
  int backward = (session->options->pass & BENCH_BACKWARD) != 0, each = backward ? 4 : 2;
  int64_t width = (int64_t)cli_dtype_size(call->dtype);
  int64_t keys = call->groups * call->n * call->dim * width, queries = keys * call->heads;
  int64_t scores = call->groups * call->heads * call->n * call->n * width;
  int64_t total = aligned(session->dense->workspace_bytes) +
                  each * (aligned(queries) + aligned(keys)) + each / 2 * aligned(scores);
  int code = cli_device_alloc(call->device, total, memory, error);
  if (code == CLI_GOOD)
    code = cli_device_fill(call->device, *memory, 0, total, error);
  if (code != CLI_GOOD)
    return code;
  char *rest = *memory;
  call->workspace = cut(&rest, session->dense->workspace_bytes);
  call->scores = cut(&rest, scores);
  call->q = cut(&rest, queries);
  call->k = cut(&rest, keys);
  call->v = cut(&rest, keys);
  call->o = cut(&rest, queries);
  if (backward) {
    call->dscores = cut(&rest, scores);
    call->d_o = cut(&rest, queries);
    call->dq = cut(&rest, queries);
    call->dk = cut(&rest, keys);
    call->dv = cut(&rest, keys);
  }
  return fill(session, call, error);
}

/* ---- time -------------------------------------------------------------------------------- */

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

typedef int (*dense_pass)(void *state, const bench_dense_call *call, cli_error *error);

/* `calls` of a pass by the device's own clock; *ms is the mean. */
static int time_on_stream(const bench_session *session, const bench_dense_call *call,
                          dense_pass pass, int calls, double *ms, cli_error *error) {
  int code = cli_device_mark(call->device, 0, error);
  for (int i = 0; i < calls && code == CLI_GOOD; i++)
    code = pass(session->dense_state, call, error);
  if (code == CLI_GOOD)
    code = cli_device_mark(call->device, 1, error);
  if (code == CLI_GOOD)
    code = cli_device_elapsed(call->device, ms, error);
  *ms /= calls;
  return code;
}

static int time_on_host(const bench_session *session, const bench_dense_call *call, dense_pass pass,
                        double *ms, cli_error *error) {
  double start = now_ms();
  int code = pass(session->dense_state, call, error);
  *ms = now_ms() - start;
  return code;
}

/* One sample of all ranks; *ms is the slowest rank's time of a call. */
static int time_once(const bench_session *session, const bench_dense_call *call, dense_pass pass,
                     int calls, double *ms, cli_error *error) {
  int code = cli_barrier(session->world, error);
  if (code == CLI_GOOD)
    code = call->device->on_gpu ? time_on_stream(session, call, pass, calls, ms, error)
                                : time_on_host(session, call, pass, ms, error);
  code = cli_agree(session->world, code, error);
  return code == CLI_GOOD ? cli_max(session->world, ms, 1, error) : code;
}

/* Median of the samples. The first call only warms up, unless it alone took the time for all of them. */
static int time_pass(const bench_session *session, const bench_dense_call *call, dense_pass pass,
                     const char *name, double *ms, cli_error *error) {
  double samples[MOST_RUNS], total = 0;
  const bench_options *o = session->options;
  int64_t runs = o->iterations < MOST_RUNS ? o->iterations : MOST_RUNS, count = 0;
  bench_progress_show(session->progress, name, 0, runs + 1);
  int code = time_once(session, call, pass, 1, &samples[0], error);
  int calls = call->device->on_gpu && samples[0] < short_call ? CALLS : 1;
  if (samples[0] > enough_ms)
    count = runs;
  for (; count < runs && code == CLI_GOOD && total < enough_ms; count++) {
    bench_progress_show(session->progress, name, count + 1, runs + 1);
    code = time_once(session, call, pass, calls, &samples[count], error);
    total += calls * samples[count];
  }
  *ms = bench_timing_of(samples, total > 0 ? count : 1, 0).ms;
  return code;
}

static int time_passes(const bench_session *session, const bench_dense_call *call,
                       bench_baseline *baseline, cli_error *error) {
  const bench_dense_library *dense = session->dense;
  int pass = session->options->pass, code = CLI_GOOD;
  if (pass & BENCH_FORWARD)
    code = time_pass(session, call, dense->forward, "dense fwd", &baseline->forward_ms, error);
  else
    code = cli_agree(session->world, dense->forward(session->dense_state, call, error), error);
  if (code == CLI_GOOD && (pass & BENCH_BACKWARD))
    code = time_pass(session, call, dense->backward, "dense bwd", &baseline->backward_ms, error);
  return code;
}

static int run_passes(const bench_session *session, int64_t n, int64_t batch,
                      bench_baseline *baseline, cli_error *error) {
  const bench_options *o = session->options;
  bench_dense_call call = {.device = &session->world->device,
                           .dtype = dtype_of(session),
                           .groups = groups_here(session, batch),
                           .heads = o->heads / o->kv_heads,
                           .n = n,
                           .dim = o->dim,
                           .causal = o->causal,
                           .scale = 1 / sqrtf((float)o->dim)};
  void *memory = NULL;
  int code = cli_agree(session->world, allocate(session, &call, &memory, error), error);
  if (code == CLI_GOOD)
    code = time_passes(session, &call, baseline, error);
  cli_device_free(call.device, memory);
  return code;
}

int bench_baseline_run(const bench_session *session, int64_t n, int64_t batch,
                       bench_baseline *baseline, cli_error *error) {
  double needed = bytes_needed(session, n, batch), worst = needed;
  int fitting = 0;
  int code = judge_memory(session, needed, &fitting, error);
  if (code == CLI_GOOD)
    code = cli_max(session->world, &worst, 1, error);
  if (code != CLI_GOOD)
    return code;
  *baseline = (bench_baseline){fitting ? BENCH_BASELINE_OK : BENCH_BASELINE_OOM, NAN, NAN,
                               worst < 0x1p63 ? (int64_t)worst : INT64_MAX};
  return fitting ? run_passes(session, n, batch, baseline, error) : CLI_GOOD;
}
