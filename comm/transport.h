/* transport.h - one table of functions per communication library. Knows nothing of attention.
 *
 * An exchange is begin, any number of send and recv, end; then test until done. Both sides of a pair
 * agree on step and bytes, and post at most one send and one recv per peer and exchange. Only one
 * exchange is under way on a communicator. bytes > 0. Messages of any size (chunked inside). */
#ifndef BSD_TRANSPORT_H
#define BSD_TRANSPORT_H

#include <stdint.h>

#include "../src/status.h"

#define BSD_DEFAULT_TIMEOUT 300.0 /* seconds: of a communicator until its context sets another */

typedef struct bsd_transport bsd_transport;

struct bsd_comm {
  const bsd_transport *transport;
  void *state;
  int rank, size;
  int failed;               /* set by abort: every later call is refused with STATE */
  double timeout;           /* seconds, the deadline of an exchange, set by the context */
  int takes_device_memory;  /* send and recv accept pointers of the backend's device */
  int64_t payload_received; /* bytes of all exchanges so far, counted as they arrive */
};

/* What an exchange is, for headers, error messages and the flight recorder. */
typedef struct bsd_exchange {
  uint64_t plan_hash;
  const char *what; /* "forward", "backward", "scatter", "gather", "plan" */
  int on_device;    /* the buffers are memory of the backend's device */
  void *stream;     /* device: work on it precedes the sends; receives precede what follows on it */
  int continues;    /* more of the exchange begun before, on its stream: an asynchronous transport's next group */
} bsd_exchange;

struct bsd_transport {
  const char *name; /* "self", "mpi", "nccl" */
  int asynchronous; /* end() leaves the exchange on the stream: the host need not wait */

  bsd_status (*begin)(bsd_comm *comm, const bsd_exchange *exchange, bsd_error *error);
  bsd_status (*send)(bsd_comm *comm, int step, int peer, const void *data, int64_t bytes,
                     bsd_error *error);
  bsd_status (*recv)(bsd_comm *comm, int step, int peer, void *data, int64_t bytes,
                     bsd_error *error);
  bsd_status (*end)(bsd_comm *comm, bsd_error *error);

  /* Progress; *done is set when every message of steps <= last_step has completed (and, with checksums,
   * was checked). Fails with PEER, TIMEOUT (deadline counted from begin), MISMATCH. Never blocks. */
  bsd_status (*test)(bsd_comm *comm, int last_step, int *done, bsd_error *error);

  /* Gives up what is under way, bounded in time, and sets comm->failed. Local, idempotent. */
  void (*abort)(bsd_comm *comm);

  /* Control plane: every rank's `bytes` bytes to all, in rank order, on the host, under the deadline. */
  bsd_status (*allgather)(bsd_comm *comm, const void *in, int64_t bytes, void *out,
                          bsd_error *error);

  void (*destroy)(bsd_comm *comm); /* frees state, not comm */
};

/* Polls test() until all steps <= last_step are done or it fails; on failure aborts the communicator. */
bsd_status bsd_comm_wait(bsd_comm *comm, int last_step, bsd_error *error);

/* The one-rank communicator: the full interface, so that one rank needs no special case. */
bsd_status bsd_comm_create_self(bsd_comm **comm, bsd_error *error);

#endif
