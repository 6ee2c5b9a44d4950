/* bench_memory.c - how much memory this process uses and how much the machine still has (Linux). */
#include "bench/bench_memory.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

/* The number behind `key` in a file of lines "key value [kB]", in bytes; -1 if it is not there. */
static int64_t kilobytes_of(const char *path, const char *key) {
  FILE *file = fopen(path, "r");
  if (file == NULL)
    return -1;
  char line[256];
  long long found = -1;
  while (found < 0 && fgets(line, sizeof line, file) != NULL)
    if (strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), "%lld", &found) != 1)
      found = -1;
  fclose(file);
  return found < 0 ? -1 : found * 1024;
}

/* A file that holds one number; -1 if it does not ("max"). */
static int64_t number_in(const char *path) {
  FILE *file = fopen(path, "r");
  long long value = -1;
  if (file == NULL)
    return -1;
  if (fscanf(file, "%lld", &value) != 1)
    value = -1;
  fclose(file);
  return value;
}

static int64_t cgroup_room(const char *limit_path, const char *used_path) {
  int64_t limit = number_in(limit_path), used = number_in(used_path);
  if (limit < 0 || used < 0)
    return INT64_MAX;
  return limit > used ? limit - used : 0;
}

int64_t bench_memory_available(void) {
  int64_t room = kilobytes_of("/proc/meminfo", "MemAvailable:");
  if (room < 0)
    room = (int64_t)sysconf(_SC_AVPHYS_PAGES) * sysconf(_SC_PAGESIZE);
  int64_t second = cgroup_room("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current");
  int64_t first = cgroup_room("/sys/fs/cgroup/memory/memory.limit_in_bytes",
                              "/sys/fs/cgroup/memory/memory.usage_in_bytes");
  room = second < room ? second : room;
  return first < room ? first : room;
}

/* Gives freed memory back to the system, so that the next tensors count as growth. */
static void trim(void) {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

int64_t bench_memory_restart_peak(void) {
  trim();
  FILE *file = fopen("/proc/self/clear_refs", "w");
  if (file == NULL)
    return -1;
  int written = fputs("5", file) >= 0;
  if (fclose(file) != 0 || !written)
    return -1;
  return kilobytes_of("/proc/self/status", "VmRSS:");
}

int64_t bench_memory_peak(void) {
  return kilobytes_of("/proc/self/status", "VmHWM:");
}
