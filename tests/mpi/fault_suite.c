/* fault_suite.c - see fault_suite.h. */
#include "fault_suite.h"

#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char dump_path[64];

const char *fault_suite_start(int *argc, char ***argv) {
  setenv("BSD_CHECKSUM", "1", 1);
  snprintf(dump_path, sizeof dump_path, "/tmp/bsd-test-faults-%d", (int)getpid());
  setenv("BSD_FLIGHT_FILE", dump_path, 1);
  MPI_Init(argc, argv);
  return dump_path;
}

void fault_suite_barrier(void) {
  MPI_Request request;
  int complete = 0;
  MPI_Ibarrier(MPI_COMM_WORLD, &request);
  while (!complete) {
    MPI_Test(&request, &complete, MPI_STATUS_IGNORE);
    sched_yield();
  }
}

int fault_suite_run(const char *name, TCase *tests) {
  Suite *suite = suite_create(name);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_set_fork_status(runner, CK_NOFORK);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  unlink(dump_path);
  /* Messages of failed exchanges are pending for ever, and MPI_Finalize might wait for them. */
  MPI_Barrier(MPI_COMM_WORLD);
  if (failed)
    MPI_Abort(MPI_COMM_WORLD, 1);
  MPI_Finalize();
  return 0;
}
