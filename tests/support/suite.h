/* suite.h - runs a Check suite on one rank or on all that mpirun started. */
#ifndef TESTS_SUITE_H
#define TESTS_SUITE_H

#include <check.h>

/* Starts the world, runs the tests of `tests`, which it owns, finishes the world; the exit status. */
int suite_run(const char *name, TCase *tests, int *argc, char ***argv);

/* Fails the test on all ranks unless `good` is true on each. Collective. */
void suite_expect(int good, const char *why);

#endif
