/* bench_memory.h - how much memory this process uses and how much the machine still has. */
#ifndef BENCH_MEMORY_H
#define BENCH_MEMORY_H

#include <stdint.h>

/* Bytes that may still be allocated on this host: MemAvailable, less if a cgroup allows less. */
int64_t bench_memory_available(void);

/* Forgets the peak of the resident memory; -1 where the system cannot, else the resident bytes now. */
int64_t bench_memory_restart_peak(void);

/* The resident peak since then; -1 where it is not known. */
int64_t bench_memory_peak(void);

#endif
