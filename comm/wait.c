/* wait.c - waits for an exchange by polling its transport, gently where cores are shared. */
#include <sched.h>
#include <time.h>

#include "comm/transport.h"
#include "src/clock.h"

/* Seconds of plain polling (a message between idle cores is faster than a system call), then of giving
 * the core away between polls, then sleeps. */
#define SPIN_SECONDS      20e-6
#define YIELD_SECONDS     5e-3
#define SLEEP_NANOSECONDS 50000

static void back_off(double waited) {
  if (waited < SPIN_SECONDS)
    return;
  if (waited < YIELD_SECONDS) {
    sched_yield();
    return;
  }
  struct timespec pause = {0, SLEEP_NANOSECONDS};
  nanosleep(&pause, NULL);
}

bsd_status bsd_comm_wait(bsd_comm *comm, int last_step, bsd_error *error) {
  double began = bsd_now();
  for (;;) {
    int done = 0;
    bsd_status status = comm->transport->test(comm, last_step, &done, error);
    if (status != BSD_OK) {
      comm->transport->abort(comm);
      return status;
    }
    if (done)
      return BSD_OK;
    back_off(bsd_now() - began);
  }
}
