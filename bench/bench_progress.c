/* bench_progress.c - a progress bar on stderr, if that is a terminal. */
#include "bench/bench_progress.h"

#include <stdio.h>
#include <unistd.h>

enum { WIDTH = 24 };

bench_progress bench_progress_create(int rank, int64_t items) {
  return (bench_progress){rank == 0 && isatty(STDERR_FILENO), 0, items};
}

void bench_progress_show(const bench_progress *progress, const char *phase, int64_t done,
                         int64_t total) {
  if (!progress->shown || total < 1)
    return;
  int filled = (int)(WIDTH * done / total);
  char bar[WIDTH + 1];
  for (int i = 0; i < WIDTH; i++)
    bar[i] = i < filled ? '#' : '.';
  bar[WIDTH] = '\0';
  fprintf(stderr, "\r\033[K[%s] %lld/%lld %s %lld/%lld", bar, (long long)progress->item + 1,
          (long long)progress->items, phase, (long long)done, (long long)total);
  fflush(stderr);
}

void bench_progress_clear(const bench_progress *progress) {
  if (progress->shown)
    fputs("\r\033[K", stderr);
}
