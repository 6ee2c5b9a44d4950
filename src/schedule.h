/* schedule.h - this rank's exchange as data: ring steps, one packed message each way, and stages.
 *
 * Step s sends to rank + s and receives from rank - s; empty sides are skipped, by the same rule on both
 * ends. Calls no communication library, so schedules for thousands of ranks are built and checked on one
 * CPU. Message layout, both passes (rows of D elements of the dtype, then fp32):
 *   forward   k, v: for each batch entry, for each KV head, its tokens in ascending position
 *   backward  k, v, then q, do: the same by query head, then lse, delta - dlse */
#ifndef BSD_SCHEDULE_H
#define BSD_SCHEDULE_H

#include "lists.h"
#include "share.h"

enum { BSD_FORWARD = 0, BSD_BACKWARD = 1 };

typedef struct bsd_step {
  int step;              /* 1 .. P-1 */
  int stage;             /* its arrivals are used in this stage; 0 only where all is one stage */
  int receive_peer;      /* rank, or -1: nothing arrives in either pass */
  int send_peer;         /* rank, or -1 */
  int64_t receive_index; /* peer index in the share, -1 */
  int64_t send_index;
  int64_t receive_bytes[2], send_bytes[2]; /* by pass; 0: no message */
} bsd_step;

/* How an exchange is cut into stages, the same on all ranks. 1: nothing runs before everything has arrived.
 * 2: local rows, then all others. 3: local rows, those that need only ring steps 1 .. first_steps, the rest. */
typedef struct bsd_stages {
  int count;
  int first_steps; /* of three */
} bsd_stages;

typedef struct bsd_schedule {
  int rank, nranks;
  int stages; /* 1: all rows run when everything is here */
  int64_t nsteps;
  bsd_step *steps; /* ascending by step */
} bsd_schedule;

/* In two stages. */
bsd_status bsd_schedule_create(const bsd_share *share, bsd_schedule *schedule, bsd_error *error);

/* Cuts the steps into stages; a rank that exchanges nothing has one in any case. */
void bsd_schedule_cut(bsd_schedule *schedule, const bsd_stages *stages);

/* Stage of ring step `step` >= 1. */
int bsd_stages_of_step(const bsd_stages *stages, int step);

void bsd_schedule_free(bsd_schedule *schedule);

/* Payload received or sent by this rank in a pass. */
int64_t bsd_schedule_received(const bsd_schedule *schedule, int pass);
int64_t bsd_schedule_sent(const bsd_schedule *schedule, int pass);

/* Stage in which the messages of a peer (index in the share) are used. */
int bsd_schedule_stage(const bsd_schedule *schedule, int64_t peer_index);

/* States the invariant: steps ascending and in range, peers at rank -/+ step, stages non-decreasing and at
 * least 1 unless there is one alone, every byte count that of the share's sets. */
int bsd_schedule_is_valid(const bsd_schedule *schedule, const bsd_share *share);

#endif
