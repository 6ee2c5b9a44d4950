/* executor.c - forward and backward: pack, post, run the local rows, then each stage as it arrives.
 *
 * Decides nothing: order, messages and stages are the plan's. The same shape for both passes:
 *   post(pass); for each stage { wait for its steps; run its rows }; finish. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "memory.h"
#include "plan.h"

/* ---- arguments --------------------------------------------------------------------------- */

/* *out is the tensor with its strides filled in. Strides may not let two rows of D elements overlap. */
static bsd_status check_tensor(const bsd_plan *plan, const char *name, const bsd_tensor *in,
                               int64_t heads, bsd_tensor *out, bsd_error *error) {
  const bsd_task *t = plan->task;
  int64_t d = t->head_dim, n = plan->local_length;
  int64_t align = t->dtype == BSD_F32 ? 4 : 2, i;
  struct {
    const char *name;
    int64_t value, count;
  } stride[3];
  if (in == NULL)
    return bsd_fail(error, BSD_ERR_ARG, "%s is NULL but a tensor must be given", name);
  *out = *in;
  if (n == 0)
    return BSD_OK;
  if (in->data == NULL)
    return bsd_fail(error, BSD_ERR_ARG, "%s: data is NULL but this rank holds %" PRId64 " tokens",
                    name, n);
  if (out->batch_stride == 0 && out->position_stride == 0 && out->head_stride == 0) {
    out->head_stride = d;
    out->position_stride = heads * d;
    out->batch_stride = n * heads * d;
  }
  stride[0].name = "batch_stride", stride[0].value = out->batch_stride, stride[0].count = t->batch;
  stride[1].name = "position_stride", stride[1].value = out->position_stride, stride[1].count = n;
  stride[2].name = "head_stride", stride[2].value = out->head_stride, stride[2].count = heads;
  for (i = 0; i < 3; i++)
    if (stride[i].count > 1 && stride[i].value < d)
      return bsd_fail(error, BSD_ERR_ARG, "%s: %s is %" PRId64 " but head_dim is %" PRId64, name,
                      stride[i].name, stride[i].value, d);
  if (plan->context->backend->id == BSD_BACKEND_CUDA) {
    align = 16;
    for (i = 0; i < 3; i++)
      if (stride[i].count > 1 && stride[i].value * bsd_dtype_bytes(t->dtype) % 16 != 0)
        return bsd_fail(error, BSD_ERR_ARG,
                        "%s: %s is %" PRId64 " elements but must be a multiple of 16 bytes on CUDA",
                        name, stride[i].name, stride[i].value);
  }
  if ((uintptr_t)in->data % (uintptr_t)align != 0)
    return bsd_fail(error, BSD_ERR_ARG,
                    "%s: data is at %p but must be aligned to %" PRId64 " bytes", name, in->data,
                    align);
  return BSD_OK;
}

static bsd_status check_state(const bsd_plan *plan, bsd_error *error) {
  if (plan->offline)
    return bsd_fail(error, BSD_ERR_STATE,
                    "the plan was made offline for rank %d of %d and cannot run", plan->rank,
                    plan->nranks);
  if (plan->context->comm->failed)
    return bsd_fail(error, BSD_ERR_STATE,
                    "the communicator has failed before: destroy it and the plan, then begin anew");
  return BSD_OK;
}

static bsd_status check_f32(const bsd_plan *plan, const char *name, const float *pointer,
                            bsd_error *error) {
  if (pointer == NULL && plan->local_length > 0)
    return bsd_fail(error, BSD_ERR_ARG, "%s is NULL but this rank holds %" PRId64 " tokens", name,
                    plan->local_length);
  return BSD_OK;
}

/* ---- exchange ---------------------------------------------------------------------------- */

typedef struct part_source { /* a tensor of which a message carries a part */
  bsd_tensor tensor;
  int64_t elements, element_bytes;
  int kv; /* by KV heads */
} part_source;

/* A [B][H][n] fp32 tensor as strides. */
static part_source f32_source(const bsd_plan *plan, const float *data) {
  int64_t n = plan->local_length;
  part_source s = {{(void *)(uintptr_t)data, plan->task->heads * n, 1, n}, 1, sizeof(float), 0};
  return s;
}

static part_source tensor_source(const bsd_plan *plan, const bsd_tensor *tensor, int kv) {
  part_source s = {*tensor, plan->task->head_dim, bsd_dtype_bytes(plan->task->dtype), kv};
  return s;
}

static bsd_status pack_message(bsd_plan *plan, int pass, int64_t index, const part_source *parts,
                               int nparts, void *stream, bsd_error *error) {
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

static bsd_status post_messages(bsd_plan *plan, int pass, bsd_error *error) {
  bsd_comm *comm = plan->context->comm;
  int64_t i;
  for (i = 0; i < plan->schedule.nsteps; i++) {
    const bsd_step *s = &plan->schedule.steps[i];
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

/* Packs this rank's messages and posts the whole exchange, on its own stream where there are streams. */
static bsd_status post(bsd_plan *plan, int pass, const part_source *parts, int nparts, void *stream,
                       bsd_error *error) {
  const bsd_backend_table *backend = plan->context->backend;
  void *device = plan->context->device;
  bsd_comm *comm = plan->context->comm;
  bsd_exchange exchange = {plan->hash, pass == BSD_FORWARD ? "forward" : "backward",
                           backend->id != BSD_BACKEND_CPU && plan->staging == NULL,
                           plan->exchange_stream};
  int64_t i;
  plan->last_stream = stream;
  plan->last_pass = pass;
  plan->record[pass] = (bsd_pass_record){0, 0, 0};
  if (plan->nranks == 1)
    return BSD_OK;
  for (i = 0; i < plan->schedule.nsteps; i++)
    if (plan->schedule.steps[i].send_bytes[pass] > 0)
      BSD_TRY(pack_message(plan, pass, plan->schedule.steps[i].send_index, parts, nparts, stream,
                           error));
  BSD_TRY(backend->event_record(device, plan->event[BSD_EVENT_FORK], stream, error));
  BSD_TRY(backend->stream_wait(device, plan->exchange_stream, plan->event[BSD_EVENT_FORK], error));
  if (plan->staging != NULL)
    BSD_TRY(stage_sends(plan, pass, stream, error));
  else if (!comm->transport->asynchronous || plan->serialize)
    BSD_TRY(backend->synchronize(device, stream, error));
  plan->posted_at = bsd_now();
  BSD_TRY(comm->transport->begin(comm, &exchange, error));
  BSD_TRY(post_messages(plan, pass, error));
  BSD_TRY(comm->transport->end(comm, error));
  if (plan->serialize)
    BSD_TRY(bsd_comm_wait(comm, plan->nranks, error));
  return backend->event_record(device, plan->event[BSD_EVENT_JOIN], plan->exchange_stream, error);
}

/* The last ring step whose arrivals a stage uses; all of them, and all sends, for the last stage. */
static int last_step_of(const bsd_plan *plan, int stage) {
  int last = 0;
  int64_t i;
  if (stage + 1 >= plan->schedule.stages)
    return plan->nranks;
  for (i = 0; i < plan->schedule.nsteps; i++)
    if (plan->schedule.steps[i].stage <= stage)
      last = plan->schedule.steps[i].step;
  return last;
}

/* Makes what follows on `stream` wait until what a stage uses has arrived; the last stage also for what
 * was sent, so that the caller may touch everything after the run. */
static bsd_status wait_stage(bsd_plan *plan, int pass, int stage, void *stream, bsd_error *error) {
  const bsd_backend_table *backend = plan->context->backend;
  void *device = plan->context->device;
  double start = bsd_now();
  if (plan->nranks == 1 || (stage == 0 && plan->schedule.stages > 1))
    return BSD_OK;
  BSD_TRY(backend->event_record(device, plan->event[BSD_EVENT_LOCAL_DONE], stream, error));
  if (plan->context->comm->transport->asynchronous) {
    BSD_TRY(backend->stream_wait(device, stream, plan->event[BSD_EVENT_JOIN], error));
  } else {
    BSD_TRY(bsd_comm_wait(plan->context->comm, last_step_of(plan, stage), error));
    if (plan->staging != NULL)
      BSD_TRY(unstage_arrivals(plan, pass, stage, stream, error));
  }
  plan->record[pass].exposed_ms += 1e3 * (bsd_now() - start);
  plan->record[pass].exchange_ms = 1e3 * (bsd_now() - plan->posted_at);
  return backend->event_record(device, plan->event[BSD_EVENT_REJOINED], stream, error);
}

/* Lets a transport that only moves when it is called get on with what is under way. */
static bsd_status progress(bsd_plan *plan, int stage, bsd_error *error) {
  bsd_comm *comm = plan->context->comm;
  int done;
  if (stage + 1 >= plan->schedule.stages || comm->transport->asynchronous)
    return BSD_OK;
  return comm->transport->test(comm, plan->nranks, &done, error);
}

static bsd_operand operand(const bsd_plan *plan, int pass, bsd_message_part part,
                           const bsd_tensor *local) {
  bsd_operand o = {*local, plan->tables.received[pass][part]};
  return o;
}

static bsd_operand_f32 operand_f32(const bsd_plan *plan, int pass, bsd_message_part part,
                                   const float *local) {
  bsd_operand_f32 o = {local, plan->tables.received[pass][part]};
  return o;
}

/* A failed run leaves messages under way: the communicator is given up with it. */
static bsd_status give_up(bsd_plan *plan, bsd_status status) {
  if (status != BSD_OK && plan->nranks > 1)
    plan->context->comm->transport->abort(plan->context->comm);
  return status;
}

/* ---- forward ----------------------------------------------------------------------------- */

static bsd_status run_forward(bsd_plan *plan, const bsd_call *call, void *stream,
                              bsd_error *error) {
  void *device = plan->context->device;
  const bsd_kernels *kernels = plan->kernels;
  part_source parts[2] = {tensor_source(plan, &call->k.local, 1),
                          tensor_source(plan, &call->v.local, 1)};
  int64_t pass, received = plan->context->comm->payload_received;
  int stage;
  BSD_TRY(post(plan, BSD_FORWARD, parts, 2, stream, error));
  if (plan->clear)
    BSD_TRY(kernels->clear_forward(device, call, stream, error));
  for (stage = 0; stage < plan->schedule.stages; stage++) {
    BSD_TRY(wait_stage(plan, BSD_FORWARD, stage, stream, error));
    for (pass = 0; pass < plan->lists.nrow_passes; pass++) {
      BSD_TRY(kernels->forward(device, call, plan->row_lists, pass, stage, stream, error));
      BSD_TRY(progress(plan, stage, error));
    }
  }
  if (plan->accumulate_rows)
    BSD_TRY(kernels->combine(device, call, stream, error));
  plan->record[BSD_FORWARD].bytes_received = plan->context->comm->payload_received - received;
  return BSD_OK;
}

bsd_status bsd_forward(bsd_plan *plan, const bsd_tensor *q, const bsd_tensor *k,
                       const bsd_tensor *v, const bsd_tensor *o, float *lse, void *stream) {
  bsd_error *error;
  bsd_tensor tensor[4];
  bsd_call call;
  if (plan == NULL)
    return BSD_ERR_ARG;
  error = &plan->context->error;
  BSD_TRY(check_state(plan, error));
  BSD_TRY(check_tensor(plan, "q", q, plan->task->heads, &tensor[0], error));
  BSD_TRY(check_tensor(plan, "k", k, plan->task->kv_heads, &tensor[1], error));
  BSD_TRY(check_tensor(plan, "v", v, plan->task->kv_heads, &tensor[2], error));
  BSD_TRY(check_tensor(plan, "o", o, plan->task->heads, &tensor[3], error));
  call = bsd_plan_call(plan);
  call.q.local = tensor[0];
  call.k = operand(plan, BSD_FORWARD, BSD_PART_K, &tensor[1]);
  call.v = operand(plan, BSD_FORWARD, BSD_PART_V, &tensor[2]);
  call.o = tensor[3];
  call.lse_out = lse;
  call.acc_o = bsd_plan_at(plan, plan->map.acc_o);
  call.acc_lse = bsd_plan_at(plan, plan->map.acc_lse);
  return give_up(plan, run_forward(plan, &call, stream, error));
}

/* ---- backward ---------------------------------------------------------------------------- */

static bsd_status run_backward(bsd_plan *plan, const bsd_call *call, void *stream,
                               bsd_error *error) {
  void *device = plan->context->device;
  const bsd_kernels *kernels = plan->kernels;
  part_source parts[6] = {
      tensor_source(plan, &call->k.local, 1), tensor_source(plan, &call->v.local, 1),
      tensor_source(plan, &call->q.local, 0), tensor_source(plan, &call->d_o.local, 0),
      f32_source(plan, call->lse.local),      f32_source(plan, call->delta.local)};
  int64_t pass, received = plan->context->comm->payload_received;
  int stage;
  BSD_TRY(kernels->delta(device, call, stream, error));
  BSD_TRY(post(plan, BSD_BACKWARD, parts, 6, stream, error));
  if (plan->clear)
    BSD_TRY(kernels->clear_backward(device, call, stream, error));
  for (stage = 0; stage < plan->schedule.stages; stage++) {
    BSD_TRY(wait_stage(plan, BSD_BACKWARD, stage, stream, error));
    for (pass = 0; pass < plan->lists.nrow_passes; pass++) {
      BSD_TRY(kernels->backward_dq(device, call, plan->row_lists, pass, stage, stream, error));
      BSD_TRY(progress(plan, stage, error));
    }
    for (pass = 0; pass < plan->lists.ncolumn_passes; pass++) {
      BSD_TRY(kernels->backward_dkv(device, call, plan->column_lists, pass, stage, stream, error));
      BSD_TRY(progress(plan, stage, error));
    }
  }
  if (plan->accumulate_rows || plan->accumulate_columns)
    BSD_TRY(kernels->finish_backward(device, call, stream, error));
  plan->record[BSD_BACKWARD].bytes_received = plan->context->comm->payload_received - received;
  return BSD_OK;
}

bsd_status bsd_backward(bsd_plan *plan, const bsd_tensor *q, const bsd_tensor *k,
                        const bsd_tensor *v, const bsd_tensor *o, const float *lse,
                        const bsd_tensor *d_o, const float *dlse, const bsd_tensor *dq,
                        const bsd_tensor *dk, const bsd_tensor *dv, void *stream) {
  bsd_error *error;
  bsd_tensor in[5], out[3];
  bsd_call call;
  int64_t heads, kv_heads;
  float *delta;
  if (plan == NULL)
    return BSD_ERR_ARG;
  error = &plan->context->error;
  heads = plan->task->heads;
  kv_heads = plan->task->kv_heads;
  BSD_TRY(check_state(plan, error));
  BSD_TRY(check_tensor(plan, "q", q, heads, &in[0], error));
  BSD_TRY(check_tensor(plan, "k", k, kv_heads, &in[1], error));
  BSD_TRY(check_tensor(plan, "v", v, kv_heads, &in[2], error));
  BSD_TRY(check_tensor(plan, "o", o, heads, &in[3], error));
  BSD_TRY(check_f32(plan, "lse", lse, error));
  BSD_TRY(check_tensor(plan, "do", d_o, heads, &in[4], error));
  BSD_TRY(check_tensor(plan, "dq", dq, heads, &out[0], error));
  BSD_TRY(check_tensor(plan, "dk", dk, kv_heads, &out[1], error));
  BSD_TRY(check_tensor(plan, "dv", dv, kv_heads, &out[2], error));
  delta = bsd_plan_at(plan, plan->map.delta);
  call = bsd_plan_call(plan);
  call.k = operand(plan, BSD_BACKWARD, BSD_PART_K, &in[1]);
  call.v = operand(plan, BSD_BACKWARD, BSD_PART_V, &in[2]);
  call.q = operand(plan, BSD_BACKWARD, BSD_PART_Q, &in[0]);
  call.d_o = operand(plan, BSD_BACKWARD, BSD_PART_DO, &in[4]);
  call.lse = operand_f32(plan, BSD_BACKWARD, BSD_PART_LSE, lse);
  call.delta = operand_f32(plan, BSD_BACKWARD, BSD_PART_DELTA, delta);
  call.o = in[3];
  call.delta_out = delta;
  call.dlse = dlse;
  call.dq = out[0];
  call.dk = out[1];
  call.dv = out[2];
  call.acc_dq = bsd_plan_at(plan, plan->map.acc_dq);
  call.acc_dk = bsd_plan_at(plan, plan->map.acc_dk);
  call.acc_dv = bsd_plan_at(plan, plan->map.acc_dv);
  return give_up(plan, run_backward(plan, &call, stream, error));
}

/* Polls the stream of the last run and the transport's own word; a deadline passed gives up both. */
static bsd_status wait_for_stream(bsd_plan *plan, double seconds, bsd_error *error) {
  const bsd_backend_table *backend = plan->context->backend;
  bsd_comm *comm = plan->context->comm;
  double deadline = bsd_now() + seconds;
  int done = 0;
  for (;;) {
    BSD_TRY(backend->stream_query(plan->context->device, plan->last_stream, &done, error));
    if (done)
      return BSD_OK;
    if (comm->transport->asynchronous && plan->nranks > 1) {
      int arrived;
      BSD_TRY(give_up(plan, comm->transport->test(comm, plan->nranks, &arrived, error)));
    }
    if (bsd_now() > deadline)
      return give_up(plan, bsd_fail(error, BSD_ERR_TIMEOUT,
                                    "rank %d: the run was not complete after %g s; this rank "
                                    "receives %" PRId64 " bytes forward, %" PRId64
                                    " backward, in %" PRId64 " ring steps",
                                    plan->rank, seconds,
                                    bsd_schedule_received(&plan->schedule, BSD_FORWARD),
                                    bsd_schedule_received(&plan->schedule, BSD_BACKWARD),
                                    plan->schedule.nsteps));
    nanosleep(&(struct timespec){0, 20000}, NULL);
  }
}

bsd_status bsd_plan_wait(bsd_plan *plan, double seconds) {
  bsd_error *error;
  if (plan == NULL)
    return BSD_ERR_ARG;
  error = &plan->context->error;
  if (!(seconds >= 0))
    return bsd_fail(error, BSD_ERR_ARG, "seconds is %g but must not be negative", seconds);
  if (plan->offline || plan->context->backend->id == BSD_BACKEND_CPU)
    return BSD_OK;
  return wait_for_stream(plan, seconds > 0 ? seconds : plan->context->timeout, error);
}

/* Of the last run the device's own clock tells: what the host waited says nothing there. */
static void read_events(const bsd_plan *plan, bsd_pass_record *record) {
  const bsd_backend_table *backend = plan->context->backend;
  void *device = plan->context->device, *const *event = plan->event;
  record->exposed_ms =
      backend->event_elapsed_ms(device, event[BSD_EVENT_LOCAL_DONE], event[BSD_EVENT_REJOINED]);
  record->exchange_ms =
      backend->event_elapsed_ms(device, event[BSD_EVENT_FORK], event[BSD_EVENT_JOIN]);
}

bsd_status bsd_plan_run_stats(const bsd_plan *plan, bsd_run_statistics *stats) {
  bsd_pass_record record[2];
  if (plan == NULL || stats == NULL)
    return BSD_ERR_ARG;
  if (stats->struct_size != sizeof *stats)
    return bsd_fail(&plan->context->error, BSD_ERR_ARG,
                    "stats: struct_size is %zu but this library expects %zu", stats->struct_size,
                    sizeof *stats);
  memcpy(record, plan->record, sizeof record);
  if (plan->context->comm->transport->asynchronous && plan->nranks > 1 && plan->last_pass >= 0)
    read_events(plan, &record[plan->last_pass]);
  stats->forward_bytes_received = record[BSD_FORWARD].bytes_received;
  stats->forward_exposed_ms = record[BSD_FORWARD].exposed_ms;
  stats->forward_exchange_ms = record[BSD_FORWARD].exchange_ms;
  stats->backward_bytes_received = record[BSD_BACKWARD].bytes_received;
  stats->backward_exposed_ms = record[BSD_BACKWARD].exposed_ms;
  stats->backward_exchange_ms = record[BSD_BACKWARD].exchange_ms;
  return BSD_OK;
}
