/* survive_exchange.c - rounds of ring exchanges in which the victim suffers. */
#include <limits.h>
#include <string.h>

#include "src/clock.h"
#include "survive.h"

#define BYTES     100000 /* beyond the size from which MPI asks the receiver first */
#define MAX_RANKS 8

static unsigned char sent[MAX_RANKS][BYTES], received[MAX_RANKS][BYTES];

static void maybe_suffer(const bsd_comm *comm, const scenario *scenario, int round,
                         signal_point here) {
  if (round == FATAL_ROUND && comm->rank == scenario->victim && scenario->point == here)
    suffer(scenario);
}

static unsigned char content(int round, int sender, int receiver) {
  return (unsigned char)(1 + round * 64 + sender * 8 + receiver);
}

static bsd_status post_step(bsd_comm *comm, int round, int step, bsd_error *error) {
  int target = (comm->rank + step) % comm->size;
  int source = (comm->rank + comm->size - step) % comm->size;
  memset(sent[step], content(round, comm->rank, target), BYTES);
  BSD_TRY(comm->transport->recv(comm, step, source, received[step], BYTES, error));
  return comm->transport->send(comm, step, target, sent[step], BYTES, error);
}

static bsd_status check_contents(const bsd_comm *comm, int round, bsd_error *error) {
  for (int step = 1; step < comm->size; step++) {
    int source = (comm->rank + comm->size - step) % comm->size;
    for (int i = 0; i < BYTES; i++)
      if (received[step][i] != content(round, source, comm->rank))
        return bsd_fail(error, BSD_ERR_IO, "rank %d received wrong contents", comm->rank);
  }
  return BSD_OK;
}

static bsd_status run_round(bsd_comm *comm, const scenario *scenario, int round, bsd_error *error) {
  const bsd_exchange exchange = {.plan_hash = 1, .what = round % 2 ? "backward" : "forward"};
  maybe_suffer(comm, scenario, round, BEFORE_BEGIN);
  BSD_TRY(comm->transport->begin(comm, &exchange, error));
  maybe_suffer(comm, scenario, round, BEGUN);
  for (int step = 1; step < comm->size; step++) {
    BSD_TRY(post_step(comm, round, step, error));
    if (step == comm->size / 2)
      maybe_suffer(comm, scenario, round, HALF_POSTED);
  }
  maybe_suffer(comm, scenario, round, POSTED);
  BSD_TRY(comm->transport->end(comm, error));
  maybe_suffer(comm, scenario, round, ENDED);
  BSD_TRY(bsd_comm_wait(comm, 1, error));
  maybe_suffer(comm, scenario, round, AFTER_FIRST_STEP);
  BSD_TRY(bsd_comm_wait(comm, INT_MAX, error));
  return check_contents(comm, round, error);
}

bsd_status run_exchanges(bsd_comm *comm, const scenario *scenario, double *seconds,
                         bsd_error *error) {
  for (int round = 0; round < ROUNDS; round++) {
    double began = bsd_now();
    comm->timeout = round == 0 ? FIRST_DEADLINE : scenario->deadline;
    bsd_status status = run_round(comm, scenario, round, error);
    *seconds = bsd_now() - began;
    if (status != BSD_OK)
      return status;
  }
  return BSD_OK;
}
