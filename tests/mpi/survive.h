/* survive.h - a rank that is killed or stopped at a known point, and what the others then see. */
#ifndef TESTS_MPI_SURVIVE_H
#define TESTS_MPI_SURVIVE_H

#include "comm/transport.h"

#define ROUNDS      8 /* of a run in which all goes well */
#define FATAL_ROUND 3 /* in which the victim gets its signal */

#define FIRST_DEADLINE 60 /* seconds, of planning and of round 0, in which connections are made */

typedef enum signal_point {
  BEFORE_BEGIN,
  BEGUN,
  HALF_POSTED,
  POSTED,
  ENDED,
  AFTER_FIRST_STEP,
  IN_FORWARD, /* of bsd_forward and bsd_backward: at a time that depends on the case */
  IN_BACKWARD
} signal_point;

typedef struct scenario {
  const char *directory, *signal;
  int victim;
  signal_point point;
  double deadline;
} scenario;

/* The signal at once, and a child that wakes this process again if it is only stopped. */
void suffer(const scenario *scenario);

/* The same some time from now, in the middle of whatever this process then does. */
void suffer_later(const scenario *scenario, double seconds);

/* Rounds of plain exchanges, or of forward and backward, until one fails; *seconds is what the last one
 * took. */
bsd_status run_exchanges(bsd_comm *comm, const scenario *scenario, double *seconds,
                         bsd_error *error);
bsd_status run_attention(bsd_comm *comm, const scenario *scenario, double *seconds,
                         bsd_error *error);

#endif
