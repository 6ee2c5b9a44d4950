/* bench_environment.h - on what a benchmark ran: versions, host, processor, and each rank's device. */
#ifndef BENCH_ENVIRONMENT_H
#define BENCH_ENVIRONMENT_H

#include "bench/bench_session.h"

enum { BENCH_HOST_SIZE = 64, BENCH_DEVICE_SIZE = 128, BENCH_FACTS = 16 };

typedef struct bench_rank {
  char host[BENCH_HOST_SIZE], device[BENCH_DEVICE_SIZE];
} bench_rank;

typedef struct bench_fact {
  const char *name;
  char value[256];
} bench_fact;

typedef struct bench_environment {
  bench_fact facts[BENCH_FACTS];
  int nfacts;
  bench_rank *ranks;
  int nranks;
} bench_environment;

/* Facts of this process and the devices of all ranks. Collective. */
int bench_environment_create(const bench_session *session, bench_environment *environment,
                             cli_error *error);
void bench_environment_free(bench_environment *environment);

#endif
