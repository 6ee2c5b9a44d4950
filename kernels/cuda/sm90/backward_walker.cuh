/* backward_walker.cuh - a consumer warpgroup's place in the ring, and what it does with a pair there. */
#ifndef BSD_SM90_BACKWARD_WALKER_CUH
#define BSD_SM90_BACKWARD_WALKER_CUH

#include "backward_output.cuh"

namespace sm90 {

/* One consumer warpgroup's place in the ring. */
template <class C> struct walker : own_output<C> {
  using T = typename C::type;
  using own_output<C>::shared;
  using own_output<C>::own;
  using own_output<C>::own_tile;
  using own_output<C>::m;
  using own_output<C>::warp;
  using own_output<C>::lane;
  uint32_t tiles, full, phase; /* descriptor, barrier and parity of the next streamed pair */
  uint32_t last_tiles, last_empty,
      last_phase;     /* of the entry whose last product is still to be issued */
  uint32_t own_empty; /* barrier of the own pair while this warp holds it, else 0 */
  uint32_t kept[C::kept > 0 ? C::kept : 1][C::D / 16][4]; /* own tiles as A operands */

  __device__ __forceinline__ walker(const backward_params &params, uint32_t base, int member, int w,
                                    int l)
      : own_output<C>(params, base, member, w, l) {
    rewind();
    phase = 0;
    own_empty = 0;
  }
  __device__ __forceinline__ int place(uint32_t use) const {
    return m * C::residents + use % C::residents;
  }
  /* The own pair of the next item, as soon as it is there. */
  __device__ __forceinline__ void wait_own(uint32_t use) {
    own = shared + C::header + place(use) * C::pair;
    own_tile = shared + SM90_OWN_TILES + 16 * (2 * m + use % 2);
    own_empty = sm90_barrier(shared, SM90_OWN_EMPTY, place(use));
    bsd_barrier_wait(sm90_barrier(shared, SM90_OWN_FULL, place(use)), use / C::residents & 1);
  }
  /* This warp reads the own pair no more. */
  __device__ __forceinline__ void release_own() {
    __syncwarp();
    release(own_empty);
    own_empty = 0;
  }
  __device__ __forceinline__ void free_chunk(uint32_t &chunk) {
    __syncwarp();
    bsd_barrier_arrive_if(sm90_barrier(shared, SM90_CHUNK_EMPTY, chunk % SM90_CHUNK_SLOTS),
                          lane == 0);
    chunk = (chunk + 1) % (2 * SM90_CHUNK_SLOTS);
  }
  __device__ __forceinline__ void rewind() {
    tiles = bsd_descriptor_low(shared + C::ring_at, 8192);
    full = shared + SM90_FULL;
  }
  __device__ __forceinline__ int stage_now() const {
    return static_cast<int>(full - (shared + SM90_FULL)) / 8;
  }
  __device__ __forceinline__ void wait_full() {
    bsd_barrier_wait(full, phase);
  }
  /* Waits for the next streamed pair if there is one in this run; else for the last, which is there. The branch
   * of the wait is also what keeps ptxas from moving exponentials across: it would put them behind the wait for the
   * product that runs beside them. */
  __device__ __forceinline__ void wait_next(bool more) {
    bsd_barrier_wait(more ? full : last_empty + SM90_FULL - SM90_EMPTY, more ? phase : last_phase);
  }
  /* On to the next streamed pair; this one is remembered as the last. */
  __device__ __forceinline__ void advance() {
    last_tiles = tiles;
    last_phase = phase;
    last_empty = full + SM90_EMPTY - SM90_FULL;
    if (full == shared + SM90_FULL + 8 * (C::stages - 1)) {
      rewind();
      phase ^= 1;
    } else {
      full += 8;
      tiles += C::pair >> 4;
    }
  }
  __device__ __forceinline__ void release(uint32_t empty) {
    bsd_barrier_arrive_if(empty, lane == 0 ? empty : 0); /* 0: none */
  }
  /* Entries that this member does not have: it only frees their tiles. */
  __device__ __forceinline__ void skip(int entries) {
#pragma unroll 1
    for (; entries > 0; entries--) {
      wait_full();
      release(full + SM90_EMPTY - SM90_FULL);
      advance();
    }
  }

  /* ---- products ---- */

  /* Takes own tiles into registers; their place is free once all are there. */
  __device__ __forceinline__ void keep() {
    const int row = warp * 16 + (lane & 15);
#pragma unroll
    for (int which = 0; which < C::kept; which++)
#pragma unroll
      for (int k = 0; k < C::D / 16; k++) {
        const int column = k % 4 * 2 + (lane >> 4);
        bsd_load_matrix(kept[which][k], own + which * C::tile + k / 4 * 8192 + row * 128 +
                                            ((column ^ (row & 7)) << 4));
      }
    if (C::kept == 2)
      release_own();
  }
  static __device__ __forceinline__ uint32_t step_offset(int k) {
    return (k / 4 * 8192 + k % 4 * 32) >> 4;
  }
  /* s = own tile (`which` of the pair) times streamed tile `which`, transposed. The caller fences and commits. */
  __device__ __forceinline__ void multiply(float (&s)[32], int which) {
    if (which < C::kept) {
      multiply(s, kept[which < C::kept ? which : 0], which);
      return;
    }
    uint32_t a = bsd_descriptor_low(own + which * C::tile, 8192);
    bsd_forget(a); /* else all its descriptors are kept in registers from the start of the item */
    const uint32_t b = tiles + which * (C::tile >> 4);
#pragma unroll
    for (int k = 0; k < C::D / 16; k++)
      bsd_wgmma_ss<0>(s, bsd_descriptor(a + step_offset(k)), bsd_descriptor(b + step_offset(k)),
                      k > 0, T());
  }
  __device__ __forceinline__ void multiply(float (&s)[32], const uint32_t (&kept)[C::D / 16][4],
                                           int which) {
    const uint32_t b = tiles + which * (C::tile >> 4);
#pragma unroll
    for (int k = 0; k < C::D / 16; k++)
      bsd_wgmma_rs<0>(s, kept[k], bsd_descriptor(b + step_offset(k)), k > 0, T());
  }
  /* sum += a times the streamed tile at `from`, a group of its own. */
  __device__ __forceinline__ void accumulate(float (&sum)[C::D / 2], const uint32_t (&a)[4][4],
                                             uint32_t from) {
    bsd_wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; k++)
      bsd_wgmma_rs<1>(sum, a[k], bsd_descriptor(from + (k * 2048 >> 4)), 1, T());
    bsd_wgmma_commit();
  }
  /* Pairs of scores (rows lane/4 and + 8 of the warp's 16) as A operands, rounded to the type. */
  static __device__ __forceinline__ void pack(uint32_t (&to)[4][4], const float (&s)[32]) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
      to[i / 2][i % 2 * 2] = bsd_pack2(s[4 * i], s[4 * i + 1], T());
      to[i / 2][i % 2 * 2 + 1] = bsd_pack2(s[4 * i + 2], s[4 * i + 3], T());
    }
  }
  /* Zeroes what does not count, whatever it is: rows are own tokens, columns streamed ones. Packed, because by
   * then the scores' registers are free. */
  __device__ __forceinline__ void mask(uint32_t (&a)[4][4], int stage) const {
    const uint4 v = bsd_load_shared(shared + SM90_BANDS + 32 * stage);
    const int end = static_cast<int>(bsd_load_word(shared + SM90_BANDS + 32 * stage + 16)) >> 16;
    const int64_t row0 =
        static_cast<int64_t>(static_cast<int>(bsd_load_word(this->own_tile + 8))) * 64;
    const int64_t low = static_cast<int64_t>(v.y) << 32 | v.x;
    const int64_t high = static_cast<int64_t>(v.w) << 32 | v.z;
    /* the columns that count for row i: i + first .. i + last */
    const int first = bsd_clamp_index(C::keys ? row0 - high : low + row0);
    const int last = bsd_clamp_index(C::keys ? row0 - low : high + row0);
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const int row = 16 * warp + lane / 4 + 8 * r;
      const int from = max(first + row, 0) - 2 * (lane % 4),
                to = min(last + row, end - 1) - 2 * (lane % 4);
#pragma unroll
      for (int i = 0; i < 8; i++) {
        const uint32_t left = 8 * i >= from && 8 * i <= to ? 0xffffu : 0;
        const uint32_t right = 8 * i + 1 >= from && 8 * i + 1 <= to ? 0xffff0000u : 0;
        a[i / 2][i % 2 * 2 + r] &= left | right;
      }
    }
    __syncwarp(); /* all lanes have read, before one of them frees the place */
  }
};

} // namespace sm90

#endif
