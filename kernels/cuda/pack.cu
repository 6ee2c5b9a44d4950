/* pack.cu - gathers the rows of one tensor that a message carries.
 *
 * grid.y is the head, batch entries are walked inside. A head's runs ascend in `row` without gaps, so that a
 * row's run is found by bisection; a row is copied in vectors as wide as its alignment allows. */
#include "launch.cuh"

namespace {

enum { THREADS = 256, MAX_GRID_X = 2048 };

struct source {
  const char *data;
  int64_t batch_bytes, position_bytes, head_bytes; /* strides */
};

/* The last run of [first, last) that begins at `row` or before. */
__device__ __forceinline__ int64_t run_of(const bsd_pack_run *runs, int64_t first, int64_t last,
                                          int64_t row) {
  while (last - first > 1) {
    const int64_t middle = (first + last) / 2;
    if (runs[middle].row <= row)
      first = middle;
    else
      last = middle;
  }
  return first;
}

/* Copies rows of `vectors` vectors each. */
template <typename Vector>
__global__ void __launch_bounds__(THREADS)
    pack_rows(const bsd_pack pack, int64_t batch, const source from, int vectors, Vector *to) {
  const int head = blockIdx.y;
  const int64_t first = pack.class_ptr[pack.run_class[head]];
  const int64_t last = pack.class_ptr[pack.run_class[head] + 1];
  if (first == last)
    return;
  const int64_t rows = pack.runs[last - 1].row + pack.runs[last - 1].count;
  const int64_t step = static_cast<int64_t>(gridDim.x) * THREADS;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; i < rows * vectors;
       i += step) {
    const int64_t row = i / vectors;
    const int vector = static_cast<int>(i - row * vectors);
    const bsd_pack_run run = pack.runs[run_of(pack.runs, first, last, row)];
    const char *token = from.data + head * from.head_bytes +
                        (run.first + (row - run.row) * run.step) * from.position_bytes;
    for (int64_t b = 0; b < batch; b++)
      to[(b * pack.batch_rows + pack.head_row[head] + row) * vectors + vector] =
          reinterpret_cast<const Vector *>(token + b * from.batch_bytes)[vector];
  }
}

/* ---- launches --------------------------------------------------------------------------------- */

template <typename Vector>
bsd_status run(void *device, const bsd_pack *pack, int64_t batch, const source &from,
               int64_t row_bytes, void *to, void *stream, bsd_error *error) {
  const int64_t vectors = row_bytes / static_cast<int64_t>(sizeof(Vector));
  const int64_t blocks = (pack->batch_rows * vectors / pack->nheads + THREADS) / THREADS;
  const bsd_cuda_grid grid = {blocks < MAX_GRID_X ? blocks : MAX_GRID_X, pack->nheads, THREADS, 0,
                              0};
  return bsd_launch(device, "pack_rows", pack_rows<Vector>, grid, stream, error, *pack, batch, from,
                    static_cast<int>(vectors), static_cast<Vector *>(to));
}

} // namespace

bsd_status bsd_cuda_pack(void *device, const bsd_pack *pack, int64_t batch, const bsd_tensor *from,
                         int64_t elements, int64_t element_bytes, void *to, void *stream,
                         bsd_error *error) {
  const int64_t row_bytes = elements * element_bytes;
  const source s = {static_cast<const char *>(from->data), from->batch_stride * element_bytes,
                    from->position_stride * element_bytes, from->head_stride * element_bytes};
  if (pack->nheads == 0 || pack->batch_rows == 0)
    return BSD_OK;
  const int64_t together = row_bytes | s.batch_bytes | s.position_bytes | s.head_bytes |
                           static_cast<int64_t>(reinterpret_cast<uintptr_t>(from->data)) |
                           static_cast<int64_t>(reinterpret_cast<uintptr_t>(to));
  if (together % 16 == 0)
    return run<uint4>(device, pack, batch, s, row_bytes, to, stream, error);
  if (together % 4 == 0)
    return run<unsigned>(device, pack, batch, s, row_bytes, to, stream, error);
  return run<unsigned short>(device, pack, batch, s, row_bytes, to, stream, error);
}
