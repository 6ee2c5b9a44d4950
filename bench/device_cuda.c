/* device_cuda.c - device.h in a build with CUDA: host memory, or a CUDA device through its runtime. */
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

#include "bench/device.h"

enum { ALIGNMENT = 64 };

static int check(cudaError_t code, const char *call, cli_error *error) {
  if (code == cudaSuccess)
    return CLI_GOOD;
  (void)cudaGetLastError();
  return cli_fail(error, CLI_FAILED, "%s: %s", call, cudaGetErrorString(code));
}

static cudaStream_t stream_of(const cli_device *device) {
  return (cudaStream_t)device->stream;
}

int cli_device_count(void) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  return count;
}

int cli_device_use(int number, cli_error *error) {
  return check(cudaSetDevice(number), "cudaSetDevice", error);
}

int cli_device_open(int on_gpu, int number, cli_device *device, cli_error *error) {
  cudaStream_t stream;
  *device = (cli_device){.number = number};
  if (!on_gpu)
    return CLI_GOOD;
  int code =
      check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate", error);
  if (code != CLI_GOOD)
    return code;
  device->on_gpu = 1;
  device->stream = stream;
  for (int i = 0; i < 2 && code == CLI_GOOD; i++) {
    cudaEvent_t mark = NULL;
    code = check(cudaEventCreate(&mark), "cudaEventCreate", error);
    device->marks[i] = mark;
  }
  return code;
}

void cli_device_close(cli_device *device) {
  for (int i = 0; i < 2; i++)
    if (device->marks[i] != NULL)
      cudaEventDestroy((cudaEvent_t)device->marks[i]);
  if (device->stream != NULL)
    cudaStreamDestroy(stream_of(device));
  *device = (cli_device){0};
}

/* ---- memory ------------------------------------------------------------------------------ */

int cli_device_alloc(const cli_device *device, int64_t bytes, void *out, cli_error *error) {
  void *memory = NULL;
  if (bytes > 0 && device->on_gpu && cudaMalloc(&memory, (size_t)bytes) != cudaSuccess) {
    (void)cudaGetLastError();
    return cli_fail(error, CLI_FAILED, "CUDA device %d has no %lld bytes left", device->number,
                    (long long)bytes);
  }
  if (bytes > 0 && !device->on_gpu && posix_memalign(&memory, ALIGNMENT, (size_t)bytes) != 0)
    return cli_fail(error, CLI_FAILED, "no memory for %lld bytes", (long long)bytes);
  memcpy(out, &memory, sizeof memory);
  return CLI_GOOD;
}

void cli_device_free(const cli_device *device, void *memory) {
  if (!device->on_gpu)
    free(memory);
  else if (memory != NULL)
    cudaFree(memory);
}

int cli_device_wait(const cli_device *device, cli_error *error) {
  return device->on_gpu
             ? check(cudaStreamSynchronize(stream_of(device)), "cudaStreamSynchronize", error)
             : CLI_GOOD;
}

/* On the stream, and complete on return. */
static int copy(const cli_device *device, void *to, const void *from, int64_t bytes,
                enum cudaMemcpyKind kind, cli_error *error) {
  if (bytes == 0)
    return CLI_GOOD;
  if (!device->on_gpu) {
    memcpy(to, from, (size_t)bytes);
    return CLI_GOOD;
  }
  int code = check(cudaMemcpyAsync(to, from, (size_t)bytes, kind, stream_of(device)),
                   "cudaMemcpyAsync", error);
  return code == CLI_GOOD ? cli_device_wait(device, error) : code;
}

int cli_device_write(const cli_device *device, void *to, const void *host, int64_t bytes,
                     cli_error *error) {
  return copy(device, to, host, bytes, cudaMemcpyHostToDevice, error);
}

int cli_device_read(const cli_device *device, void *host, const void *from, int64_t bytes,
                    cli_error *error) {
  return copy(device, host, from, bytes, cudaMemcpyDeviceToHost, error);
}

int cli_device_fill(const cli_device *device, void *to, int byte, int64_t bytes, cli_error *error) {
  if (bytes == 0)
    return CLI_GOOD;
  if (!device->on_gpu) {
    memset(to, byte, (size_t)bytes);
    return CLI_GOOD;
  }
  int code =
      check(cudaMemsetAsync(to, byte, (size_t)bytes, stream_of(device)), "cudaMemsetAsync", error);
  return code == CLI_GOOD ? cli_device_wait(device, error) : code;
}

int64_t cli_device_free_bytes(const cli_device *device) {
  size_t left = 0, all = 0;
  if (!device->on_gpu || cudaMemGetInfo(&left, &all) != cudaSuccess)
    return -1;
  return (int64_t)left;
}

int64_t cli_device_cache_bytes(const cli_device *device) {
  int bytes = 0;
  if (!device->on_gpu ||
      cudaDeviceGetAttribute(&bytes, cudaDevAttrL2CacheSize, device->number) != cudaSuccess)
    return 0;
  return bytes;
}

/* ---- time and graphs --------------------------------------------------------------------- */

int cli_device_mark(const cli_device *device, int which, cli_error *error) {
  return check(cudaEventRecord((cudaEvent_t)device->marks[which], stream_of(device)),
               "cudaEventRecord", error);
}

int cli_device_elapsed(const cli_device *device, double *ms, cli_error *error) {
  float elapsed = 0;
  int code =
      check(cudaEventSynchronize((cudaEvent_t)device->marks[1]), "cudaEventSynchronize", error);
  if (code == CLI_GOOD)
    code = check(cudaEventElapsedTime(&elapsed, (cudaEvent_t)device->marks[0],
                                      (cudaEvent_t)device->marks[1]),
                 "cudaEventElapsedTime", error);
  *ms = elapsed;
  return code;
}

int cli_device_capture_begin(const cli_device *device, cli_error *error) {
  return check(cudaStreamBeginCapture(stream_of(device), cudaStreamCaptureModeThreadLocal),
               "cudaStreamBeginCapture", error);
}

int cli_device_capture_end(const cli_device *device, void **graph, cli_error *error) {
  cudaGraph_t captured = NULL;
  cudaGraphExec_t ready = NULL;
  *graph = NULL;
  int code =
      check(cudaStreamEndCapture(stream_of(device), &captured), "cudaStreamEndCapture", error);
  if (code == CLI_GOOD)
    code = check(cudaGraphInstantiate(&ready, captured, 0), "cudaGraphInstantiate", error);
  if (captured != NULL)
    cudaGraphDestroy(captured);
  if (code == CLI_GOOD)
    *graph = ready;
  return code;
}

int cli_device_replay(const cli_device *device, void *graph, cli_error *error) {
  return check(cudaGraphLaunch((cudaGraphExec_t)graph, stream_of(device)), "cudaGraphLaunch",
               error);
}

void cli_device_graph_free(const cli_device *device, void *graph) {
  (void)device;
  if (graph != NULL)
    cudaGraphExecDestroy((cudaGraphExec_t)graph);
}
