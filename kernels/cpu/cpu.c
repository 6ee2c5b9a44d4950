/* cpu.c - the CPU backend's table: host memory, OpenMP threads, streams that need no waiting. */
#include "cpu.h"

#include <stdio.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_max_threads(void) {
  return 1;
}
#endif

#include "../../src/clock.h"
#include "../../src/memory.h"
#include "tasks.h"

enum { ALIGNMENT = 256 };

static bsd_status cpu_open(const bsd_context_options *options, void **device, char *description,
                           size_t size, bsd_error *error) {
  const int threads = options ? options->threads : 0;
  if (threads < 0)
    return bsd_fail(error, BSD_ERR_ARG, "threads is %d, expected 0 (OpenMP's choice) or more",
                    threads);
  const bsd_cpu_vectors *vectors;
  bsd_cpu_device *cpu;
  BSD_TRY(bsd_cpu_vectors_choose(&vectors, error));
  BSD_TRY(bsd_alloc(&cpu, 1, sizeof *cpu, error));
  cpu->vectors = vectors;
  cpu->threads = threads > 0 ? threads : omp_get_max_threads();
  if (description)
    snprintf(description, size, "CPU, %s, %d thread%s", vectors->name, cpu->threads,
             cpu->threads == 1 ? "" : "s");
  *device = cpu;
  return BSD_OK;
}

static void cpu_close(void *device) {
  bsd_free(device);
}

static const char *cpu_architecture(const void *device) {
  const bsd_cpu_device *cpu = device;
  return cpu->vectors->name;
}

static bsd_status cpu_select(void *device, const bsd_kernel_shape *shape, bsd_kernel wanted,
                             const bsd_kernels **kernels, bsd_error *error) {
  static const bsd_kernels table = {.forward_name = "cpu",
                                    .backward_name = "cpu",
                                    .scratch_bytes = bsd_cpu_scratch_bytes,
                                    .clear_forward = bsd_cpu_clear_forward,
                                    .clear_backward = bsd_cpu_clear_backward,
                                    .forward = bsd_cpu_forward,
                                    .backward_dq = bsd_cpu_backward_dq,
                                    .backward_dkv = bsd_cpu_backward_dkv,
                                    .combine = bsd_cpu_combine,
                                    .finish_backward = bsd_cpu_finish_backward,
                                    .delta = bsd_cpu_delta};
  (void)device, (void)shape;
  if (wanted != BSD_KERNEL_AUTO) {
    static const char *const names[] = {"auto", "simt", "sm80", "sm90"};
    const int known = wanted > 0 && (size_t)wanted < sizeof names / sizeof names[0];
    return bsd_fail(error, BSD_ERR_UNSUPPORTED,
                    "kernel is %s, which runs on CUDA devices only; the cpu backend takes auto",
                    known ? names[wanted] : "not one of the known families");
  }
  *kernels = &table;
  return BSD_OK;
}

/* Memory is aligned by hand; the word before it holds the address that bsd_free wants. */
static bsd_status cpu_alloc(void *device, int64_t bytes, void **pointer, bsd_error *error) {
  (void)device;
  char *raw;
  int64_t padded;
  if (bytes < 0 || !bsd_add(bytes, ALIGNMENT + (int64_t)sizeof(void *), &padded))
    return bsd_fail(error, BSD_ERR_MEMORY, "%lld bytes are not a size that can be allocated",
                    (long long)bytes);
  BSD_TRY(bsd_alloc(&raw, padded, 1, error));
  const uintptr_t start = (uintptr_t)raw + sizeof(void *);
  char *aligned = raw + sizeof(void *) + (ALIGNMENT - start % ALIGNMENT) % ALIGNMENT;
  memcpy(aligned - sizeof(void *), &raw, sizeof raw);
  *pointer = aligned;
  return BSD_OK;
}

static void cpu_release(void *device, void *pointer) {
  (void)device;
  if (!pointer)
    return;
  void *raw;
  memcpy(&raw, (char *)pointer - sizeof raw, sizeof raw);
  bsd_free(raw);
}

static bsd_status cpu_copy(void *device, void *to, const void *from, int64_t bytes, void *stream,
                           bsd_error *error) {
  (void)device, (void)stream, (void)error;
  if (bytes > 0)
    memcpy(to, from, (size_t)bytes);
  return BSD_OK;
}

static bsd_status cpu_synchronize(void *device, void *stream, bsd_error *error) {
  (void)device, (void)stream, (void)error;
  return BSD_OK;
}

static bsd_status cpu_prepare(void *device, const bsd_kernels *kernels,
                              const bsd_kernel_shape *shape, const bsd_pass *passes,
                              int64_t npasses, bsd_lists **lists, bsd_error *error) {
  (void)device, (void)kernels, (void)shape;
  bsd_lists *made;
  BSD_TRY(bsd_alloc(&made, 1, sizeof *made, error));
  made->passes = passes;
  made->npasses = npasses;
  *lists = made;
  return BSD_OK;
}

static void cpu_discard(void *device, bsd_lists *lists) {
  (void)device;
  bsd_free(lists);
}

/* Everything runs in the caller's thread before it returns: streams have nothing to order, and an event is
 * the time at which it was recorded. */
static bsd_status cpu_stream_create(void *device, void **stream, bsd_error *error) {
  (void)device, (void)error;
  *stream = NULL;
  return BSD_OK;
}

static void cpu_stream_destroy(void *device, void *stream) {
  (void)device, (void)stream;
}

static bsd_status cpu_stream_wait(void *device, void *stream, void *event, bsd_error *error) {
  (void)device, (void)stream, (void)event, (void)error;
  return BSD_OK;
}

static bsd_status cpu_event_create(void *device, void **event, bsd_error *error) {
  double *seconds;
  (void)device;
  BSD_TRY(bsd_alloc(&seconds, 1, sizeof *seconds, error));
  *event = seconds;
  return BSD_OK;
}

static void cpu_event_destroy(void *device, void *event) {
  (void)device;
  bsd_free(event);
}

static bsd_status cpu_event_record(void *device, void *event, void *stream, bsd_error *error) {
  (void)device, (void)stream, (void)error;
  *(double *)event = bsd_now();
  return BSD_OK;
}

static bsd_status cpu_event_query(void *device, void *event, int *done, bsd_error *error) {
  (void)device, (void)event, (void)error;
  *done = 1;
  return BSD_OK;
}

static bsd_status cpu_stream_query(void *device, void *stream, int *done, bsd_error *error) {
  (void)device, (void)stream, (void)error;
  *done = 1;
  return BSD_OK;
}

static double cpu_event_elapsed_ms(void *device, void *start, void *stop) {
  (void)device;
  return 1e3 * (*(const double *)stop - *(const double *)start);
}

const bsd_backend_table bsd_cpu_backend = {.name = "cpu",
                                           .id = BSD_BACKEND_CPU,
                                           .open = cpu_open,
                                           .close = cpu_close,
                                           .architecture = cpu_architecture,
                                           .select = cpu_select,
                                           .alloc = cpu_alloc,
                                           .release = cpu_release,
                                           .alloc_host = cpu_alloc,
                                           .release_host = cpu_release,
                                           .copy_in = cpu_copy,
                                           .copy_out = cpu_copy,
                                           .synchronize = cpu_synchronize,
                                           .prepare = cpu_prepare,
                                           .discard = cpu_discard,
                                           .pack = bsd_cpu_pack,
                                           .stream_create = cpu_stream_create,
                                           .stream_destroy = cpu_stream_destroy,
                                           .event_create = cpu_event_create,
                                           .event_destroy = cpu_event_destroy,
                                           .event_record = cpu_event_record,
                                           .stream_wait = cpu_stream_wait,
                                           .event_query = cpu_event_query,
                                           .stream_query = cpu_stream_query,
                                           .event_elapsed_ms = cpu_event_elapsed_ms};
