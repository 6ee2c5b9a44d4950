/* nccl.c - the transport over NCCL: one packed send and receive per peer in one group, on a stream.
 *
 * Communicators are non-blocking: every call may answer "in progress", and is polled under the deadline
 * (nccl_poll.c). Once the pairs of an exchange have met before, end() neither waits nor allocates and may be
 * captured in a CUDA graph.
 * What the host passes (planning, scatter, gather) goes through device buffers, so that a communicator
 * needs nothing but NCCL. */
#include "comm/nccl_state.h"

#include "comm/select.h"
#include "src/clock.h"
#include "src/memory.h"

#define FINALIZE_SECONDS 5.0 /* of destroy, where peers may be gone */

static bsd_status check_usable(const bsd_comm *comm, bsd_error *error) {
  if (comm->failed)
    return bsd_fail(error, BSD_ERR_STATE, "the NCCL communicator of rank %d has failed before",
                    comm->rank);
  return BSD_OK;
}

/* ---- exchanges --------------------------------------------------------------------------- */

static bsd_status nccl_begin(bsd_comm *comm, const bsd_exchange *exchange, bsd_error *error) {
  bsd_nccl_state *state = comm->state;
  BSD_TRY(check_usable(comm, error));
  if (!exchange->continues)
    bsd_nccl_start_clock(comm, exchange->what);
  state->first = state->count;
  state->on_device = exchange->on_device;
  state->exchange_stream = exchange->on_device ? (cudaStream_t)exchange->stream : state->stream;
  return BSD_OK;
}

/* Device memory for a message that lies on the host. */
static bsd_status give_device_memory(const bsd_nccl_state *state, bsd_nccl_message *message,
                                     bsd_error *error) {
  int previous = bsd_nccl_enter(state);
  message->host = message->device;
  cudaError_t code = cudaMalloc(&message->device, (size_t)message->bytes);
  bsd_nccl_leave(state, previous);
  return code == cudaSuccess ? BSD_OK : bsd_nccl_cuda_failed(code, "cudaMalloc", error);
}

static bsd_status add_message(bsd_comm *comm, bsd_nccl_message message, bsd_error *error) {
  bsd_nccl_state *state = comm->state;
  BSD_TRY(check_usable(comm, error));
  if (message.peer < 0 || message.peer >= comm->size || message.bytes <= 0)
    return bsd_fail(error, BSD_ERR_ARG, "message of %lld bytes with peer %d of %d ranks",
                    (long long)message.bytes, message.peer, comm->size);
  BSD_TRY(bsd_grow(&state->messages, &state->capacity, state->count + 1, sizeof message, error));
  if (!state->on_device)
    BSD_TRY(give_device_memory(state, &message, error));
  state->messages[state->count++] = message;
  return BSD_OK;
}

static bsd_status nccl_send(bsd_comm *comm, int step, int peer, const void *data, int64_t bytes,
                            bsd_error *error) {
  bsd_nccl_message message = {(void *)(uintptr_t)data, NULL, bytes, step, peer, 1};
  return add_message(comm, message, error);
}

static bsd_status nccl_recv(bsd_comm *comm, int step, int peer, void *data, int64_t bytes,
                            bsd_error *error) {
  bsd_nccl_message message = {data, NULL, bytes, step, peer, 0};
  return add_message(comm, message, error);
}

/* Copies of host messages: sends before the group, receives after it. */
static bsd_status copy_host(const bsd_nccl_state *state, int sends, bsd_error *error) {
  for (int64_t i = state->first; i < state->count; i++) {
    const bsd_nccl_message *m = &state->messages[i];
    if (m->host == NULL || m->is_send != sends)
      continue;
    cudaError_t code = sends ? cudaMemcpyAsync(m->device, m->host, (size_t)m->bytes,
                                               cudaMemcpyHostToDevice, state->stream)
                             : cudaMemcpyAsync(m->host, m->device, (size_t)m->bytes,
                                               cudaMemcpyDeviceToHost, state->stream);
    if (code != cudaSuccess)
      return bsd_nccl_cuda_failed(code, "cudaMemcpyAsync", error);
  }
  return BSD_OK;
}

/* A call inside a group may already answer "in progress": the group's end tells. */
static ncclResult_t post_message(const bsd_nccl_state *state, const bsd_nccl_message *m) {
  ncclResult_t code = m->is_send ? ncclSend(m->device, (size_t)m->bytes, ncclInt8, m->peer,
                                            state->comm, state->exchange_stream)
                                 : ncclRecv(m->device, (size_t)m->bytes, ncclInt8, m->peer,
                                            state->comm, state->exchange_stream);
  return code == ncclInProgress ? ncclSuccess : code;
}

static bsd_status post_group(bsd_comm *comm, bsd_error *error) {
  bsd_nccl_state *state = comm->state;
  ncclResult_t code = ncclGroupStart(), ended;
  if (code != ncclSuccess)
    return bsd_nccl_failed(comm, code, "ncclGroupStart", error);
  for (int64_t i = state->first; i < state->count && code == ncclSuccess; i++)
    code = post_message(state, &state->messages[i]);
  ended = ncclGroupEnd();
  if (code != ncclSuccess)
    return bsd_nccl_failed(comm, code, "ncclSend or ncclRecv", error);
  BSD_TRY(bsd_nccl_settle(comm, state->comm, ended, "ncclGroupEnd", error));
  for (int64_t i = state->first; i < state->count; i++)
    if (!state->messages[i].is_send)
      comm->payload_received += state->messages[i].bytes;
  return BSD_OK;
}

static bsd_status nccl_end(bsd_comm *comm, bsd_error *error) {
  bsd_nccl_state *state = comm->state;
  BSD_TRY(check_usable(comm, error));
  if (state->count == state->first)
    return BSD_OK;
  bsd_nccl_record(state, state->first, BSD_FLIGHT_POSTED);
  BSD_TRY(copy_host(state, 1, error));
  BSD_TRY(post_group(comm, error));
  /* A copy to pageable memory blocks until the stream has come to it: the deadline must rule first. */
  if (!state->on_device) {
    BSD_TRY(bsd_nccl_wait_stream(comm, "ncclGroupEnd", error));
    BSD_TRY(copy_host(state, 0, error));
  }
  cudaError_t code = cudaEventRecord(state->done, state->exchange_stream);
  if (code != cudaSuccess)
    return bsd_nccl_cuda_failed(code, "cudaEventRecord", error);
  state->posted = 1;
  return BSD_OK;
}

static void release_host_messages(bsd_nccl_state *state) {
  for (int64_t i = 0; i < state->count; i++)
    if (state->messages[i].host != NULL) {
      cudaFree(state->messages[i].device);
      state->messages[i].host = NULL;
    }
}

/* All steps complete together: groups of one exchange follow one another on the stream. An event that was captured
 * into a graph cannot be asked: the replay's own stream tells. */
static bsd_status nccl_test(bsd_comm *comm, int last_step, int *done, bsd_error *error) {
  bsd_nccl_state *state = comm->state;
  (void)last_step;
  BSD_TRY(check_usable(comm, error));
  BSD_TRY(bsd_nccl_check(comm, state->what, error));
  *done = !state->posted;
  if (*done)
    return BSD_OK;
  cudaError_t event = cudaEventQuery(state->done);
  if (event == cudaErrorNotReady) {
    if (bsd_now() > state->deadline)
      return bsd_nccl_deadline_passed(comm, "its stream", error);
    return BSD_OK;
  }
  if (event == cudaErrorCapturedEvent || event == cudaErrorInvalidValue)
    (void)cudaGetLastError();
  else if (event != cudaSuccess)
    return bsd_nccl_cuda_failed(event, "cudaEventQuery", error);
  bsd_nccl_record(state, 0, BSD_FLIGHT_COMPLETE);
  release_host_messages(state);
  state->posted = 0;
  *done = 1;
  return BSD_OK;
}

/* ---- control plane ----------------------------------------------------------------------- */

/* Room for every rank's bytes behind this rank's own. */
static bsd_status make_control(bsd_nccl_state *state, int64_t bytes, bsd_error *error) {
  if (state->control_bytes >= bytes)
    return BSD_OK;
  int64_t wanted = bsd_max(bytes, 2 * state->control_bytes);
  int previous = bsd_nccl_enter(state);
  cudaFree(state->control);
  state->control = NULL;
  state->control_bytes = 0;
  cudaError_t code = cudaMalloc(&state->control, (size_t)wanted);
  bsd_nccl_leave(state, previous);
  if (code != cudaSuccess)
    return bsd_nccl_cuda_failed(code, "cudaMalloc", error);
  state->control_bytes = wanted;
  return BSD_OK;
}

static bsd_status gather_on_device(bsd_comm *comm, const void *in, int64_t bytes, void *out,
                                   bsd_error *error) {
  bsd_nccl_state *state = comm->state;
  char *mine = state->control, *all = mine + bytes;
  cudaError_t code =
      cudaMemcpyAsync(mine, in, (size_t)bytes, cudaMemcpyHostToDevice, state->stream);
  if (code != cudaSuccess)
    return bsd_nccl_cuda_failed(code, "cudaMemcpyAsync", error);
  ncclResult_t posted =
      ncclAllGather(mine, all, (size_t)bytes, ncclInt8, state->comm, state->stream);
  BSD_TRY(bsd_nccl_settle(comm, state->comm, posted, "ncclAllGather", error));
  BSD_TRY(bsd_nccl_wait_stream(comm, "ncclAllGather", error));
  code = cudaMemcpyAsync(out, all, (size_t)(bytes * comm->size), cudaMemcpyDeviceToHost,
                         state->stream);
  if (code != cudaSuccess)
    return bsd_nccl_cuda_failed(code, "cudaMemcpyAsync", error);
  return bsd_nccl_wait_stream(comm, "ncclAllGather", error);
}

static bsd_status nccl_allgather(bsd_comm *comm, const void *in, int64_t bytes, void *out,
                                 bsd_error *error) {
  int64_t room;
  BSD_TRY(check_usable(comm, error));
  if (bytes == 0)
    return BSD_OK;
  if (!bsd_mul(bytes, comm->size + 1, &room))
    return bsd_fail(error, BSD_ERR_ARG, "%lld bytes from each of %d ranks are beyond 2^63",
                    (long long)bytes, comm->size);
  bsd_nccl_start_clock(comm, "plan");
  bsd_status status = make_control(comm->state, room, error);
  if (status == BSD_OK)
    status = gather_on_device(comm, in, bytes, out, error);
  if (status != BSD_OK)
    bsd_nccl_abort(comm); /* NCCL may still write to the buffer: it is left to it */
  return status;
}

/* ---- the end ----------------------------------------------------------------------------- */

/* Waits for what is under way, which needs the peers, but not for long. */
static void finalize(bsd_comm *comm) {
  bsd_nccl_state *state = comm->state;
  bsd_nccl_start_clock(comm, "destroy");
  state->deadline = bsd_now() + FINALIZE_SECONDS;
  ncclResult_t code = ncclCommFinalize(state->comm);
  if (bsd_nccl_settle(comm, state->comm, code, "ncclCommFinalize", NULL) == BSD_OK)
    ncclCommDestroy(state->comm);
  else
    bsd_nccl_abort(comm);
}

static void nccl_destroy(bsd_comm *comm) {
  bsd_nccl_state *state = comm->state;
  if (state->comm != NULL)
    finalize(comm);
  if (!comm->failed) {
    cudaFree(state->control);
    if (state->done != NULL)
      cudaEventDestroy(state->done);
    if (state->stream != NULL)
      cudaStreamDestroy(state->stream);
  }
  bsd_free(state->messages);
  if (!state->is_left)
    bsd_free(state);
}

const bsd_transport bsd_transport_nccl = {.name = "nccl",
                                          .asynchronous = 1,
                                          .begin = nccl_begin,
                                          .send = nccl_send,
                                          .recv = nccl_recv,
                                          .end = nccl_end,
                                          .test = nccl_test,
                                          .abort = bsd_nccl_abort,
                                          .allgather = nccl_allgather,
                                          .destroy = nccl_destroy};
