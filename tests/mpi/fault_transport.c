/* fault_transport.c - MPI_Isend with faults, MPI_Testsome and MPI_Test serving what is held. Sends copies, as the caller's buffer is its
 * own again once it believes the message sent. */
#include "fault_transport.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>

double fault_delay_seconds = 0.3;

/* A copy of a message that is held, or under way on its own. */
typedef struct held_message {
  struct held_message *next;
  int is_sent;
  int is_swap; /* waits for the next message, to change places with it */
  double due;
  MPI_Request request;
  MPI_Comm comm;
  int peer, tag, bytes;
  char data[];
} held_message;

static struct {
  int on;
  uint64_t state, one_in; /* one_in 0: only target_kind, at target_nth */
  fault_kind target_kind;
  int64_t target_nth, messages;
  int64_t done[FAULT_KINDS];
  held_message *held;
} network;

const char *fault_name(fault_kind kind) {
  static const char *const names[FAULT_KINDS] = {"drop", "delay", "duplicate",
                                                 "cut",  "swap",  "flip"};
  return names[kind];
}

/* splitmix64 */
static uint64_t draw(void) {
  uint64_t x = network.state += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

void faults_at_random(uint64_t seed, uint64_t one_in) {
  network.on = 1;
  network.state = seed;
  network.one_in = one_in;
}

void faults_at(fault_kind kind, int64_t nth) {
  network.on = 1;
  network.one_in = 0;
  network.target_kind = kind;
  network.target_nth = nth;
  network.messages = 0;
}

int64_t faults_done(fault_kind kind) {
  return network.done[kind];
}

static held_message *hold(const void *data, int bytes, int peer, int tag, MPI_Comm comm) {
  held_message *message = calloc(1, sizeof *message + (size_t)bytes);
  *message =
      (held_message){.next = network.held, .comm = comm, .peer = peer, .tag = tag, .bytes = bytes};
  memcpy(message->data, data, (size_t)bytes);
  network.held = message;
  return message;
}

static void release(held_message *message) {
  PMPI_Isend(message->data, message->bytes, MPI_BYTE, message->peer, message->tag, message->comm,
             &message->request);
  message->is_sent = 1;
}

/* Sends what is due (all: everything) and frees what has gone. */
static void serve_held(int all) {
  held_message **link = &network.held;
  while (*link) {
    held_message *message = *link;
    int gone = 0;
    if (!message->is_sent && (all || (!message->is_swap && PMPI_Wtime() >= message->due)))
      release(message);
    if (message->is_sent)
      PMPI_Test(&message->request, &gone, MPI_STATUS_IGNORE);
    if (gone) {
      *link = message->next;
      free(message);
    } else {
      link = &message->next;
    }
  }
}

void faults_stop(void) {
  network.on = 0;
  serve_held(1);
}

static held_message *waiting_swap(void) {
  for (held_message *message = network.held; message; message = message->next)
    if (message->is_swap && !message->is_sent)
      return message;
  return NULL;
}

/* The contents go with each other's address. */
static void swap_and_release(held_message *first, held_message *second) {
  MPI_Comm comm = first->comm;
  int peer = first->peer, tag = first->tag;
  first->comm = second->comm;
  first->peer = second->peer;
  first->tag = second->tag;
  second->comm = comm;
  second->peer = peer;
  second->tag = tag;
  release(first);
  release(second);
}

/* Whether the next message suffers a fault, and which. */
static int choose(fault_kind *kind) {
  int64_t nth = network.messages++;
  if (network.one_in > 0) {
    *kind = (fault_kind)(draw() % FAULT_KINDS);
    return draw() % network.one_in == 0;
  }
  *kind = network.target_kind;
  return nth == network.target_nth;
}

static void suffer(fault_kind kind, held_message *message) {
  switch (kind) {
  case FAULT_DROP:
    message->is_sent = 1;
    message->request = MPI_REQUEST_NULL;
    break;
  case FAULT_DELAY:
    message->due =
        PMPI_Wtime() + (network.one_in ? (double)(draw() % 1000) / 1000 : 1) * fault_delay_seconds;
    break;
  case FAULT_DUPLICATE:
    release(hold(message->data, message->bytes, message->peer, message->tag, message->comm));
    release(message);
    break;
  case FAULT_CUT:
    message->bytes = (int)(draw() % (uint64_t)message->bytes);
    release(message);
    break;
  case FAULT_SWAP:
    message->is_swap = 1;
    break;
  default: {
    uint64_t bit = draw() % (8 * (uint64_t)message->bytes);
    message->data[bit / 8] ^= (char)(1 << bit % 8);
    release(message);
  }
  }
}

int MPI_Isend(const void *data, int count, MPI_Datatype type, int peer, int tag, MPI_Comm comm,
              MPI_Request *request) {
  fault_kind kind;
  int suffers = network.on && choose(&kind);
  held_message *partner = network.on ? waiting_swap() : NULL;
  if (!suffers && !partner)
    return PMPI_Isend(data, count, type, peer, tag, comm, request);
  held_message *message = hold(data, count, peer, tag, comm);
  if (partner) {
    swap_and_release(partner, message);
  } else {
    network.done[kind]++;
    suffer(kind, message);
  }
  return PMPI_Isend(NULL, 0, MPI_BYTE, MPI_PROC_NULL, tag, comm, request);
}

int MPI_Testsome(int count, MPI_Request requests[], int *completed, int indices[],
                 MPI_Status statuses[]) {
  serve_held(0);
  return PMPI_Testsome(count, requests, completed, indices, statuses);
}

int MPI_Test(MPI_Request *request, int *complete, MPI_Status *status) {
  serve_held(0);
  return PMPI_Test(request, complete, status);
}
