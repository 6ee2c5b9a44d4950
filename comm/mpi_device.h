/* mpi_device.h - whether messages over MPI may lie in the memory of a GPU. */
#ifndef BSD_MPI_DEVICE_H
#define BSD_MPI_DEVICE_H

#include "src/status.h"

/* *takes: MPI itself says so (MPIX_Query_cuda_support; MPI is initialised), and BSD_CUDA_AWARE is not 0. With a
 * checksum the host must read what it sends: then not. Errors: ARG, where BSD_CUDA_AWARE=1 asks for what
 * cannot be. */
bsd_status bsd_mpi_takes_device_memory(int checksum, int *takes, bsd_error *error);

#endif
