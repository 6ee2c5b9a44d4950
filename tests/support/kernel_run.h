/* kernel_run.h - a random call of the kernel table (kernel_case.h) on a device. For programs with Check.
 *
 * All memory of the device is poisoned with NaN first, what the call reads lies in it with gaps. A call that
 * the library refuses fails the test. */
#ifndef TESTS_KERNEL_RUN_H
#define TESTS_KERNEL_RUN_H

#include "kernels/kernels.h"
#include "support/kernel_case.h"

/* A kernel family of a backend; the CPU has one. */
typedef struct kernel_family {
  const bsd_backend_table *table;
  bsd_kernel kernel;
  const char *name;
} kernel_family;

enum { KERNEL_FAMILIES = 4 };

/* The index-th family if its backend opens a device and it runs the case's shape. */
int kernel_family_at(int index, const kernel_case *c, kernel_family *family);

/* Whether a backend opens a device. */
int kernel_backend_opens(const bsd_backend_table *table);

/* A device and what is allocated on it. */
typedef struct device_memory {
  const bsd_backend_table *table;
  void *device;
  void *memory[96]; /* released at the end */
  int64_t nmemory;
} device_memory;

void device_memory_open(device_memory *memory, const bsd_backend_table *table, int threads);
void device_memory_close(device_memory *memory);

/* Device memory filled with the bytes at `host`, or with poison. */
void *device_memory_take(device_memory *memory, const void *host, int64_t bytes);

/* What a call wrote: memory of the device, as bytes. */
enum { RESULT_O, RESULT_DQ, RESULT_DK, RESULT_DV, RESULT_LSE, RESULT_DELTA, RESULTS };

typedef struct kernel_result {
  int64_t bytes;
  unsigned char *data;
} kernel_result;

typedef struct kernel_results {
  kernel_result tensor[RESULTS];
} kernel_results;

/* All passes and stages of the case, forward and backward. */
kernel_results kernel_run(const kernel_family *family, const kernel_case *c, int threads,
                          int accumulate);
void kernel_results_free(kernel_results *results);

/* Where (batch, local index, head) of a local tensor begins: [B][n][H][D] with gaps, or [B][H][n][D]; o, dk and dv
 * are of the first kind, dq of the second. */
bsd_tensor kernel_strides(const kernel_case *c, int64_t heads, int by_head);

#endif
