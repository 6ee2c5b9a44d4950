/* mpi_device.c - asks MPI whether it is CUDA-aware. See mpi_device.h. */
#include "comm/mpi_device.h"

#include <mpi.h>
#ifdef HAVE_MPI_EXT_H
#include <mpi-ext.h>
#endif

#include "src/env.h"

#ifdef HAVE_MPIX_QUERY_CUDA_SUPPORT
static const char no_support[] = "MPIX_Query_cuda_support() of this MPI says that it cannot";
static int mpi_says_so(void) {
  return MPIX_Query_cuda_support() == 1;
}
#else
static const char no_support[] =
    "this build's MPI has no MPIX_Query_cuda_support() to say that it can";
static int mpi_says_so(void) {
  return 0;
}
#endif

bsd_status bsd_mpi_takes_device_memory(int checksum, int *takes, bsd_error *error) {
  bsd_cuda_aware wanted;
  BSD_TRY(bsd_env_cuda_aware(&wanted, error));
  int can = mpi_says_so();
  if (wanted == BSD_CUDA_AWARE_ON && !can)
    return bsd_fail(
        error, BSD_ERR_ARG,
        "environment variable BSD_CUDA_AWARE is 1, that MPI shall take device memory, but %s",
        no_support);
  if (wanted == BSD_CUDA_AWARE_ON && checksum)
    return bsd_fail(
        error, BSD_ERR_ARG,
        "environment variable BSD_CUDA_AWARE is 1, but BSD_CHECKSUM=1 needs messages in "
        "host memory");
  *takes = can && wanted != BSD_CUDA_AWARE_OFF && !checksum;
  return BSD_OK;
}
