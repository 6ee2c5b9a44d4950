/* clock.h - a steady clock. */
#ifndef BSD_CLOCK_H
#define BSD_CLOCK_H

#include <time.h>

/* Seconds since some fixed moment. */
static inline double bsd_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
