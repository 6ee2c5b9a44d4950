/* backward_producer.cuh - the warp that walks the items ahead of the consumers and brings their tiles. */
#ifndef BSD_SM90_BACKWARD_PRODUCER_CUH
#define BSD_SM90_BACKWARD_PRODUCER_CUH

#include "backward.cuh"

namespace sm90 {

template <class C>
__device__ __forceinline__ void load_own(const backward_params &p, uint32_t shared, uint32_t &uses,
                                         const bsd_sm90_item *item, int batch, int lane) {
#pragma unroll 1
  for (int m = 0; m < C::members; m++) {
    const int row = __ldg(&item->rows[m]), head = __ldg(&item->heads[m]);
    const int at = __ldg(&item->own_at[m]), t64 = __ldg(&item->own_t64[m]);
    const uint32_t how = __ldg(&item->own_how[m]);
    if (row < 0)
      continue;
    const uint32_t use = next_use(uses, m);
    const int place = m * C::residents + use % C::residents;
    bsd_barrier_wait(sm90_barrier(shared, SM90_OWN_EMPTY, place), (use / C::residents & 1) ^ 1);
    if (lane == 0)
      bsd_store_shared(shared + SM90_OWN_TILES + 16 * (2 * m + use % 2), at, how, t64, 0);
    sm90_load_pair<C::D, 32>(p.lists, p.own1, p.own_first, p.own2, p.own_second, shared,
                             shared + C::header + place * C::pair, at, how,
                             sm90_barrier(shared, SM90_OWN_FULL, place), batch, head, lane);
  }
}

/* One item's entries, for each query head whose tiles are streamed. Calls take(chunk's word, entry) per
 * chunk and stream(entry, at, how, head) per entry. */
template <class C, typename Take, typename Stream>
__device__ __forceinline__ void walk_item(const backward_params &p, const bsd_sm90_item *item,
                                          int lane, Take take, Stream stream) {
  const int2 head_count = __ldg(reinterpret_cast<const int2 *>(item));
  const uint32_t first =
      __ldg(&item->first[lane]); /* in the item itself: no look-up waits for its count */
  const int heads = C::keys ? __ldg(&item->nheads) : 1;
#pragma unroll 1
  for (int h = 0; h < heads; h++) {
    const int head = C::keys ? __ldg(p.query_heads + __ldg(&item->heads_at) + h) : head_count.x;
    const uint32_t *entries = p.lists.entries + __ldg(&item->begin);
    uint32_t flags = h == 0 ? SM90_FIRST : 0;
    int left = head_count.y;
#pragma unroll 1
    do {
      const int n = min(left, 32);
      uint32_t entry = first;
      if (left < head_count.y)
        entry = lane < n ? __ldg(entries + lane) : 0;
      int2 tile = make_int2(0, 0);
      if (lane < n)
        tile = __ldg(reinterpret_cast<const int2 *>(p.lists.tiles +
                                                    (entry & ((1 << BSD_SM90_TILE_BITS) - 1))));
      take(n | flags | (left <= 32 && h == heads - 1 ? SM90_LAST : 0), entry);
      flags = 0;
#pragma unroll 1
      for (int e = 0; e < n; e++)
        stream(__shfl_sync(~0u, entry, e), __shfl_sync(~0u, tile.x, e),
               static_cast<uint32_t>(__shfl_sync(~0u, tile.y, e)), head);
      entries += n;
      left -= n;
    } while (left > 0);
  }
}

/* Fetches what the first loads of a CTA need, ahead of the wait for the kernel before. */
__device__ __forceinline__ void prefetch(const backward_params &p, int lane) {
  if (blockIdx.x >= p.lists.total)
    return;
  const bsd_sm90_item *item = p.lists.items + blockIdx.x % p.lists.nitems;
  const uint32_t entry = __ldg(&item->first[lane]);
  asm volatile("" ::"r"(__ldg(reinterpret_cast<const uint32_t *>(item) + lane)));
  if (entry != 0)
    bsd_prefetch(p.lists.tiles + (entry & ((1 << BSD_SM90_TILE_BITS) - 1)));
  if (lane == 0 && p.lists.use_maps && p.lists.steps[0] > 0) {
    bsd_tma_prefetch(&p.own1.of_step[0]);
    bsd_tma_prefetch(&p.own2.of_step[0]);
    bsd_tma_prefetch(&p.other1.of_step[0]);
    bsd_tma_prefetch(&p.other2.of_step[0]);
  }
}

template <class C>
__device__ __forceinline__ void produce(const backward_params &p, uint32_t shared, int lane) {
  sm90_place<C::stages> ring = {0, 1};
  uint32_t uses = 0, chunk = 0;
#pragma unroll 1
  for (int x = blockIdx.x; x < p.lists.total; x += gridDim.x) {
    const int batch = x / p.lists.nitems;
    const bsd_sm90_item *item = p.lists.items + (x - batch * p.lists.nitems);
    walk_item<C>(
        p, item, lane,
        [&](uint32_t word, uint32_t entry) {
          sm90_put_chunk<C::members>(shared, chunk, word | batch << 16, entry, item, lane);
          if (word & SM90_FIRST)
            load_own<C>(p, shared, uses, item, batch, lane);
        },
        [&](uint32_t entry, int at, uint32_t how, int head) {
          const uint32_t landed = sm90_barrier(shared, C::keys ? SM90_LANDED : SM90_FULL, ring.at);
          bsd_barrier_wait(sm90_barrier(shared, SM90_EMPTY, ring.at), ring.phase);
          if (!C::keys && entry >> BSD_SM90_MASK_SHIFT && lane == 0)
            sm90_put_band(p.lists, item, entry, shared, ring.at, -1);
          sm90_load_pair<C::D>(p.lists, p.other1, p.other_first, p.other2, p.other_second, shared,
                               shared + C::ring_at + ring.at * C::pair, at, how, landed, batch,
                               head, lane);
          ring.next();
        });
  }
  sm90_put_chunk<C::members>(shared, chunk, SM90_END, 0, nullptr, lane);
}

} // namespace sm90

#endif
