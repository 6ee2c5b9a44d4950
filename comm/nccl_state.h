/* nccl_state.h - what an NCCL communicator holds, and what its files share: failing, polling, aborting. */
#ifndef BSD_NCCL_STATE_H
#define BSD_NCCL_STATE_H

#include <cuda_runtime_api.h>
#include <nccl.h>

#include "comm/flight.h"
#include "comm/transport.h"

typedef struct bsd_nccl_message {
  void *device; /* what NCCL sees */
  void *host;   /* host exchanges: what the caller passed; NULL: device is the caller's */
  int64_t bytes;
  int step, peer, is_send;
} bsd_nccl_message;

typedef struct bsd_nccl_state {
  ncclComm_t comm; /* non-blocking; NULL before it is made and after an abort */
  int device;
  cudaStream_t stream; /* of host exchanges and allgather */
  cudaEvent_t done;    /* the exchange under way has completed */
  cudaStream_t exchange_stream;
  int on_device, posted;
  int is_left; /* its creation did not end: NCCL may still write to it, so it is never freed */
  double began, deadline;
  uint64_t sequence;
  char what[BSD_FLIGHT_WHAT_BYTES];
  bsd_nccl_message *messages;
  int64_t first, count, capacity; /* those from `first` on are of the group to be posted */
  void *control; /* device memory of allgather, kept from call to call */
  int64_t control_bytes;
  bsd_flight flight;
} bsd_nccl_state;

/* ---- nccl_poll.c ------------------------------------------------------------------------- */

/* Makes the communicator's device current; returns what leave puts back. */
int bsd_nccl_enter(const bsd_nccl_state *state);
void bsd_nccl_leave(const bsd_nccl_state *state, int previous);

/* Notes what begins now, and when it must be over. */
void bsd_nccl_start_clock(bsd_comm *comm, const char *what);

bsd_status bsd_nccl_cuda_failed(cudaError_t code, const char *call, bsd_error *error);
bsd_status bsd_nccl_failed(const bsd_comm *comm, ncclResult_t code, const char *call,
                           bsd_error *error);

/* Puts the exchange's messages from number `first` on into the flight recorder. */
void bsd_nccl_record(bsd_nccl_state *state, int64_t first, bsd_flight_state what_happened);

/* TIMEOUT, with the first message in words; writes the flight recorder out. */
bsd_status bsd_nccl_deadline_passed(bsd_comm *comm, const char *call, bsd_error *error);

/* Polls until NCCL has done what `code` says is in progress on `busy`, or until the deadline. */
bsd_status bsd_nccl_settle(bsd_comm *comm, ncclComm_t busy, ncclResult_t code, const char *call,
                           bsd_error *error);

/* What NCCL itself says of the communicator: OK while nothing has failed. */
bsd_status bsd_nccl_check(const bsd_comm *comm, const char *call, bsd_error *error);

/* Polls until the communicator's own stream is empty, or until the deadline. */
bsd_status bsd_nccl_wait_stream(bsd_comm *comm, const char *call, bsd_error *error);

/* bsd_transport.abort: in a thread of its own, and bounded. */
void bsd_nccl_abort(bsd_comm *comm);

#endif
