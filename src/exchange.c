/* exchange.c - a run's exchange: packed and posted, waited for stage by stage. See exchange.h.
 *
 * Its row of a trace: all steps are under way from the posting on; a step's slice begins where that of the
 * step before ended, and ends where its messages were first seen to be complete. */
#include "exchange.h"

/* ---- messages ------------------------------------------------------------------------------- */

static bsd_status pack_message(bsd_plan *plan, int pass, int64_t index,
                               const bsd_part_source *parts, int nparts, void *stream,
                               bsd_error *error) {
  const bsd_backend_table *backend = plan->context->backend;
  char *to = bsd_plan_at(plan, plan->map.send[pass][index]);
  int i;
  for (i = 0; i < nparts; i++) {
    const bsd_pack *pack = parts[i].kv ? &plan->tables.kv_pack[index] : &plan->tables.q_pack[index];
    if (pack->batch_rows == 0)
      continue;
    BSD_TRY(backend->pack(plan->context->device, pack, plan->task->batch, &parts[i].tensor,
                          parts[i].elements, parts[i].element_bytes, to, stream, error));
    to += plan->task->batch * pack->batch_rows * parts[i].elements * parts[i].element_bytes;
  }
  return BSD_OK;
}

/* A message as the transport may take it: in the workspace, or in its host copy. */
static char *message_at(const bsd_plan *plan, int64_t offset) {
  return plan->staging != NULL ? (char *)plan->staging + (offset - plan->map.messages_first)
                               : bsd_plan_at(plan, offset);
}

/* Between the workspace and its host copy, for a transport that cannot take the device's memory. */
static bsd_status stage_sends(bsd_plan *plan, int pass, void *stream, bsd_error *error) {
  const bsd_backend_table *backend = plan->context->backend;
  int64_t i;
  for (i = 0; i < plan->schedule.nsteps; i++) {
    const bsd_step *s = &plan->schedule.steps[i];
    int64_t offset;
    if (s->send_bytes[pass] == 0)
      continue;
    offset = plan->map.send[pass][s->send_index];
    BSD_TRY(backend->copy_out(plan->context->device, message_at(plan, offset),
                              bsd_plan_at(plan, offset), s->send_bytes[pass], stream, error));
  }
  return backend->synchronize(plan->context->device, stream, error);
}

static bsd_status unstage_arrivals(bsd_plan *plan, int pass, int stage, void *stream,
                                   bsd_error *error) {
  const bsd_backend_table *backend = plan->context->backend;
  int64_t i;
  for (i = 0; i < plan->schedule.nsteps; i++) {
    const bsd_step *s = &plan->schedule.steps[i];
    int64_t offset;
    if (s->receive_bytes[pass] == 0 || s->stage != stage)
      continue;
    offset = plan->map.receive[pass][s->receive_index];
    BSD_TRY(backend->copy_in(plan->context->device, bsd_plan_at(plan, offset),
                             message_at(plan, offset), s->receive_bytes[pass], stream, error));
  }
  return BSD_OK;
}

/* Those of one stage, or with ALL_STAGES all. */
enum { ALL_STAGES = -1 };

static bsd_status post_messages(bsd_plan *plan, int pass, int stage, bsd_error *error) {
  bsd_comm *comm = plan->context->comm;
  int64_t i;
  for (i = 0; i < plan->schedule.nsteps; i++) {
    const bsd_step *s = &plan->schedule.steps[i];
    if (stage != ALL_STAGES && s->stage != stage)
      continue;
    if (s->receive_bytes[pass] > 0)
      BSD_TRY(comm->transport->recv(comm, s->step, s->receive_peer,
                                    message_at(plan, plan->map.receive[pass][s->receive_index]),
                                    s->receive_bytes[pass], error));
    if (s->send_bytes[pass] > 0)
      BSD_TRY(comm->transport->send(comm, s->step, s->send_peer,
                                    message_at(plan, plan->map.send[pass][s->send_index]),
                                    s->send_bytes[pass], error));
  }
  return BSD_OK;
}

/* ---- trace ---------------------------------------------------------------------------------- */

static bsd_status mark_compute(const bsd_plan *plan, bsd_trace_part part, int stage, int64_t index,
                               void *stream, bsd_error *error) {
  return bsd_trace_mark(plan->trace, BSD_TRACE_COMPUTE, part, stage, index, stream, error);
}

static bsd_status mark_exchange(const bsd_plan *plan, bsd_trace_part part, int stage, int64_t index,
                                bsd_error *error) {
  return bsd_trace_mark(plan->trace, BSD_TRACE_EXCHANGE, part, stage, index, plan->exchange_stream,
                        error);
}

/* The step that is next to complete, or that there is none. */
static bsd_status mark_step(const bsd_plan *plan, bsd_error *error) {
  int64_t next = plan->steps_seen;
  if (next == plan->schedule.nsteps)
    return mark_exchange(plan, BSD_TRACE_NOTHING, 0, 0, error);
  return mark_exchange(plan, BSD_TRACE_EXCHANGE_STEP, plan->schedule.steps[next].stage, next,
                       error);
}

/* ---- posting -------------------------------------------------------------------------------- */

static bsd_status pack_all(bsd_plan *plan, int pass, const bsd_part_source *parts, int nparts,
                           void *stream, bsd_error *error) {
  int64_t i;
  for (i = 0; i < plan->schedule.nsteps; i++) {
    const bsd_step *s = &plan->schedule.steps[i];
    if (s->send_bytes[pass] == 0)
      continue;
    BSD_TRY(mark_compute(plan, BSD_TRACE_PACK, 0, i, stream, error));
    BSD_TRY(pack_message(plan, pass, s->send_index, parts, nparts, stream, error));
  }
  return BSD_OK;
}

/* Hands the packed messages of a stage to the transport. */
static bsd_status start(bsd_plan *plan, int pass, int stage, bsd_error *error) {
  bsd_comm *comm = plan->context->comm;
  bsd_exchange exchange = {plan->hash, pass == BSD_FORWARD ? "forward" : "backward",
                           plan->context->backend->id != BSD_BACKEND_CPU && plan->staging == NULL,
                           plan->exchange_stream, stage > 1};
  BSD_TRY(comm->transport->begin(comm, &exchange, error));
  BSD_TRY(post_messages(plan, pass, stage, error));
  return comm->transport->end(comm, error);
}

/* Waits in the caller's thread for the steps up to a ring step, one after the other. */
static bsd_status wait_steps(bsd_plan *plan, int last, bsd_error *error) {
  const bsd_schedule *schedule = &plan->schedule;
  while (plan->steps_seen < schedule->nsteps && schedule->steps[plan->steps_seen].step <= last) {
    BSD_TRY(bsd_comm_wait(plan->context->comm, schedule->steps[plan->steps_seen].step, error));
    plan->steps_seen++;
    BSD_TRY(mark_step(plan, error));
  }
  return BSD_OK;
}

/* A transport on the stream has a group for each stage in which messages arrive, the same on all ranks, also on
 * those that have nothing in it: the messages of a group complete together. */
static bsd_status leave_on_stream(bsd_plan *plan, int pass, void *stream, bsd_error *error) {
  const bsd_backend_table *backend = plan->context->backend;
  int count = plan->stages.count, stage;
  for (stage = count > 1 ? 1 : 0; stage < count; stage++) {
    BSD_TRY(mark_exchange(plan, BSD_TRACE_EXCHANGE_STEP, stage, -1, error));
    BSD_TRY(start(plan, pass, stage, error));
    BSD_TRY(backend->event_record(plan->context->device, plan->event[BSD_EVENT_JOIN + stage],
                                  plan->exchange_stream, error));
  }
  if (plan->serialize) {
    BSD_TRY(mark_compute(plan, BSD_TRACE_WAIT, count - 1, 0, stream, error));
    BSD_TRY(bsd_comm_wait(plan->context->comm, plan->nranks, error));
  }
  return mark_exchange(plan, BSD_TRACE_NOTHING, 0, 0, error);
}

/* A transport in the caller's thread takes messages that are complete, in memory that it can read. */
static bsd_status leave_to_thread(bsd_plan *plan, int pass, void *stream, bsd_error *error) {
  if (plan->staging != NULL) {
    BSD_TRY(mark_exchange(plan, BSD_TRACE_STAGE_OUT, 0, 0, error));
    BSD_TRY(mark_compute(plan, BSD_TRACE_STAGE_OUT, 0, 0, stream, error));
    BSD_TRY(stage_sends(plan, pass, stream, error));
  } else {
    BSD_TRY(plan->context->backend->synchronize(plan->context->device, stream, error));
  }
  BSD_TRY(mark_step(plan, error));
  BSD_TRY(mark_compute(plan, BSD_TRACE_POST, 0, 0, stream, error));
  BSD_TRY(start(plan, pass, ALL_STAGES, error));
  if (!plan->serialize)
    return BSD_OK;
  BSD_TRY(mark_compute(plan, BSD_TRACE_WAIT, 1, 0, stream, error));
  return wait_steps(plan, plan->nranks, error);
}

bsd_status bsd_exchange_post(bsd_plan *plan, int pass, const bsd_part_source *parts, int nparts,
                             void *stream, bsd_error *error) {
  const bsd_backend_table *backend = plan->context->backend;
  void *device = plan->context->device;
  plan->last_stream = stream;
  plan->last_pass = pass;
  plan->last_received[pass] = 0;
  plan->steps_seen = 0;
  if (plan->nranks == 1)
    return BSD_OK;
  if (plan->schedule.nsteps == 0) /* an exchange of the others: the transport counts it */
    return plan->context->comm->transport->asynchronous ? leave_on_stream(plan, pass, stream, error)
                                                        : start(plan, pass, ALL_STAGES, error);
  BSD_TRY(pack_all(plan, pass, parts, nparts, stream, error));
  BSD_TRY(backend->event_record(device, plan->event[BSD_EVENT_FORK], stream, error));
  BSD_TRY(backend->stream_wait(device, plan->exchange_stream, plan->event[BSD_EVENT_FORK], error));
  if (!plan->context->comm->transport->asynchronous)
    return leave_to_thread(plan, pass, stream, error);
  if (plan->serialize)
    BSD_TRY(backend->synchronize(device, stream, error));
  BSD_TRY(mark_compute(plan, BSD_TRACE_POST, 0, 0, stream, error));
  return leave_on_stream(plan, pass, stream, error);
}

/* ---- waiting -------------------------------------------------------------------------------- */

/* The last ring step from which something arrives that a stage uses; 0: there is none. */
static int last_arrival(const bsd_plan *plan, int pass, int stage) {
  int last = 0;
  int64_t i;
  for (i = 0; i < plan->schedule.nsteps; i++) {
    const bsd_step *s = &plan->schedule.steps[i];
    if (s->stage <= stage && s->receive_bytes[pass] > 0)
      last = s->step;
  }
  return last;
}

static bsd_status stage_in(bsd_plan *plan, int pass, int stage, void *stream, bsd_error *error) {
  if (plan->staging == NULL)
    return BSD_OK;
  BSD_TRY(mark_compute(plan, BSD_TRACE_STAGE_IN, stage, 0, stream, error));
  BSD_TRY(mark_exchange(plan, BSD_TRACE_STAGE_IN, stage, 0, error));
  BSD_TRY(unstage_arrivals(plan, pass, stage, stream, error));
  return mark_exchange(plan, BSD_TRACE_NOTHING, 0, 0, error);
}

/* The group that holds a ring step: the others of it are here too. */
static bsd_status wait_group(bsd_plan *plan, int last, void *stream, bsd_error *error) {
  const bsd_schedule *schedule = &plan->schedule;
  int stage = 0;
  while (plan->steps_seen < schedule->nsteps && schedule->steps[plan->steps_seen].step <= last)
    stage = schedule->steps[plan->steps_seen++].stage;
  while (plan->steps_seen < schedule->nsteps && schedule->steps[plan->steps_seen].stage == stage)
    plan->steps_seen++;
  return plan->context->backend->stream_wait(plan->context->device, stream,
                                             plan->event[BSD_EVENT_JOIN + stage], error);
}

/* Makes what follows on `stream` wait for the steps up to a ring step. */
static bsd_status wait_until(bsd_plan *plan, int last, int stage, void *stream, bsd_error *error) {
  const bsd_schedule *schedule = &plan->schedule;
  if (plan->steps_seen == schedule->nsteps || schedule->steps[plan->steps_seen].step > last)
    return BSD_OK;
  BSD_TRY(mark_compute(plan, BSD_TRACE_WAIT, stage, 0, stream, error));
  if (!plan->context->comm->transport->asynchronous)
    return wait_steps(plan, last, error);
  return wait_group(plan, last, stream, error);
}

bsd_status bsd_exchange_wait(bsd_plan *plan, int pass, int stage, void *stream, bsd_error *error) {
  int last = last_arrival(plan, pass, stage);
  if (last == 0)
    return BSD_OK;
  BSD_TRY(wait_until(plan, last, stage, stream, error));
  return stage_in(plan, pass, stage, stream, error);
}

bsd_status bsd_exchange_finish(bsd_plan *plan, void *stream, bsd_error *error) {
  return wait_until(plan, plan->nranks, plan->schedule.stages, stream, error);
}

bsd_status bsd_exchange_progress(bsd_plan *plan, int stage, void *stream, bsd_error *error) {
  bsd_comm *comm = plan->context->comm;
  int done = 1;
  if (comm->transport->asynchronous || plan->steps_seen == plan->schedule.nsteps)
    return BSD_OK;
  BSD_TRY(mark_compute(plan, BSD_TRACE_PROGRESS, stage, 0, stream, error));
  while (plan->steps_seen < plan->schedule.nsteps) {
    BSD_TRY(comm->transport->test(comm, plan->schedule.steps[plan->steps_seen].step, &done, error));
    if (!done)
      return BSD_OK;
    plan->steps_seen++;
    BSD_TRY(mark_step(plan, error));
  }
  return BSD_OK;
}
