/* bsdattn_mpi.h - a communicator of the library from the caller's MPI_Comm. */
#ifndef BSDATTN_MPI_H
#define BSDATTN_MPI_H

#include <bsdattn.h>
#include <mpi.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Duplicates mpi_comm (the caller keeps its own) and makes a communicator of it. Collective.
 * MPI must be initialised, with MPI_THREAD_FUNNELED or more if the caller has threads.
 * Errors: STATE (the launcher started more processes than MPI sees: one sentence says so), BACKEND,
 * MEMORY, UNSUPPORTED (a build without MPI). */
BSD_API bsd_status bsd_comm_create_mpi(MPI_Comm mpi_comm, bsd_comm **comm, bsd_error *error);

#ifdef __cplusplus
}
#endif
#endif
