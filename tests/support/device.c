/* device.c - see device.h. */
#include "support/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "src/context.h"

static void must(bsd_status status, const bsd_error *error) {
  if (status == BSD_OK)
    return;
  fprintf(stderr, "device: %s\n", error->message);
  fflush(stdout);
  exit(1);
}

static int is_set_to(const char *name, const char *value) {
  const char *text = getenv(name);
  return text != NULL && strcmp(text, value) == 0;
}

bsd_backend device_backend(void) {
  return is_set_to("BSD_TEST_BACKEND", "cuda") ? BSD_BACKEND_CUDA : BSD_BACKEND_CPU;
}

bsd_kernel device_kernel(void) {
  return is_set_to("BSD_TEST_KERNEL", "simt")   ? BSD_KERNEL_SIMT
         : is_set_to("BSD_TEST_KERNEL", "sm80") ? BSD_KERNEL_SM80
         : is_set_to("BSD_TEST_KERNEL", "sm90") ? BSD_KERNEL_SM90
                                                : BSD_KERNEL_AUTO;
}

bsd_status device_plan_create(bsd_context *context, const bsd_pattern *pattern,
                              const bsd_problem *problem, bsd_plan **plan) {
  bsd_status status = bsd_plan_create(context, pattern, problem, plan);
  if (status != BSD_ERR_UNSUPPORTED || context->kernel == BSD_KERNEL_AUTO)
    return status;
  bsd_kernel asked = context->kernel;
  context->kernel = BSD_KERNEL_AUTO;
  status = bsd_plan_create(context, pattern, problem, plan);
  context->kernel = asked;
  return status;
}

int64_t device_head_dim(int64_t dim) {
  return device_backend() == BSD_BACKEND_CUDA ? (dim + 7) / 8 * 8 : dim;
}

/* The CUDA backend and a device of its own for copies, opened at the first use. */
static void *device;
static const bsd_backend_table *cuda(void) {
  static const bsd_backend_table *table;
  bsd_error error = {0};
  if (table != NULL)
    return table;
  must(bsd_backend_find(BSD_BACKEND_CUDA, NULL, &table, &error), &error);
  must(table->open(NULL, &device, NULL, 0, &error), &error);
  return table;
}

void *device_push(const void *host, int64_t bytes) {
  bsd_error error = {0};
  void *pushed = NULL;
  if (host == NULL || device_backend() == BSD_BACKEND_CPU)
    return (void *)(uintptr_t)host;
  const bsd_backend_table *table = cuda();
  must(table->alloc(device, bytes, &pushed, &error), &error);
  must(table->copy_in(device, pushed, host, bytes, NULL, &error), &error);
  must(table->synchronize(device, NULL, &error), &error);
  return pushed;
}

void device_pull(void *host, const void *pushed, int64_t bytes) {
  bsd_error error = {0};
  if (device_backend() == BSD_BACKEND_CPU) {
    if (host != pushed)
      memcpy(host, pushed, (size_t)bytes);
    return;
  }
  must(cuda()->copy_out(device, host, pushed, bytes, NULL, &error), &error);
  must(cuda()->synchronize(device, NULL, &error), &error);
}

void device_drop(const void *host, void *pushed) {
  if (pushed != host)
    cuda()->release(device, pushed);
}
