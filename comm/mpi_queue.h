/* mpi_queue.h - the messages of one exchange as MPI requests: a header and payload chunks each.
 *
 * Knows MPI's calls and nothing of errors in words, deadlines or what a header says: mpi.c does. */
#ifndef BSD_MPI_QUEUE_H
#define BSD_MPI_QUEUE_H

#include <mpi.h>
#include <stdint.h>

#include "comm/wire.h"

typedef struct bsd_mpi_message {
  bsd_wire_header header; /* of a send as it goes out, of a receive as it came */
  int is_send, step, peer;
  int header_pending;
  int64_t bytes;
  int64_t chunks, chunks_pending;
  void *payload; /* written by receives only */
  int in_use;    /* while the queue is freed: a request is under way */
} bsd_mpi_message;

/* What one MPI request carries. */
typedef struct bsd_mpi_part {
  bsd_mpi_message *message;
  int is_header;
  int bytes;
} bsd_mpi_part;

typedef struct bsd_mpi_queue {
  /* One allocation per message: MPI writes into headers, so they never move. Reused once complete. */
  int64_t nmessages, messages_made, messages_capacity;
  bsd_mpi_message **messages;

  /* Parallel arrays, one entry per MPI request. */
  int64_t nparts, parts_capacity, requests_capacity, indices_capacity, statuses_capacity;
  bsd_mpi_part *parts;
  MPI_Request *requests;
  int *indices; /* of the parts that the last test found complete, and their statuses */
  MPI_Status *statuses;
} bsd_mpi_queue;

/* Appends a copy of *message, of which is_send, step, peer, bytes and payload are set, with room for its
 * requests. Errors: MEMORY, UNSUPPORTED (more requests than MPI can test at once). */
bsd_status bsd_mpi_queue_append(bsd_mpi_queue *queue, const bsd_mpi_message *message,
                                bsd_mpi_message **appended, bsd_error *error);

/* Starts an appended message, a header of `tag` and chunks of tag + 1. Returns MPI's code. */
int bsd_mpi_queue_post(bsd_mpi_queue *queue, bsd_mpi_message *message, MPI_Comm comm, int tag);

int bsd_mpi_message_is_complete(const bsd_mpi_message *message);

/* The incomplete message of the lowest step <= last_step, receives before sends; NULL: none. */
const bsd_mpi_message *bsd_mpi_queue_first_incomplete(const bsd_mpi_queue *queue, int last_step);

/* Takes back receives that no message has matched yet, so that a late one does not write into memory
 * that the caller may free. The rest cannot be taken back and stays pending for ever. */
void bsd_mpi_queue_withdraw(bsd_mpi_queue *queue);

/* Forgets all messages, which are complete. */
void bsd_mpi_queue_clear(bsd_mpi_queue *queue);

/* Frees the queue; messages with a request under way are leaked on purpose, for MPI
 * still points to their headers. */
void bsd_mpi_queue_free(bsd_mpi_queue *queue);

#endif
