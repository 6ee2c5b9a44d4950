/* mpi.c - the transport over MPI: non-blocking messages under a deadline of our own.
 *
 * A message is a header (wire.h) and its payload in chunks (mpi_queue.h), of the tags of their exchange,
 * so that a late one of an abandoned exchange matches nothing. MPI usually reports nothing when a peer
 * dies: the deadline does. A rank that fails for a reason of its own, and lives, tells the others by a
 * notice, so that they need not wait for theirs. Nothing here blocks but the duplication of the caller's
 * communicator, and nothing calls MPI_Abort. */
#include <limits.h>
#include <mpi.h>
#include <string.h>

#include "comm/flight.h"
#include "comm/launcher.h"
#include "comm/mpi_device.h"
#include "comm/mpi_notice.h"
#include "comm/mpi_queue.h"
#include "comm/select.h"
#include "src/bsdattn_mpi.h"
#include "src/clock.h"
#include "src/env.h"
#include "src/memory.h"

/* A rank that has not polled for AWAY_SECONDS (it computed, or was stopped) may find its deadline passed
 * before MPI had a chance to deliver what is there: it is given GRACE_SECONDS once per exchange. */
#define AWAY_SECONDS  0.1
#define GRACE_SECONDS 0.5

#define NOTICE_TAG 0
#define FIRST_TAG  1 /* of exchanges: two each, header and payload */

typedef enum exchange_phase { PHASE_IDLE, PHASE_BEGUN, PHASE_ENDED } exchange_phase;

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

  bsd_mpi_queue queue;
  bsd_flight flight;
  bsd_mpi_notice *notice; /* allocated beforehand: out of memory is a reason to send it */
} mpi_state;

/* ---- failing ----------------------------------------------------------------------------- */

static void record(bsd_comm *comm, const bsd_mpi_message *message, bsd_flight_state what_happened) {
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

/* Tells the other ranks that this one fails, and why. */
static void tell_others(bsd_comm *comm, bsd_status status, const char *message) {
  mpi_state *state = comm->state;
  bsd_mpi_notice_send(state->notice, state->mpi_comm, comm->rank, comm->size, status, message);
  state->notice = NULL;
}

/* Sets comm->failed and gives up what is under way. */
static void give_up(bsd_comm *comm) {
  mpi_state *state = comm->state;
  comm->failed = 1;
  bsd_mpi_queue_withdraw(&state->queue);
}

static void mpi_abort(bsd_comm *comm) {
  if (comm->failed)
    return;
  tell_others(comm, BSD_ERR_PEER, "it gave up its exchange");
  give_up(comm);
}

/* Ends the communicator after a failure on `message` (NULL: on none in particular); error is filled.
 * The others are not told of a deadline: theirs passes too, and a send to a dead rank is a risk. */
static bsd_status fail_exchange(bsd_comm *comm, const bsd_mpi_message *message,
                                const bsd_error *error) {
  mpi_state *state = comm->state;
  if (message)
    record(comm, message, BSD_FLIGHT_FAILED);
  if (error->status != BSD_ERR_MISMATCH)
    bsd_flight_dump(&state->flight, comm->rank, comm->size, error->message);
  if (error->status != BSD_ERR_TIMEOUT)
    tell_others(comm, error->status, error->message);
  give_up(comm);
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

/* Fails if another rank has sent a notice. A disagreement is one for all; any other failure is a
 * peer's. */
static bsd_status check_notices(bsd_comm *comm, bsd_error *error) {
  mpi_state *state = comm->state;
  int peer;
  if (!bsd_mpi_notice_receive(state->notice, state->mpi_comm, &peer))
    return BSD_OK;
  bsd_status status = state->notice->status == BSD_ERR_MISMATCH ? BSD_ERR_MISMATCH : BSD_ERR_PEER;
  bsd_fail(error, status, "rank %d has failed: %s", peer, state->notice->message);
  give_up(comm);
  return status;
}

/* ---- posting ----------------------------------------------------------------------------- */

static bsd_status mpi_begin(bsd_comm *comm, const bsd_exchange *exchange, bsd_error *error) {
  mpi_state *state = comm->state;
  BSD_TRY(check_usable(comm, "begin", error));
  if (state->phase != PHASE_IDLE)
    return bsd_fail(error, BSD_ERR_STATE, "begin: the last exchange (%s) is still under way",
                    state->what);
  if (exchange->on_device && !comm->takes_device_memory)
    return bsd_fail(
        error, BSD_ERR_UNSUPPORTED,
        "transport mpi exchanges host memory only: device buffers need a CUDA-aware MPI, "
        "or transport nccl");
  state->phase = PHASE_BEGUN;
  state->sequence++;
  state->plan_hash = exchange->plan_hash;
  memset(state->what, 0, sizeof state->what);
  memcpy(state->what, exchange->what, strnlen(exchange->what, sizeof state->what - 1));
  state->began = state->tested = bsd_now();
  state->deadline = state->began + comm->timeout;
  state->grace_given = 0;
  bsd_mpi_queue_clear(&state->queue);
  return BSD_OK;
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

/* What the header of a message says. */
static bsd_wire_message describe(const bsd_comm *comm, const bsd_mpi_message *message) {
  const mpi_state *state = comm->state;
  return (bsd_wire_message){.plan_hash = state->plan_hash,
                            .sequence = state->sequence,
                            .what = state->what,
                            .sender = message->is_send ? comm->rank : message->peer,
                            .step = message->step,
                            .bytes = message->bytes,
                            .checksum = state->checksum};
}

static bsd_status post(bsd_comm *comm, const bsd_mpi_message *wanted, bsd_error *error) {
  mpi_state *state = comm->state;
  bsd_mpi_message *message;
  BSD_TRY(bsd_mpi_queue_append(&state->queue, wanted, &message, error));
  if (message->is_send) {
    bsd_wire_message contents = describe(comm, message);
    bsd_wire_write(&message->header, &contents, message->payload);
  }
  record(comm, message, BSD_FLIGHT_POSTED);
  int tag = FIRST_TAG + (int)(2 * (state->sequence % state->tag_span));
  int code = bsd_mpi_queue_post(&state->queue, message, state->mpi_comm, tag);
  if (code == MPI_SUCCESS)
    return BSD_OK;
  char text[MPI_MAX_ERROR_STRING];
  bsd_error local;
  error = error ? error : &local;
  bsd_fail(error, BSD_ERR_BACKEND, "rank %d, %s step %d: MPI refused %lld bytes %s rank %d: %s",
           comm->rank, state->what, message->step, (long long)message->bytes,
           message->is_send ? "to" : "from", message->peer, mpi_error_text(code, text));
  return fail_exchange(comm, message, error);
}

static bsd_status mpi_send(bsd_comm *comm, int step, int peer, const void *data, int64_t bytes,
                           bsd_error *error) {
  BSD_TRY(check_arguments(comm, "send", peer, bytes, error));
  bsd_mpi_message message = {
      .is_send = 1, .step = step, .peer = peer, .bytes = bytes, .payload = (void *)data};
  return post(comm, &message, error);
}

static bsd_status mpi_recv(bsd_comm *comm, int step, int peer, void *data, int64_t bytes,
                           bsd_error *error) {
  BSD_TRY(check_arguments(comm, "recv", peer, bytes, error));
  bsd_mpi_message message = {.step = step, .peer = peer, .bytes = bytes, .payload = data};
  return post(comm, &message, error);
}

static bsd_status mpi_end(bsd_comm *comm, bsd_error *error) {
  mpi_state *state = comm->state;
  BSD_TRY(check_usable(comm, "end", error));
  if (state->phase != PHASE_BEGUN)
    return bsd_fail(error, BSD_ERR_STATE, "end: no exchange is begun");
  state->phase = state->queue.nmessages > 0 ? PHASE_ENDED : PHASE_IDLE;
  return BSD_OK;
}

/* ---- progress ---------------------------------------------------------------------------- */

/* Judges a request that MPI has completed: with an error, with other bytes than were asked for? */
static bsd_status judge_part(const bsd_comm *comm, const bsd_mpi_part *part, int code,
                             const MPI_Status *status, bsd_error *error) {
  const mpi_state *state = comm->state;
  const bsd_mpi_message *message = part->message;
  const char *name = part->is_header ? "the header" : "a part";
  char text[MPI_MAX_ERROR_STRING];
  if (code != MPI_SUCCESS)
    return bsd_fail(error, BSD_ERR_PEER,
                    "rank %d, %s step %d: %s of %lld bytes %s rank %d failed: %s", comm->rank,
                    state->what, message->step, name, (long long)message->bytes,
                    message->is_send ? "to" : "from", message->peer, mpi_error_text(code, text));
  if (message->is_send)
    return BSD_OK;
  int bytes;
  MPI_Get_count(status, MPI_BYTE, &bytes);
  if (bytes != part->bytes)
    return bsd_fail(
        error, BSD_ERR_PEER,
        "rank %d, %s step %d: %s of %lld bytes from rank %d is cut: %d bytes instead of %d",
        comm->rank, state->what, message->step, name, (long long)message->bytes, message->peer,
        bytes, part->bytes);
  return BSD_OK;
}

/* Judges one completed request, and its message's header or payload where that is now whole. */
static bsd_status complete_part(bsd_comm *comm, const bsd_mpi_part *part, int code,
                                const MPI_Status *status, bsd_error *error) {
  bsd_mpi_message *message = part->message;
  bsd_wire_message expected = describe(comm, message);
  if (part->is_header)
    message->header_pending = 0;
  else
    message->chunks_pending--;
  BSD_TRY(judge_part(comm, part, code, status, error));
  if (!part->is_header && !message->is_send)
    comm->payload_received += part->bytes;
  if (part->is_header && !message->is_send)
    BSD_TRY(bsd_wire_check(&message->header, &expected, comm->rank, error));
  if (!bsd_mpi_message_is_complete(message))
    return BSD_OK;
  if (!message->is_send)
    BSD_TRY(
        bsd_wire_check_payload(&message->header, &expected, comm->rank, message->payload, error));
  record(comm, message, BSD_FLIGHT_COMPLETE);
  return BSD_OK;
}

/* Lets MPI work and takes what has completed: headers first, for they explain a payload's error. */
static bsd_status progress(bsd_comm *comm, bsd_error *error) {
  mpi_state *state = comm->state;
  bsd_mpi_queue *queue = &state->queue;
  int completed;
  int code = MPI_Testsome((int)queue->nparts, queue->requests, &completed, queue->indices,
                          queue->statuses);
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
      const bsd_mpi_part *part = &queue->parts[queue->indices[i]];
      if (part->is_header != headers)
        continue;
      int part_code = code == MPI_SUCCESS ? MPI_SUCCESS : queue->statuses[i].MPI_ERROR;
      if (complete_part(comm, part, part_code, &queue->statuses[i], error) != BSD_OK)
        return fail_exchange(comm, part->message, error);
    }
  }
  return BSD_OK;
}

/* Whether the exchange's time is over; takes the time of this test. */
static int deadline_passed(mpi_state *state, double timeout) {
  double now = bsd_now();
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

static bsd_status fail_deadline(bsd_comm *comm, const bsd_mpi_message *message, bsd_error *error) {
  const mpi_state *state = comm->state;
  const char *missing = "have not arrived, not even their header";
  if (message->is_send)
    missing = "have not been taken";
  else if (!message->header_pending)
    missing = "have not arrived, only their header";
  bsd_fail(
      error, BSD_ERR_TIMEOUT,
      "rank %d, %s step %d: after %.3g s %lld bytes %s rank %d %s (%lld of %lld parts are missing)",
      comm->rank, state->what, message->step, bsd_now() - state->began, (long long)message->bytes,
      message->is_send ? "to" : "from", message->peer, missing, (long long)message->chunks_pending,
      (long long)message->chunks);
  return fail_exchange(comm, message, error);
}

static bsd_status mpi_test(bsd_comm *comm, int last_step, int *done, bsd_error *error) {
  mpi_state *state = comm->state;
  bsd_error local;
  error = error ? error : &local;
  BSD_TRY(check_usable(comm, "test", error));
  if (state->phase == PHASE_BEGUN)
    return bsd_fail(error, BSD_ERR_STATE, "test: the exchange (%s) is not ended", state->what);
  if (state->phase == PHASE_ENDED) {
    BSD_TRY(progress(comm, error));
    if (!bsd_mpi_queue_first_incomplete(&state->queue, INT_MAX))
      state->phase = PHASE_IDLE;
  }
  const bsd_mpi_message *awaited = NULL;
  if (state->phase == PHASE_ENDED)
    awaited = bsd_mpi_queue_first_incomplete(&state->queue, last_step);
  int passed = deadline_passed(state, comm->timeout);
  if (awaited) {
    BSD_TRY(check_notices(comm, error));
    if (passed)
      return fail_deadline(comm, awaited, error);
  }
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

static void mpi_destroy(bsd_comm *comm) {
  mpi_state *state = comm->state;
  int finalized;
  MPI_Finalized(&finalized);
  if (state->phase != PHASE_IDLE && !finalized)
    mpi_abort(comm);
  /* After a failure MPI still works on what was given up: its communicator stays. */
  if (!comm->failed && !finalized)
    MPI_Comm_free(&state->mpi_comm);
  bsd_mpi_queue_free(&state->queue);
  bsd_free(state->notice);
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

/* Fills a communicator's rank, size and state from a duplicate of mpi_comm. */
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
  state->tag_span = (uint64_t)(highest_tag - FIRST_TAG + 1) / 2;
  return BSD_OK;
}

bsd_status bsd_comm_create_mpi(MPI_Comm mpi_comm, bsd_comm **comm, bsd_error *error) {
  int checksum, takes_device_memory;
  bsd_comm *made = NULL;
  mpi_state *state = NULL;
  bsd_mpi_notice *notice = NULL;
  BSD_TRY(check_mpi(error));
  if (mpi_comm == MPI_COMM_NULL)
    return bsd_fail(error, BSD_ERR_ARG, "mpi_comm is MPI_COMM_NULL, expected a communicator");
  BSD_TRY(bsd_env_checksum(&checksum, error));
  BSD_TRY(bsd_mpi_takes_device_memory(checksum, &takes_device_memory, error));
  bsd_status status = bsd_alloc(&made, 1, sizeof *made, error);
  if (status == BSD_OK)
    status = bsd_alloc(&state, 1, sizeof *state, error);
  if (status == BSD_OK)
    status = bsd_alloc(&notice, 1, sizeof *notice, error);
  if (status != BSD_OK)
    goto free_memory;
  state->checksum = checksum;
  state->notice = notice;
  *made = (bsd_comm){.transport = &bsd_transport_mpi,
                     .state = state,
                     .timeout = BSD_DEFAULT_TIMEOUT,
                     .takes_device_memory = takes_device_memory};
  status = duplicate(mpi_comm, made, error);
  if (status != BSD_OK)
    goto free_memory;
  *comm = made;
  return BSD_OK;

free_memory:
  bsd_free(notice);
  bsd_free(state);
  bsd_free(made);
  return status;
}
