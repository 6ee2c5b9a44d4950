/* forecast.h - what a rank's passes take under each way of cutting its exchange into stages.
 *
 * Compute of a stage by the counts of its rows (cost.h), arrival of its messages by the links, both at once: a
 * stage begins when the one before it is done and its messages are here, and a pass ends when all that was sent
 * has gone. Packing comes before all of it. What it
 * leaves out: a link's share that other ranks of a host take, and copies between a device and a host. */
#ifndef BSD_FORECAST_H
#define BSD_FORECAST_H

#include "arrivals.h"
#include "cost.h"
#include "schedule.h"

/* One stage, two, and three that are cut after step 1, 2, 4, .. 2048. */
enum { BSD_STAGE_OPTIONS = 14 };

/* Fills the options that `nranks` ranks have; their number. One rank has one. */
int bsd_stage_options(int nranks, bsd_stages options[BSD_STAGE_OPTIONS]);

typedef struct bsd_forecast {
  double seconds[BSD_STAGE_OPTIONS][2]; /* by option and pass */
  double compute[2];                    /* the same rows in one stage, without any exchange */
} bsd_forecast;

/* All that a rank does in each pass, its exchange left out. */
bsd_status bsd_work_of_rank(const bsd_share *share, const bsd_arrivals *arrivals, bsd_work work[2],
                            bsd_error *error);

bsd_status bsd_forecast_rank(const bsd_cost *cost, const bsd_share *share,
                             const bsd_schedule *schedule, const bsd_arrivals *arrivals,
                             bsd_forecast *forecast, bsd_error *error);

#endif
