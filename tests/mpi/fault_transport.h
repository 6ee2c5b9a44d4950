/* fault_transport.h - a network that drops, delays, duplicates, cuts, swaps and damages messages.
 *
 * It stands in for MPI_Isend, MPI_Testsome and MPI_Test (MPI's profiling interface), below the library's headers and
 * checksums: what it damages is what a real network would. Off until asked for; each rank has its own. */
#ifndef TESTS_MPI_FAULT_TRANSPORT_H
#define TESTS_MPI_FAULT_TRANSPORT_H

#include <stdint.h>

typedef enum fault_kind {
  FAULT_DROP,
  FAULT_DELAY,     /* by up to fault_delay_seconds */
  FAULT_DUPLICATE, /* the copy comes second */
  FAULT_CUT,       /* fewer bytes, perhaps none */
  FAULT_SWAP,      /* the contents of this message and the rank's next one change places */
  FAULT_FLIP,      /* one bit */
  FAULT_KINDS
} fault_kind;

extern double fault_delay_seconds;

const char *fault_name(fault_kind kind);

/* From now on each message of this rank suffers a random fault with probability 1/one_in. */
void faults_at_random(uint64_t seed, uint64_t one_in);

/* Of this rank's messages from now on, the nth (from 0) suffers `kind`. */
void faults_at(fault_kind kind, int64_t nth);

/* No faults any more; what is still held is sent now, late. */
void faults_stop(void);

/* How often this rank's messages have suffered it so far. */
int64_t faults_done(fault_kind kind);

#endif
