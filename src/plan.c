/* plan.c - creates plans: the ranks agree on what they were given and on what it costs, layout and stages are
 * chosen, the rank's share is made ready for the backend. See plan.h. */
#include "plan.h"

#include <inttypes.h>

#include "agree.h"
#include "clock.h"
#include "env.h"
#include "hash.h"
#include "memory.h"

/* ---- hashes ------------------------------------------------------------------------------ */

static uint64_t layout_spec_hash(const bsd_layout_spec *spec) {
  bsd_hash hash;
  bsd_hash_begin(&hash);
  bsd_hash_i64(&hash, spec->kind);
  if (spec->kind == BSD_LAYOUT_DILATED) {
    bsd_hash_i64(&hash, spec->group);
    bsd_hash_i64(&hash, spec->unit);
  }
  if (spec->kind == BSD_LAYOUT_CUSTOM && spec->unit_ranks != NULL && spec->nunits > 0)
    bsd_hash_bytes(&hash, spec->unit_ranks, sizeof(int32_t) * (size_t)spec->nunits);
  return bsd_hash_value(&hash);
}

static uint64_t text_hash(const char *first, const char *second) {
  bsd_hash hash;
  bsd_hash_begin(&hash);
  bsd_hash_string(&hash, first);
  bsd_hash_string(&hash, second);
  return bsd_hash_value(&hash);
}

static uint64_t plan_hash(const bsd_plan *plan) {
  bsd_hash hash;
  bsd_hash_begin(&hash);
  bsd_hash_string(&hash, bsd_version());
  bsd_hash_u64(&hash, bsd_pattern_content_hash(plan->task->pattern));
  bsd_hash_i64(&hash, plan->task->length);
  bsd_hash_i64(&hash, plan->task->dtype);
  bsd_hash_u64(&hash, bsd_task_problem_hash(plan->task));
  bsd_hash_u64(&hash, bsd_task_documents_hash(plan->task));
  bsd_hash_u64(&hash, bsd_layout_hash(&plan->layout));
  bsd_hash_i64(&hash, plan->nranks);
  bsd_hash_i64(&hash, plan->stages.count);
  bsd_hash_i64(&hash, plan->stages.first_steps);
  return bsd_hash_value(&hash);
}

/* Compares what the ranks were given, and what results depend on; `status` is that of making the task. */
static bsd_status agree_on_task(bsd_plan *plan, const bsd_layout_spec *layout, bsd_status status,
                                bsd_error *error) {
  bsd_agree_field fields[] = {{"library version", 0}, {"pattern", 0},   {"length", 0},
                              {"dtype", 0},           {"problem", 0},   {"cu_seqlens", 0},
                              {"layout", 0},          {"backend", 0},   {"architecture", 0},
                              {"kernel", 0},          {"BSD_STAGES", 0}};
  bsd_context *context = plan->context;
  const bsd_task *task = plan->task;
  int stages = 0;
  if (status == BSD_OK)
    status = bsd_env_stages(&stages, error);
  if (status == BSD_OK) {
    fields[0].value = text_hash(bsd_version(), "");
    fields[1].value = bsd_pattern_content_hash(task->pattern);
    fields[2].value = (uint64_t)task->length;
    fields[3].value = (uint64_t)task->dtype;
    fields[4].value = bsd_task_problem_hash(task);
    fields[5].value = bsd_task_documents_hash(task);
    fields[6].value = layout_spec_hash(layout);
    fields[7].value = (uint64_t)context->backend->id;
    fields[8].value = text_hash(context->backend->architecture(context->device), "");
    fields[9].value = text_hash(plan->kernels->forward_name, plan->kernels->backward_name);
    fields[10].value = (uint64_t)stages;
  }
  return bsd_agree(context, "bsd_plan_create", status, fields, sizeof fields / sizeof fields[0],
                   error);
}

/* Rank 0's constants for the kernels taken, on every rank. */
static bsd_status share_costs(bsd_plan *plan, bsd_error *error) {
  const bsd_task *t = plan->task;
  bsd_cost_shape shape = {
      {plan->kernels->forward_name, plan->kernels->backward_name}, t->dtype, t->head_dim, t->block};
  bsd_cost mine = bsd_cost_resolve(plan->context->cost_model, &shape), *all;
  plan->cost = mine;
  if (plan->offline || plan->nranks == 1)
    return BSD_OK;
  BSD_TRY(bsd_gather_records(plan->context, &mine, sizeof mine, &all, error));
  plan->cost = all[0];
  bsd_free(all);
  return BSD_OK;
}

/* ---- making ready ------------------------------------------------------------------------ */

static bsd_kernel_shape kernel_shape(const bsd_task *t) {
  bsd_kernel_shape shape = {.batch = t->batch,
                            .heads = t->heads,
                            .kv_heads = t->kv_heads,
                            .head_dim = t->head_dim,
                            .block = t->block,
                            .dtype = t->dtype,
                            .causal = t->causal,
                            .max_dilation_is_one = 1,
                            .allow_tf32 = t->allow_tf32,
                            .allow_atomics = t->allow_atomics};
  int64_t b;
  for (b = 0; b < t->pattern->nbranches; b++) {
    shape.has_window |= t->pattern->branches[b].has_window;
    shape.max_dilation_is_one &= t->pattern->branches[b].dilation == 1;
  }
  return shape;
}

static bsd_status make_lists(bsd_plan *plan, const bsd_kernel_shape *shape, bsd_error *error) {
  const bsd_backend_table *backend = plan->context->backend;
  void *device = plan->context->device;
  BSD_TRY(
      bsd_plan_lists_create(plan->share, &plan->schedule, &plan->arrivals, &plan->lists, error));
  BSD_TRY(backend->prepare(device, plan->kernels, shape, plan->lists.rows, plan->lists.nrow_passes,
                           &plan->row_lists, error));
  return backend->prepare(device, plan->kernels, shape, plan->lists.columns,
                          plan->lists.ncolumn_passes, &plan->column_lists, error);
}

/* Streams, events and staging of a backend whose work is asynchronous. */
static bsd_status make_streams(bsd_plan *plan, bsd_error *error) {
  const bsd_backend_table *backend = plan->context->backend;
  void *device = plan->context->device;
  int i;
  BSD_TRY(bsd_env_serialize_exchange(&plan->serialize, error));
  BSD_TRY(backend->stream_create(device, &plan->exchange_stream, error));
  for (i = 0; i < BSD_EVENTS; i++)
    BSD_TRY(backend->event_create(device, &plan->event[i], error));
  if (backend->id == BSD_BACKEND_CPU || plan->context->comm->takes_device_memory ||
      plan->nranks == 1)
    return BSD_OK;
  return backend->alloc_host(device, plan->map.messages_bytes, &plan->staging, error);
}

static bsd_status make_workspace(bsd_plan *plan, bsd_error *error) {
  const bsd_backend_table *backend = plan->context->backend;
  BSD_TRY(bsd_plan_map_workspace(plan, error));
  if (plan->offline)
    return BSD_OK;
  BSD_TRY(make_streams(plan, error));
  BSD_TRY(backend->alloc(plan->context->device, plan->map.bytes, &plan->own_workspace, error));
  return bsd_plan_use_workspace(plan, plan->own_workspace, error);
}

static bsd_status make_ready(bsd_plan *plan, bsd_error *error) {
  const bsd_task *t = plan->task;
  bsd_kernel_shape shape = kernel_shape(t);
  plan->accumulate_rows = bsd_task_merges_rows(t);
  plan->accumulate_columns = bsd_task_merges_columns(t);
  plan->clear[BSD_FORWARD] = bsd_task_clears_rows(t);
  plan->clear[BSD_BACKWARD] = bsd_task_clears_columns(t);
  if (!plan->offline)
    BSD_TRY(make_lists(plan, &shape, error));
  return make_workspace(plan, error);
}

/* ---- life -------------------------------------------------------------------------------- */

static bsd_status check_arguments(bsd_context *context, const bsd_problem *problem, bsd_plan **plan,
                                  bsd_error *error) {
  if (plan == NULL)
    return bsd_fail(error, BSD_ERR_ARG, "plan is NULL but must be given");
  if (context->comm->failed)
    return bsd_fail(error, BSD_ERR_STATE,
                    "the communicator has failed before: destroy the context and begin anew");
  if (problem == NULL)
    return bsd_fail(error, BSD_ERR_ARG, "problem is NULL but must be given");
  if (problem->layout.kind < BSD_LAYOUT_AUTO || problem->layout.kind > BSD_LAYOUT_CUSTOM)
    return bsd_fail(error, BSD_ERR_ARG, "layout.kind is %d but must be a bsd_layout_kind",
                    (int)problem->layout.kind);
  return BSD_OK;
}

/* The task and the kernels that run it. */
static bsd_status make_task(bsd_plan *plan, const bsd_pattern *pattern, const bsd_problem *problem,
                            bsd_error *error) {
  bsd_context *context = plan->context;
  bsd_kernel_shape shape;
  BSD_TRY(bsd_task_create(pattern, problem, &plan->task, error));
  shape = kernel_shape(plan->task);
  return context->backend->select(context->device, &shape, context->kernel, &plan->kernels, error);
}

static bsd_status fill(bsd_plan *plan, const bsd_pattern *pattern, const bsd_problem *problem,
                       bsd_error *error) {
  bsd_context *context = plan->context;
  bsd_status status = make_task(plan, pattern, problem, error);
  if (!plan->offline)
    status = agree_on_task(plan, &problem->layout, status, error);
  BSD_TRY(status);
  BSD_TRY(share_costs(plan, error));
  BSD_TRY(bsd_plan_choose(plan, &problem->layout, error));
  plan->hash = plan_hash(plan);
  status = make_ready(plan, error);
  if (!plan->offline)
    status = bsd_agree(context, "bsd_plan_create", status, NULL, 0, error);
  return status;
}

static bsd_status create(bsd_context *context, const bsd_pattern *pattern,
                         const bsd_problem *problem, int rank, int nranks, int offline,
                         bsd_plan **plan) {
  bsd_error *error = &context->error;
  bsd_plan *p;
  bsd_status status;
  double start = bsd_now();
  status = check_arguments(context, problem, plan, error);
  if (status == BSD_OK)
    status = bsd_alloc(&p, 1, sizeof *p, error);
  if (status != BSD_OK) /* the others compare what they were given */
    return offline ? status : bsd_agree(context, "bsd_plan_create", status, NULL, 0, error);
  p->context = context;
  p->rank = rank;
  p->nranks = nranks;
  p->offline = offline;
  p->last_pass = -1;
  status = fill(p, pattern, problem, error);
  if (status != BSD_OK) {
    bsd_plan_destroy(p);
    return status;
  }
  p->plan_ms = 1e3 * (bsd_now() - start);
  *plan = p;
  return BSD_OK;
}

bsd_status bsd_plan_create(bsd_context *context, const bsd_pattern *pattern,
                           const bsd_problem *problem, bsd_plan **plan) {
  if (context == NULL)
    return BSD_ERR_ARG;
  return create(context, pattern, problem, context->comm->rank, context->comm->size, 0, plan);
}

bsd_status bsd_plan_create_offline(bsd_context *context, const bsd_pattern *pattern,
                                   const bsd_problem *problem, int rank, int nranks,
                                   bsd_plan **plan) {
  if (context == NULL)
    return BSD_ERR_ARG;
  if (nranks < 1 || rank < 0 || rank >= nranks)
    return bsd_fail(&context->error, BSD_ERR_ARG, "rank is %d of %d but must be 0 .. nranks-1",
                    rank, nranks);
  return create(context, pattern, problem, rank, nranks, 1, plan);
}

/* After a failed exchange the transport may still read and write its messages: they are left to it. */
static int under_way(const bsd_plan *plan) {
  return plan->context->comm->failed && plan->nranks > 1;
}

void bsd_plan_destroy(bsd_plan *plan) {
  const bsd_backend_table *backend;
  int pass, i;
  if (plan == NULL)
    return;
  backend = plan->context->backend;
  if (plan->last_pass >= 0 && !plan->context->comm->failed)
    bsd_plan_wait(plan, 0);
  backend->discard(plan->context->device, plan->row_lists);
  backend->discard(plan->context->device, plan->column_lists);
  if (!under_way(plan))
    backend->release_host(plan->context->device, plan->staging);
  for (i = 0; i < BSD_EVENTS; i++)
    backend->event_destroy(plan->context->device, plan->event[i]);
  bsd_trace_destroy(plan->trace);
  backend->stream_destroy(plan->context->device, plan->exchange_stream);
  bsd_plan_free_tables(plan);
  if (!under_way(plan))
    backend->release(plan->context->device, plan->own_workspace);
  for (pass = BSD_FORWARD; pass <= BSD_BACKWARD; pass++) {
    bsd_free(plan->map.receive[pass]);
    bsd_free(plan->map.send[pass]);
  }
  bsd_plan_lists_free(&plan->lists, plan->share != NULL ? plan->share->nlists : 0);
  bsd_arrivals_free(&plan->arrivals);
  bsd_schedule_free(&plan->schedule);
  bsd_share_destroy(plan->share);
  bsd_layout_free(&plan->layout);
  bsd_task_destroy(plan->task);
  bsd_free(plan);
}

/* ---- workspace --------------------------------------------------------------------------- */

bsd_status bsd_plan_workspace_bytes(const bsd_plan *plan, size_t *bytes) {
  if (plan == NULL || bytes == NULL)
    return BSD_ERR_ARG;
  *bytes = (size_t)plan->map.bytes;
  return BSD_OK;
}

bsd_status bsd_plan_set_workspace(bsd_plan *plan, void *workspace, size_t bytes) {
  const bsd_backend_table *backend;
  bsd_error *error;
  if (plan == NULL)
    return BSD_ERR_ARG;
  backend = plan->context->backend;
  error = &plan->context->error;
  if (plan->offline)
    return bsd_fail(error, BSD_ERR_STATE, "the plan was made offline and needs no workspace");
  if (workspace != NULL && bytes < (size_t)plan->map.bytes)
    return bsd_fail(error, BSD_ERR_ARG, "workspace has %zu bytes but the plan needs %" PRId64,
                    bytes, plan->map.bytes);
  if ((uintptr_t)workspace % 256 != 0)
    return bsd_fail(error, BSD_ERR_ARG, "workspace is at %p but must be aligned to 256 bytes",
                    workspace);
  if (workspace == NULL && plan->own_workspace == NULL)
    BSD_TRY(backend->alloc(plan->context->device, plan->map.bytes, &plan->own_workspace, error));
  BSD_TRY(bsd_plan_use_workspace(plan, workspace != NULL ? workspace : plan->own_workspace, error));
  if (workspace != NULL && !under_way(plan)) {
    backend->release(plan->context->device, plan->own_workspace);
    plan->own_workspace = NULL;
  }
  return BSD_OK;
}

/* ---- tracing ----------------------------------------------------------------------------- */

/* A backward has more marks than a forward: delta, pack, clear and the end, and of each stage its waits and
 * the passes, with progress between them. */
static bsd_status create_trace(bsd_plan *plan, bsd_error *error) {
  const bsd_schedule *schedule = &plan->schedule;
  int64_t passes = plan->lists.nrow_passes + plan->lists.ncolumn_passes;
  int64_t capacity[BSD_TRACE_ROWS] = {
      [BSD_TRACE_COMPUTE] = schedule->nsteps + 8 + schedule->stages * (2 + 2 * passes),
      [BSD_TRACE_EXCHANGE] = schedule->nsteps + 2 + 2 * schedule->stages};
  return bsd_trace_create(plan->context->backend, plan->context->device, capacity, &plan->trace,
                          error);
}

bsd_status bsd_plan_set_tracing(bsd_plan *plan, int on) {
  bsd_error *error;
  if (plan == NULL)
    return BSD_ERR_ARG;
  error = &plan->context->error;
  if (plan->offline)
    return bsd_fail(error, BSD_ERR_STATE, "the plan was made offline and has no runs to trace");
  if (on && plan->trace == NULL)
    BSD_TRY(create_trace(plan, error));
  if (on)
    return bsd_trace_set_origin(plan->trace, plan->exchange_stream, error);
  bsd_trace_destroy(plan->trace);
  plan->trace = NULL;
  return BSD_OK;
}
