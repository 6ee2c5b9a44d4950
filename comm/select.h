/* select.h - the transports that this build has, in one place. */
#ifndef BSD_COMM_SELECT_H
#define BSD_COMM_SELECT_H

#include "comm/transport.h"

/* The transports of this build, ending with NULL. "self" is always the first. */
const bsd_transport *const *bsd_transports(void);

extern const bsd_transport bsd_transport_self;
extern const bsd_transport bsd_transport_mpi;  /* in builds with MPI */
extern const bsd_transport bsd_transport_nccl; /* in builds with NCCL */

#endif
