/* backward_consumer.cuh - a consumer warpgroup's walk over the items, which calls the products of dq or dk, dv. */
#ifndef BSD_SM90_BACKWARD_CONSUMER_CUH
#define BSD_SM90_BACKWARD_CONSUMER_CUH

#include "backward_walker.cuh"

namespace sm90 {

/* A value that is the same for all, such that the compiler knows it. */
__device__ __forceinline__ uint32_t uniform(uint32_t v) {
  return __shfl_sync(~0u, v, 0);
}

/* Walks the items. Consumer: clear; take_own, once the own pair is there; run<Masked>(n), the next n entries
 * (Masked: one, of which some pairs do not count), nothing in flight at its ends; finish leaves the result. */
template <class Consumer>
__device__ __forceinline__ void consume(const backward_params &p, uint32_t shared, int m, int warp,
                                        int lane) {
  using C = typename Consumer::C;
  Consumer c(p, shared, m, warp, lane);
  uint32_t chunk = 0, use = 0; /* modulo 2 * their places */
#pragma unroll 1
  for (;;) {
    c.clear();
    uint32_t word;
#pragma unroll 1
    for (;;) {
      bsd_barrier_wait(sm90_barrier(shared, SM90_CHUNK_FULL, chunk % SM90_CHUNK_SLOTS),
                       chunk / SM90_CHUNK_SLOTS);
      const uint32_t at = shared + SM90_CHUNKS + 64 * (chunk % SM90_CHUNK_SLOTS);
      word = uniform(bsd_load_word(at));
      if (word & SM90_END)
        return;
      if (word >> (SM90_PRESENT_SHIFT + m) & 1 && word & SM90_FIRST) {
        c.wait_own(use);
        c.take_own();
      }
#pragma unroll 1
      for (int e = 0, n;; e += n) {
        /* what a run needs is read again for each: registers */
        const uint32_t words[3] = {bsd_load_word(at), bsd_load_word(at + 16 + 4 * m),
                                   bsd_load_word(at + 32 + 4 * m)};
        const uint32_t all = uniform(words[1]), some = uniform(words[2]);
        word = uniform(words[0]);
        const int left = static_cast<int>(word & SM90_COUNT) - e;
        if (left <= 0)
          break;
        const uint32_t active = all >> e, masked = some >> e;
        if (!(active & 1)) {
          n = min(sm90_first_bit(active), left);
          c.skip(n);
        } else if (masked & 1) {
          n = 1;
          c.template run<true>(1);
        } else {
          n = min(sm90_first_bit(~active | masked), left);
          c.template run<false>(n);
        }
      }
      if (word & SM90_LAST)
        break;
      c.free_chunk(chunk);
    }
    const int head =
        uniform(bsd_load_word(shared + SM90_CHUNKS + 64 * (chunk % SM90_CHUNK_SLOTS) + 48 + 4 * m));
    c.free_chunk(chunk);
    if (!(word >> (SM90_PRESENT_SHIFT + m) & 1))
      continue;
    const uint4 tile = bsd_load_shared(c.own_tile);
    c.release_own();
    c.finish(tile, word >> 16, head);
    use = (use + 1) % 4; /* tells the places of pairs and of their tiles, and the phase of either */
  }
}

} // namespace sm90

#endif
