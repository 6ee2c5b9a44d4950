/* attend_stats.h - the plan as one line of JSON. */
#ifndef BSD_ATTEND_STATS_H
#define BSD_ATTEND_STATS_H

#include "bench/world.h"

/* Rank 0 prints the line on stdout. Collective: plan_ms is that of the slowest rank. Agreed on. */
int attend_print_stats(cli_world *world, const bsd_pattern *pattern, const bsd_problem *problem,
                       const bsd_plan *plan, cli_error *error);

#endif
