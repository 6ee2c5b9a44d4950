/* device_host.c - device.h in a build without CUDA: host memory alone. */
#include "bench/device.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

int cli_device_count(void) {
  return 0;
}

static int no_cuda(cli_error *error) {
  return cli_fail(error, CLI_UNUSABLE, "this build has no CUDA");
}

int cli_device_use(int number, cli_error *error) {
  (void)number;
  return no_cuda(error);
}

int cli_device_open(int on_gpu, int number, cli_device *device, cli_error *error) {
  *device = (cli_device){.on_gpu = 0, .number = number};
  return on_gpu ? no_cuda(error) : CLI_GOOD;
}

void cli_device_close(cli_device *device) {
  (void)device;
}

int cli_device_alloc(const cli_device *device, int64_t bytes, void *out, cli_error *error) {
  void *memory = NULL;
  (void)device;
  if (bytes > 0 && posix_memalign(&memory, ALIGNMENT, (size_t)bytes) != 0)
    return cli_fail(error, CLI_FAILED, "no memory for %lld bytes", (long long)bytes);
  memcpy(out, &memory, sizeof memory);
  return CLI_GOOD;
}

void cli_device_free(const cli_device *device, void *memory) {
  (void)device;
  free(memory);
}

static int copy(void *to, const void *from, int64_t bytes) {
  if (bytes > 0)
    memcpy(to, from, (size_t)bytes);
  return CLI_GOOD;
}

int cli_device_write(const cli_device *device, void *to, const void *host, int64_t bytes,
                     cli_error *error) {
  (void)device;
  (void)error;
  return copy(to, host, bytes);
}

int cli_device_read(const cli_device *device, void *host, const void *from, int64_t bytes,
                    cli_error *error) {
  (void)device;
  (void)error;
  return copy(host, from, bytes);
}

int cli_device_fill(const cli_device *device, void *to, int byte, int64_t bytes, cli_error *error) {
  (void)device;
  (void)error;
  if (bytes > 0)
    memset(to, byte, (size_t)bytes);
  return CLI_GOOD;
}

int64_t cli_device_free_bytes(const cli_device *device) {
  (void)device;
  return -1;
}

int64_t cli_device_cache_bytes(const cli_device *device) {
  (void)device;
  return 0;
}

int cli_device_wait(const cli_device *device, cli_error *error) {
  (void)device;
  (void)error;
  return CLI_GOOD;
}

int cli_device_mark(const cli_device *device, int which, cli_error *error) {
  (void)device;
  (void)which;
  return no_cuda(error);
}

int cli_device_elapsed(const cli_device *device, double *ms, cli_error *error) {
  (void)device;
  (void)ms;
  return no_cuda(error);
}

int cli_device_capture_begin(const cli_device *device, cli_error *error) {
  (void)device;
  return no_cuda(error);
}

int cli_device_capture_end(const cli_device *device, void **graph, cli_error *error) {
  (void)device;
  *graph = NULL;
  return no_cuda(error);
}

int cli_device_replay(const cli_device *device, void *graph, cli_error *error) {
  (void)device;
  (void)graph;
  return no_cuda(error);
}

void cli_device_graph_free(const cli_device *device, void *graph) {
  (void)device;
  (void)graph;
}
