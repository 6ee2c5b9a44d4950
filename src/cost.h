/* cost.h - predicted time of a pass from a few constants: what `auto` chooses a layout by. */
#ifndef BSD_COST_H
#define BSD_COST_H

#include "bsdattn.h"

typedef struct bsd_cost_model {
  double flops_per_second; /* of one rank on active pairs */
  double bytes_per_second; /* that one rank receives */
  double latency_seconds;  /* of a message */
} bsd_cost_model;

/* Round figures of a server core and of a data-centre GPU; measured constants replace them later. */
bsd_cost_model bsd_cost_default(bsd_backend backend);

/* Seconds of the worst rank: flops and bytes are the worst rank's, messages those it waits for. */
double bsd_cost_seconds(const bsd_cost_model *model, double flops, double bytes, double messages);

#endif
