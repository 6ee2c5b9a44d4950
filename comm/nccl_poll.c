/* nccl_poll.c - an NCCL communicator's errors in words, its deadline, and its bounded end.
 *
 * NCCL has no time-out of its own and may never report a dead peer of the same host: every wait here
 * polls, under the deadline. */
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "comm/nccl_state.h"
#include "src/clock.h"
#include "src/memory.h"

#define ABORT_SECONDS 1.5 /* ncclCommAbort may hang when one rank alone calls it */

int bsd_nccl_enter(const bsd_nccl_state *state) {
  int previous = state->device;
  cudaGetDevice(&previous);
  if (previous != state->device)
    cudaSetDevice(state->device);
  return previous;
}

void bsd_nccl_leave(const bsd_nccl_state *state, int previous) {
  if (previous != state->device)
    cudaSetDevice(previous);
}

void bsd_nccl_start_clock(bsd_comm *comm, const char *what) {
  bsd_nccl_state *state = comm->state;
  memset(state->what, 0, sizeof state->what);
  memcpy(state->what, what, strnlen(what, sizeof state->what - 1));
  state->count = 0;
  state->posted = 0;
  state->sequence++;
  state->began = bsd_now();
  state->deadline = state->began + comm->timeout;
}

/* ---- failing ----------------------------------------------------------------------------- */

bsd_status bsd_nccl_cuda_failed(cudaError_t code, const char *call, bsd_error *error) {
  (void)cudaGetLastError(); /* else it would be found again by a later check */
  return bsd_fail(error, code == cudaErrorMemoryAllocation ? BSD_ERR_MEMORY : BSD_ERR_BACKEND,
                  "NCCL communicator, %s: %s", call, cudaGetErrorString(code));
}

bsd_status bsd_nccl_failed(const bsd_comm *comm, ncclResult_t code, const char *call,
                           bsd_error *error) {
  const bsd_nccl_state *state = comm->state;
  const char *detail = state->comm != NULL ? ncclGetLastError(state->comm) : NULL;
  return bsd_fail(error, code == ncclRemoteError ? BSD_ERR_PEER : BSD_ERR_BACKEND,
                  "rank %d, %s: %s%s%.200s", comm->rank, call, ncclGetErrorString(code),
                  detail != NULL && *detail ? ": " : "", detail != NULL ? detail : "");
}

void bsd_nccl_record(bsd_nccl_state *state, int64_t first, bsd_flight_state what_happened) {
  for (int64_t i = first; i < state->count; i++) {
    const bsd_nccl_message *m = &state->messages[i];
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

bsd_status bsd_nccl_deadline_passed(bsd_comm *comm, const char *call, bsd_error *error) {
  bsd_nccl_state *state = comm->state;
  const bsd_nccl_message *first = state->count > 0 ? &state->messages[0] : NULL;
  double waited = bsd_now() - state->began;
  bsd_error local;
  error = error != NULL ? error : &local;
  if (first != NULL)
    bsd_fail(error, BSD_ERR_TIMEOUT,
             "rank %d, %s step %d: after %.3g s %lld bytes %s rank %d are not known to be through "
             "(%s; %lld messages complete together)",
             comm->rank, state->what, first->step, waited, (long long)first->bytes,
             first->is_send ? "to" : "from", first->peer, call, (long long)state->count);
  else
    bsd_fail(error, BSD_ERR_TIMEOUT, "rank %d, %s: %s was not complete after %.3g s", comm->rank,
             state->what, call, waited);
  bsd_nccl_record(state, 0, BSD_FLIGHT_FAILED);
  bsd_flight_dump(&state->flight, comm->rank, comm->size, error->message);
  return BSD_ERR_TIMEOUT;
}

/* ---- polling ----------------------------------------------------------------------------- */

static void pause_briefly(void) {
  nanosleep(&(struct timespec){0, 20000}, NULL);
}

bsd_status bsd_nccl_settle(bsd_comm *comm, ncclComm_t busy, ncclResult_t code, const char *call,
                           bsd_error *error) {
  const bsd_nccl_state *state = comm->state;
  while (code == ncclInProgress) {
    ncclResult_t asked = ncclCommGetAsyncError(busy, &code);
    if (asked != ncclSuccess)
      return bsd_nccl_failed(comm, asked, "ncclCommGetAsyncError", error);
    if (code != ncclInProgress)
      break;
    if (bsd_now() > state->deadline)
      return bsd_nccl_deadline_passed(comm, call, error);
    pause_briefly();
  }
  return code == ncclSuccess ? BSD_OK : bsd_nccl_failed(comm, code, call, error);
}

bsd_status bsd_nccl_check(const bsd_comm *comm, const char *call, bsd_error *error) {
  const bsd_nccl_state *state = comm->state;
  ncclResult_t code = ncclSuccess, asked = ncclCommGetAsyncError(state->comm, &code);
  if (asked != ncclSuccess)
    return bsd_nccl_failed(comm, asked, "ncclCommGetAsyncError", error);
  if (code != ncclSuccess && code != ncclInProgress)
    return bsd_nccl_failed(comm, code, call, error);
  return BSD_OK;
}

bsd_status bsd_nccl_wait_stream(bsd_comm *comm, const char *call, bsd_error *error) {
  const bsd_nccl_state *state = comm->state;
  for (;;) {
    cudaError_t query = cudaStreamQuery(state->stream);
    if (query == cudaSuccess)
      return BSD_OK;
    if (query != cudaErrorNotReady)
      return bsd_nccl_cuda_failed(query, call, error);
    BSD_TRY(bsd_nccl_check(comm, call, error));
    if (bsd_now() > state->deadline)
      return bsd_nccl_deadline_passed(comm, call, error);
    pause_briefly();
  }
}

/* ---- the end ----------------------------------------------------------------------------- */

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

/* A thread that does not come back in time is left behind with its few bytes: NCCL's kernels have seen
 * the abort by then, so that nothing else hangs. */
void bsd_nccl_abort(bsd_comm *comm) {
  bsd_nccl_state *state = comm->state;
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
  if (!__atomic_load_n(&job->finished, __ATOMIC_ACQUIRE)) {
    pthread_detach(thread);
    return;
  }
  pthread_join(thread, NULL);
  bsd_free(job);
}
