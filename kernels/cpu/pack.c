/* pack.c - gathers one tensor's part of a message: rows of each head, contiguous, in the runs' order. */
#include <string.h>

#include "cpu.h"

static void pack_run(const bsd_pack_run *run, const char *from, int64_t step_bytes,
                     int64_t row_bytes, char *to) {
  for (int64_t i = 0; i < run->count; i++)
    memcpy(to + (run->row + i) * row_bytes, from + (run->first + i * run->step) * step_bytes,
           (size_t)row_bytes);
}

bsd_status bsd_cpu_pack(void *device, const bsd_pack *pack, int64_t batch, const bsd_tensor *from,
                        int64_t elements, int64_t element_bytes, void *to, void *stream,
                        bsd_error *error) {
  (void)stream, (void)error;
  const int threads = ((bsd_cpu_device *)device)->threads;
  const int64_t row_bytes = elements * element_bytes, parts = batch * pack->nheads;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (int64_t part = 0; part < parts; part++) {
    const int64_t b = part / pack->nheads, head = part % pack->nheads;
    const int32_t class = pack->run_class[head];
    const char *source = (const char *)from->data +
                         (b * from->batch_stride + head * from->head_stride) * element_bytes;
    char *target = (char *)to + (b * pack->batch_rows + pack->head_row[head]) * row_bytes;
    for (int64_t r = pack->class_ptr[class]; r < pack->class_ptr[class + 1]; r++)
      pack_run(&pack->runs[r], source, from->position_stride * element_bytes, row_bytes, target);
  }
  return BSD_OK;
}
