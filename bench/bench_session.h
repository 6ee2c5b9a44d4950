/* bench_session.h - what the steps of a benchmark share: the ranks that run it and how. */
#ifndef BENCH_SESSION_H
#define BENCH_SESSION_H

#include "bench/bench_cases.h"
#include "bench/bench_dense.h"
#include "bench/bench_progress.h"
#include "bench/bench_result.h"
#include "bench/world.h"

typedef struct bench_session {
  const bench_options *options;
  cli_world *world; /* of --scaling the part of the ranks that runs */
  bsd_context *context;
  bsd_dtype dtype;
  bench_progress *progress;

  /* The dense baseline's library; NULL: none is run. */
  const bench_dense_library *dense;
  void *dense_state;
  char dense_text[256]; /* what it is, or why there is none */
} bench_session;

#endif
