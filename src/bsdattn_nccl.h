/* bsdattn_nccl.h - a communicator of the library over NCCL: device memory, one rank per GPU.
 *
 * The CUDA device that is current when a communicator is made is its own: make it current before, and pass
 * its number in bsd_context_options.device. Deadlines hold for every call here too: `timeout` seconds,
 * 0: 300. Forward and backward can be captured in a CUDA graph once each has run before: the first exchange
 * of a pair of ranks sets up their connection. Destroy graphs before the communicator. */
#ifndef BSDATTN_NCCL_H
#define BSDATTN_NCCL_H

#include <bsdattn.h>
#include <nccl.h>

#ifdef __cplusplus
extern "C" {
#endif

/* From the caller's communicator, which is borrowed for the call and never destroyed or aborted: a
 * non-blocking child of it is split off and used (NCCL 2.18 or later). Collective over nccl_comm. Where
 * nccl_comm is itself a blocking one, the split has no deadline: NCCL returns when it is done.
 * Errors: ARG, BACKEND, TIMEOUT, MEMORY, UNSUPPORTED (an older NCCL). */
BSD_API bsd_status bsd_comm_create_nccl(ncclComm_t nccl_comm, double timeout, bsd_comm **comm,
                                        bsd_error *error);

/* From a unique id that one rank got from ncclGetUniqueId and passed to all. Collective over the ranks.
 * Errors as above. */
BSD_API bsd_status bsd_comm_create_nccl_id(const ncclUniqueId *id, int rank, int size,
                                           double timeout, bsd_comm **comm, bsd_error *error);

#ifdef MPI_VERSION /* where <mpi.h> was included before */
/* From an MPI communicator, over which a unique id is broadcast; MPI is not used after. Collective over
 * mpi_comm; a rank that fails before the broadcast fails on all. Errors as above. */
BSD_API bsd_status bsd_comm_create_nccl_mpi(MPI_Comm mpi_comm, double timeout, bsd_comm **comm,
                                            bsd_error *error);
#endif

#ifdef __cplusplus
}
#endif
#endif
