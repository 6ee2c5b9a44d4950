/* forward_consumer.cuh - one member of an item: the products and the softmax of its entries.
 *
 * n, a row's scaled maximum, does not run: it is taken at the first entry and again only when a thread's partial
 * sum reaches LIMIT, from the intact scores; then O and l are scaled. The rule looks at one row at a time, so a
 * row's bits depend on its own list alone. QK^T of an entry is issued together with PV of the entry before. */
#ifndef BSD_SM90_FORWARD_CONSUMER_CUH
#define BSD_SM90_FORWARD_CONSUMER_CUH

#include "forward.cuh"

namespace {

/* What a chunk says to one member; the same in all lanes. */
struct member_chunk {
  uint32_t word, active, masked;
  int head;
  __device__ __forceinline__ int count() const {
    return word & SM90_COUNT;
  }
  __device__ __forceinline__ bool is_present(int member) const {
    return word >> (SM90_PRESENT_SHIFT + member) & 1;
  }
};

/* One consumer warpgroup: registers that live across entries, and the parts of a step. */
template <class C> struct consumer {
  using T = typename C::type;
  using probabilities = uint32_t[4][4]; /* as A operands of the product with V */
  const forward_params &p;
  const uint32_t shared;
  const int m, warp, lane; /* member, warp of its warpgroup */

  float o[C::D / 2], n0, n1, l0, l1; /* of rows lane/4 and lane/4 + 8 of the warp's 16 */
  probabilities prob;                /* of the entry whose product with V is to come */
  uint32_t own;                      /* address of the own tile: Q, later O */
  uint32_t tiles, full, phase; /* descriptor of K, barrier and parity of the next streamed tile */
  bool ready;                  /* it has been seen to be full */
  uint32_t last_tiles, last_empty; /* of the entry whose P waits for its product */

  __device__ __forceinline__ consumer(const forward_params &params, uint32_t base, int member,
                                      int w, int l)
      : p(params), shared(base), m(member), warp(w), lane(l) {
    rewind();
    phase = 0;
    ready = false;
  }

  /* The lane, such that what follows from it is computed anew and takes no registers across entries. */
  __device__ __forceinline__ int lane_again() const {
    uint32_t again = lane;
    bsd_forget(again);
    return again;
  }

  /* ---- what the producer hands over ---- */

  /* An item whose own tile is in this place of the member's. */
  __device__ __forceinline__ void start(int resident) {
    own = shared + SM90_HEADER + (m * C::residents + resident) * C::tile;
    n0 = n1 = UNSET;
    l0 = l1 = 0;
#pragma unroll
    for (int i = 0; i < C::D / 2; i++)
      o[i] = 0;
  }
  __device__ __forceinline__ uint32_t own_tile() const {
    return shared + SM90_OWN_TILES + 16 * ((own - shared - SM90_HEADER) / C::tile);
  }
  __device__ __forceinline__ void wait_own(int use) {
    bsd_barrier_wait(sm90_barrier(shared, SM90_OWN_FULL, m * C::residents + use % C::residents),
                     use / C::residents);
  }
  /* Frees a resident tile once no store reads it any more; the store is of this warp 0's lane 0. */
  __device__ __forceinline__ void release_own(bool &pending, int resident) {
    if (pending && warp == 0) {
      bsd_tma_wait_read();
      bsd_barrier_arrive_if(sm90_barrier(shared, SM90_OWN_EMPTY, m * C::residents + resident),
                            lane == 0);
    }
    pending = false;
  }
  /* All is read at once, and used, before the slot is freed: an arrival does not wait for loads under way. */
  __device__ __forceinline__ void take_chunk(uint32_t chunk, member_chunk &to) {
    bsd_barrier_wait(sm90_barrier(shared, SM90_CHUNK_FULL, chunk % SM90_CHUNK_SLOTS),
                     chunk / SM90_CHUNK_SLOTS);
    const uint32_t at = shared + SM90_CHUNKS + 64 * (chunk % SM90_CHUNK_SLOTS);
    to.word = sm90_uniform(bsd_load_word(at));
    to.active = sm90_uniform(bsd_load_word(at + 16 + 4 * m));
    to.masked = sm90_uniform(bsd_load_word(at + 32 + 4 * m));
    to.head = sm90_uniform(bsd_load_word(at + 48 + 4 * m));
  }
  __device__ __forceinline__ void free_chunk(uint32_t &chunk) {
    __syncwarp();
    bsd_barrier_arrive_if(sm90_barrier(shared, SM90_CHUNK_EMPTY, chunk % SM90_CHUNK_SLOTS),
                          lane == 0);
    chunk = (chunk + 1) % (2 * SM90_CHUNK_SLOTS);
  }

  __device__ __forceinline__ void rewind() {
    tiles = bsd_descriptor_low(shared + SM90_HEADER + C::residents * C::members * C::tile, 16);
    full = shared + SM90_FULL;
  }
  __device__ __forceinline__ void wait_full() {
    if (!ready)
      bsd_barrier_wait(full, phase);
  }
  /* On to the next streamed tile; this one is remembered as the last. */
  __device__ __forceinline__ void advance() {
    last_tiles = tiles;
    last_empty = full + SM90_EMPTY - SM90_FULL;
    if (full == shared + SM90_FULL + 8 * (C::stages - 1)) {
      rewind();
      phase ^= 1;
    } else {
      full += 8;
      tiles += 2 * C::tile >> 4;
    }
    ready = bsd_barrier_test(full, phase);
  }
  __device__ __forceinline__ int stage_now() const {
    return static_cast<int>(full - (shared + SM90_FULL)) / 8;
  }

  /* ---- products ---- */

  __device__ __forceinline__ void scores(float (&s)[32]) {
    bsd_wgmma_fence();
#pragma unroll
    for (int k = 0; k < C::D / 16; k++) {
      const uint32_t offset = (k / 4 * 8192 + k % 4 * 32) >> 4;
      bsd_wgmma_ss<0>(s, bsd_descriptor(bsd_descriptor_low(own, 16) + offset),
                      bsd_descriptor(tiles + offset), k > 0, T());
    }
    bsd_wgmma_commit();
  }
  __device__ __forceinline__ void add_values() {
    /* V lies behind K; it is read along its rows, so the next 64 columns are 8192 bytes on */
    const uint32_t values = last_tiles + (C::tile >> 4) + (((8192 - 16) >> 4) << 16);
    bsd_wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; k++)
      bsd_wgmma_rs<1>(o, prob[k], bsd_descriptor(values + (k * 2048 >> 4)), 1, T());
    bsd_wgmma_commit();
  }

  /* ---- softmax ---- */

  /* Probabilities of intact scores, and this thread's part of the rows' sums. */
  __device__ __forceinline__ void exponentials(const float (&s)[32], float &r0, float &r1) {
    const float scale = p.scale;
    float k0 = 0, k1 = 0;
    r0 = r1 = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const float a = bsd_exp2(fmaf(s[4 * i], scale, -n0)),
                  b = bsd_exp2(fmaf(s[4 * i + 1], scale, -n0));
      const float c = bsd_exp2(fmaf(s[4 * i + 2], scale, -n1)),
                  d = bsd_exp2(fmaf(s[4 * i + 3], scale, -n1));
      prob[i / 2][i % 2 * 2] = bsd_pack2(a, b, T());
      prob[i / 2][i % 2 * 2 + 1] = bsd_pack2(c, d, T());
      r0 += a;
      k0 += b;
      r1 += c;
      k1 += d;
    }
    r0 += k0;
    r1 += k1;
  }

  /* The rows' true maxima, scaled. */
  __device__ __forceinline__ void find_maxima(const float (&s)[32], float &x0, float &x1) {
    x0 = s[0];
    x1 = s[2];
    if (p.scale > 0) {
#pragma unroll
      for (int i = 0; i < 8; i++) {
        x0 = fmaxf(x0, fmaxf(s[4 * i], s[4 * i + 1]));
        x1 = fmaxf(x1, fmaxf(s[4 * i + 2], s[4 * i + 3]));
      }
    } else {
#pragma unroll
      for (int i = 0; i < 8; i++) {
        x0 = fminf(x0, fminf(s[4 * i], s[4 * i + 1]));
        x1 = fminf(x1, fminf(s[4 * i + 2], s[4 * i + 3]));
      }
    }
    x0 *= p.scale;
    x1 *= p.scale;
    x0 = fmaxf(x0, __shfl_xor_sync(~0u, x0, 1));
    x0 = fmaxf(x0, __shfl_xor_sync(~0u, x0, 2));
    x1 = fmaxf(x1, __shfl_xor_sync(~0u, x1, 1));
    x1 = fmaxf(x1, __shfl_xor_sync(~0u, x1, 2));
  }

  /* True maxima of the rows of which a thread says that they may raise theirs; O, l scaled to them;
   * probabilities. Nothing in flight. */
  __device__ __forceinline__ void raise(const float (&s)[32], bool thread0, bool thread1) {
    const uint32_t quad = 15u << (lane_again() & 28);
    const bool may0 = __ballot_sync(~0u, thread0) & quad, may1 = __ballot_sync(~0u, thread1) & quad;
    float x0, x1;
    find_maxima(s, x0, x1);
    x0 = may0 && x0 > n0 + 8.f ? x0 : n0;
    x1 = may1 && x1 > n1 + 8.f ? x1 : n1;
    const float a0 = bsd_exp2(n0 - x0), a1 = bsd_exp2(n1 - x1);
    n0 = x0;
    n1 = x1;
    float r0, r1;
    exponentials(s, r0, r1);
    l0 = fmaf(l0, a0, r0);
    l1 = fmaf(l1, a1, r1);
    if (__any_sync(~0u, a0 != 1.f || a1 != 1.f)) {
#pragma unroll
      for (int i = 0; i < C::D / 8; i++) {
        o[4 * i] *= a0;
        o[4 * i + 1] *= a0;
        o[4 * i + 2] *= a1;
        o[4 * i + 3] *= a1;
      }
    }
  }

  /* The same at an item's first entry, where l and O are 0. */
  __device__ __forceinline__ void set(const float (&s)[32]) {
    float x0, x1;
    find_maxima(s, x0, x1);
    n0 = x0 > UNSET + 8.f ? x0 : UNSET;
    n1 = x1 > UNSET + 8.f ? x1 : UNSET;
    exponentials(s, l0, l1);
  }

  /* Probabilities by the old maxima. True if some row's sum is too large: then raise() must follow. */
  __device__ __forceinline__ bool soften(const float (&s)[32], bool &may0, bool &may1) {
    float r0, r1;
    exponentials(s, r0, r1);
    may0 = !(r0 < LIMIT);
    may1 = !(r1 < LIMIT);
    if (__builtin_expect(__any_sync(~0u, may0 || may1), 0))
      return true;
    l0 += r0;
    l1 += r1;
    return false;
  }

  __device__ __forceinline__ void mask(float (&s)[32], int stage_of) {
    const int t64 = bsd_load_word(own_tile() + 8);
    sm90_mask<false>(s, shared, stage_of, t64, warp, lane_again(),
                     p.scale > 0 ? -INFINITY : INFINITY);
    __syncwarp(); /* all lanes have read the band before one frees the tile */
  }

  /* ---- entries ---- */

  /* An entry with no product before it in flight; fresh: the item's first. */
  __device__ __forceinline__ void begin(bool masked, bool fresh) {
    float s[32];
    wait_full();
    scores(s);
    const int stage_of = stage_now();
    advance();
    bsd_wgmma_wait<0>();
    bsd_hold(s);
    if (masked)
      mask(s, stage_of);
    bool may0, may1;
    if (fresh)
      set(s);
    else if (soften(s, may0, may1))
      raise(s, may0, may1);
  }

  /* An entry, together with the product of the entry before it. */
  template <bool Masked>
  __device__ __forceinline__ bool step(float (&s)[32], bool &may0, bool &may1) {
    wait_full();
    scores(s);
    add_values();
    const uint32_t release = last_empty;
    const int stage_of = Masked ? stage_now() : 0;
    advance();
    bsd_wgmma_wait<0>();
    bsd_hold(s);
    bsd_hold(o);
    bsd_barrier_arrive_if(release, lane == 0);
    if (Masked)
      mask(s, stage_of);
    return soften(s, may0, may1);
  }

  __device__ __forceinline__ void masked_step() {
    float s[32];
    bool may0, may1;
    if (step<true>(s, may0, may1))
      raise(s, may0, may1);
  }

  /* Up to `most` entries; ends early at one that raises a maximum. Returns their number. */
  __device__ __forceinline__ int steps(int most) {
    float s[32];
    bool may0, may1, outgrown;
    int n = 0;
#pragma unroll 1
    do {
      outgrown = step<false>(s, may0, may1);
      n++;
    } while (!outgrown && n < most);
    if (outgrown)
      raise(s, may0, may1);
    return n;
  }

  /* The product that is left over is done: after add_values. */
  __device__ __forceinline__ void wait_values() {
    bsd_wgmma_wait<0>();
    bsd_hold(o);
    bsd_barrier_arrive_if(last_empty, lane == 0);
  }

  /* Entries that this member does not have: it only frees their tiles. */
  __device__ __forceinline__ void skip(int entries) {
#pragma unroll 1
    for (; entries > 0; entries--) {
      wait_full();
      bsd_barrier_arrive_if(full + SM90_EMPTY - SM90_FULL, lane == 0);
      advance();
    }
  }
};

} // namespace

#endif
