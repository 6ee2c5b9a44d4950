/* mpi.c - the transport over MPI: non-blocking messages under a deadline of our own.
 *
 * A message is a header (wire.h) and its payload in chunks of at most 1 GiB, all of them MPI messages of
 * the tags of their exchange, so that a late one of an abandoned exchange matches nothing. MPI usually
 * reports nothing when a peer dies: the deadline does. Nothing here blocks but the duplication of the
 * caller's communicator, and nothing calls MPI_Abort. */
#include <limits.h>
#include <mpi.h>
#include <string.h>

#include "comm/flight.h"
#include "comm/launcher.h"
#include "comm/select.h"
#include "comm/wire.h"
#include "src/bsdattn_mpi.h"
#include "src/env.h"
#include "src/memory.h"

#define CHUNK_BYTES ((int64_t)1 << 30) /* counts given to MPI are ints */

/* A rank that has not polled for AWAY_SECONDS (it computed, or was stopped) may find its deadline passed
 * before MPI had a chance to deliver what is there: it is given GRACE_SECONDS once per exchange. */
#define AWAY_SECONDS  0.1
#define GRACE_SECONDS 0.5

typedef enum exchange_phase { PHASE_IDLE, PHASE_BEGUN, PHASE_ENDED } exchange_phase;

typedef struct mpi_message {
  bsd_wire_header header; /* of a send as it goes out, of a receive as it came */
  int is_send, step, peer;
  int header_pending;
  int64_t bytes;
  int64_t chunks, chunks_pending;
  const void *source; /* of a send */
  void *target;       /* of a receive */
} mpi_message;

/* What one MPI request carries. */
typedef struct mpi_part {
  mpi_message *message;
  int is_header;
  int bytes;
} mpi_part;

typedef struct mpi_state {
  MPI_Comm mpi_comm;
  uint64_t tag_span; /* exchanges until a tag comes round again */
  int checksum;

  exchange_phase phase;
  uint64_t sequence; /* of the exchange under way or the last one */
  uint64_t plan_hash;
  char what[BSD_FLIGHT_WHAT_BYTES];
  double began, tested; /* times of begin and of the last test */
  double deadline;
  int grace_given;

  /* One allocation per message: MPI writes into headers, so they never move. Reused by later exchanges. */
  int64_t nmessages, messages_made, messages_capacity;
  mpi_message **messages;

  /* Parallel arrays, one entry per MPI request of the exchange. */
  int64_t nparts, parts_capacity, requests_capacity, indices_capacity, statuses_capacity;
  mpi_part *parts;
  MPI_Request *requests;
  int *indices;
  MPI_Status *statuses;

  bsd_flight flight;
} mpi_state;

/* ---- failing ----------------------------------------------------------------------------- */

static void record(bsd_comm *comm, const mpi_message *message, bsd_flight_state what_happened) {
  mpi_state *state = comm->state;
  bsd_flight_event event = {.sequence = state->sequence,
                            .bytes = message->bytes,
                            .step = message->step,
                            .peer = message->peer,
                            .is_send = message->is_send,
                            .state = what_happened};
  memcpy(event.what, state->what, sizeof event.what);
  bsd_flight_record(&state->flight, &event);
}

/* Takes back receives that no message has matched yet, so that a late one does not write into memory
 * that the caller may free; the rest cannot be taken back and stays pending for ever. */
static void withdraw_receives(mpi_state *state) {
  for (int64_t i = 0; i < state->nparts; i++) {
    if (state->requests[i] == MPI_REQUEST_NULL || state->parts[i].message->is_send)
      continue;
    int complete;
    MPI_Cancel(&state->requests[i]);
    MPI_Test(&state->requests[i], &complete, MPI_STATUS_IGNORE);
  }
}

static void mpi_abort(bsd_comm *comm) {
  mpi_state *state = comm->state;
  if (comm->failed)
    return;
  comm->failed = 1;
  if (state->phase != PHASE_IDLE)
    withdraw_receives(state);
}

/* Ends the communicator after a failure on `message` (NULL: on none in particular); error is filled. */
static bsd_status fail_exchange(bsd_comm *comm, const mpi_message *message,
                                const bsd_error *error) {
  mpi_state *state = comm->state;
  if (message)
    record(comm, message, BSD_FLIGHT_FAILED);
  bsd_flight_dump(&state->flight, comm->rank, comm->size, error->message);
  mpi_abort(comm);
  return error->status;
}

static const char *mpi_error_text(int code, char text[MPI_MAX_ERROR_STRING]) {
  int length;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS)
    return "unknown MPI error";
  return text;
}

static bsd_status check_usable(const bsd_comm *comm, const char *call, bsd_error *error) {
  if (comm->failed)
    return bsd_fail(error, BSD_ERR_STATE, "%s: the communicator of rank %d has failed before", call,
                    comm->rank);
  return BSD_OK;
}

static bsd_wire_message expectation(const bsd_comm *comm, const mpi_message *message) {
  const mpi_state *state = comm->state;
  return (bsd_wire_message){.plan_hash = state->plan_hash,
                            .sequence = state->sequence,
                            .what = state->what,
                            .sender = message->is_send ? comm->rank : message->peer,
                            .step = message->step,
                            .bytes = message->bytes,
                            .checksum = state->checksum};
}

/* ---- posting ----------------------------------------------------------------------------- */

static bsd_status mpi_begin(bsd_comm *comm, const bsd_exchange *exchange, bsd_error *error) {
  mpi_state *state = comm->state;
  BSD_TRY(check_usable(comm, "begin", error));
  if (state->phase != PHASE_IDLE)
    return bsd_fail(error, BSD_ERR_STATE, "begin: the last exchange (%s) is still under way",
                    state->what);
  if (exchange->on_device)
    return bsd_fail(error, BSD_ERR_UNSUPPORTED,
                    "transport mpi exchanges host memory only: device buffers need transport nccl");
  state->phase = PHASE_BEGUN;
  state->sequence++;
  state->plan_hash = exchange->plan_hash;
  memset(state->what, 0, sizeof state->what);
  memcpy(state->what, exchange->what, strnlen(exchange->what, sizeof state->what - 1));
  state->began = state->tested = bsd_flight_clock();
  state->deadline = state->began + comm->timeout;
  state->grace_given = 0;
  state->nmessages = 0;
  state->nparts = 0;
  return BSD_OK;
}

/* Room for `extra` more requests. */
static bsd_status grow_parts(mpi_state *state, int64_t extra, bsd_error *error) {
  int64_t need = state->nparts + extra;
  if (need > INT_MAX)
    return bsd_fail(error, BSD_ERR_UNSUPPORTED,
                    "an exchange of %lld MPI messages: at most %d are possible", (long long)need,
                    INT_MAX);
  BSD_TRY(bsd_grow(&state->parts, &state->parts_capacity, need, sizeof(mpi_part), error));
  BSD_TRY(bsd_grow(&state->requests, &state->requests_capacity, need, sizeof(MPI_Request), error));
  BSD_TRY(bsd_grow(&state->indices, &state->indices_capacity, need, sizeof(int), error));
  return bsd_grow(&state->statuses, &state->statuses_capacity, need, sizeof(MPI_Status), error);
}

static bsd_status take_message(mpi_state *state, mpi_message **message, bsd_error *error) {
  if (state->nmessages == state->messages_made) {
    BSD_TRY(bsd_grow(&state->messages, &state->messages_capacity, state->messages_made + 1,
                     sizeof(mpi_message *), error));
    BSD_TRY(bsd_alloc(&state->messages[state->messages_made], 1, sizeof(mpi_message), error));
    state->messages_made++;
  }
  *message = state->messages[state->nmessages++];
  return BSD_OK;
}

/* Starts one MPI message; the room for it is there. */
static int post_part(mpi_state *state, mpi_message *message, int is_header, void *data, int bytes) {
  int tag = (int)(2 * (state->sequence % state->tag_span)) + (is_header ? 0 : 1);
  MPI_Request *request = &state->requests[state->nparts];
  state->parts[state->nparts] =
      (mpi_part){.message = message, .is_header = is_header, .bytes = bytes};
  int code = message->is_send
                 ? MPI_Isend(data, bytes, MPI_BYTE, message->peer, tag, state->mpi_comm, request)
                 : MPI_Irecv(data, bytes, MPI_BYTE, message->peer, tag, state->mpi_comm, request);
  if (code == MPI_SUCCESS)
    state->nparts++;
  return code;
}

static int post_parts(mpi_state *state, mpi_message *message, void *payload) {
  int code = post_part(state, message, 1, &message->header, sizeof message->header);
  for (int64_t chunk = 0; chunk < message->chunks && code == MPI_SUCCESS; chunk++) {
    int64_t first = chunk * CHUNK_BYTES;
    int64_t bytes = bsd_min(CHUNK_BYTES, message->bytes - first);
    code = post_part(state, message, 0, (char *)payload + first, (int)bytes);
  }
  return code;
}

static bsd_status check_arguments(const bsd_comm *comm, const char *call, int peer, int64_t bytes,
                                  bsd_error *error) {
  const mpi_state *state = comm->state;
  BSD_TRY(check_usable(comm, call, error));
  if (state->phase != PHASE_BEGUN)
    return bsd_fail(error, BSD_ERR_STATE, "%s: no exchange is begun", call);
  if (peer < 0 || peer >= comm->size)
    return bsd_fail(error, BSD_ERR_ARG, "%s: peer is %d, expected 0 .. %d", call, peer,
                    comm->size - 1);
  if (bytes <= 0)
    return bsd_fail(error, BSD_ERR_ARG, "%s: bytes is %lld, expected more than 0", call,
                    (long long)bytes);
  return BSD_OK;
}

/* Posts a message whose fields but the header are set. payload is source or target; MPI takes both without
 * const and only reads the one that it sends. */
static bsd_status post_message(bsd_comm *comm, const mpi_message *wanted, void *payload,
                               bsd_error *error) {
  mpi_state *state = comm->state;
  bsd_error local;
  mpi_message *message;
  int64_t chunks = bsd_ceil_div(wanted->bytes, CHUNK_BYTES);
  BSD_TRY(grow_parts(state, chunks + 1, error));
  BSD_TRY(take_message(state, &message, error));
  *message = *wanted;
  message->header_pending = 1;
  message->chunks = message->chunks_pending = chunks;
  if (message->is_send) {
    bsd_wire_message contents = expectation(comm, message);
    bsd_wire_write(&message->header, &contents, payload);
  }
  record(comm, message, BSD_FLIGHT_POSTED);
  int code = post_parts(state, message, payload);
  if (code == MPI_SUCCESS)
    return BSD_OK;
  char text[MPI_MAX_ERROR_STRING];
  error = error ? error : &local;
  bsd_fail(error, BSD_ERR_BACKEND, "rank %d, %s step %d: MPI refused %lld bytes %s rank %d: %s",
           comm->rank, state->what, message->step, (long long)message->bytes,
           message->is_send ? "to" : "from", message->peer, mpi_error_text(code, text));
  return fail_exchange(comm, message, error);
}

static bsd_status mpi_send(bsd_comm *comm, int step, int peer, const void *data, int64_t bytes,
                           bsd_error *error) {
  BSD_TRY(check_arguments(comm, "send", peer, bytes, error));
  mpi_message message = {.is_send = 1, .step = step, .peer = peer, .bytes = bytes, .source = data};
  return post_message(comm, &message, (void *)data, error);
}

static bsd_status mpi_recv(bsd_comm *comm, int step, int peer, void *data, int64_t bytes,
                           bsd_error *error) {
  BSD_TRY(check_arguments(comm, "recv", peer, bytes, error));
  mpi_message message = {.step = step, .peer = peer, .bytes = bytes, .target = data};
  return post_message(comm, &message, data, error);
}

static bsd_status mpi_end(bsd_comm *comm, bsd_error *error) {
  mpi_state *state = comm->state;
  BSD_TRY(check_usable(comm, "end", error));
  if (state->phase != PHASE_BEGUN)
    return bsd_fail(error, BSD_ERR_STATE, "end: no exchange is begun");
  state->phase = state->nmessages > 0 ? PHASE_ENDED : PHASE_IDLE;
  return BSD_OK;
}

/* ---- progress ---------------------------------------------------------------------------- */

static int is_complete(const mpi_message *message) {
  return !message->header_pending && message->chunks_pending == 0;
}

/* A request that MPI completed with an error, or with other bytes than were asked for. */
static bsd_status judge_part(const bsd_comm *comm, const mpi_part *part, int code,
                             const MPI_Status *status, bsd_error *error) {
  const mpi_state *state = comm->state;
  const mpi_message *message = part->message;
  char text[MPI_MAX_ERROR_STRING];
  if (code != MPI_SUCCESS)
    return bsd_fail(error, BSD_ERR_PEER,
                    "rank %d, %s step %d: %s of %lld bytes %s rank %d failed: %s", comm->rank,
                    state->what, message->step, part->is_header ? "the header" : "a part",
                    (long long)message->bytes, message->is_send ? "to" : "from", message->peer,
                    mpi_error_text(code, text));
  if (message->is_send)
    return BSD_OK;
  int bytes;
  MPI_Get_count(status, MPI_BYTE, &bytes);
  if (bytes != part->bytes)
    return bsd_fail(
        error, BSD_ERR_PEER,
        "rank %d, %s step %d: %s of %lld bytes from rank %d is cut: %d bytes instead of %d",
        comm->rank, state->what, message->step, part->is_header ? "the header" : "a part",
        (long long)message->bytes, message->peer, bytes, part->bytes);
  return BSD_OK;
}

/* One completed request: judges it, and its message's header or payload where that is now whole. */
static bsd_status complete_part(bsd_comm *comm, const mpi_part *part, int code,
                                const MPI_Status *status, bsd_error *error) {
  mpi_message *message = part->message;
  bsd_wire_message expected = expectation(comm, message);
  BSD_TRY(judge_part(comm, part, code, status, error));
  if (part->is_header)
    message->header_pending = 0;
  else
    message->chunks_pending--;
  if (part->is_header && !message->is_send)
    BSD_TRY(bsd_wire_check(&message->header, &expected, comm->rank, error));
  if (!is_complete(message))
    return BSD_OK;
  if (!message->is_send)
    BSD_TRY(
        bsd_wire_check_payload(&message->header, &expected, comm->rank, message->target, error));
  record(comm, message, BSD_FLIGHT_COMPLETE);
  return BSD_OK;
}

/* Lets MPI work and takes what has completed: headers first, for they explain a payload's error. */
static bsd_status progress(bsd_comm *comm, bsd_error *error) {
  mpi_state *state = comm->state;
  int completed;
  int code = MPI_Testsome((int)state->nparts, state->requests, &completed, state->indices,
                          state->statuses);
  if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) {
    char text[MPI_MAX_ERROR_STRING];
    bsd_fail(error, BSD_ERR_BACKEND, "rank %d, %s: MPI_Testsome failed: %s", comm->rank,
             state->what, mpi_error_text(code, text));
    return fail_exchange(comm, NULL, error);
  }
  if (completed == MPI_UNDEFINED)
    return BSD_OK;
  for (int headers = 1; headers >= 0; headers--) {
    for (int i = 0; i < completed; i++) {
      const mpi_part *part = &state->parts[state->indices[i]];
      if (part->is_header != headers)
        continue;
      int part_code = code == MPI_SUCCESS ? MPI_SUCCESS : state->statuses[i].MPI_ERROR;
      if (complete_part(comm, part, part_code, &state->statuses[i], error) != BSD_OK)
        return fail_exchange(comm, part->message, error);
    }
  }
  return BSD_OK;
}

/* The incomplete message of the lowest step <= last_step, receives before sends; NULL: none. */
static const mpi_message *first_incomplete(const mpi_state *state, int last_step) {
  const mpi_message *first = NULL;
  for (int64_t i = 0; i < state->nmessages; i++) {
    const mpi_message *message = state->messages[i];
    if (is_complete(message) || message->step > last_step)
      continue;
    if (!first || message->is_send < first->is_send ||
        (message->is_send == first->is_send && message->step < first->step))
      first = message;
  }
  return first;
}

/* Whether the exchange's time is over; counts the time of this test. */
static int deadline_passed(mpi_state *state, double timeout) {
  double now = bsd_flight_clock();
  double away = now - state->tested;
  state->tested = now;
  if (now < state->deadline)
    return 0;
  if (away < AWAY_SECONDS || state->grace_given)
    return 1;
  state->grace_given = 1;
  state->deadline = now + (timeout < GRACE_SECONDS ? timeout : GRACE_SECONDS);
  return 0;
}

static bsd_status fail_deadline(bsd_comm *comm, const mpi_message *message, bsd_error *error) {
  const mpi_state *state = comm->state;
  const char *missing = "have not arrived, not even their header";
  if (message->is_send)
    missing = "have not been taken";
  else if (!message->header_pending)
    missing = "have not arrived, only their header";
  bsd_fail(
      error, BSD_ERR_TIMEOUT,
      "rank %d, %s step %d: after %.3g s %lld bytes %s rank %d %s (%lld of %lld parts are missing)",
      comm->rank, state->what, message->step, bsd_flight_clock() - state->began,
      (long long)message->bytes, message->is_send ? "to" : "from", message->peer, missing,
      (long long)message->chunks_pending, (long long)message->chunks);
  return fail_exchange(comm, message, error);
}

static bsd_status mpi_test(bsd_comm *comm, int last_step, int *done, bsd_error *error) {
  mpi_state *state = comm->state;
  bsd_error local;
  error = error ? error : &local;
  BSD_TRY(check_usable(comm, "test", error));
  if (state->phase == PHASE_BEGUN)
    return bsd_fail(error, BSD_ERR_STATE, "test: the exchange (%s) is not ended", state->what);
  if (state->phase == PHASE_IDLE) {
    *done = 1;
    return BSD_OK;
  }
  BSD_TRY(progress(comm, error));
  if (!first_incomplete(state, INT_MAX))
    state->phase = PHASE_IDLE;
  const mpi_message *awaited = first_incomplete(state, last_step);
  int passed = deadline_passed(state, comm->timeout);
  if (awaited && passed)
    return fail_deadline(comm, awaited, error);
  *done = !awaited;
  return BSD_OK;
}

/* ---- control plane ----------------------------------------------------------------------- */

/* One message to and from every other rank, in ring order. */
static bsd_status post_allgather(bsd_comm *comm, const void *in, int64_t bytes, char *out,
                                 bsd_error *error) {
  for (int step = 1; step < comm->size; step++) {
    int target = (comm->rank + step) % comm->size;
    int source = (comm->rank + comm->size - step) % comm->size;
    BSD_TRY(mpi_recv(comm, step, source, out + source * bytes, bytes, error));
    BSD_TRY(mpi_send(comm, step, target, in, bytes, error));
  }
  return mpi_end(comm, error);
}

static bsd_status mpi_allgather(bsd_comm *comm, const void *in, int64_t bytes, void *out,
                                bsd_error *error) {
  const bsd_exchange exchange = {.what = "allgather"};
  if (bytes <= 0)
    return bsd_fail(error, BSD_ERR_ARG, "allgather: bytes is %lld, expected more than 0",
                    (long long)bytes);
  BSD_TRY(mpi_begin(comm, &exchange, error));
  memcpy((char *)out + comm->rank * bytes, in, (size_t)bytes);
  bsd_status status = post_allgather(comm, in, bytes, out, error);
  if (status != BSD_OK) {
    mpi_abort(comm);
    return status;
  }
  return bsd_comm_wait(comm, INT_MAX, error);
}

/* ---- making and freeing ------------------------------------------------------------------ */

/* A message with a pending part stays allocated: MPI still points to its header. */
static void free_messages(mpi_state *state, int failed) {
  for (int64_t i = 0; i < state->messages_made; i++) {
    int in_use = failed && i < state->nmessages && !is_complete(state->messages[i]);
    if (!in_use)
      bsd_free(state->messages[i]);
  }
  bsd_free(state->messages);
}

static void mpi_destroy(bsd_comm *comm) {
  mpi_state *state = comm->state;
  int finalized;
  MPI_Finalized(&finalized);
  if (state->phase != PHASE_IDLE && !finalized)
    mpi_abort(comm);
  if (!comm->failed && !finalized)
    MPI_Comm_free(&state->mpi_comm);
  free_messages(state, state->phase != PHASE_IDLE);
  bsd_free(state->parts);
  bsd_free(state->requests);
  bsd_free(state->indices);
  bsd_free(state->statuses);
  bsd_free(state);
}

const bsd_transport bsd_transport_mpi = {
    .name = "mpi",
    .asynchronous = 0,
    .begin = mpi_begin,
    .send = mpi_send,
    .recv = mpi_recv,
    .end = mpi_end,
    .test = mpi_test,
    .abort = mpi_abort,
    .allgather = mpi_allgather,
    .destroy = mpi_destroy,
};

/* MPI is up and of the launcher that started this process. */
static bsd_status check_mpi(bsd_error *error) {
  int initialized, finalized, world_size;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (!initialized || finalized)
    return bsd_fail(error, BSD_ERR_STATE, "MPI %s: bsd_comm_create_mpi needs a running MPI",
                    finalized ? "is finalized" : "is not initialised");
  MPI_Comm_size(MPI_COMM_WORLD, &world_size);
  return bsd_launcher_check(world_size, error);
}

static bsd_status duplicate(MPI_Comm mpi_comm, bsd_comm *comm, bsd_error *error) {
  mpi_state *state = comm->state;
  char text[MPI_MAX_ERROR_STRING];
  int code = MPI_Comm_dup(mpi_comm, &state->mpi_comm);
  if (code != MPI_SUCCESS)
    return bsd_fail(error, BSD_ERR_BACKEND, "MPI_Comm_dup failed: %s", mpi_error_text(code, text));
  MPI_Comm_set_errhandler(state->mpi_comm, MPI_ERRORS_RETURN);
  MPI_Comm_rank(state->mpi_comm, &comm->rank);
  MPI_Comm_size(state->mpi_comm, &comm->size);

  int *tag_limit, found;
  MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &tag_limit, &found);
  int highest_tag = found ? *tag_limit : 32767; /* what the standard promises */
  state->tag_span = ((uint64_t)highest_tag + 1) / 2;
  return BSD_OK;
}

bsd_status bsd_comm_create_mpi(MPI_Comm mpi_comm, bsd_comm **comm, bsd_error *error) {
  int checksum;
  bsd_comm *made;
  mpi_state *state;
  BSD_TRY(check_mpi(error));
  if (mpi_comm == MPI_COMM_NULL)
    return bsd_fail(error, BSD_ERR_ARG, "mpi_comm is MPI_COMM_NULL, expected a communicator");
  BSD_TRY(bsd_env_checksum(&checksum, error));
  BSD_TRY(bsd_alloc(&made, 1, sizeof *made, error));
  bsd_status status = bsd_alloc(&state, 1, sizeof *state, error);
  if (status != BSD_OK)
    goto free_comm;
  state->checksum = checksum;
  *made =
      (bsd_comm){.transport = &bsd_transport_mpi, .state = state, .timeout = BSD_DEFAULT_TIMEOUT};
  status = duplicate(mpi_comm, made, error);
  if (status != BSD_OK)
    goto free_state;
  *comm = made;
  return BSD_OK;

free_state:
  bsd_free(state);
free_comm:
  bsd_free(made);
  return status;
}
