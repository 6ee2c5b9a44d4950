/* key_gradient.c - dk and dv of a stage's rows, over the transposed lists.
 *
 * Keys are vector lanes, queries are rows:  S = Q (scale K)^T,  dP = dO V^T,  dS = P (dP - delta),
 * dV^T = dO^T P,  dK^T = Q^T dS over the list's query heads of the KV head in order, and over each
 * head's steps, chunk by chunk;  dk = scale dK. */
#include <math.h>
#include <string.h>

#include "steps.h"

typedef struct key_task {
  const bsd_call *call;
  const bsd_cpu_vectors *vectors;
  bsd_cpu_task task; /* head: of k and v */
  bsd_cpu_strip strip;
  bsd_cpu_scratch scratch;
} key_task;

/* Queries that see no key (lse = -inf) are taken out before their q and do are read. */
static void drop_blind_queries(bsd_cpu_walk *walk, const float *lse) {
  for (int64_t i = 0; i < walk->rows; i++)
    if (lse[i] == -INFINITY)
      bsd_cpu_walk_drop(walk, i);
}

static void add_step(const key_task *t, bsd_cpu_walk *walk, int64_t head) {
  const bsd_call *call = t->call;
  const bsd_cpu_scratch *s = &t->scratch;
  const int64_t width = t->strip.width, dim = call->head_dim;
  const bsd_cpu_ahead nothing = {NULL, 0, 0, 0};
  int64_t q_stride, do_stride;
  bsd_cpu_step_values(call, walk, &call->lse, t->task.batch, head, s->lse);
  bsd_cpu_step_values(call, walk, &call->delta, t->task.batch, head, s->delta);
  drop_blind_queries(walk, s->lse);
  const float *q = bsd_cpu_step_rows(call, t->vectors, walk, &call->q, t->task.batch, head,
                                     s->rows[0], &q_stride);
  const float *d_o = bsd_cpu_step_rows(call, t->vectors, walk, &call->d_o, t->task.batch, head,
                                       s->rows[1], &do_stride);
  const bsd_cpu_ahead next_q = bsd_cpu_step_ahead(call, walk, &call->q, t->task.batch, head);
  const bsd_cpu_ahead next_do = bsd_cpu_step_ahead(call, walk, &call->d_o, t->task.batch, head);
  t->vectors->product(walk->rows, dim, width, q, q_stride, s->own[0], s->scores, &next_q);
  t->vectors->product(walk->rows, dim, width, d_o, do_stride, s->own[1], s->products, &next_do);
  t->vectors->key_gradient(walk->rows, width, s->scores, s->products, bsd_cpu_walk_first(walk),
                           bsd_cpu_walk_last(walk), s->lse, s->delta);
  t->vectors->accumulate(dim, walk->rows, width, q, q_stride, s->products, NULL, s->part[0],
                         &nothing);
  t->vectors->accumulate(dim, walk->rows, width, d_o, do_stride, s->scores, NULL, s->part[1],
                         &nothing);
}

static void add_chunk(const key_task *t) {
  const bsd_cpu_scratch *s = &t->scratch;
  for (int i = 0; i < 2; i++)
    t->vectors->add(t->call->head_dim * t->strip.width, s->part[i], s->total[i]);
}

static void add_head(const key_task *t, int64_t head) {
  bsd_cpu_walk walk;
  int64_t chunk = 0;
  bsd_cpu_walk_begin(&walk, &t->task, &t->strip, BSD_CPU_OWN_KEYS);
  while (bsd_cpu_walk_next(&walk)) {
    if (walk.chunk != chunk)
      add_chunk(t);
    chunk = walk.chunk;
    add_step(t, &walk, head);
  }
  add_chunk(t);
}

static void put(const key_task *t, float *accumulator, const bsd_tensor *tensor, float scale,
                const float *total) {
  const bsd_call *call = t->call;
  float *factor = t->scratch.factor;
  for (int64_t i = 0; i < t->strip.width; i++)
    factor[i] = scale;
  if (accumulator)
    bsd_cpu_strip_add(call, accumulator, call->kv_heads, t->task.batch, t->task.head, &t->strip,
                      factor, total);
  else
    bsd_cpu_strip_store(call, tensor, t->task.batch, t->task.head, &t->strip, factor, total);
}

static void run_task(key_task *t) {
  const bsd_call *call = t->call;
  const bsd_cpu_scratch *s = &t->scratch;
  const int64_t group = call->heads / call->kv_heads;
  bsd_cpu_strip_of(call, &t->task, &t->strip);
  if (t->strip.first > t->strip.last)
    return;
  bsd_cpu_strip_load(call, t->vectors, &call->k.local, t->task.batch, t->task.head, &t->strip,
                     call->scale, s->line, s->own[0]);
  bsd_cpu_strip_load(call, t->vectors, &call->v.local, t->task.batch, t->task.head, &t->strip, 1,
                     s->line, s->own[1]);
  const size_t bytes = (size_t)(call->head_dim * t->strip.width) * sizeof(float);
  for (int i = 0; i < 2; i++) {
    memset(s->part[i], 0, bytes);
    memset(s->total[i], 0, bytes);
  }
  const bsd_list *list = t->task.list;
  for (int64_t i = 0; i < list->nheads; i++)
    if (list->heads[i] / group == t->task.head)
      add_head(t, list->heads[i]);
  put(t, call->acc_dk, &call->dk, call->scale, s->total[0]);
  put(t, call->acc_dv, &call->dv, 1, s->total[1]);
}

bsd_status bsd_cpu_backward_dkv(void *device, const bsd_call *call, const bsd_lists *lists,
                                int64_t pass, int stage, void *stream, bsd_error *error) {
  (void)stream, (void)error;
  const bsd_cpu_device *cpu = device;
  const bsd_pass *work = &lists->passes[pass];
  const int64_t tasks = bsd_cpu_task_count(call, work, stage, BSD_CPU_OWN_KEYS);
#pragma omp parallel num_threads(cpu->threads)
  {
    key_task t = {.call = call, .vectors = cpu->vectors};
    t.scratch = bsd_cpu_scratch_here(call);
#pragma omp for schedule(dynamic, 4)
    for (int64_t i = 0; i < tasks; i++)
      if (bsd_cpu_task_at(call, work, stage, BSD_CPU_OWN_KEYS, i, &t.task))
        run_task(&t);
  }
  return BSD_OK;
}
