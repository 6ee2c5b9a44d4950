/* backward_consumer.cuh - a consumer warpgroup's walk over the items, which calls the products of dq or dk, dv. */
#ifndef BSD_SM90_BACKWARD_CONSUMER_CUH
#define BSD_SM90_BACKWARD_CONSUMER_CUH

#include "backward_walker.cuh"

namespace sm90 {

/* A word of shared memory that is the same for all. */
__device__ __forceinline__ uint32_t load_uniform(uint32_t from) {
  return __shfl_sync(~0u, bsd_load_word(from), 0);
}

/* The first set bit's place, 32 if there is none. */
__device__ __forceinline__ int first_bit(uint32_t bits) {
  return bits ? __ffs(bits) - 1 : 32;
}

/* Walks the items. Consumer: clear, take_own; run<Masked>(n), the next n entries (Masked: one, of which some
 * pairs do not count), nothing in flight at its ends; finish leaves the result and says whether a store of the
 * own pair is under way. */
template <class Consumer>
__device__ __forceinline__ void consume(const backward_params &p, uint32_t shared, int m, int warp,
                                        int lane) {
  using C = typename Consumer::C;
  Consumer c(p, shared, m, warp, lane);
  uint32_t chunk = 0, use = 0; /* modulo 2 * their places */
  bool pending = false;        /* a store of the own pair before is under way */
#pragma unroll 1
  for (;;) {
    c.own = shared + C::header + c.place(use) * C::pair;
    c.clear();
    uint32_t word;
#pragma unroll 1
    for (;;) {
      bsd_barrier_wait(sm90_barrier(shared, SM90_CHUNK_FULL, chunk % SM90_CHUNK_SLOTS),
                       chunk / SM90_CHUNK_SLOTS);
      const uint32_t at = shared + SM90_CHUNKS + 64 * (chunk % SM90_CHUNK_SLOTS);
      word = load_uniform(at);
      if (word & SM90_END)
        break;
      if (word >> (SM90_PRESENT_SHIFT + m) & 1 && word & SM90_FIRST) {
        if (C::residents == 1)
          c.release_own(pending, m);
        bsd_barrier_wait(sm90_barrier(shared, SM90_OWN_FULL, c.place(use)), use / C::residents);
        c.take_own();
      }
      /* what a run needs is read again for each: registers */
#pragma unroll 1
      for (int e = 0, n; e < static_cast<int>(load_uniform(at) & SM90_COUNT); e += n) {
        const uint32_t active = load_uniform(at + 16 + 4 * m) >> e;
        const uint32_t masked = load_uniform(at + 32 + 4 * m) >> e;
        const int left = static_cast<int>(load_uniform(at) & SM90_COUNT) - e;
        if (!(active & 1)) {
          n = min(first_bit(active), left);
          c.skip(n);
        } else if (masked & 1) {
          n = 1;
          c.template run<true>(1);
        } else {
          n = min(first_bit(~active | masked), left);
          c.template run<false>(n);
        }
        if (C::residents > 1)
          c.release_own(pending, c.place(use + 1));
      }
      word = load_uniform(at);
      if (word & SM90_LAST)
        break;
      c.free_chunk(chunk);
    }
    if (word & SM90_END)
      break;
    const int head =
        load_uniform(shared + SM90_CHUNKS + 64 * (chunk % SM90_CHUNK_SLOTS) + 48 + 4 * m);
    c.free_chunk(chunk);
    if (!(word >> (SM90_PRESENT_SHIFT + m) & 1))
      continue;
    c.release_own(pending, c.place(use + C::residents - 1));
    bsd_named_sync(8 + m, 128); /* nobody reads the own pair any more */
    pending = c.finish(word >> 16, head);
    if (!pending) {
      bsd_named_sync(8 + m, 128); /* all have read what lies beside the own pair */
      bool at_once = true;
      c.release_own(at_once, c.place(use));
    }
    use = (use + 1) % (2 * C::residents);
  }
  if (warp == 0 && lane == 0)
    bsd_tma_wait();
}

} // namespace sm90

#endif
