/* launcher.c - compares the launcher's number of processes with MPI's. */
#include "comm/launcher.h"

#include "src/env.h"

bsd_status bsd_launcher_check(int mpi_size, bsd_error *error) {
  int64_t processes;
  const char *variable;
  bsd_env_launched_processes(&processes, &variable);
  if (processes > mpi_size)
    return bsd_fail(
        error, BSD_ERR_STATE,
        "the launcher started %lld processes (%s) but MPI sees %d: program and launcher are "
        "of different MPI libraries; start it with the mpirun of the MPI that it was built "
        "with",
        (long long)processes, variable, mpi_size);
  return BSD_OK;
}
