/* device.h - where a program's tensors lie: in host memory, or on a CUDA device with a stream of its own.
 *
 * One of device_cuda.c (a build with CUDA) and device_host.c is linked. Only the library's public contract is
 * relied on: device pointers and a stream. Functions that return an int return an exit status and are
 * complete when they return, but for marks and replays, which are in the stream's order. */
#ifndef BSD_CLI_DEVICE_H
#define BSD_CLI_DEVICE_H

#include "bench/cli.h"

typedef struct cli_device {
  int on_gpu; /* 0: host memory, all else unused */
  int number;
  void *stream; /* a cudaStream_t that does not wait for the default stream */
  void *marks[2];
} cli_device;

/* CUDA devices that this process sees; 0 in a build without CUDA and where none is. */
int cli_device_count(void);

/* Makes a CUDA device the process's current one. */
int cli_device_use(int number, cli_error *error);

/* Host memory's device, or a CUDA device's, current already. */
int cli_device_open(int on_gpu, int number, cli_device *device, cli_error *error);
void cli_device_close(cli_device *device);

/* ---- memory ------------------------------------------------------------------------------ */

/* *out (any pointer) is NULL if bytes is 0. */
int cli_device_alloc(const cli_device *device, int64_t bytes, void *out, cli_error *error);
void cli_device_free(const cli_device *device, void *memory);

int cli_device_write(const cli_device *device, void *to, const void *host, int64_t bytes,
                     cli_error *error);
int cli_device_read(const cli_device *device, void *host, const void *from, int64_t bytes,
                    cli_error *error);
int cli_device_fill(const cli_device *device, void *to, int byte, int64_t bytes, cli_error *error);

/* Bytes that can still be allocated on a CUDA device; -1 if it is not known. */
int64_t cli_device_free_bytes(const cli_device *device);

/* Bytes of a CUDA device's last cache; 0 in host memory or if it is not known. */
int64_t cli_device_cache_bytes(const cli_device *device);

/* Waits for everything on the stream. */
int cli_device_wait(const cli_device *device, cli_error *error);

/* ---- time and graphs, CUDA only ---------------------------------------------------------- */

/* Marks a point of the stream, which: 0 or 1. */
int cli_device_mark(const cli_device *device, int which, cli_error *error);

/* Waits for mark 1 and gives the milliseconds between the marks. */
int cli_device_elapsed(const cli_device *device, double *ms, cli_error *error);

/* What is put on the stream between begin and end makes a graph; end must follow begin, also after a
 * failure (then *graph may be NULL). */
int cli_device_capture_begin(const cli_device *device, cli_error *error);
int cli_device_capture_end(const cli_device *device, void **graph, cli_error *error);
int cli_device_replay(const cli_device *device, void *graph, cli_error *error);
void cli_device_graph_free(const cli_device *device, void *graph);

#endif
