/* ptx_barriers.cu - mbarrier phases in the kernels' own use: a ring, rows of 0, 1 and many entries, members
 * that skip; registers moved between warpgroups; kernels that overlap. */
#include "../ptx_run.h"

#include "kernels/cuda/ptx.cuh"

enum { ROWS = 61, CTAS = 8, MODULUS = 8191, COUNT_SLOTS = 2, FULL_ARRIVALS = 32 };

/* An entry: what it adds and which consumers have it (16 bytes, one piece of the copy engine). */
struct entry {
  uint32_t value, members, unused[2];
};

struct place {
  int at;
  uint32_t phase;
  __device__ void next(int places) {
    at = at + 1 == places ? 0 : at + 1;
    phase ^= at == 0;
  }
};

/* Shared memory: the ring, the counts, and a full and an empty barrier for each of their places. */
template <int Stages> struct ring_memory {
  entry ring[Stages];
  uint32_t counts[COUNT_SLOTS];
  uint64_t full[Stages], empty[Stages], count_full[COUNT_SLOTS], count_empty[COUNT_SLOTS];
};

template <int Stages>
static __device__ void produce(ring_memory<Stages> &m, const int *begin, const entry *entries) {
  place stage = {0, 0}, slot = {0, 0};
  for (int row = blockIdx.x; row < ROWS; row += CTAS) {
    bsd_barrier_wait(bsd_shared_address(&m.count_empty[slot.at]), slot.phase ^ 1);
    m.counts[slot.at] = begin[row + 1] - begin[row];
    bsd_barrier_arrive(bsd_shared_address(&m.count_full[slot.at]));
    slot.next(COUNT_SLOTS);
    for (int i = begin[row]; i < begin[row + 1]; i++) {
      const uint32_t full = bsd_shared_address(&m.full[stage.at]);
      bsd_barrier_wait(bsd_shared_address(&m.empty[stage.at]), stage.phase ^ 1);
      bsd_barrier_expect(full, sizeof(entry));
      bsd_barrier_arrive_times(full, FULL_ARRIVALS - 1);
      bsd_bulk_load(bsd_shared_address(&m.ring[stage.at]), entries + i, sizeof(entry), full);
      stage.next(Stages);
    }
  }
}

/* Every warp writes what its row's entries gave, [row][consumer][warp]; the order of entries counts. */
template <int Stages, int Consumers>
static __device__ void consume(ring_memory<Stages> &m, int consumer, float *out) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x % 128 / 32;
  place stage = {0, 0}, slot = {0, 0};
  for (int row = blockIdx.x; row < ROWS; row += CTAS) {
    uint32_t sum = row;
    bsd_barrier_wait(bsd_shared_address(&m.count_full[slot.at]), slot.phase);
    const uint32_t count = bsd_load_word(bsd_shared_address(&m.counts[slot.at]));
    __syncwarp();
    bsd_barrier_arrive_if(bsd_shared_address(&m.count_empty[slot.at]), lane == 0);
    slot.next(COUNT_SLOTS);
    for (uint32_t i = 0; i < count; i++) {
      const uint32_t full = bsd_shared_address(&m.full[stage.at]);
      if (!bsd_barrier_test(full, stage.phase))
        bsd_barrier_wait(full, stage.phase);
      const uint4 e = bsd_load_shared(bsd_shared_address(&m.ring[stage.at]));
      __syncwarp();
      bsd_barrier_arrive_if(bsd_shared_address(&m.empty[stage.at]), lane == 0);
      if (e.y >> consumer & 1)
        sum = (sum * 31 + e.x) % MODULUS;
      stage.next(Stages);
    }
    bsd_named_sync(1 + consumer, 128);
    if (lane == 0)
      out[(row * Consumers + consumer) * 4 + warp] = static_cast<float>(sum);
  }
}

template <int Stages, int Consumers>
static __global__ void __launch_bounds__(128 * (Consumers + 1), 1)
    walk_rows(const int *begin, const entry *entries, float *out) {
  __shared__ __align__(16) ring_memory<Stages> m;
  if (threadIdx.x == 0) {
    for (int i = 0; i < Stages; i++) {
      bsd_barrier_init(bsd_shared_address(&m.full[i]), FULL_ARRIVALS);
      bsd_barrier_init(bsd_shared_address(&m.empty[i]), 4 * Consumers);
    }
    for (int i = 0; i < COUNT_SLOTS; i++) {
      bsd_barrier_init(bsd_shared_address(&m.count_full[i]), 1);
      bsd_barrier_init(bsd_shared_address(&m.count_empty[i]), 4 * Consumers);
    }
    bsd_barrier_init_fence();
  }
  __syncthreads();
  const int group = threadIdx.x / 128;
  if (group == Consumers) {
    bsd_registers_shrink<24>();
    if (threadIdx.x % 128 == 0)
      produce<Stages>(m, begin, entries);
  } else {
    bsd_registers_grow<Consumers == 1 ? 216 : 224>();
    consume<Stages, Consumers>(m, group, out);
  }
}

/* Lengths with runs of empty and one-entry rows, so that a ring of any size meets them at each of its places. */
static int row_length(int row) {
  static const int lengths[] = {0, 1, 0, 0, 1, 1, 5, 0, 17, 1, 2, 3, 0, 40, 1, 1, 4};
  return lengths[(row + row / CTAS) % 17];
}

static float walk(int row, int consumer, const std::vector<entry> &entries, int first, int last) {
  uint32_t sum = row;
  for (int i = first; i < last; i++)
    if (entries[i].members >> consumer & 1)
      sum = (sum * 31 + entries[i].value) % MODULUS;
  return static_cast<float>(sum);
}

template <int Stages, int Consumers> static ptx_report run_ring() {
  std::vector<int> begin(1, 0);
  for (int row = 0; row < ROWS; row++)
    begin.push_back(begin.back() + row_length(row));
  std::vector<entry> entries(begin.back());
  const std::vector<float> values = ptx_integers(2 * entries.size(), 4000, 10);
  for (size_t i = 0; i < entries.size(); i++)
    entries[i] = {static_cast<uint32_t>(values[2 * i] + 4000),
                  static_cast<uint32_t>(values[2 * i + 1] + 4000) % 4,
                  {}};
  std::vector<float> expected;
  for (int row = 0; row < ROWS; row++)
    for (int i = 0; i < 4 * Consumers; i++)
      expected.push_back(walk(row, i / 4, entries, begin[row], begin[row + 1]));
  const ptx_buffer<int> rows(begin);
  const ptx_buffer<entry> list(entries);
  return ptx_run(expected, [&](float *out) {
    walk_rows<Stages, Consumers><<<CTAS, 128 * (Consumers + 1)>>>(rows.get(), list.get(), out);
  });
}

template <int Stages> static ptx_report choose_consumers(int consumers) {
  return consumers == 1 ? run_ring<Stages, 1>() : run_ring<Stages, 2>();
}

ptx_report ptx_ring(int consumers, int stages) {
  return ptx_guard([=] {
    return stages == 2   ? choose_consumers<2>(consumers)
           : stages == 3 ? choose_consumers<3>(consumers)
                         : choose_consumers<8>(consumers);
  });
}

/* ---- kernels that overlap ------------------------------------------------------------------------- */

enum { CHAIN = 9, WIDTH = 132 * 256, SHIFT = 7919 };

/* Reads what other blocks of the kernel before wrote. */
static __global__ void follow(const float *from, float *to) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  bsd_grid_launch_next();
  bsd_grid_wait();
  to[i] = from[(i + SHIFT) % WIDTH] + 1;
}

static void launch_chain(float *a, float *b, float *out) {
  cudaLaunchAttribute overlap = {};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(WIDTH / 256);
  config.blockDim = dim3(256);
  config.attrs = &overlap;
  config.numAttrs = 1;
  for (int i = 0; i < CHAIN; i++) {
    ptx_require(cudaLaunchKernelEx(&config, follow, static_cast<const float *>(i % 2 ? b : a),
                                   i == CHAIN - 1 ? out
                                   : i % 2        ? a
                                                  : b),
                "cudaLaunchKernelEx");
  }
}

ptx_report ptx_dependent_launches(void) {
  return ptx_guard([] {
    const std::vector<float> values = ptx_integers(WIDTH, 1000, 11);
    std::vector<float> expected(WIDTH);
    for (int64_t i = 0; i < WIDTH; i++)
      expected[i] = values[(i + static_cast<int64_t>(CHAIN) * SHIFT) % WIDTH] + CHAIN;
    const ptx_buffer<float> start(values), a(values), b(values);
    return ptx_run(expected, [&](float *out) {
      ptx_require(cudaMemcpyAsync(a.get(), start.get(), a.bytes(), cudaMemcpyDeviceToDevice),
                  "cudaMemcpyAsync");
      ptx_require(cudaMemsetAsync(b.get(), 0xff, b.bytes()), "cudaMemsetAsync");
      launch_chain(a.get(), b.get(), out);
    });
  });
}
