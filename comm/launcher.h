/* launcher.h - catches N independent "rank 0 of 1" runs: a launcher and an MPI that do not fit. */
#ifndef BSD_LAUNCHER_H
#define BSD_LAUNCHER_H

#include "src/status.h"

/* Fails with STATE if the launcher says that it started more processes than `mpi_size`, the size of
 * MPI_COMM_WORLD. Fewer is fine: MPI programs may spawn others. */
bsd_status bsd_launcher_check(int mpi_size, bsd_error *error);

#endif
