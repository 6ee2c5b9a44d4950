/* executor.c - forward and backward: post the exchange, run the local rows, then each stage as it arrives.
 *
 * Decides nothing: order, messages and stages are the plan's. The same shape for both passes:
 *   post the exchange; for each stage { wait for what it uses; run its rows }; finish. */
#include <inttypes.h>
#include <math.h>
#include <time.h>

#include "clock.h"
#include "memory.h"
#include "exchange.h"

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

/* ---- calls --------------------------------------------------------------------------------- */

/* A [B][H][n] fp32 tensor as strides. */
static bsd_part_source f32_source(const bsd_plan *plan, const float *data) {
  int64_t n = plan->local_length;
  bsd_part_source s = {{(void *)(uintptr_t)data, plan->task->heads * n, 1, n}, 1, sizeof(float), 0};
  return s;
}

static bsd_part_source tensor_source(const bsd_plan *plan, const bsd_tensor *tensor, int kv) {
  bsd_part_source s = {*tensor, plan->task->head_dim, bsd_dtype_bytes(plan->task->dtype), kv};
  return s;
}

/* What the caller's stream does from here on, in a traced run. */
static bsd_status mark(const bsd_plan *plan, bsd_trace_part part, int stage, int64_t pass,
                       void *stream, bsd_error *error) {
  return bsd_trace_mark(plan->trace, BSD_TRACE_COMPUTE, part, stage, pass, stream, error);
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

static bsd_status end_run(bsd_plan *plan, int pass, int64_t received_before, void *stream,
                          bsd_error *error) {
  BSD_TRY(bsd_exchange_finish(plan, stream, error));
  plan->last_received[pass] = plan->context->comm->payload_received - received_before;
  return mark(plan, BSD_TRACE_NOTHING, 0, 0, stream, error);
}

/* ---- forward ----------------------------------------------------------------------------- */

static bsd_status run_forward(bsd_plan *plan, const bsd_call *call, void *stream,
                              bsd_error *error) {
  void *device = plan->context->device;
  const bsd_kernels *kernels = plan->kernels;
  bsd_part_source parts[2] = {tensor_source(plan, &call->k.local, 1),
                              tensor_source(plan, &call->v.local, 1)};
  int64_t pass, received = plan->context->comm->payload_received;
  int stage;
  bsd_trace_restart(plan->trace);
  BSD_TRY(bsd_exchange_post(plan, BSD_FORWARD, parts, 2, stream, error));
  if (plan->clear[BSD_FORWARD]) {
    BSD_TRY(mark(plan, BSD_TRACE_CLEAR, 0, 0, stream, error));
    BSD_TRY(kernels->clear_forward(device, call, stream, error));
  }
  for (stage = 0; stage < plan->schedule.stages; stage++) {
    BSD_TRY(bsd_exchange_wait(plan, BSD_FORWARD, stage, stream, error));
    for (pass = 0; pass < plan->lists.nrow_passes; pass++) {
      BSD_TRY(mark(plan, BSD_TRACE_FORWARD, stage, pass, stream, error));
      BSD_TRY(kernels->forward(device, call, plan->row_lists, pass, stage, stream, error));
      BSD_TRY(bsd_exchange_progress(plan, stage, stream, error));
    }
  }
  if (plan->accumulate_rows) {
    BSD_TRY(mark(plan, BSD_TRACE_COMBINE, 0, 0, stream, error));
    BSD_TRY(kernels->combine(device, call, stream, error));
  }
  return end_run(plan, BSD_FORWARD, received, stream, error);
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
  bsd_part_source parts[6] = {
      tensor_source(plan, &call->k.local, 1), tensor_source(plan, &call->v.local, 1),
      tensor_source(plan, &call->q.local, 0), tensor_source(plan, &call->d_o.local, 0),
      f32_source(plan, call->lse.local),      f32_source(plan, call->delta.local)};
  int64_t pass, received = plan->context->comm->payload_received;
  int stage;
  bsd_trace_restart(plan->trace);
  BSD_TRY(mark(plan, BSD_TRACE_DELTA, 0, 0, stream, error));
  BSD_TRY(kernels->delta(device, call, stream, error));
  BSD_TRY(bsd_exchange_post(plan, BSD_BACKWARD, parts, 6, stream, error));
  if (plan->clear[BSD_BACKWARD]) {
    BSD_TRY(mark(plan, BSD_TRACE_CLEAR, 0, 0, stream, error));
    BSD_TRY(kernels->clear_backward(device, call, stream, error));
  }
  for (stage = 0; stage < plan->schedule.stages; stage++) {
    BSD_TRY(bsd_exchange_wait(plan, BSD_BACKWARD, stage, stream, error));
    for (pass = 0; pass < plan->lists.ncolumn_passes; pass++) {
      BSD_TRY(mark(plan, BSD_TRACE_KEY_GRADIENT, stage, pass, stream, error));
      BSD_TRY(kernels->backward_dkv(device, call, plan->column_lists, pass, stage, stream, error));
      BSD_TRY(bsd_exchange_progress(plan, stage, stream, error));
    }
    for (pass = 0; pass < plan->lists.nrow_passes; pass++) {
      BSD_TRY(mark(plan, BSD_TRACE_QUERY_GRADIENT, stage, pass, stream, error));
      BSD_TRY(kernels->backward_dq(device, call, plan->row_lists, pass, stage, stream, error));
      BSD_TRY(bsd_exchange_progress(plan, stage, stream, error));
    }
  }
  if (plan->accumulate_rows || plan->accumulate_columns) {
    BSD_TRY(mark(plan, BSD_TRACE_COMBINE, 0, 0, stream, error));
    BSD_TRY(kernels->finish_backward(device, call, stream, error));
  }
  return end_run(plan, BSD_BACKWARD, received, stream, error);
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

bsd_status bsd_plan_run_stats(const bsd_plan *plan, bsd_run_statistics *stats) {
  double exposed[2] = {NAN, NAN}, exchange[2] = {NAN, NAN};
  if (plan == NULL || stats == NULL)
    return BSD_ERR_ARG;
  if (stats->struct_size != sizeof *stats)
    return bsd_fail(&plan->context->error, BSD_ERR_ARG,
                    "stats: struct_size is %zu but this library expects %zu", stats->struct_size,
                    sizeof *stats);
  if (plan->trace != NULL && plan->last_pass >= 0 && plan->nranks > 1)
    bsd_trace_sums(plan->trace, &exposed[plan->last_pass], &exchange[plan->last_pass]);
  stats->forward_bytes_received = plan->last_received[BSD_FORWARD];
  stats->forward_exposed_ms = exposed[BSD_FORWARD];
  stats->forward_exchange_ms = exchange[BSD_FORWARD];
  stats->backward_bytes_received = plan->last_received[BSD_BACKWARD];
  stats->backward_exposed_ms = exposed[BSD_BACKWARD];
  stats->backward_exchange_ms = exchange[BSD_BACKWARD];
  return BSD_OK;
}
