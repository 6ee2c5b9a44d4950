/* mpi_notice.c - sends and finds the notices of failed ranks. */
#include "comm/mpi_notice.h"

#include <stdio.h>
#include <string.h>

#include "src/memory.h"

void bsd_mpi_notice_send(bsd_mpi_notice *notice, MPI_Comm comm, int rank, int size,
                         bsd_status status, const char *message) {
  int under_way = 0;
  notice->status = status;
  snprintf(notice->message, sizeof notice->message, "%s", message);
  for (int step = 1; step < size; step++) {
    MPI_Request request;
    int complete = 0;
    if (MPI_Isend(notice, sizeof *notice, MPI_BYTE, (rank + step) % size, BSD_MPI_NOTICE_TAG, comm,
                  &request) != MPI_SUCCESS)
      continue;
    MPI_Test(&request, &complete, MPI_STATUS_IGNORE);
    if (!complete) {
      under_way = 1;
      MPI_Request_free(&request);
    }
  }
  if (!under_way)
    bsd_free(notice);
}

int bsd_mpi_notice_receive(bsd_mpi_notice *notice, MPI_Comm comm, int *peer) {
  int found = 0, bytes = 0;
  MPI_Message message;
  MPI_Status status;
  if (MPI_Improbe(MPI_ANY_SOURCE, BSD_MPI_NOTICE_TAG, comm, &found, &message, &status) !=
          MPI_SUCCESS ||
      !found)
    return 0;
  *peer = status.MPI_SOURCE;
  MPI_Get_count(&status, MPI_BYTE, &bytes);
  if (bytes != (int)sizeof *notice ||
      MPI_Mrecv(notice, bytes, MPI_BYTE, &message, &status) != MPI_SUCCESS)
    snprintf(notice->message, sizeof notice->message, "its notice is unreadable");
  notice->message[sizeof notice->message - 1] = 0;
  return 1;
}
