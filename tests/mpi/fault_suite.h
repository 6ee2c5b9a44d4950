/* fault_suite.h - what suites share whose exchanges fail, over a network with faults (fault_transport.h) or not. */
#ifndef TESTS_MPI_FAULT_SUITE_H
#define TESTS_MPI_FAULT_SUITE_H

#include <check.h>

/* Starts MPI, with checksums on. Dumps of failures go to a file of this rank, for hundreds of them would drown the
 * result; its name. */
const char *fault_suite_start(int *argc, char ***argv);

/* A barrier that lets delayed messages go when they are due. */
void fault_suite_barrier(void);

/* Runs the tests of `tests`, which it owns, in this process and ends MPI: all ranks fail if one does. */
int fault_suite_run(const char *name, TCase *tests);

#endif
