/* executor.h - runs a plan: posts the exchange, runs what is local, then each stage as it arrives. */
#ifndef BSD_EXECUTOR_H
#define BSD_EXECUTOR_H

#include "plan.h"

/* Seconds of a steady clock. */
double bsd_now(void);

#endif
