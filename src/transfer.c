/* transfer.c - moves tensors between runs of global positions and the plan's own order.
 *
 * Both ends derive every message from the runs that all ranks announce and from the layout: a rank's
 * tokens of any interval of positions are neighbours in its memory, because local order is ascending. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agree.h"
#include "memory.h"
#include "plan.h"

typedef struct transfer {
  bsd_plan *plan;
  int64_t outer;          /* independent [tokens] planes: B, for lse B*H */
  int64_t row;            /* bytes of a token in a plane */
  bsd_position_run *runs; /* [nranks] what each rank passes or asks for */
  char *global;           /* [outer][runs[me].count][row] */
  int64_t local_first;    /* this rank's tokens that `local` holds: all, or what a gather wants */
  int64_t local_count;
  char *local;    /* [outer][local_count][row], host */
  char **buffers; /* [2 * nranks] messages */
} transfer;

/* Tokens of a rank before a position. */
static int64_t tokens_before(const bsd_layout *layout, int rank, int64_t position) {
  int64_t k = bsd_layout_find_run(layout, rank, position), local;
  bsd_position_run run;
  if (k == bsd_layout_run_count(layout, rank))
    return bsd_layout_local_length(layout, rank);
  run = bsd_layout_run(layout, rank, k, &local);
  return local + bsd_max(0, position - run.first);
}

/* A rank's local indices of the positions that `holder` has in its run: [*first, *first + count). */
static int64_t local_range(const transfer *t, int rank, int holder, int64_t *first) {
  bsd_position_run run = t->runs[holder];
  *first = tokens_before(&t->plan->layout, rank, run.first);
  return tokens_before(&t->plan->layout, rank, run.first + run.count) - *first;
}

/* Copies between a holder's run (on this rank) and the consecutive tokens of `rank` in it. */
static void copy_pieces(const transfer *t, int rank, char *message, int into_message) {
  const bsd_layout *layout = &t->plan->layout;
  bsd_position_run mine = t->runs[t->plan->rank];
  int64_t end = mine.first + mine.count, o, k, count = bsd_layout_run_count(layout, rank);
  for (o = 0; o < t->outer; o++)
    for (k = bsd_layout_find_run(layout, rank, mine.first); k < count; k++) {
      bsd_position_run run = bsd_layout_run(layout, rank, k, NULL);
      int64_t first = bsd_max(run.first, mine.first), last = bsd_min(run.first + run.count, end);
      char *global = t->global + (o * mine.count + first - mine.first) * t->row;
      size_t bytes;
      if (first >= last)
        break;
      bytes = (size_t)((last - first) * t->row);
      memcpy(into_message ? message : global, into_message ? global : message, bytes);
      message += bytes;
    }
}

/* Copies between this rank's tokens of a holder's run and a message. */
static void copy_local(const transfer *t, int holder, char *message, int into_message) {
  int64_t first, count = local_range(t, t->plan->rank, holder, &first), o;
  size_t bytes = (size_t)(count * t->row);
  for (o = 0; o < t->outer && bytes > 0; o++) {
    char *local = t->local + (o * t->local_count + first - t->local_first) * t->row;
    memcpy(into_message ? message : local, into_message ? local : message, bytes);
    message += bytes;
  }
}

/* Bytes between a holder of a run and an owner of tokens in it. */
static int64_t pair_bytes(const transfer *t, int owner, int holder) {
  int64_t first;
  return local_range(t, owner, holder, &first) * t->outer * t->row;
}

static bsd_status post_all(transfer *t, int scatter, bsd_error *error) {
  bsd_comm *comm = t->plan->context->comm;
  int me = t->plan->rank, n = t->plan->nranks, step;
  for (step = 1; step < n; step++) {
    int to = (me + step) % n, from = (me - step + n) % n;
    int64_t out = scatter ? pair_bytes(t, to, me) : pair_bytes(t, me, to);
    int64_t in = scatter ? pair_bytes(t, me, from) : pair_bytes(t, from, me);
    if (in > 0) {
      BSD_TRY(bsd_alloc(&t->buffers[n + from], in, 1, error));
      BSD_TRY(comm->transport->recv(comm, step, from, t->buffers[n + from], in, error));
    }
    if (out > 0) {
      BSD_TRY(bsd_alloc(&t->buffers[to], out, 1, error));
      if (scatter)
        copy_pieces(t, to, t->buffers[to], 1);
      else
        copy_local(t, to, t->buffers[to], 1);
      BSD_TRY(comm->transport->send(comm, step, to, t->buffers[to], out, error));
    }
  }
  return BSD_OK;
}

/* This rank's own tokens of its own run go through a buffer like everyone else's. */
static bsd_status keep_own(transfer *t, int scatter, bsd_error *error) {
  int64_t bytes = pair_bytes(t, t->plan->rank, t->plan->rank);
  char *buffer;
  BSD_TRY(bsd_alloc(&buffer, bytes, 1, error));
  if (bytes > 0 && scatter) {
    copy_pieces(t, t->plan->rank, buffer, 1);
    copy_local(t, t->plan->rank, buffer, 0);
  } else if (bytes > 0) {
    copy_local(t, t->plan->rank, buffer, 1);
    copy_pieces(t, t->plan->rank, buffer, 0);
  }
  bsd_free(buffer);
  return BSD_OK;
}

static bsd_status exchange(transfer *t, int scatter, bsd_error *error) {
  bsd_comm *comm = t->plan->context->comm;
  const bsd_exchange what = {.plan_hash = t->plan->hash, .what = scatter ? "scatter" : "gather"};
  int n = t->plan->nranks, peer;
  BSD_TRY(keep_own(t, scatter, error));
  BSD_TRY(comm->transport->begin(comm, &what, error));
  BSD_TRY(post_all(t, scatter, error));
  BSD_TRY(comm->transport->end(comm, error));
  BSD_TRY(bsd_comm_wait(comm, n, error));
  for (peer = 0; peer < n; peer++) {
    if (t->buffers[n + peer] == NULL)
      continue;
    if (scatter)
      copy_local(t, peer, t->buffers[n + peer], 0);
    else
      copy_pieces(t, peer, t->buffers[n + peer], 0);
  }
  return BSD_OK;
}

/* ---- arguments --------------------------------------------------------------------------- */

static int compare_runs(const void *a, const void *b) {
  const bsd_position_run *x = a, *y = b;
  return (x->first > y->first) - (x->first < y->first);
}

/* For a scatter: the non-empty runs, in order, cover [0, n) once. */
static bsd_status check_cover(const transfer *t, bsd_error *error) {
  bsd_position_run *sorted;
  int64_t next = 0;
  int n = t->plan->nranks, i;
  bsd_status status = BSD_OK;
  BSD_TRY(bsd_alloc(&sorted, n, sizeof *sorted, error));
  memcpy(sorted, t->runs, sizeof *sorted * (size_t)n);
  qsort(sorted, (size_t)n, sizeof *sorted, compare_runs);
  for (i = 0; i < n && status == BSD_OK; i++) {
    if (sorted[i].count == 0)
      continue;
    if (sorted[i].first != next)
      status = bsd_fail(error, BSD_ERR_ARG,
                        "bsd_scatter: the ranks' runs must cover 0 .. %" PRId64
                        " once, but one begins at %" PRId64 " where %" PRId64 " is next",
                        t->plan->task->length - 1, sorted[i].first, next);
    next = sorted[i].first + sorted[i].count;
  }
  if (status == BSD_OK && next != t->plan->task->length)
    status = bsd_fail(error, BSD_ERR_ARG,
                      "bsd_scatter: the ranks' runs end at %" PRId64 " but length is %" PRId64,
                      next, t->plan->task->length);
  bsd_free(sorted);
  return status;
}

static bsd_status check_arguments(const bsd_plan *plan, bsd_tensor_kind kind, const void *global,
                                  int64_t first, int64_t count, const void *local,
                                  bsd_error *error) {
  int64_t n = plan->task->length;
  if (kind != BSD_TENSOR_Q && kind != BSD_TENSOR_KV && kind != BSD_TENSOR_LSE)
    return bsd_fail(error, BSD_ERR_ARG, "kind is %d but must be a bsd_tensor_kind", (int)kind);
  if (count < 0 || first < 0 || first > n || count > n - first)
    return bsd_fail(error, BSD_ERR_ARG,
                    "run of %" PRId64 " positions from %" PRId64 " does not lie in 0 .. %" PRId64,
                    count, first, n - 1);
  if (global == NULL && count > 0)
    return bsd_fail(error, BSD_ERR_ARG,
                    "the host pointer is NULL but the run has %" PRId64 " tokens", count);
  if (local == NULL && plan->local_length > 0)
    return bsd_fail(error, BSD_ERR_ARG,
                    "the local pointer is NULL but this rank holds %" PRId64 " tokens",
                    plan->local_length);
  return BSD_OK;
}

static void set_shape(transfer *t, bsd_tensor_kind kind) {
  const bsd_task *task = t->plan->task;
  int64_t heads = kind == BSD_TENSOR_KV ? task->kv_heads : task->heads;
  t->outer = kind == BSD_TENSOR_LSE ? task->batch * heads : task->batch;
  t->row = kind == BSD_TENSOR_LSE ? (int64_t)sizeof(float)
                                  : heads * task->head_dim * bsd_dtype_bytes(task->dtype);
}

static bsd_status announce(transfer *t, int64_t first, int64_t count, int scatter,
                           bsd_error *error) {
  bsd_comm *comm = t->plan->context->comm;
  bsd_position_run mine = {count > 0 ? first : 0, count};
  BSD_TRY(comm->transport->allgather(comm, &mine, sizeof mine, t->runs, error));
  return scatter ? check_cover(t, error) : BSD_OK;
}

/* This rank's tokens that some holder's run has, as one interval. */
static int64_t wanted_tokens(const transfer *t, int64_t *first) {
  int64_t end = 0;
  *first = t->plan->local_length;
  for (int holder = 0; holder < t->plan->nranks; holder++) {
    int64_t begin, count = local_range(t, t->plan->rank, holder, &begin);
    if (count > 0) {
      *first = bsd_min(*first, begin);
      end = bsd_max(end, begin + count);
    }
  }
  return bsd_max(end - *first, 0);
}

/* Copies the tokens that `local` is to hold out of the device's memory. */
static bsd_status copy_out(transfer *t, const void *device_memory, void *stream, bsd_error *error) {
  const bsd_backend_table *backend = t->plan->context->backend;
  void *device = t->plan->context->device;
  int64_t plane = t->plan->local_length * t->row, bytes = t->local_count * t->row, o;
  if (bytes == plane && bytes > 0) /* the planes are neighbours there too */
    BSD_TRY(backend->copy_out(device, t->local, device_memory, t->outer * bytes, stream, error));
  for (o = 0; o < t->outer && bytes > 0 && bytes < plane; o++)
    BSD_TRY(backend->copy_out(device, t->local + o * bytes,
                              (const char *)device_memory + o * plane + t->local_first * t->row,
                              bytes, stream, error));
  return backend->synchronize(device, stream, error);
}

/* On the CPU the caller's memory is used in place, on a device through a host copy, of a gather only of what
 * is wanted. */
static bsd_status run(transfer *t, int scatter, void *device_memory, void *stream,
                      bsd_error *error) {
  const bsd_backend_table *backend = t->plan->context->backend;
  void *device = t->plan->context->device;
  int64_t bytes;
  t->local_count = t->plan->local_length;
  if (backend->id == BSD_BACKEND_CPU) {
    t->local = device_memory;
    return exchange(t, scatter, error);
  }
  if (!scatter)
    t->local_count = wanted_tokens(t, &t->local_first);
  bytes = t->outer * t->local_count * t->row;
  BSD_TRY(bsd_alloc(&t->local, bytes, 1, error));
  if (!scatter)
    BSD_TRY(copy_out(t, device_memory, stream, error));
  BSD_TRY(exchange(t, scatter, error));
  if (scatter && bytes > 0) {
    BSD_TRY(backend->copy_in(device, device_memory, t->local, bytes, stream, error));
    BSD_TRY(backend->synchronize(device, stream, error));
  }
  return BSD_OK;
}

static void clean(transfer *t, bsd_status status) {
  /* After a failed exchange the transport may still write to the buffers: they are left to it. */
  int abandoned = status != BSD_OK && t->plan->context->comm->failed, i;
  for (i = 0; t->buffers != NULL && i < 2 * t->plan->nranks && !abandoned; i++)
    bsd_free(t->buffers[i]);
  bsd_free(t->buffers);
  bsd_free(t->runs);
  if (t->plan->context->backend->id != BSD_BACKEND_CPU)
    bsd_free(t->local);
}

static bsd_status transfer_all(bsd_plan *plan, bsd_tensor_kind kind, void *global, int64_t first,
                               int64_t count, void *local, int scatter, void *stream) {
  bsd_error *error;
  transfer t = {.plan = plan, .global = global};
  bsd_status status;
  if (plan == NULL)
    return BSD_ERR_ARG;
  error = &plan->context->error;
  if (plan->offline || plan->context->comm->failed)
    return bsd_fail(error, BSD_ERR_STATE, "the %s",
                    plan->offline ? "plan was made offline and cannot move tensors"
                                  : "communicator has failed before");
  status = check_arguments(plan, kind, global, first, count, local, error);
  if (status == BSD_OK)
    status = bsd_alloc(&t.runs, plan->nranks, sizeof *t.runs, error);
  if (status == BSD_OK)
    status = bsd_alloc(&t.buffers, 2 * (int64_t)plan->nranks, sizeof *t.buffers, error);
  status = bsd_agree(plan->context, scatter ? "bsd_scatter" : "bsd_gather", status, NULL, 0, error);
  if (status == BSD_OK) {
    set_shape(&t, kind);
    status = announce(&t, first, count, scatter, error);
    if (status == BSD_OK) {
      status = run(&t, scatter, local, stream, error);
      if (status != BSD_OK && plan->nranks > 1)
        plan->context->comm->transport->abort(plan->context->comm);
    }
  }
  clean(&t, status);
  return status;
}

bsd_status bsd_scatter(bsd_plan *plan, bsd_tensor_kind kind, const void *src, int64_t first,
                       int64_t count, void *dst, void *stream) {
  return transfer_all(plan, kind, (void *)(uintptr_t)src, first, count, dst, 1, stream);
}

bsd_status bsd_gather(bsd_plan *plan, bsd_tensor_kind kind, const void *src, int64_t first,
                      int64_t count, void *dst, void *stream) {
  return transfer_all(plan, kind, dst, first, count, (void *)(uintptr_t)src, 0, stream);
}
