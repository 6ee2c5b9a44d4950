/* mpi_nccl.c - an NCCL communicator from an MPI communicator: MPI carries the unique id, nothing more. */
#include <mpi.h>
#include <nccl.h>
#include <string.h>

#include "comm/launcher.h"
#include "src/bsdattn_nccl.h"
#include "src/status.h"

/* What rank 0 tells the others: its id, or that it has none. */
typedef struct announcement {
  ncclUniqueId id;
  int code; /* ncclResult_t */
} announcement;

static int mpi_is_running(void) {
  int started = 0, ended = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&ended);
  return started && !ended;
}

bsd_status bsd_comm_create_nccl_mpi(MPI_Comm mpi_comm, double timeout, bsd_comm **comm,
                                    bsd_error *error) {
  announcement announced;
  int rank, size, world;
  if (!mpi_is_running())
    return bsd_fail(error, BSD_ERR_STATE, "MPI is not initialised, or finalised already");
  if (MPI_Comm_rank(mpi_comm, &rank) != MPI_SUCCESS ||
      MPI_Comm_size(mpi_comm, &size) != MPI_SUCCESS)
    return bsd_fail(error, BSD_ERR_ARG, "mpi_comm is not a usable communicator");
  MPI_Comm_size(MPI_COMM_WORLD, &world);
  BSD_TRY(bsd_launcher_check(world, error));
  memset(&announced, 0, sizeof announced);
  if (rank == 0)
    announced.code = ncclGetUniqueId(&announced.id);
  if (MPI_Bcast(&announced, sizeof announced, MPI_BYTE, 0, mpi_comm) != MPI_SUCCESS)
    return bsd_fail(error, BSD_ERR_BACKEND, "MPI_Bcast of NCCL's unique id failed");
  if (announced.code != ncclSuccess)
    return bsd_fail(error, BSD_ERR_BACKEND, "ncclGetUniqueId on rank 0: %s",
                    ncclGetErrorString((ncclResult_t)announced.code));
  return bsd_comm_create_nccl_id(&announced.id, rank, size, timeout, comm, error);
}
