/* backend.c - the CUDA backend's table: device, memory, streams, events, and the choice of kernels. */
#include "backend.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "../../src/env.h"
#include "../../src/memory.h"
#include "families.h"
#include "launch.h"

enum { ALIGNMENT = 256 };

/* ---- opening ---------------------------------------------------------------------------------- */

static bsd_status find_device(const bsd_context_options *options, int *number, bsd_error *error) {
  int count = 0;
  const cudaError_t result = cudaGetDeviceCount(&count);
  if (result != cudaSuccess || count == 0) {
    (void)cudaGetLastError();
    return bsd_fail(error, BSD_ERR_UNSUPPORTED, "backend cuda: no CUDA device (%s)",
                    result == cudaSuccess ? "none is visible" : cudaGetErrorString(result));
  }
  *number = options ? options->device : 0;
  if (*number < 0 || *number >= count)
    return bsd_fail(error, BSD_ERR_ARG, "device is %d, but there are %d CUDA devices, 0 to %d",
                    *number, count, count - 1);
  return BSD_OK;
}

static int attribute(int number, enum cudaDeviceAttr name) {
  int value = 0;
  return cudaDeviceGetAttribute(&value, name, number) == cudaSuccess ? value : 0;
}

static bsd_status read_device(int number, bsd_cuda_device *device, char *description, size_t size,
                              bsd_error *error) {
  struct cudaDeviceProp properties;
  int margin;
  BSD_TRY(bsd_env_sm_margin(&margin, error));
  BSD_TRY(bsd_cuda_check(cudaGetDeviceProperties(&properties, number),
                         "reading the device's properties", error));
  device->number = number;
  device->capability = 10 * properties.major + properties.minor;
  snprintf(device->architecture, sizeof device->architecture, "sm_%d", device->capability);
  device->multiprocessors = (int)bsd_max(1, properties.multiProcessorCount - margin);
  device->shared_per_block = attribute(number, cudaDevAttrMaxSharedMemoryPerBlockOptin);
  device->l2_bytes = properties.l2CacheSize;
  if (device->capability < 61)
    return bsd_fail(error, BSD_ERR_UNSUPPORTED,
                    "backend cuda: device %d (%s) has compute capability %d.%d, 6.1 is needed",
                    number, properties.name, properties.major, properties.minor);
  if (description)
    snprintf(description, size, "%s, %s, %d multiprocessors, device %d", properties.name,
             device->architecture, properties.multiProcessorCount, number);
  return BSD_OK;
}

static bsd_status cuda_open(const bsd_context_options *options, void **device, char *description,
                            size_t size, bsd_error *error) {
  bsd_cuda_device *made;
  int number = 0, previous;
  BSD_TRY(find_device(options, &number, error));
  BSD_TRY(bsd_alloc(&made, 1, sizeof *made, error));
  bsd_status status = read_device(number, made, description, size, error);
  if (status == BSD_OK)
    status = bsd_cuda_enter(made, &previous, error);
  if (status == BSD_OK) {
    status = bsd_cuda_families_open(made, error);
    bsd_cuda_leave(made, previous);
  }
  if (status == BSD_OK)
    *device = made;
  else
    bsd_free(made);
  return status;
}

static void cuda_close(void *device) {
  bsd_free(device);
}

static const char *cuda_architecture(const void *device) {
  const bsd_cuda_device *cuda = device;
  return cuda->architecture;
}

/* ---- memory ----------------------------------------------------------------------------------- */

static bsd_status check_size(int64_t bytes, bsd_error *error) {
  if (bytes >= 0)
    return BSD_OK;
  return bsd_fail(error, BSD_ERR_MEMORY, "%lld bytes are not a size that can be allocated",
                  (long long)bytes);
}

static bsd_status cuda_alloc(void *device, int64_t bytes, void **pointer, bsd_error *error) {
  void *made = NULL;
  int previous;
  BSD_TRY(check_size(bytes, error));
  BSD_TRY(bsd_cuda_enter(device, &previous, error));
  const bsd_status status =
      bsd_cuda_check_memory(cudaMalloc(&made, (size_t)bsd_max(bytes, ALIGNMENT)), bytes, error);
  bsd_cuda_leave(device, previous);
  if (status == BSD_OK)
    *pointer = made;
  return status;
}

static void cuda_release(void *device, void *pointer) {
  (void)device;
  if (pointer)
    (void)cudaFree(pointer);
}

static bsd_status cuda_alloc_host(void *device, int64_t bytes, void **pointer, bsd_error *error) {
  void *made = NULL;
  int previous;
  BSD_TRY(check_size(bytes, error));
  BSD_TRY(bsd_cuda_enter(device, &previous, error));
  const cudaError_t result =
      cudaHostAlloc(&made, (size_t)bsd_max(bytes, ALIGNMENT), cudaHostAllocPortable);
  bsd_cuda_leave(device, previous);
  if (result == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    return bsd_fail(error, BSD_ERR_MEMORY, "%lld bytes of pinned host memory could not be had",
                    (long long)bytes);
  }
  BSD_TRY(bsd_cuda_check(result, "allocating pinned host memory", error));
  *pointer = made;
  return BSD_OK;
}

static void cuda_release_host(void *device, void *pointer) {
  (void)device;
  if (pointer)
    (void)cudaFreeHost(pointer);
}

static bsd_status copy(void *device, void *to, const void *from, int64_t bytes,
                       enum cudaMemcpyKind kind, void *stream, bsd_error *error) {
  int previous;
  if (bytes == 0)
    return BSD_OK;
  BSD_TRY(bsd_cuda_enter(device, &previous, error));
  const bsd_status status = bsd_cuda_check(cudaMemcpyAsync(to, from, (size_t)bytes, kind, stream),
                                           "copying between host and device", error);
  bsd_cuda_leave(device, previous);
  return status;
}

static bsd_status cuda_copy_in(void *device, void *to, const void *host, int64_t bytes,
                               void *stream, bsd_error *error) {
  return copy(device, to, host, bytes, cudaMemcpyHostToDevice, stream, error);
}

static bsd_status cuda_copy_out(void *device, void *host, const void *from, int64_t bytes,
                                void *stream, bsd_error *error) {
  return copy(device, host, from, bytes, cudaMemcpyDeviceToHost, stream, error);
}

/* ---- streams and events ----------------------------------------------------------------------- */

static bsd_status cuda_stream_query(void *device, void *stream, int *done, bsd_error *error) {
  int previous;
  BSD_TRY(bsd_cuda_enter(device, &previous, error));
  const cudaError_t result = cudaStreamQuery(stream);
  bsd_cuda_leave(device, previous);
  if (result != cudaErrorNotReady)
    BSD_TRY(bsd_cuda_check(result, "in work that was under way", error));
  *done = result == cudaSuccess;
  return BSD_OK;
}

/* Polls: a thread that blocks inside CUDA would keep MPI from making progress. */
static bsd_status cuda_synchronize(void *device, void *stream, bsd_error *error) {
  for (int done = 0; !done;) {
    BSD_TRY(cuda_stream_query(device, stream, &done, error));
    if (!done)
      sched_yield();
  }
  return BSD_OK;
}

/* Of the highest priority: an exchange that is posted should not wait for a large kernel's blocks. */
static bsd_status cuda_stream_create(void *device, void **stream, bsd_error *error) {
  cudaStream_t made;
  int least, greatest, previous;
  BSD_TRY(bsd_cuda_enter(device, &previous, error));
  bsd_status status = bsd_cuda_check(cudaDeviceGetStreamPriorityRange(&least, &greatest),
                                     "asking for stream priorities", error);
  if (status == BSD_OK)
    status = bsd_cuda_check(cudaStreamCreateWithPriority(&made, cudaStreamNonBlocking, greatest),
                            "making a stream", error);
  bsd_cuda_leave(device, previous);
  if (status == BSD_OK)
    *stream = made;
  return status;
}

static void cuda_stream_destroy(void *device, void *stream) {
  (void)device;
  if (stream)
    (void)cudaStreamDestroy(stream);
}

static bsd_status cuda_event_create(void *device, void **event, bsd_error *error) {
  cudaEvent_t made;
  int previous;
  BSD_TRY(bsd_cuda_enter(device, &previous, error));
  const bsd_status status = bsd_cuda_check(cudaEventCreate(&made), "making an event", error);
  bsd_cuda_leave(device, previous);
  if (status == BSD_OK)
    *event = made;
  return status;
}

static void cuda_event_destroy(void *device, void *event) {
  (void)device;
  if (event)
    (void)cudaEventDestroy(event);
}

static bsd_status cuda_event_record(void *device, void *event, void *stream, bsd_error *error) {
  int previous;
  BSD_TRY(bsd_cuda_enter(device, &previous, error));
  const bsd_status status =
      bsd_cuda_check(cudaEventRecord(event, stream), "recording an event", error);
  bsd_cuda_leave(device, previous);
  return status;
}

static bsd_status cuda_stream_wait(void *device, void *stream, void *event, bsd_error *error) {
  int previous;
  BSD_TRY(bsd_cuda_enter(device, &previous, error));
  const bsd_status status = bsd_cuda_check(cudaStreamWaitEvent(stream, event, 0),
                                           "making a stream wait for an event", error);
  bsd_cuda_leave(device, previous);
  return status;
}

static bsd_status cuda_event_query(void *device, void *event, int *done, bsd_error *error) {
  (void)device;
  const cudaError_t result = cudaEventQuery(event);
  if (result != cudaErrorNotReady)
    BSD_TRY(bsd_cuda_check(result, "in work that was under way", error));
  *done = result == cudaSuccess;
  return BSD_OK;
}

static double cuda_event_elapsed_ms(void *device, void *start, void *stop) {
  float milliseconds = 0;
  (void)device;
  if (cudaEventElapsedTime(&milliseconds, start, stop) == cudaSuccess)
    return milliseconds;
  (void)cudaGetLastError();
  return 0;
}

/* ---- lists ------------------------------------------------------------------------------------ */

static void cuda_discard(void *device, bsd_lists *lists) {
  (void)device;
  if (lists == NULL)
    return;
  bsd_cuda_families_discard(lists);
  bsd_cuda_lists_destroy(lists);
}

static bsd_status cuda_prepare(void *device, const bsd_kernels *kernels,
                               const bsd_kernel_shape *shape, const bsd_pass *passes,
                               int64_t npasses, bsd_lists **lists, bsd_error *error) {
  bsd_lists *made = NULL;
  int previous;
  BSD_TRY(bsd_cuda_enter(device, &previous, error));
  bsd_status status = bsd_cuda_lists_create(passes, npasses, &made, error);
  if (status == BSD_OK)
    status = bsd_cuda_families_prepare(device, kernels, shape, made, error);
  bsd_cuda_leave(device, previous);
  if (status == BSD_OK)
    *lists = made;
  else
    cuda_discard(device, made);
  return status;
}

const bsd_backend_table bsd_cuda_backend = {.name = "cuda",
                                            .id = BSD_BACKEND_CUDA,
                                            .open = cuda_open,
                                            .close = cuda_close,
                                            .architecture = cuda_architecture,
                                            .select = bsd_cuda_families_select,
                                            .alloc = cuda_alloc,
                                            .release = cuda_release,
                                            .alloc_host = cuda_alloc_host,
                                            .release_host = cuda_release_host,
                                            .copy_in = cuda_copy_in,
                                            .copy_out = cuda_copy_out,
                                            .synchronize = cuda_synchronize,
                                            .prepare = cuda_prepare,
                                            .discard = cuda_discard,
                                            .pack = bsd_cuda_pack,
                                            .stream_create = cuda_stream_create,
                                            .stream_destroy = cuda_stream_destroy,
                                            .event_create = cuda_event_create,
                                            .event_destroy = cuda_event_destroy,
                                            .event_record = cuda_event_record,
                                            .stream_wait = cuda_stream_wait,
                                            .event_query = cuda_event_query,
                                            .stream_query = cuda_stream_query,
                                            .event_elapsed_ms = cuda_event_elapsed_ms};
