/* nccl_create.c - makes NCCL communicators: from a unique id, or as the child of a borrowed one. */
#include "comm/nccl_state.h"

#include "comm/select.h"
#include "src/bsdattn_nccl.h"
#include "src/memory.h"

static bsd_status open_streams(bsd_nccl_state *state, bsd_error *error) {
  cudaError_t code = cudaGetDevice(&state->device);
  if (code == cudaSuccess)
    code = cudaStreamCreateWithFlags(&state->stream, cudaStreamNonBlocking);
  if (code == cudaSuccess)
    code = cudaEventCreateWithFlags(&state->done, cudaEventDisableTiming);
  return code == cudaSuccess ? BSD_OK : bsd_nccl_cuda_failed(code, "cudaStreamCreate", error);
}

/* All but the NCCL communicator itself, and its clock is running. */
static bsd_status make_comm(int rank, int size, double timeout, bsd_comm **made, bsd_error *error) {
  bsd_comm *comm;
  bsd_nccl_state *state;
  BSD_TRY(bsd_alloc(&comm, 1, sizeof *comm, error));
  bsd_status status = bsd_alloc(&state, 1, sizeof *state, error);
  if (status != BSD_OK) {
    bsd_free(comm);
    return status;
  }
  *comm = (bsd_comm){.transport = &bsd_transport_nccl,
                     .state = state,
                     .rank = rank,
                     .size = size,
                     .timeout = timeout > 0 ? timeout : BSD_DEFAULT_TIMEOUT,
                     .takes_device_memory = 1};
  bsd_nccl_start_clock(comm, "create");
  status = open_streams(state, error);
  if (status == BSD_OK)
    *made = comm;
  else
    bsd_comm_destroy(comm);
  return status;
}

static bsd_status give_up(bsd_comm *made, bsd_status status) {
  bsd_nccl_state *state = made->state;
  state->is_left = status == BSD_ERR_TIMEOUT;
  bsd_nccl_abort(made);
  bsd_comm_destroy(made);
  return status;
}

/* Hands `made` over if its creation, of which `code` and `busy` tell, comes to a good end. */
static bsd_status finish(bsd_comm *made, ncclComm_t busy, ncclResult_t code, const char *call,
                         bsd_comm **comm, bsd_error *error) {
  bsd_status status = bsd_nccl_settle(made, busy, code, call, error);
  if (status == BSD_OK) {
    *comm = made;
    return BSD_OK;
  }
  return give_up(made, status);
}

bsd_status bsd_comm_create_nccl_id(const ncclUniqueId *id, int rank, int size, double timeout,
                                   bsd_comm **comm, bsd_error *error) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  bsd_comm *made;
  if (id == NULL || comm == NULL || size < 1 || rank < 0 || rank >= size)
    return bsd_fail(error, BSD_ERR_ARG, "rank is %d of %d; id and comm must be given", rank, size);
  BSD_TRY(make_comm(rank, size, timeout, &made, error));
  bsd_nccl_state *state = made->state;
  config.blocking = 0;
  ncclResult_t code = ncclCommInitRankConfig(&state->comm, size, *id, rank, &config);
  return finish(made, state->comm, code, "ncclCommInitRankConfig", comm, error);
}

/* ---- from a borrowed communicator -------------------------------------------------------- */

#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 18, 1)
/* Until it is complete the child is NULL, and its parent tells how far it is. */
static bsd_status split(ncclComm_t parent, bsd_comm *made, bsd_comm **comm, bsd_error *error) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  bsd_nccl_state *state = made->state;
  config.blocking = 0;
  ncclResult_t code = ncclCommSplit(parent, 0, made->rank, &state->comm, &config);
  bsd_status status = bsd_nccl_settle(made, parent, code, "ncclCommSplit", error);
  if (status == BSD_OK)
    return finish(made, state->comm, ncclInProgress, "ncclCommSplit", comm, error);
  return give_up(made, status);
}
#else
static bsd_status split(ncclComm_t parent, bsd_comm *made, bsd_comm **comm, bsd_error *error) {
  (void)parent;
  (void)comm;
  bsd_comm_destroy(made);
  return bsd_fail(error, BSD_ERR_UNSUPPORTED,
                  "a borrowed communicator needs ncclCommSplit, but this build is for NCCL %d.%d: "
                  "NCCL 2.18 has it (or broadcast a unique id)",
                  NCCL_MAJOR, NCCL_MINOR);
}
#endif

bsd_status bsd_comm_create_nccl(ncclComm_t nccl_comm, double timeout, bsd_comm **comm,
                                bsd_error *error) {
  bsd_comm *made;
  int rank, size;
  if (nccl_comm == NULL || comm == NULL || ncclCommUserRank(nccl_comm, &rank) != ncclSuccess ||
      ncclCommCount(nccl_comm, &size) != ncclSuccess)
    return bsd_fail(error, BSD_ERR_ARG, "nccl_comm is not a usable NCCL communicator");
  BSD_TRY(make_comm(rank, size, timeout, &made, error));
  return split(nccl_comm, made, comm, error);
}
