/* plan_report.c - answers what a plan has decided: positions, statistics, and itself in words. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "plan.h"

/* ---- statistics -------------------------------------------------------------------------- */

/* An offline plan sums over the ranks only when it is asked: it costs a plan of each. */
static bsd_status need_totals(bsd_plan *plan, bsd_error *error) {
  if (!plan->have_totals)
    BSD_TRY(bsd_totals_offline(plan->task, &plan->layout, &plan->cost, &plan->totals, error));
  plan->have_totals = 1;
  return BSD_OK;
}

static void comm_stats(const bsd_plan *plan, int pass, bsd_comm_stats *out) {
  const bsd_task *t = plan->task;
  int64_t shares =
      (int64_t)(plan->nranks - 1) * t->length * t->kv_heads * 2 * t->head_dim * t->batch;
  int64_t i;
  out->bytes_lower_bound =
      bsd_totals_scaled(&plan->totals, plan->totals.received[pass], plan->nranks);
  out->bytes_received_worst = plan->totals.received_worst[pass];
  out->bytes_allgather = shares * bsd_dtype_bytes(t->dtype);
  if (pass == BSD_BACKWARD)
    out->bytes_allgather += shares * (int64_t)sizeof(float);
  out->bytes_received_here = bsd_schedule_received(&plan->schedule, pass);
  out->bytes_sent_here = bsd_schedule_sent(&plan->schedule, pass);
  out->messages_here = 0;
  for (i = 0; i < plan->schedule.nsteps; i++)
    out->messages_here += plan->schedule.steps[i].receive_bytes[pass] > 0;
}

bsd_status bsd_plan_stats(const bsd_plan *const_plan, bsd_plan_statistics *stats) {
  bsd_plan *plan = (bsd_plan *)(uintptr_t)const_plan; /* totals are worked out on demand */
  const bsd_task *t;
  bsd_error *error;
  double pairs;
  if (plan == NULL || stats == NULL)
    return BSD_ERR_ARG;
  error = &plan->context->error;
  if (stats->struct_size != sizeof *stats)
    return bsd_fail(error, BSD_ERR_ARG, "stats: struct_size is %zu but this library expects %zu",
                    stats->struct_size, sizeof *stats);
  BSD_TRY(need_totals(plan, error));
  t = plan->task;
  memset(stats, 0, sizeof *stats);
  stats->struct_size = sizeof *stats;
  stats->rank = plan->rank;
  stats->nranks = plan->nranks;
  stats->local_length = plan->local_length;
  stats->ranks_counted = (int)plan->totals.counted;
  stats->active_blocks = bsd_totals_scaled(&plan->totals, plan->totals.active_blocks, plan->nranks);
  stats->active_pairs = bsd_totals_scaled(&plan->totals, plan->totals.pairs, plan->nranks);
  stats->active_pairs_here = plan->share->pairs;
  pairs = bsd_task_pairs_per_head(t);
  stats->density = pairs > 0 ? (double)stats->active_pairs / ((double)t->heads * pairs) : 0;
  stats->imbalance = bsd_totals_imbalance(&plan->totals);
  stats->flops_forward = 4.0 * (double)t->head_dim * (double)stats->active_pairs * (double)t->batch;
  stats->flops_backward = 2.5 * stats->flops_forward;
  comm_stats(plan, BSD_FORWARD, &stats->forward);
  comm_stats(plan, BSD_BACKWARD, &stats->backward);
  stats->workspace_bytes = plan->map.bytes;
  stats->plan_bytes = plan->share->bytes;
  stats->plan_ms = plan->plan_ms;
  stats->stages = plan->schedule.stages;
  stats->predicted_forward_ms = 1e3 * plan->totals.seconds_worst[plan->stage_option][BSD_FORWARD];
  stats->predicted_backward_ms = 1e3 * plan->totals.seconds_worst[plan->stage_option][BSD_BACKWARD];
  stats->predicted_efficiency = bsd_totals_efficiency(&plan->totals, plan->stage_option);
  stats->backend = plan->context->backend->name;
  stats->kernel = plan->kernels->forward_name;
  stats->kernel_backward = plan->kernels->backward_name;
  stats->transport = plan->context->comm->transport->name;
  stats->layout = plan->layout_text;
  stats->layout_reason = plan->layout_reason;
  return BSD_OK;
}

bsd_status bsd_plan_peer_bytes(const bsd_plan *plan, int peer, int64_t *forward_sent,
                               int64_t *forward_received, int64_t *backward_sent,
                               int64_t *backward_received) {
  int64_t sent[2] = {0, 0}, received[2] = {0, 0}, i;
  int pass;
  if (plan == NULL)
    return BSD_ERR_ARG;
  if (peer < 0 || peer >= plan->nranks)
    return bsd_fail(&plan->context->error, BSD_ERR_ARG, "peer is %d but must be 0 .. %d", peer,
                    plan->nranks - 1);
  for (i = 0; i < plan->schedule.nsteps; i++)
    for (pass = BSD_FORWARD; pass <= BSD_BACKWARD; pass++) {
      const bsd_step *s = &plan->schedule.steps[i];
      if (s->receive_peer == peer)
        received[pass] += s->receive_bytes[pass];
      if (s->send_peer == peer)
        sent[pass] += s->send_bytes[pass];
    }
  if (forward_sent != NULL)
    *forward_sent = sent[BSD_FORWARD];
  if (forward_received != NULL)
    *forward_received = received[BSD_FORWARD];
  if (backward_sent != NULL)
    *backward_sent = sent[BSD_BACKWARD];
  if (backward_received != NULL)
    *backward_received = received[BSD_BACKWARD];
  return BSD_OK;
}

bsd_status bsd_plan_hash(const bsd_plan *plan, uint64_t *hash) {
  if (plan == NULL || hash == NULL)
    return BSD_ERR_ARG;
  *hash = plan->hash;
  return BSD_OK;
}

/* ---- words ------------------------------------------------------------------------------- */

typedef struct text { /* counts what it is given, writes what fits */
  char *buffer;
  size_t size, used;
} text;

static void say(text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(text *t, const char *format, ...) {
  va_list arguments;
  int n;
  va_start(arguments, format);
  n = vsnprintf(t->used < t->size ? t->buffer + t->used : NULL,
                t->used < t->size ? t->size - t->used : 0, format, arguments);
  va_end(arguments);
  if (n > 0)
    t->used += (size_t)n;
}

static void say_lists(text *t, const bsd_plan *plan) {
  int64_t i;
  for (i = 0; i < plan->share->nlists; i++) {
    const bsd_share_list *list = &plan->share->lists[i];
    const bsd_task *task = plan->task;
    int64_t c = list->head_class;
    say(t,
        "branch %d, heads of %d (%" PRId64 "): %" PRId64 " rows in %" PRId64 " segments, %" PRId64
        " key blocks in %" PRId64 " runs; %" PRId64 " query blocks in %" PRId64 " runs\n",
        list->branch + 1, task->head_class_head[c],
        task->head_class_ptr[c + 1] - task->head_class_ptr[c], list->nown, list->nsegments,
        list->side[BSD_ROWS].needed.members, list->side[BSD_ROWS].nentries,
        list->side[BSD_COLUMNS].needed.members, list->side[BSD_COLUMNS].nentries);
  }
}

static void say_plan(text *t, const bsd_plan *plan) {
  int64_t i;
  say(t, "plan %016" PRIx64 ": rank %d of %d, %" PRId64 " of %" PRId64 " tokens, layout %s\n",
      plan->hash, plan->rank, plan->nranks, plan->local_length, plan->task->length,
      plan->layout_text);
  if (plan->layout_reason[0])
    say(t, "layout: %s\n", plan->layout_reason);
  say(t, "heads %" PRId64 " in %" PRId64 " classes, KV heads %" PRId64 " in %" PRId64 " classes\n",
      plan->task->heads, plan->task->head_classes, plan->task->kv_heads, plan->task->kv_classes);
  say_lists(t, plan);
  say(t, "%d stage(s), %" PRId64 " step(s)\n", plan->schedule.stages, plan->schedule.nsteps);
  for (i = 0; i < plan->schedule.nsteps; i++) {
    const bsd_step *s = &plan->schedule.steps[i];
    say(t,
        "step %d, stage %d: from %d %" PRId64 " + %" PRId64 " bytes, to %d %" PRId64 " + %" PRId64
        " bytes (forward + backward)\n",
        s->step, s->stage, s->receive_peer, s->receive_bytes[0], s->receive_bytes[1], s->send_peer,
        s->send_bytes[0], s->send_bytes[1]);
  }
  say(t, "workspace %" PRId64 " bytes, plan %" PRId64 " bytes, made in %.3f ms\n", plan->map.bytes,
      plan->share->bytes, plan->plan_ms);
}

bsd_status bsd_plan_print(const bsd_plan *plan, char *buffer, size_t size, size_t *needed) {
  text count = {NULL, 0, 0}, t = {buffer, size, 0};
  if (plan == NULL || (buffer == NULL && size > 0))
    return BSD_ERR_ARG;
  say_plan(&count, plan);
  if (needed != NULL)
    *needed = count.used + 1;
  if (size == 0)
    return BSD_OK;
  if (size < count.used + 1)
    return bsd_fail(&plan->context->error, BSD_ERR_ARG, "size is %zu but the text needs %zu bytes",
                    size, count.used + 1);
  say_plan(&t, plan);
  return BSD_OK;
}

/* ---- positions --------------------------------------------------------------------------- */

bsd_status bsd_plan_local_length(const bsd_plan *plan, int64_t *tokens) {
  if (plan == NULL || tokens == NULL)
    return BSD_ERR_ARG;
  *tokens = plan->local_length;
  return BSD_OK;
}

bsd_status bsd_plan_local_positions(const bsd_plan *plan, int64_t *positions) {
  int64_t k, i, local;
  if (plan == NULL || (positions == NULL && plan->local_length > 0))
    return BSD_ERR_ARG;
  for (k = 0; k < bsd_layout_run_count(&plan->layout, plan->rank); k++) {
    bsd_position_run run = bsd_layout_run(&plan->layout, plan->rank, k, &local);
    for (i = 0; i < run.count; i++)
      positions[local + i] = run.first + i;
  }
  return BSD_OK;
}

bsd_status bsd_plan_position_runs(const bsd_plan *plan, bsd_position_run *runs, int64_t capacity,
                                  int64_t *count) {
  int64_t n, k;
  if (plan == NULL || count == NULL || (runs == NULL && capacity > 0))
    return BSD_ERR_ARG;
  n = bsd_layout_run_count(&plan->layout, plan->rank);
  for (k = 0; k < n && k < capacity; k++)
    runs[k] = bsd_layout_run(&plan->layout, plan->rank, k, NULL);
  *count = n;
  return BSD_OK;
}
