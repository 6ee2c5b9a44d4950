/* plan_tables.c - lays out messages and workspace, and the tables by which kernels find them.
 *
 * A message's parts follow one another without gaps (schedule.h); messages begin at multiples of 256
 * bytes. The tables live in one piece of device memory, so that kernels of any backend read them. */
#include <string.h>

#include "memory.h"
#include "plan.h"

enum { ALIGNMENT = 256 };

static int64_t align_up(int64_t bytes) {
  return bsd_ceil_div(bytes, ALIGNMENT) * ALIGNMENT;
}

/* ---- workspace --------------------------------------------------------------------------- */

static int64_t take(int64_t *end, int64_t bytes) {
  int64_t offset = *end;
  *end += align_up(bytes);
  return offset;
}

static void map_messages(bsd_plan *plan, int pass, int64_t *end) {
  int64_t i;
  for (i = 0; i < plan->schedule.nsteps; i++) {
    const bsd_step *step = &plan->schedule.steps[i];
    if (step->receive_index >= 0)
      plan->map.receive[pass][step->receive_index] = take(end, step->receive_bytes[pass]);
    if (step->send_index >= 0)
      plan->map.send[pass][step->send_index] = take(end, step->send_bytes[pass]);
  }
}

static int64_t scratch_bytes(const bsd_plan *plan) {
  bsd_call call = bsd_plan_call(plan);
  return plan->kernels->scratch_bytes(plan->context->device, &call);
}

bsd_status bsd_plan_map_workspace(bsd_plan *plan, bsd_error *error) {
  const bsd_task *t = plan->task;
  bsd_workspace_map *map = &plan->map;
  int64_t q_rows = t->batch * t->heads * plan->local_length;
  int64_t kv_rows = t->batch * t->kv_heads * plan->local_length;
  int64_t row = t->head_dim * (int64_t)sizeof(float), end[2] = {0, 0};
  int pass;
  for (pass = BSD_FORWARD; pass <= BSD_BACKWARD; pass++) {
    BSD_TRY(bsd_alloc(&map->receive[pass], plan->share->npeers, sizeof(int64_t), error));
    BSD_TRY(bsd_alloc(&map->send[pass], plan->share->npeers, sizeof(int64_t), error));
  }
  map->scratch = take(&end[BSD_FORWARD], scratch_bytes(plan));
  map->messages_first = end[BSD_BACKWARD] = end[BSD_FORWARD];
  map->acc_o = map->acc_lse = map->acc_dq = map->acc_dk = map->acc_dv = -1;
  map_messages(plan, BSD_FORWARD, &end[BSD_FORWARD]);
  map->messages_bytes = end[BSD_FORWARD] - map->messages_first;
  if (plan->accumulate_rows) {
    map->acc_o = take(&end[BSD_FORWARD], q_rows * row);
    map->acc_lse = take(&end[BSD_FORWARD], q_rows * (int64_t)sizeof(float));
  }
  map_messages(plan, BSD_BACKWARD, &end[BSD_BACKWARD]);
  map->messages_bytes = bsd_max(map->messages_bytes, end[BSD_BACKWARD] - map->messages_first);
  map->delta = take(&end[BSD_BACKWARD], q_rows * (int64_t)sizeof(float));
  if (plan->accumulate_rows)
    map->acc_dq = take(&end[BSD_BACKWARD], q_rows * row);
  if (plan->accumulate_columns) {
    map->acc_dk = take(&end[BSD_BACKWARD], kv_rows * row);
    map->acc_dv = take(&end[BSD_BACKWARD], kv_rows * row);
  }
  map->bytes = bsd_max(end[BSD_FORWARD], end[BSD_BACKWARD]);
  return BSD_OK;
}

/* ---- a piece of device memory, built on the host ------------------------------------------ */

typedef struct blob {
  char *host;
  int64_t size, capacity;
} blob;

static bsd_status put(blob *b, const void *data, int64_t bytes, int64_t *offset, bsd_error *error) {
  int64_t at = bsd_ceil_div(b->size, 16) * 16;
  BSD_TRY(bsd_grow(&b->host, &b->capacity, at + bytes + 16, 1, error));
  if (bytes > 0)
    memcpy(b->host + at, data, (size_t)bytes);
  b->size = at + bytes;
  *offset = at;
  return BSD_OK;
}

/* ---- packing tables ---------------------------------------------------------------------- */

/* The members of a set as runs of equal steps, with their rank. */
static bsd_status set_runs(const bsd_bitset *set, bsd_pack_run **runs, int64_t *count,
                           int64_t *capacity, bsd_error *error) {
  bsd_bitset_cursor cursor = {0, 0};
  int64_t member, row = 0, begin = *count;
  for (; bsd_bitset_next(set, &cursor, &member); row++) {
    bsd_pack_run *last = *count > begin ? &(*runs)[*count - 1] : NULL;
    if (last != NULL && last->count == 1) {
      last->step = member - last->first;
      last->count = 2;
    } else if (last != NULL && member == last->first + last->count * last->step) {
      last->count++;
    } else {
      BSD_TRY(bsd_grow(runs, capacity, *count + 1, sizeof(bsd_pack_run), error));
      (*runs)[(*count)++] = (bsd_pack_run){member, 1, 1, row};
    }
  }
  return BSD_OK;
}

/* First row of each head and the rows of one batch entry in a message part. */
static bsd_status head_rows(const bsd_bitset *sets, const int32_t *class_of, int64_t heads,
                            int64_t **rows, int64_t *batch_rows, bsd_error *error) {
  int64_t h, row = 0;
  BSD_TRY(bsd_alloc(rows, heads, sizeof(int64_t), error));
  for (h = 0; h < heads; h++) {
    (*rows)[h] = row;
    row += sets[class_of[h]].members;
  }
  *batch_rows = row;
  return BSD_OK;
}

/* Puts a pack's arrays; its pointers are offsets until the blob has its address. */
static bsd_status put_pack(blob *b, const bsd_bitset *sets, int64_t classes,
                           const int32_t *class_of, int64_t heads, bsd_pack *pack,
                           bsd_error *error) {
  bsd_pack_run *runs = NULL;
  int64_t *class_ptr = NULL, *rows = NULL, count = 0, capacity = 0, c, offset[4] = {0};
  bsd_status status = bsd_alloc(&class_ptr, classes + 1, sizeof(int64_t), error);
  for (c = 0; c < classes && status == BSD_OK; c++) {
    class_ptr[c] = count;
    status = set_runs(&sets[c], &runs, &count, &capacity, error);
    class_ptr[c + 1] = count;
  }
  if (status == BSD_OK)
    status = head_rows(sets, class_of, heads, &rows, &pack->batch_rows, error);
  if (status == BSD_OK)
    status = put(b, class_of, heads * (int64_t)sizeof(int32_t), &offset[0], error);
  if (status == BSD_OK)
    status = put(b, class_ptr, (classes + 1) * (int64_t)sizeof(int64_t), &offset[1], error);
  if (status == BSD_OK)
    status = put(b, runs, count * (int64_t)sizeof(bsd_pack_run), &offset[2], error);
  if (status == BSD_OK)
    status = put(b, rows, heads * (int64_t)sizeof(int64_t), &offset[3], error);
  pack->nheads = heads;
  pack->run_class = (const int32_t *)(uintptr_t)offset[0];
  pack->class_ptr = (const int64_t *)(uintptr_t)offset[1];
  pack->runs = (const bsd_pack_run *)(uintptr_t)offset[2];
  pack->head_row = (const int64_t *)(uintptr_t)offset[3];
  bsd_free(runs);
  bsd_free(class_ptr);
  bsd_free(rows);
  return status;
}

static void rebase_pack(bsd_pack *pack, const char *base) {
  pack->run_class = (const int32_t *)(base + (uintptr_t)pack->run_class);
  pack->class_ptr = (const int64_t *)(base + (uintptr_t)pack->class_ptr);
  pack->runs = (const bsd_pack_run *)(base + (uintptr_t)pack->runs);
  pack->head_row = (const int64_t *)(base + (uintptr_t)pack->head_row);
}

/* ---- received tables --------------------------------------------------------------------- */

/* Rows of one peer's message: KV and query heads. Offsets into the blob of the head_row arrays. */
typedef struct peer_rows {
  int64_t kv_head_row, q_head_row, kv_batch_rows, q_batch_rows;
} peer_rows;

static bsd_status put_peer_rows(blob *b, const bsd_task *task, const bsd_peer *peer, peer_rows *out,
                                bsd_error *error) {
  int64_t *kv = NULL, *q = NULL;
  bsd_status status =
      head_rows(peer->kv_receive, task->kv_class, task->kv_heads, &kv, &out->kv_batch_rows, error);
  if (status == BSD_OK)
    status =
        head_rows(peer->q_receive, task->head_class, task->heads, &q, &out->q_batch_rows, error);
  if (status == BSD_OK)
    status = put(b, kv, task->kv_heads * (int64_t)sizeof(int64_t), &out->kv_head_row, error);
  if (status == BSD_OK)
    status = put(b, q, task->heads * (int64_t)sizeof(int64_t), &out->q_head_row, error);
  bsd_free(kv);
  bsd_free(q);
  return status;
}

/* Byte offset of each part in a message, from its rows. */
static int64_t part_offset(const bsd_task *task, const peer_rows *rows, bsd_message_part part) {
  int64_t row = task->head_dim * bsd_dtype_bytes(task->dtype);
  int64_t kv = task->batch * rows->kv_batch_rows * row, q = task->batch * rows->q_batch_rows * row;
  int64_t f32 = task->batch * rows->q_batch_rows * (int64_t)sizeof(float);
  switch (part) {
  case BSD_PART_K:
    return 0;
  case BSD_PART_V:
    return kv;
  case BSD_PART_Q:
    return 2 * kv;
  case BSD_PART_DO:
    return 2 * kv + q;
  case BSD_PART_LSE:
    return 2 * kv + 2 * q;
  default:
    return 2 * kv + 2 * q + f32;
  }
}

static void fill_received(const bsd_plan *plan, const char *workspace, int pass,
                          bsd_message_part part, int64_t index, const peer_rows *rows,
                          const char *device, bsd_received *out) {
  int kv = part == BSD_PART_K || part == BSD_PART_V;
  out->data = (char *)(uintptr_t)workspace + plan->map.receive[pass][index] +
              part_offset(plan->task, rows, part);
  out->batch_rows = kv ? rows->kv_batch_rows : rows->q_batch_rows;
  out->head_row = (const int64_t *)(device + (kv ? rows->kv_head_row : rows->q_head_row));
}

static void parts_of(int pass, int *count) {
  *count = pass == BSD_FORWARD ? BSD_PART_V + 1 : BSD_PART_DELTA + 1;
}

static bsd_status fill_tables(const bsd_plan *plan, const void *workspace, blob *b, peer_rows *rows,
                              bsd_plan_tables *tables, bsd_error *error) {
  const bsd_task *task = plan->task;
  const bsd_backend_table *backend = plan->context->backend;
  int64_t n = plan->share->npeers, offset[2][6], i;
  int pass, part, parts;
  for (i = 0; i < n; i++) {
    const bsd_peer *peer = &plan->share->peers[i];
    BSD_TRY(put_pack(b, peer->kv_send, task->kv_classes, task->kv_class, task->kv_heads,
                     &tables->kv_pack[i], error));
    BSD_TRY(put_pack(b, peer->q_send, task->head_classes, task->head_class, task->heads,
                     &tables->q_pack[i], error));
    BSD_TRY(put_peer_rows(b, task, peer, &rows[i], error));
  }
  for (pass = BSD_FORWARD; pass <= BSD_BACKWARD; pass++)
    for (parts_of(pass, &parts), part = 0; part < parts; part++) {
      int64_t bytes = n * (int64_t)sizeof(bsd_received);
      int64_t at = bsd_ceil_div(b->size, 16) * 16;
      BSD_TRY(bsd_grow(&b->host, &b->capacity, at + bytes, 1, error));
      b->size = at + bytes; /* filled below, once the device address is known */
      offset[pass][part] = at;
    }
  BSD_TRY(backend->alloc(plan->context->device, b->size, &tables->device, error));
  for (i = 0; i < n; i++) {
    rebase_pack(&tables->kv_pack[i], tables->device);
    rebase_pack(&tables->q_pack[i], tables->device);
  }
  for (pass = BSD_FORWARD; pass <= BSD_BACKWARD; pass++)
    for (parts_of(pass, &parts), part = 0; part < parts; part++) {
      bsd_received *host = (bsd_received *)(b->host + offset[pass][part]);
      for (i = 0; i < n; i++)
        fill_received(plan, workspace, pass, (bsd_message_part)part, i, &rows[i], tables->device,
                      &host[i]);
      tables->received[pass][part] = (bsd_received *)((char *)tables->device + offset[pass][part]);
    }
  BSD_TRY(backend->copy_in(plan->context->device, tables->device, b->host, b->size, NULL, error));
  return backend->synchronize(plan->context->device, NULL, error);
}

static bsd_status make_tables(const bsd_plan *plan, const void *workspace, bsd_plan_tables *tables,
                              bsd_error *error) {
  int64_t n = plan->share->npeers;
  blob b = {0};
  peer_rows *rows = NULL;
  bsd_status status = bsd_alloc(&tables->kv_pack, n, sizeof(bsd_pack), error);
  if (status == BSD_OK)
    status = bsd_alloc(&tables->q_pack, n, sizeof(bsd_pack), error);
  if (status == BSD_OK)
    status = bsd_alloc(&rows, n, sizeof(peer_rows), error);
  if (status == BSD_OK)
    status = fill_tables(plan, workspace, &b, rows, tables, error);
  bsd_free(b.host);
  bsd_free(rows);
  return status;
}

static void free_tables(const bsd_context *context, bsd_plan_tables *tables) {
  if (tables->device != NULL)
    context->backend->release(context->device, tables->device);
  bsd_free(tables->kv_pack);
  bsd_free(tables->q_pack);
}

bsd_status bsd_plan_use_workspace(bsd_plan *plan, void *workspace, bsd_error *error) {
  bsd_plan_tables made = {0};
  bsd_status status = plan->share->npeers > 0 ? make_tables(plan, workspace, &made, error) : BSD_OK;
  if (status != BSD_OK) {
    free_tables(plan->context, &made);
    return status;
  }
  free_tables(plan->context, &plan->tables);
  plan->tables = made;
  plan->workspace = workspace;
  return BSD_OK;
}

void bsd_plan_free_tables(bsd_plan *plan) {
  free_tables(plan->context, &plan->tables);
}

/* ---- the kernel call --------------------------------------------------------------------- */

void *bsd_plan_at(const bsd_plan *plan, int64_t offset) {
  return offset < 0 || plan->workspace == NULL ? NULL : (char *)plan->workspace + offset;
}

bsd_call bsd_plan_call(const bsd_plan *plan) {
  const bsd_task *t = plan->task;
  bsd_call call = {.batch = t->batch,
                   .heads = t->heads,
                   .kv_heads = t->kv_heads,
                   .head_dim = t->head_dim,
                   .tokens = plan->local_length,
                   .block = t->block,
                   .dtype = t->dtype,
                   .scale = t->scale,
                   .allow_tf32 = t->allow_tf32};
  call.scratch = bsd_plan_at(plan, plan->map.scratch);
  call.messages = bsd_plan_at(plan, plan->map.messages_first);
  call.messages_bytes = plan->map.messages_bytes;
  return call;
}
