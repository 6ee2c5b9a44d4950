/* query_gradient.c - dq of a stage's rows.
 *
 * Queries are vector lanes:  S^T = K (scale Q)^T,  dP^T = V dO^T,  dS^T = P^T (dP^T - delta),
 * dQ^T = K^T dS^T over the steps, chunk by chunk;  dq = scale dQ. */
#include <math.h>
#include <string.h>

#include "steps.h"

typedef struct query_task {
  const bsd_call *call;
  const bsd_cpu_vectors *vectors;
  bsd_cpu_task task;
  bsd_cpu_strip strip;
  bsd_cpu_scratch scratch;
} query_task;

/* Loads q, do, lse, delta. A query that sees no key (lse = -inf) is loaded as zeros with P = 0, so that
 * nothing of it is computed with; its factor is 0. */
static void load(const query_task *t, float *factor) {
  const bsd_call *call = t->call;
  const bsd_cpu_scratch *s = &t->scratch;
  const int64_t base = (t->task.batch * call->heads + t->task.head) * call->tokens;
  bsd_cpu_strip seeing = t->strip;
  for (int64_t i = 0; i < t->strip.width; i++) {
    const int64_t token = t->strip.token[i];
    const float lse = token < 0 ? -INFINITY : call->lse.local[base + token];
    const int sees = lse != -INFINITY;
    seeing.token[i] = sees ? token : -1;
    s->lse[i] = sees ? lse : INFINITY;
    s->delta[i] = sees ? call->delta.local[base + token] : 0;
    factor[i] = sees ? call->scale : 0;
  }
  bsd_cpu_strip_load(call, t->vectors, &call->q.local, t->task.batch, t->task.head, &seeing,
                     call->scale, s->line, s->own[0]);
  bsd_cpu_strip_load(call, t->vectors, &call->d_o.local, t->task.batch, t->task.head, &seeing, 1,
                     s->line, s->own[1]);
}

static void add_step(const query_task *t, const bsd_cpu_walk *walk) {
  const bsd_call *call = t->call;
  const bsd_cpu_scratch *s = &t->scratch;
  const int64_t kv_head = t->task.head / (call->heads / call->kv_heads);
  const int64_t width = t->strip.width, dim = call->head_dim;
  const bsd_cpu_ahead nothing = {NULL, 0, 0, 0};
  int64_t k_stride, v_stride;
  const float *k = bsd_cpu_step_rows(call, t->vectors, walk, &call->k, t->task.batch, kv_head,
                                     s->rows[0], &k_stride);
  const float *v = bsd_cpu_step_rows(call, t->vectors, walk, &call->v, t->task.batch, kv_head,
                                     s->rows[1], &v_stride);
  const bsd_cpu_ahead next_k = bsd_cpu_step_ahead(call, walk, &call->k, t->task.batch, kv_head);
  const bsd_cpu_ahead next_v = bsd_cpu_step_ahead(call, walk, &call->v, t->task.batch, kv_head);
  t->vectors->product(walk->rows, dim, width, k, k_stride, s->own[0], s->scores, &next_k);
  t->vectors->product(walk->rows, dim, width, v, v_stride, s->own[1], s->products, &next_v);
  t->vectors->query_gradient(walk->rows, width, s->scores, s->products, bsd_cpu_walk_first(walk),
                             bsd_cpu_walk_last(walk), s->lse, s->delta);
  t->vectors->accumulate(dim, walk->rows, width, k, k_stride, s->products, NULL, s->part[0],
                         &nothing);
}

static void run_task(query_task *t) {
  const bsd_call *call = t->call;
  const bsd_cpu_scratch *s = &t->scratch;
  bsd_cpu_strip_of(call, &t->task, &t->strip);
  if (t->strip.first > t->strip.last)
    return;
  const int64_t count = call->head_dim * t->strip.width;
  load(t, s->factor);
  memset(s->part[0], 0, (size_t)count * sizeof *s->part[0]);
  memset(s->total[0], 0, (size_t)count * sizeof *s->total[0]);
  bsd_cpu_walk walk;
  int64_t chunk = 0;
  bsd_cpu_walk_begin(&walk, &t->task, &t->strip, BSD_CPU_OWN_QUERIES);
  while (bsd_cpu_walk_next(&walk)) {
    if (walk.chunk != chunk)
      t->vectors->add(count, s->part[0], s->total[0]);
    chunk = walk.chunk;
    add_step(t, &walk);
  }
  t->vectors->add(count, s->part[0], s->total[0]);
  if (call->acc_dq)
    bsd_cpu_strip_add(call, call->acc_dq, call->heads, t->task.batch, t->task.head, &t->strip,
                      s->factor, s->total[0]);
  else
    bsd_cpu_strip_store(call, &call->dq, t->task.batch, t->task.head, &t->strip, s->factor,
                        s->total[0]);
}

bsd_status bsd_cpu_backward_dq(void *device, const bsd_call *call, const bsd_lists *lists,
                               int64_t pass, int stage, void *stream, bsd_error *error) {
  (void)stream, (void)error;
  const bsd_cpu_device *cpu = device;
  const bsd_pass *work = &lists->passes[pass];
  const int64_t tasks = bsd_cpu_task_count(call, work, stage, BSD_CPU_OWN_QUERIES);
#pragma omp parallel num_threads(cpu->threads)
  {
    query_task t = {.call = call, .vectors = cpu->vectors};
    t.scratch = bsd_cpu_scratch_here(call);
#pragma omp for schedule(dynamic, 4)
    for (int64_t i = 0; i < tasks; i++)
      if (bsd_cpu_task_at(call, work, stage, BSD_CPU_OWN_QUERIES, i, &t.task))
        run_task(&t);
  }
  return BSD_OK;
}
