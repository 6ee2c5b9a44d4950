/* select.c - which transports this build has, and how any communicator is freed. */
#include "comm/select.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "src/memory.h"

static const bsd_transport *const transports[] = {
    &bsd_transport_self,
#ifdef HAVE_MPI
    &bsd_transport_mpi,
#endif
#ifdef HAVE_NCCL
    &bsd_transport_nccl,
#endif
    NULL,
};

const bsd_transport *const *bsd_transports(void) {
  return transports;
}

const char *bsd_build_transports(void) {
  return "self"
#ifdef HAVE_MPI
         " mpi"
#endif
#ifdef HAVE_NCCL
         " nccl"
#endif
      ;
}

void bsd_comm_destroy(bsd_comm *comm) {
  if (!comm)
    return;
  comm->transport->destroy(comm);
  bsd_free(comm);
}
