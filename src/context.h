/* context.h - backend, device and communicator of a caller, and the last error in words. */
#ifndef BSD_CONTEXT_H
#define BSD_CONTEXT_H

#include "comm/transport.h"
#include "kernels/kernels.h"
#include "status.h"

struct bsd_context {
  const bsd_backend_table *backend;
  void *device;
  bsd_kernel kernel;          /* family asked for */
  bsd_comm *comm;             /* the caller's, or own_comm */
  bsd_comm *own_comm;         /* one rank, made here; NULL with a caller's */
  double timeout;             /* seconds */
  bsd_cost_model *cost_model; /* a copy with rates of its own; NULL: the built-in one */
  bsd_error error;            /* the last failed call's */
  char device_text[256];
};

#endif
