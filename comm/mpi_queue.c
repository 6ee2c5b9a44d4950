/* mpi_queue.c - posts, tests and gives up the MPI requests of an exchange. */
#include "comm/mpi_queue.h"

#include <limits.h>

#include "src/memory.h"

#define CHUNK_BYTES ((int64_t)1 << 30) /* counts given to MPI are ints */

/* Room for `extra` more requests. */
static bsd_status grow_parts(bsd_mpi_queue *queue, int64_t extra, bsd_error *error) {
  int64_t need = queue->nparts + extra;
  if (need > INT_MAX)
    return bsd_fail(error, BSD_ERR_UNSUPPORTED,
                    "an exchange of %lld MPI messages: at most %d are possible", (long long)need,
                    INT_MAX);
  BSD_TRY(bsd_grow(&queue->parts, &queue->parts_capacity, need, sizeof(bsd_mpi_part), error));
  BSD_TRY(bsd_grow(&queue->requests, &queue->requests_capacity, need, sizeof(MPI_Request), error));
  BSD_TRY(bsd_grow(&queue->indices, &queue->indices_capacity, need, sizeof(int), error));
  return bsd_grow(&queue->statuses, &queue->statuses_capacity, need, sizeof(MPI_Status), error);
}

bsd_status bsd_mpi_queue_append(bsd_mpi_queue *queue, const bsd_mpi_message *message,
                                bsd_mpi_message **appended, bsd_error *error) {
  int64_t chunks = bsd_ceil_div(message->bytes, CHUNK_BYTES);
  BSD_TRY(grow_parts(queue, chunks + 1, error));
  if (queue->nmessages == queue->messages_made) {
    BSD_TRY(bsd_grow(&queue->messages, &queue->messages_capacity, queue->messages_made + 1,
                     sizeof(bsd_mpi_message *), error));
    BSD_TRY(bsd_alloc(&queue->messages[queue->messages_made], 1, sizeof(bsd_mpi_message), error));
    queue->messages_made++;
  }
  bsd_mpi_message *made = queue->messages[queue->nmessages++];
  *made = *message;
  made->header_pending = 1;
  made->chunks = made->chunks_pending = chunks;
  *appended = made;
  return BSD_OK;
}

static int post_part(bsd_mpi_queue *queue, bsd_mpi_part part, void *data, MPI_Comm comm, int tag) {
  MPI_Request *request = &queue->requests[queue->nparts];
  int peer = part.message->peer;
  int code = part.message->is_send
                 ? MPI_Isend(data, part.bytes, MPI_BYTE, peer, tag, comm, request)
                 : MPI_Irecv(data, part.bytes, MPI_BYTE, peer, tag, comm, request);
  if (code == MPI_SUCCESS)
    queue->parts[queue->nparts++] = part;
  return code;
}

int bsd_mpi_queue_post(bsd_mpi_queue *queue, bsd_mpi_message *message, MPI_Comm comm, int tag) {
  bsd_mpi_part header = {.message = message, .is_header = 1, .bytes = sizeof message->header};
  int code = post_part(queue, header, &message->header, comm, tag);
  for (int64_t chunk = 0; chunk < message->chunks && code == MPI_SUCCESS; chunk++) {
    int64_t first = chunk * CHUNK_BYTES;
    int64_t bytes = bsd_min(CHUNK_BYTES, message->bytes - first);
    bsd_mpi_part part = {.message = message, .bytes = (int)bytes};
    code = post_part(queue, part, (char *)message->payload + first, comm, tag + 1);
  }
  return code;
}

int bsd_mpi_message_is_complete(const bsd_mpi_message *message) {
  return !message->header_pending && message->chunks_pending == 0;
}

const bsd_mpi_message *bsd_mpi_queue_first_incomplete(const bsd_mpi_queue *queue, int last_step) {
  const bsd_mpi_message *first = NULL;
  for (int64_t i = 0; i < queue->nmessages; i++) {
    const bsd_mpi_message *message = queue->messages[i];
    if (bsd_mpi_message_is_complete(message) || message->step > last_step)
      continue;
    if (!first || message->is_send < first->is_send ||
        (message->is_send == first->is_send && message->step < first->step))
      first = message;
  }
  return first;
}

void bsd_mpi_queue_withdraw(bsd_mpi_queue *queue) {
  for (int64_t i = 0; i < queue->nparts; i++) {
    if (queue->requests[i] == MPI_REQUEST_NULL || queue->parts[i].message->is_send)
      continue;
    int complete;
    MPI_Cancel(&queue->requests[i]);
    MPI_Test(&queue->requests[i], &complete, MPI_STATUS_IGNORE);
  }
}

void bsd_mpi_queue_clear(bsd_mpi_queue *queue) {
  queue->nmessages = 0;
  queue->nparts = 0;
}

void bsd_mpi_queue_free(bsd_mpi_queue *queue) {
  for (int64_t i = 0; i < queue->messages_made; i++)
    queue->messages[i]->in_use = 0;
  for (int64_t i = 0; i < queue->nparts; i++)
    if (queue->requests[i] != MPI_REQUEST_NULL)
      queue->parts[i].message->in_use = 1;
  for (int64_t i = 0; i < queue->messages_made; i++)
    if (!queue->messages[i]->in_use)
      bsd_free(queue->messages[i]);
  bsd_free(queue->messages);
  bsd_free(queue->parts);
  bsd_free(queue->requests);
  bsd_free(queue->indices);
  bsd_free(queue->statuses);
}
