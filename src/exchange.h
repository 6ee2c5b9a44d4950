/* exchange.h - a run's exchange: packed and posted, waited for stage by stage. Decides nothing. */
#ifndef BSD_EXCHANGE_H
#define BSD_EXCHANGE_H

#include "plan.h"

/* A tensor of which every message carries a part. */
typedef struct bsd_part_source {
  bsd_tensor tensor;
  int64_t elements, element_bytes;
  int kv; /* by KV heads */
} bsd_part_source;

/* Packs this rank's messages and posts the whole exchange, on its own stream where there are streams. */
bsd_status bsd_exchange_post(bsd_plan *plan, int pass, const bsd_part_source *parts, int nparts,
                             void *stream, bsd_error *error);

/* Makes what follows on `stream` wait until what a stage uses has arrived. */
bsd_status bsd_exchange_wait(bsd_plan *plan, int pass, int stage, void *stream, bsd_error *error);

/* The same for all that was sent and received, so that the caller may touch everything after the run. */
bsd_status bsd_exchange_finish(bsd_plan *plan, void *stream, bsd_error *error);

/* Lets a transport that only moves when it is called get on with what is under way. */
bsd_status bsd_exchange_progress(bsd_plan *plan, int stage, void *stream, bsd_error *error);

#endif
