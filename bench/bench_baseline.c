/* bench_baseline.c - times the dense baseline, or says beforehand that it does not fit in memory. */
#include "bench/bench_baseline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench_dense.h"
#include "bench/bench_memory.h"
#include "bench/bench_random.h"

enum { MOST_RUNS = 20, HOST_NAME = 64 };
static const double enough_ms = 2000; /* timed runs stop once they have taken this long together */
static const double fits = 0.95;      /* of the memory that is available */

static int64_t groups_here(const bench_session *session, int64_t batch) {
  int64_t all = batch * session->options->kv_heads;
  return (all - session->world->rank + session->world->size - 1) / session->world->size;
}

/* ---- memory ------------------------------------------------------------------------------ */

/* Bytes that this rank's share takes, as a double: n^2 may pass 2^63. */
static double bytes_needed(const bench_session *session, int64_t n, int64_t batch) {
  const bench_options *o = session->options;
  int backward = (o->pass & BENCH_BACKWARD) != 0;
  double heads = (double)groups_here(session, batch) * (double)(o->heads / o->kv_heads);
  double groups = (double)groups_here(session, batch), row = 4.0 * (double)o->dim * (double)n;
  double tensors = heads * row * (backward ? 4 : 2) + groups * row * (backward ? 4 : 2);
  return tensors + heads * 4.0 * (double)n * (double)n * (backward ? 2 : 1);
}

typedef struct share {
  char host[HOST_NAME];
  double needed, available;
} share;

/* Whether the shares of all ranks of each host fit there together; the same answer on all ranks. */
static int judge_memory(const bench_session *session, double needed, int *fitting,
                        cli_error *error) {
  int size = session->world->size;
  share mine = {.needed = needed, .available = (double)bench_memory_available()};
  gethostname(mine.host, sizeof mine.host - 1);
  share *all = calloc((size_t)size, sizeof *all);
  if (all == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for %d ranks' needs", size);
  int code = cli_allgather(session->world, &mine, sizeof mine, all, error);
  *fitting = 1;
  for (int i = 0; i < size && code == CLI_GOOD; i++) {
    double together = 0, available = all[i].available;
    for (int j = 0; j < size; j++)
      if (strcmp(all[i].host, all[j].host) == 0) {
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

/* Head `head` of `heads` of batch entry b in global order, as [n][D]. */
static void fill_head(const bench_session *session, bench_tensor_id id, int64_t n, int64_t heads,
                      int64_t b, int64_t head, float *out) {
  int64_t dim = session->options->dim;
  for (int64_t i = 0; i < n; i++)
    bench_random_floats(session->options->seed, id, session->dtype,
                        ((b * n + i) * heads + head) * dim, dim, out + i * dim);
}

static void fill(const bench_session *session, const bench_dense_call *call, float *q, float *k,
                 float *v, float *d_o) {
  const bench_options *o = session->options;
  int64_t size = call->n * call->dim;
  for (int64_t x = 0; x < call->groups; x++) {
    int64_t global = session->world->rank + x * session->world->size;
    int64_t b = global / o->kv_heads, group = global % o->kv_heads;
    fill_head(session, BENCH_K, call->n, o->kv_heads, b, group, k + x * size);
    fill_head(session, BENCH_V, call->n, o->kv_heads, b, group, v + x * size);
    for (int64_t h = 0; h < call->heads; h++) {
      int64_t at = (x * call->heads + h) * size, head = group * call->heads + h;
      fill_head(session, BENCH_Q, call->n, o->heads, b, head, q + at);
      if (d_o != NULL)
        fill_head(session, BENCH_DO, call->n, o->heads, b, head, d_o + at);
    }
  }
}

/* Has the system give the pages now, not while the clock runs. */
static void touch(float *scores, int64_t count) {
  enum { PAGE = 1024 };
#pragma omp parallel for schedule(static)
  for (int64_t x = 0; x < count; x += PAGE)
    scores[x] = 0;
}

/* One piece of memory, cut into the call's arrays. NULL if there is none. */
static float *allocate(const bench_session *session, bench_dense_call *call) {
  int backward = (session->options->pass & BENCH_BACKWARD) != 0;
  int64_t keys = call->groups * call->n * call->dim, queries = keys * call->heads;
  int64_t scores = call->groups * call->heads * call->n * call->n;
  int64_t total = (queries + keys) * (backward ? 4 : 2) + scores * (backward ? 2 : 1);
  float *memory = malloc((size_t)(total > 0 ? total : 1) * sizeof *memory);
  if (memory == NULL)
    return NULL;
  float *q = memory, *k = q + queries, *v = k + keys, *d_o = NULL;
  call->o = v + keys;
  call->scores = call->o + queries;
  if (backward) {
    d_o = call->scores + scores;
    call->dq = d_o + queries;
    call->dk = call->dq + queries;
    call->dv = call->dk + keys;
    call->dscores = call->dv + keys;
  }
  call->q = q;
  call->k = k;
  call->v = v;
  call->d_o = d_o;
  fill(session, call, q, k, v, d_o);
  touch(call->scores, scores);
  if (backward)
    touch(call->dscores, scores);
  return memory;
}

/* ---- time -------------------------------------------------------------------------------- */

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* One run of all ranks; *ms is the slowest rank's time. */
static int time_once(const bench_session *session, const bench_dense_call *call,
                     void (*pass)(const bench_dense_call *), double *ms, cli_error *error) {
  int code = cli_barrier(session->world, error);
  if (code != CLI_GOOD)
    return code;
  double start = now_ms();
  pass(call);
  *ms = now_ms() - start;
  return cli_max(session->world, ms, 1, error);
}

/* Median of the runs. The first only warms up, unless it alone took the time for all of them. */
static int time_pass(const bench_session *session, const bench_dense_call *call,
                     void (*pass)(const bench_dense_call *), const char *name, double *ms,
                     cli_error *error) {
  double samples[MOST_RUNS], total = 0;
  const bench_options *o = session->options;
  int64_t runs = o->iterations < MOST_RUNS ? o->iterations : MOST_RUNS, count = 0;
  bench_progress_show(session->progress, name, 0, runs + 1);
  int code = time_once(session, call, pass, &samples[0], error);
  if (samples[0] > enough_ms)
    count = runs;
  for (; count < runs && code == CLI_GOOD && total < enough_ms; count++) {
    bench_progress_show(session->progress, name, count + 1, runs + 1);
    code = time_once(session, call, pass, &samples[count], error);
    total += samples[count];
  }
  *ms = bench_timing_of(samples, total > 0 ? count : 1, 0).ms;
  return code;
}

static int run_passes(const bench_session *session, int64_t n, int64_t batch,
                      bench_baseline *baseline, cli_error *error) {
  const bench_options *o = session->options;
  bench_dense_call call = {.groups = groups_here(session, batch),
                           .heads = o->heads / o->kv_heads,
                           .n = n,
                           .dim = o->dim,
                           .causal = o->causal,
                           .scale = 1 / sqrtf((float)o->dim)};
  float *memory = allocate(session, &call);
  int code =
      memory != NULL ? CLI_GOOD : cli_fail(error, CLI_FAILED, "no memory for the dense baseline");
  code = cli_agree(session->world, code, error);
  if (code == CLI_GOOD && (o->pass & BENCH_FORWARD))
    code =
        time_pass(session, &call, bench_dense_forward, "dense fwd", &baseline->forward_ms, error);
  else if (code == CLI_GOOD)
    bench_dense_forward(&call);
  if (code == CLI_GOOD && (o->pass & BENCH_BACKWARD))
    code =
        time_pass(session, &call, bench_dense_backward, "dense bwd", &baseline->backward_ms, error);
  free(memory);
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
