/* bench_progress.h - a progress bar on stderr, if that is a terminal. */
#ifndef BENCH_PROGRESS_H
#define BENCH_PROGRESS_H

#include <stdint.h>

typedef struct bench_progress {
  int shown;           /* rank 0 with a terminal */
  int64_t item, items; /* configurations */
} bench_progress;

bench_progress bench_progress_create(int rank, int64_t items);

/* Shows that `done` of `total` steps of the present configuration's `phase` are over. */
void bench_progress_show(const bench_progress *progress, const char *phase, int64_t done,
                         int64_t total);

/* Takes the bar away before a line is printed. */
void bench_progress_clear(const bench_progress *progress);

#endif
