/* self.c - the transport of one rank: a send is copied to the receive of the same step.
 *
 * Plans of one rank post no messages; scatter, gather and tests do. The interface is whole, so that one
 * rank needs no special case anywhere else. */
#include <string.h>

#include "comm/select.h"
#include "src/memory.h"

typedef struct self_message {
  int step;
  int64_t bytes;
  const void *source; /* of a send */
  void *target;       /* of a receive */
} self_message;

typedef struct self_queue {
  int64_t count, capacity;
  self_message *messages;
} self_queue;

typedef struct self_state {
  int begun; /* between begin and end */
  int on_device;
  self_queue sends, receives;
} self_state;

static bsd_status check_usable(const bsd_comm *comm, const char *call, bsd_error *error) {
  if (comm->failed)
    return bsd_fail(error, BSD_ERR_STATE, "%s: the communicator has failed before", call);
  return BSD_OK;
}

static bsd_status self_begin(bsd_comm *comm, const bsd_exchange *exchange, bsd_error *error) {
  self_state *state = comm->state;
  BSD_TRY(check_usable(comm, "begin", error));
  if (state->begun)
    return bsd_fail(error, BSD_ERR_STATE, "begin: an exchange is already begun");
  state->begun = 1;
  state->on_device = exchange->on_device;
  state->sends.count = 0;
  state->receives.count = 0;
  return BSD_OK;
}

/* Appends a message to send or receive after judging the arguments. */
static bsd_status post(bsd_comm *comm, const char *call, self_queue *queue, int step, int peer,
                       int64_t bytes, self_message **message, bsd_error *error) {
  const self_state *state = comm->state;
  BSD_TRY(check_usable(comm, call, error));
  if (!state->begun)
    return bsd_fail(error, BSD_ERR_STATE, "%s: no exchange is begun", call);
  if (peer != 0)
    return bsd_fail(error, BSD_ERR_ARG, "%s: peer is %d but there is only rank 0", call, peer);
  if (bytes <= 0)
    return bsd_fail(error, BSD_ERR_ARG, "%s: bytes is %lld, expected more than 0", call,
                    (long long)bytes);
  if (state->on_device)
    return bsd_fail(error, BSD_ERR_UNSUPPORTED,
                    "%s: transport self does not copy between device buffers", call);
  BSD_TRY(
      bsd_grow(&queue->messages, &queue->capacity, queue->count + 1, sizeof(self_message), error));
  *message = &queue->messages[queue->count++];
  **message = (self_message){.step = step, .bytes = bytes};
  return BSD_OK;
}

static bsd_status self_send(bsd_comm *comm, int step, int peer, const void *data, int64_t bytes,
                            bsd_error *error) {
  self_state *state = comm->state;
  self_message *message;
  BSD_TRY(post(comm, "send", &state->sends, step, peer, bytes, &message, error));
  message->source = data;
  return BSD_OK;
}

static bsd_status self_recv(bsd_comm *comm, int step, int peer, void *data, int64_t bytes,
                            bsd_error *error) {
  self_state *state = comm->state;
  self_message *message;
  BSD_TRY(post(comm, "recv", &state->receives, step, peer, bytes, &message, error));
  message->target = data;
  return BSD_OK;
}

static const self_message *find_step(const self_queue *queue, int step) {
  for (int64_t i = 0; i < queue->count; i++)
    if (queue->messages[i].step == step)
      return &queue->messages[i];
  return NULL;
}

/* Every send needs its receive before anything is copied. */
static bsd_status check_pairs(const self_state *state, bsd_error *error) {
  for (int64_t i = 0; i < state->sends.count; i++) {
    const self_message *sent = &state->sends.messages[i];
    const self_message *wanted = find_step(&state->receives, sent->step);
    if (!wanted)
      return bsd_fail(error, BSD_ERR_MISMATCH,
                      "rank 0 sends %lld bytes to itself in step %d but receives none there",
                      (long long)sent->bytes, sent->step);
    if (wanted->bytes != sent->bytes)
      return bsd_fail(error, BSD_ERR_MISMATCH,
                      "rank 0 sends %lld bytes to itself in step %d but receives %lld",
                      (long long)sent->bytes, sent->step, (long long)wanted->bytes);
  }
  for (int64_t i = 0; i < state->receives.count; i++) {
    const self_message *wanted = &state->receives.messages[i];
    if (!find_step(&state->sends, wanted->step))
      return bsd_fail(error, BSD_ERR_MISMATCH,
                      "rank 0 receives %lld bytes from itself in step %d but sends none there",
                      (long long)wanted->bytes, wanted->step);
  }
  return BSD_OK;
}

static void self_abort(bsd_comm *comm) {
  self_state *state = comm->state;
  state->begun = 0;
  comm->failed = 1;
}

static bsd_status self_end(bsd_comm *comm, bsd_error *error) {
  self_state *state = comm->state;
  BSD_TRY(check_usable(comm, "end", error));
  if (!state->begun)
    return bsd_fail(error, BSD_ERR_STATE, "end: no exchange is begun");
  bsd_status status = check_pairs(state, error);
  if (status != BSD_OK) {
    self_abort(comm);
    return status;
  }
  for (int64_t i = 0; i < state->sends.count; i++) {
    const self_message *sent = &state->sends.messages[i];
    memcpy(find_step(&state->receives, sent->step)->target, sent->source, (size_t)sent->bytes);
  }
  state->begun = 0;
  return BSD_OK;
}

static bsd_status self_test(bsd_comm *comm, int last_step, int *done, bsd_error *error) {
  const self_state *state = comm->state;
  (void)last_step;
  BSD_TRY(check_usable(comm, "test", error));
  if (state->begun)
    return bsd_fail(error, BSD_ERR_STATE, "test: the exchange is not ended");
  *done = 1;
  return BSD_OK;
}

static bsd_status self_allgather(bsd_comm *comm, const void *in, int64_t bytes, void *out,
                                 bsd_error *error) {
  BSD_TRY(check_usable(comm, "allgather", error));
  if (bytes > 0)
    memcpy(out, in, (size_t)bytes);
  return BSD_OK;
}

static void self_destroy(bsd_comm *comm) {
  self_state *state = comm->state;
  bsd_free(state->sends.messages);
  bsd_free(state->receives.messages);
  bsd_free(state);
}

const bsd_transport bsd_transport_self = {
    .name = "self",
    .asynchronous = 0,
    .begin = self_begin,
    .send = self_send,
    .recv = self_recv,
    .end = self_end,
    .test = self_test,
    .abort = self_abort,
    .allgather = self_allgather,
    .destroy = self_destroy,
};

bsd_status bsd_comm_create_self(bsd_comm **comm, bsd_error *error) {
  bsd_comm *made;
  self_state *state;
  BSD_TRY(bsd_alloc(&made, 1, sizeof *made, error));
  bsd_status status = bsd_alloc(&state, 1, sizeof *state, error);
  if (status != BSD_OK) {
    bsd_free(made);
    return status;
  }
  *made = (bsd_comm){.transport = &bsd_transport_self,
                     .state = state,
                     .rank = 0,
                     .size = 1,
                     .timeout = BSD_DEFAULT_TIMEOUT};
  *comm = made;
  return BSD_OK;
}
