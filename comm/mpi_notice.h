/* mpi_notice.h - a rank that fails for a reason of its own tells the others, which then need not wait for
 * their deadlines. */
#ifndef BSD_MPI_NOTICE_H
#define BSD_MPI_NOTICE_H

#include <mpi.h>
#include <stdint.h>

#include "src/status.h"

#define BSD_MPI_NOTICE_TAG 0

typedef struct bsd_mpi_notice {
  int32_t status; /* a bsd_status */
  char message[380];
} bsd_mpi_notice;

/* Sends status and message to the other ranks, without waiting: small messages go at once. Consumes the
 * notice: it is freed, or left to MPI where a send is still under way. */
void bsd_mpi_notice_send(bsd_mpi_notice *notice, MPI_Comm comm, int rank, int size,
                         bsd_status status, const char *message);

/* Whether another rank's notice is there; if so, fills *notice and *peer. Never blocks. */
int bsd_mpi_notice_receive(bsd_mpi_notice *notice, MPI_Comm comm, int *peer);

#endif
