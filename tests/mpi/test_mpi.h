/* test_mpi.h - what the two files of the MPI transport's suite share. */
#ifndef TESTS_MPI_TEST_MPI_H
#define TESTS_MPI_TEST_MPI_H

#include <check.h>
#include <mpi.h>

#include "comm/transport.h"

extern int world_rank, world_size;

/* A communicator with a deadline of 30 s. */
bsd_comm *make_comm(MPI_Comm mpi_comm);

/* The step's partners in ring order; step 0 is the rank itself. */
int target_of(const bsd_comm *comm, int step);
int source_of(const bsd_comm *comm, int step);

/* Waits for an exchange that must go well. */
void wait_for(bsd_comm *comm, int last_step);

/* A whole exchange of random sizes, checked. */
void run_random(bsd_comm *comm, uint64_t seed);

void add_failure_tests(TCase *tests);

#endif
