/* backward_statistics.cuh - the warps that bring lse and delta: of own queries as floats, of streamed ones in
 * pieces that the tensor cores add (backward_key.cu). */
#ifndef BSD_SM90_BACKWARD_STATISTICS_CUH
#define BSD_SM90_BACKWARD_STATISTICS_CUH

#include "backward_producer.cuh"

namespace sm90 {

/* A query's lse and delta; of one that sees no key, or of no token, -inf and 0. */
__device__ __forceinline__ float2 statistics_of(const backward_params &p, bsd_cuda_token token,
                                                int batch, int head) {
  float2 v = make_float2(-INFINITY, 0);
  if (token.index >= 0) {
    v.x = bsd_operand_value(p.lse, token, batch, head, p.heads, p.tokens);
    v.y = bsd_operand_value(p.delta, token, batch, head, p.heads, p.tokens);
    if (v.x == -INFINITY)
      v.y = 0;
  }
  return v;
}

/* dq: beside each own pair, lse*log2(e) (+inf where no key is seen: P is 0) and delta of its 64 slots. */
template <class C>
__device__ __forceinline__ void produce_own_statistics(const backward_params &p, uint32_t shared,
                                                       int lane) {
  uint32_t uses = 0;
#pragma unroll 1
  for (int x = blockIdx.x; x < p.lists.total; x += gridDim.x) {
    const int batch = x / p.lists.nitems;
    const bsd_sm90_item *item = p.lists.items + (x - batch * p.lists.nitems);
#pragma unroll 1
    for (int m = 0; m < C::members; m++) {
      const int row = __ldg(&item->rows[m]), head = __ldg(&item->heads[m]);
      const int at = __ldg(&item->own_at[m]);
      const uint32_t how = __ldg(&item->own_how[m]);
      if (row < 0)
        continue;
      const float2 a = statistics_of(p, sm90_token(p.lists, at, how, lane), batch, head);
      const float2 b = statistics_of(p, sm90_token(p.lists, at, how, lane + 32), batch, head);
      const uint32_t use = next_use(uses, m);
      const int place = m * C::residents + use % C::residents;
      const uint32_t to = shared + C::statistics_at + place * C::own_statistics + 8 * lane;
      bsd_barrier_wait(sm90_barrier(shared, SM90_OWN_EMPTY, place), (use / C::residents & 1) ^ 1);
      bsd_store_pair(to, a.x == -INFINITY ? INFINITY : a.x * LOG2E, a.y);
      bsd_store_pair(to + 256, b.x == -INFINITY ? INFINITY : b.x * LOG2E, b.y);
      bsd_barrier_arrive(
          sm90_barrier(shared, SM90_OWN_FULL, place)); /* each lane for what it wrote */
    }
  }
}

/* x as a sum of three bf16, 24 bits in all. */
__device__ __forceinline__ void split(float x, uint32_t (&piece)[3]) {
#pragma unroll
  for (int i = 0; i < 3; i++) {
    const __nv_bfloat16 b = __float2bfloat16(x);
    piece[i] = __bfloat16_as_ushort(b);
    x -= __bfloat162float(b);
  }
}

/* A streamed query's row of the pieces: -lse/scale in columns 0-2, -delta in 3-5. */
__device__ __forceinline__ void put_pieces(const backward_params &p, uint32_t to, float2 v) {
  uint32_t a[3], b[3];
  split(v.x == -INFINITY ? copysignf(1e30f, -p.inverse) : -v.x * p.inverse, a);
  split(-v.y, b);
  bsd_store_shared(to, a[0] | a[1] << 16, a[2] | b[0] << 16, b[1] | b[2] << 16, 0);
}

/* Zeroes rows of a streamed pair, 32 from `first` on, where bits are set. */
template <class C>
__device__ __forceinline__ void clear_rows(uint32_t pair, uint32_t bits, int first, int lane) {
#pragma unroll 1
  for (; bits != 0; bits &= bits - 1)
    if (lane < C::D / 4) /* 8 vectors of each 64 columns of both tiles */
      bsd_store_shared(pair + lane / 8 * 8192 + (first + __ffs(bits) - 1) * 128 + lane % 8 * 16, 0,
                       0, 0, 0);
}

/* dk, dv: beside each streamed pair, the pieces of its 64 queries. Each warp has places of the ring of its own, so
 * that one's reads hide another's, and sees every phase of their barriers: a warp that left out a use of a place
 * could take the use before the last for it, since a wait knows only a phase's parity. What a query with lse = -inf
 * holds must not be read: its rows become zero once they have arrived. */
template <class C>
__device__ __forceinline__ void produce_pieces(const backward_params &p, uint32_t shared, int warp,
                                               int warps, int lane) {
  sm90_place<C::stages> ring = {0, 0};
#pragma unroll 1
  for (int x = blockIdx.x; x < p.lists.total; x += gridDim.x) {
    const int batch = x / p.lists.nitems;
    const bsd_sm90_item *item = p.lists.items + (x - batch * p.lists.nitems);
    walk_item<C>(
        p, item, lane, [](uint32_t, uint32_t) {},
        [&](uint32_t entry, int at, uint32_t how, int head) {
          if (ring.at % warps == warp) {
            const uint32_t pair = shared + C::ring_at + ring.at * C::pair;
            const uint32_t to = shared + C::statistics_at + ring.at * C::statistics + 16 * lane;
            const float2 a = statistics_of(p, sm90_token(p.lists, at, how, lane), batch, head);
            const float2 b = statistics_of(p, sm90_token(p.lists, at, how, lane + 32), batch, head);
            const uint32_t first = __ballot_sync(~0u, a.x == -INFINITY);
            const uint32_t second = __ballot_sync(~0u, b.x == -INFINITY);
            bsd_barrier_wait(sm90_barrier(shared, SM90_LANDED, ring.at), ring.phase);
            if (entry >> BSD_SM90_MASK_SHIFT && lane == 0)
              sm90_put_band(p.lists, item, entry, shared, ring.at, 1);
            put_pieces(p, to, a);
            put_pieces(p, to + 512, b);
            clear_rows<C>(pair, first, 0, lane);
            clear_rows<C>(pair, second, 32, lane);
            bsd_fence_async();
            __syncwarp();
            if (lane == 0)
              bsd_barrier_arrive(sm90_barrier(shared, SM90_FULL, ring.at));
          }
          ring.next();
        });
  }
}

} // namespace sm90

#endif
