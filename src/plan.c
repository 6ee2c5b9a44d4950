/* plan.c - creates plans: the ranks agree on what they were given, a layout is chosen, the rank's share is
 * worked out and made ready for the backend. See plan.h. */
#include "plan.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

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
  return bsd_hash_value(&hash);
}

/* Compares what the ranks were given; `status` is that of making the task. */
static bsd_status agree_on_task(bsd_context *context, const bsd_task *task,
                                const bsd_layout_spec *layout, bsd_status status,
                                bsd_error *error) {
  bsd_agree_field fields[9] = {{"library version", 0}, {"pattern", 0}, {"length", 0},
                               {"dtype", 0},           {"problem", 0}, {"cu_seqlens", 0},
                               {"layout", 0},          {"backend", 0}, {"kernel", 0}};
  const char *version = bsd_version();
  if (task != NULL) {
    fields[0].value = bsd_hash_buffer(version, strlen(version));
    fields[1].value = bsd_pattern_content_hash(task->pattern);
    fields[2].value = (uint64_t)task->length;
    fields[3].value = (uint64_t)task->dtype;
    fields[4].value = bsd_task_problem_hash(task);
    fields[5].value = bsd_task_documents_hash(task);
    fields[6].value = layout_spec_hash(layout);
    fields[7].value = (uint64_t)context->backend->id;
    fields[8].value = (uint64_t)context->kernel;
  }
  return bsd_agree(context, "bsd_plan_create", status, fields, 9, error);
}

/* ---- the layout -------------------------------------------------------------------------- */

enum { MAX_CANDIDATES = 3 };

typedef struct candidate { /* a layout and this rank's share under it */
  bsd_layout layout;
  bsd_share *share;
  bsd_schedule schedule;
  bsd_totals totals;
} candidate;

static void free_candidate(candidate *c) {
  bsd_schedule_free(&c->schedule);
  bsd_share_destroy(c->share);
  bsd_layout_free(&c->layout);
  memset(c, 0, sizeof *c);
}

/* A dilated layout can pay only where blocks far apart want one another: one branch of lattices. */
static int dilated_may_pay(const bsd_task *task) {
  const bsd_pattern_branch *b = &task->pattern->branches[0];
  int64_t i;
  if (task->pattern->nbranches != 1 || b->segment != 0 || b->dilation != 1 || task->documents != 1)
    return 0;
  for (i = 0; i < b->nterms; i++)
    if (b->terms[i].kind != BSD_TERM_DILATED && b->terms[i].kind != BSD_TERM_STRIDED)
      return 0;
  return 1;
}

static int candidate_specs(const bsd_task *task, const bsd_layout_spec *asked, int nranks,
                           bsd_layout_spec *specs) {
  int n = 0;
  if (asked->kind != BSD_LAYOUT_AUTO) {
    specs[n++] = *asked;
    return n;
  }
  specs[n++] = (bsd_layout_spec){.kind = BSD_LAYOUT_CONTIGUOUS};
  if (nranks == 1)
    return n;
  specs[n++] = (bsd_layout_spec){.kind = BSD_LAYOUT_ZIGZAG};
  if (dilated_may_pay(task))
    specs[n++] = (bsd_layout_spec){.kind = BSD_LAYOUT_DILATED, .group = 1, .unit = task->block};
  return n;
}

static bsd_status make_candidate(const bsd_task *task, const bsd_layout_spec *spec, int rank,
                                 int nranks, candidate *c, bsd_error *error) {
  BSD_TRY(bsd_layout_create(spec, task->length, nranks, bsd_task_smallest_segment(task),
                            task->block, &c->layout, error));
  BSD_TRY(bsd_share_create(task, &c->layout, rank, &c->share, error));
  return bsd_schedule_create(c->share, &c->schedule, error);
}

/* Sums and maxima over the ranks: what each knows of itself, gathered. */
static bsd_status gather_totals(bsd_context *context, candidate *candidates, int n,
                                bsd_error *error) {
  bsd_comm *comm = context->comm;
  int64_t mine[MAX_CANDIDATES][BSD_RANK_TOTALS], *all;
  bsd_status status;
  int c, r;
  memset(mine, 0, sizeof mine);
  for (c = 0; c < n; c++)
    bsd_totals_of_rank(candidates[c].share, &candidates[c].schedule, mine[c]);
  BSD_TRY(bsd_alloc(&all, comm->size, sizeof mine, error));
  status = comm->transport->allgather(comm, mine, sizeof mine, all, error);
  for (r = 0; r < comm->size && status == BSD_OK; r++)
    for (c = 0; c < n; c++)
      bsd_totals_add_rank(&candidates[c].totals, all + (r * MAX_CANDIDATES + c) * BSD_RANK_TOTALS);
  bsd_free(all);
  return status;
}

/* ---- choosing ---------------------------------------------------------------------------- */

/* The candidate with the smallest predicted forward and backward; the earlier one of equals. */
static int choose(bsd_plan *plan, const candidate *candidates, int n) {
  char *text = plan->layout_reason;
  size_t size = sizeof plan->layout_reason, used = 0;
  int c, best = 0;
  double best_time = INFINITY;
  for (c = 0; c < n; c++) {
    const bsd_totals *t = &candidates[c].totals;
    double time = bsd_plan_predict(plan, t, BSD_FORWARD) + bsd_plan_predict(plan, t, BSD_BACKWARD);
    char name[64];
    bsd_layout_format(&candidates[c].layout, name, sizeof name);
    if (used < size)
      used += (size_t)snprintf(text + used, size - used,
                               "%s%s: worst rank receives %" PRId64 " + %" PRId64
                               " bytes, imbalance %.3f, predicted %.4g ms",
                               c ? "; " : "", name, t->received_worst[BSD_FORWARD],
                               t->received_worst[BSD_BACKWARD],
                               bsd_totals_imbalance(t, plan->nranks), 1e3 * time);
    if (time < best_time) {
      best_time = time;
      best = c;
    }
  }
  return best;
}

static void adopt(bsd_plan *plan, candidate *c) {
  plan->layout = c->layout;
  plan->share = c->share;
  plan->share->layout = &plan->layout;
  plan->schedule = c->schedule;
  plan->totals = c->totals;
  memset(c, 0, sizeof *c);
  plan->local_length = bsd_layout_local_length(&plan->layout, plan->rank);
  bsd_layout_format(&plan->layout, plan->layout_text, sizeof plan->layout_text);
  plan->hash = plan_hash(plan);
}

/* Makes the shares under every candidate layout, compares them over the ranks and adopts the best. */
static bsd_status choose_layout(bsd_plan *plan, const bsd_layout_spec *asked, bsd_error *error) {
  bsd_layout_spec specs[MAX_CANDIDATES];
  candidate candidates[MAX_CANDIDATES];
  int n = candidate_specs(plan->task, asked, plan->nranks, specs), c;
  bsd_status status = BSD_OK;
  memset(candidates, 0, sizeof candidates);
  for (c = 0; c < n && status == BSD_OK; c++)
    status = make_candidate(plan->task, &specs[c], plan->rank, plan->nranks, &candidates[c], error);
  if (!plan->offline) {
    status = bsd_agree(plan->context, "bsd_plan_create", status, NULL, 0, error);
    if (status == BSD_OK)
      status = gather_totals(plan->context, candidates, n, error);
    plan->have_totals = 1;
  } else if (n > 1) { /* a sample of the ranks decides */
    for (c = 0; c < n && status == BSD_OK; c++)
      status = bsd_plan_offline_totals(plan->task, &candidates[c].layout,
                                       (int)bsd_ceil_div(plan->nranks, 64), &candidates[c].totals,
                                       error);
    plan->have_totals = plan->nranks <= 64;
  }
  if (status == BSD_OK)
    adopt(plan, &candidates[choose(plan, candidates, n)]);
  for (c = 0; c < n; c++)
    free_candidate(&candidates[c]);
  return status;
}

/* ---- making ready ------------------------------------------------------------------------ */

static bsd_kernel_shape kernel_shape(const bsd_task *t) {
  bsd_kernel_shape shape = {t->heads,  t->kv_heads, t->head_dim, t->block,      t->dtype,
                            t->causal, 0,           1,           t->allow_tf32, t->allow_atomics};
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
  BSD_TRY(bsd_plan_lists_create(plan->share, &plan->schedule, &plan->lists, error));
  BSD_TRY(backend->prepare(device, shape, plan->lists.rows, plan->lists.nrow_passes,
                           &plan->row_lists, error));
  return backend->prepare(device, shape, plan->lists.columns, plan->lists.ncolumn_passes,
                          &plan->column_lists, error);
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
  plan->workspace = plan->own_workspace;
  return bsd_plan_build_tables(plan, error);
}

static bsd_status make_ready(bsd_plan *plan, bsd_error *error) {
  const bsd_task *t = plan->task;
  bsd_kernel_shape shape = kernel_shape(t);
  BSD_TRY(plan->context->backend->select(plan->context->device, &shape, plan->context->kernel,
                                         &plan->kernels, error));
  plan->accumulate_rows = t->pattern->combine == BSD_COMBINE_SUM && t->pattern->nbranches > 1;
  plan->accumulate_columns = plan->accumulate_rows || t->group > 1;
  plan->clear = plan->accumulate_rows || plan->accumulate_columns || !shape.max_dilation_is_one;
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
  if (problem != NULL &&
      (problem->layout.kind < BSD_LAYOUT_AUTO || problem->layout.kind > BSD_LAYOUT_CUSTOM))
    return bsd_fail(error, BSD_ERR_ARG, "layout.kind is %d but must be a bsd_layout_kind",
                    (int)problem->layout.kind);
  return BSD_OK;
}

static bsd_status fill(bsd_plan *plan, const bsd_pattern *pattern, const bsd_problem *problem,
                       bsd_error *error) {
  bsd_context *context = plan->context;
  bsd_status status = bsd_task_create(pattern, problem, &plan->task, error);
  if (!plan->offline)
    status = agree_on_task(context, plan->task, &problem->layout, status, error);
  BSD_TRY(status);
  BSD_TRY(choose_layout(plan, &problem->layout, error));
  status = make_ready(plan, error);
  if (!plan->offline)
    status = bsd_agree(context, "bsd_plan_create", status, NULL, 0, error);
  return status;
}

static bsd_status create(bsd_context *context, const bsd_pattern *pattern,
                         const bsd_problem *problem, int rank, int nranks, int offline,
                         bsd_plan **plan) {
  static const bsd_problem none = {0};
  bsd_error *error = &context->error;
  bsd_plan *p;
  bsd_status status;
  double start = bsd_now();
  BSD_TRY(check_arguments(context, problem, plan, error));
  BSD_TRY(bsd_alloc(&p, 1, sizeof *p, error));
  p->context = context;
  p->rank = rank;
  p->nranks = nranks;
  p->offline = offline;
  p->last_pass = -1;
  status = fill(p, pattern, problem != NULL ? problem : &none, error);
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
  if (!plan->offline && !plan->context->comm->failed)
    bsd_plan_wait(plan, 0);
  backend->discard(plan->context->device, plan->row_lists);
  backend->discard(plan->context->device, plan->column_lists);
  if (!under_way(plan))
    backend->release_host(plan->context->device, plan->staging);
  for (i = 0; i < BSD_EVENTS; i++)
    backend->event_destroy(plan->context->device, plan->event[i]);
  backend->stream_destroy(plan->context->device, plan->exchange_stream);
  bsd_plan_free_tables(plan);
  if (!under_way(plan))
    backend->release(plan->context->device, plan->own_workspace);
  for (pass = BSD_FORWARD; pass <= BSD_BACKWARD; pass++) {
    bsd_free(plan->map.receive[pass]);
    bsd_free(plan->map.send[pass]);
  }
  bsd_plan_lists_free(&plan->lists, plan->share != NULL ? plan->share->nlists : 0);
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
  if (workspace != NULL && !under_way(plan)) {
    backend->release(plan->context->device, plan->own_workspace);
    plan->own_workspace = NULL;
  }
  plan->workspace = workspace != NULL ? workspace : plan->own_workspace;
  return bsd_plan_build_tables(plan, error);
}
