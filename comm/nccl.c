/* nccl.c - the transport over NCCL: one packed send and receive per peer in one group, on a stream.
 *
 * Communicators are non-blocking: every call may answer "in progress", and is polled under the deadline.
 * NCCL has no time-out of its own and may never report a dead peer of the same host: the deadline does.
 * What the host passes (planning, scatter, gather) goes through device buffers, so that a communicator
 * needs nothing but NCCL. */
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "comm/flight.h"
#include "comm/select.h"
#include "src/bsdattn_nccl.h"
#include "src/clock.h"
#include "src/memory.h"

#define ABORT_SECONDS 5.0 /* ncclCommAbort may hang when one rank alone calls it */

typedef struct nccl_message {
  void *device; /* what NCCL sees */
  void *host;   /* host exchanges: what the caller passed; NULL: device is the caller's */
  int64_t bytes;
  int step, peer, is_send;
} nccl_message;

typedef struct nccl_state {
  ncclComm_t comm;
  int device;
  cudaStream_t stream; /* of host exchanges */
  cudaEvent_t done;    /* the exchange under way has completed */
  cudaStream_t exchange_stream;
  int on_device, posted;
  double deadline;
  uint64_t sequence;
  char what[BSD_FLIGHT_WHAT_BYTES];
  nccl_message *messages;
  int64_t count, capacity;
  bsd_flight flight;
} nccl_state;

/* ---- failing ----------------------------------------------------------------------------- */

static bsd_status cuda_failed(cudaError_t code, const char *call, bsd_error *error) {
  return bsd_fail(error, BSD_ERR_BACKEND, "%s: %s", call, cudaGetErrorString(code));
}

static bsd_status nccl_failed(const nccl_state *state, ncclResult_t code, const char *call,
                              bsd_error *error) {
  const char *detail = state->comm != NULL ? ncclGetLastError(state->comm) : NULL;
  return bsd_fail(error, code == ncclRemoteError ? BSD_ERR_PEER : BSD_ERR_BACKEND, "%s: %s%s%s",
                  call, ncclGetErrorString(code), detail && *detail ? ": " : "",
                  detail ? detail : "");
}

static void record(nccl_state *state, bsd_flight_state what_happened) {
  for (int64_t i = 0; i < state->count; i++) {
    const nccl_message *m = &state->messages[i];
    bsd_flight_event event = {.sequence = state->sequence,
                              .bytes = m->bytes,
                              .step = m->step,
                              .peer = m->peer,
                              .is_send = m->is_send,
                              .state = what_happened};
    memcpy(event.what, state->what, sizeof event.what);
    bsd_flight_record(&state->flight, &event);
  }
}

static bsd_status deadline_passed(bsd_comm *comm, const char *call, bsd_error *error) {
  nccl_state *state = comm->state;
  const nccl_message *first = state->count > 0 ? &state->messages[0] : NULL;
  bsd_status status;
  if (first != NULL)
    status =
        bsd_fail(error, BSD_ERR_TIMEOUT,
                 "rank %d: %s (%s) was not complete after %g s; it has %lld messages, the first "
                 "in step %d, %s rank %d, %lld bytes",
                 comm->rank, state->what, call, comm->timeout, (long long)state->count, first->step,
                 first->is_send ? "to" : "from", first->peer, (long long)first->bytes);
  else
    status = bsd_fail(error, BSD_ERR_TIMEOUT, "rank %d: %s was not complete after %g s", comm->rank,
                      call, comm->timeout);
  record(state, BSD_FLIGHT_FAILED);
  bsd_flight_dump(&state->flight, comm->rank, comm->size, error != NULL ? error->message : call);
  return status;
}

static void pause_briefly(void) {
  nanosleep(&(struct timespec){0, 20000}, NULL);
}

/* Polls until NCCL has done what it answered "in progress" to. */
static bsd_status settle(bsd_comm *comm, ncclResult_t code, const char *call, bsd_error *error) {
  nccl_state *state = comm->state;
  while (code == ncclInProgress) {
    ncclResult_t asked = ncclCommGetAsyncError(state->comm, &code);
    if (asked != ncclSuccess)
      return nccl_failed(state, asked, "ncclCommGetAsyncError", error);
    if (code != ncclInProgress)
      break;
    if (bsd_now() > state->deadline)
      return deadline_passed(comm, call, error);
    pause_briefly();
  }
  return code == ncclSuccess ? BSD_OK : nccl_failed(state, code, call, error);
}

typedef struct abort_job {
  ncclComm_t comm;
  int device;
  int finished; /* atomic */
} abort_job;

static void *run_abort(void *argument) {
  abort_job *job = argument;
  cudaSetDevice(job->device);
  ncclCommAbort(job->comm);
  __atomic_store_n(&job->finished, 1, __ATOMIC_RELEASE);
  return NULL;
}

/* In a thread of its own, given up after a time: then the thread and its few bytes are left behind. */
static void nccl_abort(bsd_comm *comm) {
  nccl_state *state = comm->state;
  abort_job *job;
  pthread_t thread;
  double give_up = bsd_now() + ABORT_SECONDS;
  if (comm->failed)
    return;
  comm->failed = 1;
  if (state->comm == NULL || bsd_alloc(&job, 1, sizeof *job, NULL) != BSD_OK)
    return;
  job->comm = state->comm;
  job->device = state->device;
  state->comm = NULL;
  if (pthread_create(&thread, NULL, run_abort, job) != 0) {
    bsd_free(job);
    return;
  }
  while (!__atomic_load_n(&job->finished, __ATOMIC_ACQUIRE) && bsd_now() < give_up)
    pause_briefly();
  if (__atomic_load_n(&job->finished, __ATOMIC_ACQUIRE)) {
    pthread_join(thread, NULL);
    bsd_free(job);
  } else {
    pthread_detach(thread);
  }
}

/* ---- exchanges --------------------------------------------------------------------------- */

static bsd_status nccl_begin(bsd_comm *comm, const bsd_exchange *exchange, bsd_error *error) {
  nccl_state *state = comm->state;
  if (comm->failed)
    return bsd_fail(error, BSD_ERR_STATE, "the NCCL communicator has failed before");
  state->count = 0;
  state->posted = 0;
  state->sequence++;
  state->on_device = exchange->on_device;
  state->exchange_stream = exchange->on_device ? (cudaStream_t)exchange->stream : state->stream;
  state->deadline = bsd_now() + comm->timeout;
  strncpy(state->what, exchange->what, sizeof state->what - 1);
  return BSD_OK;
}

static bsd_status add_message(bsd_comm *comm, nccl_message message, bsd_error *error) {
  nccl_state *state = comm->state;
  if (message.peer < 0 || message.peer >= comm->size || message.bytes <= 0)
    return bsd_fail(error, BSD_ERR_ARG, "message of %lld bytes with peer %d of %d ranks",
                    (long long)message.bytes, message.peer, comm->size);
  BSD_TRY(bsd_grow(&state->messages, &state->capacity, state->count + 1, sizeof message, error));
  if (!state->on_device) {
    cudaError_t code;
    message.host = message.device;
    code = cudaMalloc(&message.device, (size_t)message.bytes);
    if (code != cudaSuccess)
      return cuda_failed(code, "cudaMalloc", error);
  }
  state->messages[state->count++] = message;
  return BSD_OK;
}

static bsd_status nccl_send(bsd_comm *comm, int step, int peer, const void *data, int64_t bytes,
                            bsd_error *error) {
  return add_message(comm, (nccl_message){(void *)(uintptr_t)data, NULL, bytes, step, peer, 1},
                     error);
}

static bsd_status nccl_recv(bsd_comm *comm, int step, int peer, void *data, int64_t bytes,
                            bsd_error *error) {
  return add_message(comm, (nccl_message){data, NULL, bytes, step, peer, 0}, error);
}

/* Copies of host messages: sends before the group, receives after it. */
static bsd_status copy_host(nccl_state *state, int sends, bsd_error *error) {
  for (int64_t i = 0; i < state->count; i++) {
    const nccl_message *m = &state->messages[i];
    cudaError_t code;
    if (m->host == NULL || m->is_send != sends)
      continue;
    code = sends ? cudaMemcpyAsync(m->device, m->host, (size_t)m->bytes, cudaMemcpyHostToDevice,
                                   state->stream)
                 : cudaMemcpyAsync(m->host, m->device, (size_t)m->bytes, cudaMemcpyDeviceToHost,
                                   state->stream);
    if (code != cudaSuccess)
      return cuda_failed(code, "cudaMemcpyAsync", error);
  }
  return BSD_OK;
}

static bsd_status post_group(bsd_comm *comm, bsd_error *error) {
  nccl_state *state = comm->state;
  ncclResult_t code = ncclGroupStart(), ended;
  for (int64_t i = 0; i < state->count && code == ncclSuccess; i++) {
    const nccl_message *m = &state->messages[i];
    code = m->is_send ? ncclSend(m->device, (size_t)m->bytes, ncclInt8, m->peer, state->comm,
                                 state->exchange_stream)
                      : ncclRecv(m->device, (size_t)m->bytes, ncclInt8, m->peer, state->comm,
                                 state->exchange_stream);
    if (code == ncclInProgress)
      code = ncclSuccess;
    if (code == ncclSuccess && !m->is_send)
      comm->payload_received += m->bytes;
  }
  ended = ncclGroupEnd();
  if (code != ncclSuccess)
    return nccl_failed(state, code, "ncclSend or ncclRecv", error);
  return settle(comm, ended, "ncclGroupEnd", error);
}

static bsd_status nccl_end(bsd_comm *comm, bsd_error *error) {
  nccl_state *state = comm->state;
  cudaError_t code;
  if (state->count == 0)
    return BSD_OK;
  record(state, BSD_FLIGHT_POSTED);
  BSD_TRY(copy_host(state, 1, error));
  BSD_TRY(post_group(comm, error));
  BSD_TRY(copy_host(state, 0, error));
  code = cudaEventRecord(state->done, state->exchange_stream);
  if (code != cudaSuccess)
    return cuda_failed(code, "cudaEventRecord", error);
  state->posted = 1;
  return BSD_OK;
}

static void release_host_messages(nccl_state *state) {
  for (int64_t i = 0; i < state->count; i++)
    if (state->messages[i].host != NULL) {
      cudaFree(state->messages[i].device);
      state->messages[i].host = NULL;
    }
}

/* All steps complete together. An event that was captured into a graph cannot be asked. */
static bsd_status nccl_test(bsd_comm *comm, int last_step, int *done, bsd_error *error) {
  nccl_state *state = comm->state;
  ncclResult_t code = ncclSuccess, asked;
  cudaError_t event;
  (void)last_step;
  *done = 0;
  if (comm->failed)
    return bsd_fail(error, BSD_ERR_STATE, "the NCCL communicator has failed before");
  asked = ncclCommGetAsyncError(state->comm, &code);
  if (asked != ncclSuccess || (code != ncclSuccess && code != ncclInProgress))
    return nccl_failed(state, asked != ncclSuccess ? asked : code, state->what, error);
  event = state->posted ? cudaEventQuery(state->done) : cudaSuccess;
  if (event == cudaErrorNotReady) {
    if (bsd_now() > state->deadline)
      return deadline_passed(comm, "stream", error);
    return BSD_OK;
  }
  if (event != cudaSuccess && event != cudaErrorInvalidValue && event != cudaErrorCapturedEvent)
    return cuda_failed(event, "cudaEventQuery", error);
  if (event != cudaSuccess)
    (void)cudaGetLastError();
  release_host_messages(state);
  state->posted = 0;
  *done = 1;
  return BSD_OK;
}

/* ---- control plane ----------------------------------------------------------------------- */

static bsd_status wait_for_stream(bsd_comm *comm, const char *call, bsd_error *error) {
  nccl_state *state = comm->state;
  for (;;) {
    ncclResult_t code = ncclSuccess;
    cudaError_t query = cudaStreamQuery(state->stream);
    if (query == cudaSuccess)
      return BSD_OK;
    if (query != cudaErrorNotReady)
      return cuda_failed(query, call, error);
    if (ncclCommGetAsyncError(state->comm, &code) != ncclSuccess ||
        (code != ncclSuccess && code != ncclInProgress))
      return nccl_failed(state, code, call, error);
    if (bsd_now() > state->deadline)
      return deadline_passed(comm, call, error);
    pause_briefly();
  }
}

static bsd_status gather_on_device(bsd_comm *comm, const void *in, int64_t bytes, void *out,
                                   char *buffer, bsd_error *error) {
  nccl_state *state = comm->state;
  char *all = buffer + bytes;
  cudaError_t code =
      cudaMemcpyAsync(buffer, in, (size_t)bytes, cudaMemcpyHostToDevice, state->stream);
  if (code != cudaSuccess)
    return cuda_failed(code, "cudaMemcpyAsync", error);
  BSD_TRY(settle(comm,
                 ncclAllGather(buffer, all, (size_t)bytes, ncclInt8, state->comm, state->stream),
                 "ncclAllGather", error));
  code = cudaMemcpyAsync(out, all, (size_t)(bytes * comm->size), cudaMemcpyDeviceToHost,
                         state->stream);
  if (code != cudaSuccess)
    return cuda_failed(code, "cudaMemcpyAsync", error);
  return wait_for_stream(comm, "ncclAllGather", error);
}

static bsd_status nccl_allgather(bsd_comm *comm, const void *in, int64_t bytes, void *out,
                                 bsd_error *error) {
  nccl_state *state = comm->state;
  char *buffer;
  bsd_status status;
  cudaError_t code;
  if (comm->failed)
    return bsd_fail(error, BSD_ERR_STATE, "the NCCL communicator has failed before");
  if (bytes == 0)
    return BSD_OK;
  state->deadline = bsd_now() + comm->timeout;
  state->count = 0;
  strncpy(state->what, "plan", sizeof state->what - 1);
  code = cudaMalloc((void **)&buffer, (size_t)(bytes * (comm->size + 1)));
  if (code != cudaSuccess)
    return cuda_failed(code, "cudaMalloc", error);
  status = gather_on_device(comm, in, bytes, out, buffer, error);
  if (status != BSD_OK) {
    nccl_abort(comm); /* NCCL may still write to the buffer: it is left to it */
    return status;
  }
  cudaFree(buffer);
  return BSD_OK;
}

/* ---- life -------------------------------------------------------------------------------- */

static void nccl_destroy(bsd_comm *comm) {
  nccl_state *state = comm->state;
  if (state->comm != NULL) {
    ncclResult_t code = ncclCommFinalize(state->comm);
    state->deadline = bsd_now() + ABORT_SECONDS;
    if (settle(comm, code, "ncclCommFinalize", NULL) == BSD_OK)
      ncclCommDestroy(state->comm);
    else
      nccl_abort(comm);
  }
  if (!comm->failed) {
    if (state->done != NULL)
      cudaEventDestroy(state->done);
    if (state->stream != NULL)
      cudaStreamDestroy(state->stream);
  }
  bsd_free(state->messages);
  bsd_free(state);
}

const bsd_transport bsd_transport_nccl = {.name = "nccl",
                                          .asynchronous = 1,
                                          .begin = nccl_begin,
                                          .send = nccl_send,
                                          .recv = nccl_recv,
                                          .end = nccl_end,
                                          .test = nccl_test,
                                          .abort = nccl_abort,
                                          .allgather = nccl_allgather,
                                          .destroy = nccl_destroy};

static bsd_status make_comm(int rank, int size, double timeout, bsd_comm **out, bsd_error *error) {
  bsd_comm *comm;
  nccl_state *state;
  BSD_TRY(bsd_alloc(&comm, 1, sizeof *comm, error));
  if (bsd_alloc(&state, 1, sizeof *state, error) != BSD_OK) {
    bsd_free(comm);
    return BSD_ERR_MEMORY;
  }
  *comm = (bsd_comm){.transport = &bsd_transport_nccl,
                     .state = state,
                     .rank = rank,
                     .size = size,
                     .timeout = timeout > 0 ? timeout : 300,
                     .takes_device_memory = 1};
  state->deadline = bsd_now() + comm->timeout;
  *out = comm;
  return BSD_OK;
}

static bsd_status open_streams(nccl_state *state, bsd_error *error) {
  cudaError_t code = cudaGetDevice(&state->device);
  if (code == cudaSuccess)
    code = cudaStreamCreateWithFlags(&state->stream, cudaStreamNonBlocking);
  if (code == cudaSuccess)
    code = cudaEventCreateWithFlags(&state->done, cudaEventDisableTiming);
  return code == cudaSuccess ? BSD_OK : cuda_failed(code, "NCCL communicator", error);
}

static bsd_status finish_creation(bsd_comm *made, ncclResult_t code, const char *call,
                                  bsd_comm **comm, bsd_error *error) {
  bsd_status status = settle(made, code, call, error);
  if (status == BSD_OK) {
    *comm = made;
    return BSD_OK;
  }
  nccl_abort(made);
  bsd_comm_destroy(made);
  return status;
}

bsd_status bsd_comm_create_nccl_id(const ncclUniqueId *id, int rank, int size, double timeout,
                                   bsd_comm **comm, bsd_error *error) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  bsd_comm *made;
  nccl_state *state;
  bsd_status status;
  if (id == NULL || comm == NULL || size < 1 || rank < 0 || rank >= size)
    return bsd_fail(error, BSD_ERR_ARG, "rank is %d of %d; id and comm must be given", rank, size);
  BSD_TRY(make_comm(rank, size, timeout, &made, error));
  state = made->state;
  status = open_streams(state, error);
  if (status != BSD_OK) {
    bsd_comm_destroy(made);
    return status;
  }
  config.blocking = 0;
  return finish_creation(made, ncclCommInitRankConfig(&state->comm, size, *id, rank, &config),
                         "ncclCommInitRankConfig", comm, error);
}

bsd_status bsd_comm_create_nccl(ncclComm_t nccl_comm, double timeout, bsd_comm **comm,
                                bsd_error *error) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  bsd_comm *made;
  nccl_state *state;
  bsd_status status;
  int rank, size;
  if (nccl_comm == NULL || comm == NULL || ncclCommUserRank(nccl_comm, &rank) != ncclSuccess ||
      ncclCommCount(nccl_comm, &size) != ncclSuccess)
    return bsd_fail(error, BSD_ERR_ARG, "nccl_comm is not a usable NCCL communicator");
  BSD_TRY(make_comm(rank, size, timeout, &made, error));
  state = made->state;
  status = open_streams(state, error);
  if (status != BSD_OK) {
    bsd_comm_destroy(made);
    return status;
  }
  config.blocking = 0;
  return finish_creation(made, ncclCommSplit(nccl_comm, 0, rank, &state->comm, &config),
                         "ncclCommSplit", comm, error);
}
