/* forward.c - o and lse of a stage's rows.
 *
 * A task holds S^T [key][slot] and O^T [d][slot]: queries are vector lanes, keys and dimensions are rows.
 *   S^T = K (scale Q)^T,  (m, l, P^T) by a running softmax over the steps of a chunk,
 *   O^T = O^T factor + V^T P^T,  chunks merged into the row's total in order. */
#include <math.h>
#include <string.h>

#include "steps.h"

typedef struct forward_task {
  const bsd_call *call;
  const bsd_cpu_vectors *vectors;
  bsd_cpu_task task;
  bsd_cpu_strip strip;
  bsd_cpu_scratch scratch;
} forward_task;

static void fill(float *to, int64_t count, float value) {
  for (int64_t i = 0; i < count; i++)
    to[i] = value;
}

static void empty_chunk(const forward_task *f) {
  const int64_t width = f->strip.width;
  fill(f->scratch.maximum, width, -INFINITY);
  fill(f->scratch.sum, width, 0);
  fill(f->scratch.part[0], f->call->head_dim * width, 0);
}

static void close_chunk(const forward_task *f) {
  const bsd_cpu_scratch *s = &f->scratch;
  f->vectors->merge(f->call->head_dim, f->strip.width, s->maximum, s->sum, s->part[0],
                    s->total_maximum, s->total_sum, s->total[0]);
  empty_chunk(f);
}

static void add_step(const forward_task *f, const bsd_cpu_walk *walk) {
  const bsd_call *call = f->call;
  const bsd_cpu_scratch *s = &f->scratch;
  const int64_t kv_head = f->task.head / (call->heads / call->kv_heads);
  const int64_t width = f->strip.width, dim = call->head_dim;
  int64_t k_stride, v_stride;
  const float *k = bsd_cpu_step_rows(call, f->vectors, walk, &call->k, f->task.batch, kv_head,
                                     s->rows[0], &k_stride);
  const float *v = bsd_cpu_step_rows(call, f->vectors, walk, &call->v, f->task.batch, kv_head,
                                     s->rows[1], &v_stride);
  const bsd_cpu_ahead next_k = bsd_cpu_step_ahead(call, walk, &call->k, f->task.batch, kv_head);
  const bsd_cpu_ahead next_v = bsd_cpu_step_ahead(call, walk, &call->v, f->task.batch, kv_head);
  f->vectors->product(walk->rows, dim, width, k, k_stride, s->own[0], s->scores, &next_k);
  f->vectors->softmax(walk->rows, width, s->scores, bsd_cpu_walk_first(walk),
                      bsd_cpu_walk_last(walk), s->maximum, s->sum, s->factor);
  f->vectors->accumulate(dim, walk->rows, width, v, v_stride, s->scores, s->factor, s->part[0],
                         &next_v);
}

/* One token's (o, lse) joins the accumulator: the two are weighted by their softmax denominators. */
static void merge_token(const forward_task *f, int64_t slot, float factor, float lse) {
  const bsd_call *call = f->call;
  const int64_t dim = call->head_dim, width = f->strip.width;
  const int64_t token =
      (f->task.batch * call->heads + f->task.head) * call->tokens + f->strip.token[slot];
  float *o = call->acc_o + token * dim, *before = &call->acc_lse[token];
  const float *mine = f->scratch.total[0] + slot;
  if (lse == -INFINITY)
    return;
  if (*before == -INFINITY) {
    for (int64_t d = 0; d < dim; d++)
      o[d] = factor * mine[d * width];
    *before = lse;
    return;
  }
  const float maximum = *before > lse ? *before : lse;
  const float a = expf(*before - maximum), b = expf(lse - maximum);
  for (int64_t d = 0; d < dim; d++)
    o[d] = (a * o[d] + b * (factor * mine[d * width])) / (a + b);
  *before = maximum + logf(a + b);
}

/* Writes or merges the strip's results. A query without a key has o = 0, lse = -inf. */
static void finish(const forward_task *f) {
  const bsd_call *call = f->call;
  const bsd_cpu_scratch *s = &f->scratch;
  float *lse = s->lse, *factor = s->factor;
  for (int64_t i = 0; i < f->strip.width; i++) {
    const int empty = s->total_sum[i] == 0;
    factor[i] = empty ? 0 : 1 / s->total_sum[i];
    lse[i] = empty ? -INFINITY : s->total_maximum[i] + logf(s->total_sum[i]);
  }
  if (!call->acc_o)
    bsd_cpu_strip_store(call, &call->o, f->task.batch, f->task.head, &f->strip, factor,
                        s->total[0]);
  for (int64_t i = f->strip.first; i <= f->strip.last; i++) {
    if (f->strip.token[i] < 0)
      continue;
    if (call->acc_o)
      merge_token(f, i, factor[i], lse[i]);
    else if (call->lse_out)
      call->lse_out[(f->task.batch * call->heads + f->task.head) * call->tokens +
                    f->strip.token[i]] = lse[i];
  }
}

static void run_task(forward_task *f) {
  const bsd_call *call = f->call;
  const bsd_cpu_scratch *s = &f->scratch;
  bsd_cpu_strip_of(call, &f->task, &f->strip);
  if (f->strip.first > f->strip.last)
    return;
  bsd_cpu_strip_load(call, f->vectors, &call->q.local, f->task.batch, f->task.head, &f->strip,
                     call->scale, s->line, s->own[0]);
  empty_chunk(f);
  fill(s->total_maximum, f->strip.width, -INFINITY);
  fill(s->total_sum, f->strip.width, 0);
  fill(s->total[0], call->head_dim * f->strip.width, 0);
  bsd_cpu_walk walk;
  int64_t chunk = 0;
  bsd_cpu_walk_begin(&walk, &f->task, &f->strip, BSD_CPU_OWN_QUERIES);
  while (bsd_cpu_walk_next(&walk)) {
    if (walk.chunk != chunk)
      close_chunk(f);
    chunk = walk.chunk;
    add_step(f, &walk);
  }
  close_chunk(f);
  finish(f);
}

bsd_status bsd_cpu_forward(void *device, const bsd_call *call, const bsd_lists *lists, int64_t pass,
                           int stage, void *stream, bsd_error *error) {
  (void)stream, (void)error;
  const bsd_cpu_device *cpu = device;
  const bsd_pass *work = &lists->passes[pass];
  const int64_t tasks = bsd_cpu_task_count(call, work, stage, BSD_CPU_OWN_QUERIES);
#pragma omp parallel num_threads(cpu->threads)
  {
    forward_task f = {.call = call, .vectors = cpu->vectors};
    f.scratch = bsd_cpu_scratch_here(call);
#pragma omp for schedule(dynamic, 4)
    for (int64_t i = 0; i < tasks; i++)
      if (bsd_cpu_task_at(call, work, stage, BSD_CPU_OWN_QUERIES, i, &f.task))
        run_task(&f);
  }
  return BSD_OK;
}
