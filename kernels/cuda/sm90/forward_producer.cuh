/* forward_producer.cuh - the forward's producer warp: walks the items and keeps the consumers supplied. */
#ifndef BSD_SM90_FORWARD_PRODUCER_CUH
#define BSD_SM90_FORWARD_PRODUCER_CUH

#include "forward.cuh"

namespace {

/* The members' own tiles of an item. */
template <class C>
__device__ __forceinline__ void load_own(const forward_params &p, uint32_t shared, uint32_t &uses,
                                         uint32_t item, int batch, int lane) {
#pragma unroll 1
  for (int m = 0; m < C::members; m++) {
    if (static_cast<int>(__shfl_sync(~0u, item, SM90_WORD_ROWS + m)) < 0)
      continue;
    const uint32_t use = uses >> (8 * m) & 255; /* modulo 256 */
    const int place = m * C::residents + use % C::residents;
    uses = (uses & ~(255u << (8 * m))) | ((use + 1) & 255) << (8 * m);
    const uint32_t barrier = sm90_barrier(shared, SM90_OWN_FULL, place);
    const uint32_t to = shared + SM90_HEADER + place * C::tile;
    const int at = __shfl_sync(~0u, item, SM90_WORD_AT + m);
    const uint32_t how = __shfl_sync(~0u, item, SM90_WORD_HOW + m);
    const int t64 = __shfl_sync(~0u, item, SM90_WORD_T64 + m);
    const int head = __shfl_sync(~0u, item, SM90_WORD_HEADS + m);
    bsd_barrier_wait(sm90_barrier(shared, SM90_OWN_EMPTY, place), (use / C::residents & 1) ^ 1);
    if (lane == 0)
      bsd_store_shared(shared + SM90_OWN_TILES + 16 * place, at, how, t64, 0);
    if (sm90_by_map(p.lists, how)) {
      if (lane == 0) {
        bsd_barrier_expect(barrier, C::tile);
        bsd_barrier_arrive_times(barrier, 31);
        sm90_load<C::D>(to, p.q, at, how, barrier, batch, head);
      }
      continue;
    }
    sm90_gather<C::D>(p.lists, p.query, shared, to, at, how, batch, head, lane);
    bsd_copy_async_wait();
    bsd_fence_async();
    bsd_barrier_arrive(barrier); /* each lane for what it has brought */
  }
}

/* What the producer holds of an item and of up to 32 of its entries, one a lane. */
struct producer_chunk {
  int x, batch;   /* the item, of those of all batch entries */
  int left, done; /* its entries from these on, and before them */
  uint32_t item;  /* its words */
  uint32_t entry;
  int2 tile; /* at, how */
  __device__ __forceinline__ int word(int which) const {
    return __shfl_sync(~0u, item, which);
  }
};

/* The row of a message's token among all rows of the messages' memory. */
template <int D>
__device__ __forceinline__ int message_row(const forward_params &p, const bsd_received *message,
                                           int token, int batch, int head) {
  const uint64_t before = static_cast<const char *>(message->data) - p.messages;
  return static_cast<int>(before / (2 * D)) + batch * static_cast<int>(message->batch_rows) +
         static_cast<int>(message->head_row[head]) + token;
}

/* Where the chunk's tiles lie. Of a message that the copy engine can address: in place of `at` the row of K in
 * the messages' memory, in place of the source the distance to the row of V. */
template <int D>
__device__ __forceinline__ int2 find_rows(const forward_params &p, const producer_chunk &chunk) {
  const int kv_head = chunk.word(SM90_WORD_KV_HEAD);
  const int2 tile = chunk.tile;
  const uint32_t how = tile.y;
  if (how >> BSD_SM90_MAP_SHIFT != BSD_SM90_MESSAGE)
    return tile;
  const int source = how & ((1 << BSD_SM90_MAP_SHIFT) - 1);
  const int key = message_row<D>(p, p.key.received + source, tile.x, chunk.batch, kv_head);
  const uint32_t distance =
      message_row<D>(p, p.value.received + source, tile.x, chunk.batch, kv_head) - key;
  if (distance >> BSD_SM90_MAP_SHIFT != 0)
    return tile;
  return make_int2(key, FORWARD_ROWS << BSD_SM90_MAP_SHIFT | distance);
}

/* Loads K and V of an entry: the whole warp. */
template <class C>
__device__ __forceinline__ void load_entry(const forward_params &p, uint32_t shared, uint32_t to,
                                           int at, uint32_t how, uint32_t full, int batch,
                                           int kv_head, int lane) {
  if (how >> BSD_SM90_MAP_SHIFT != FORWARD_ROWS) {
    sm90_load_pair<C::D>(p.lists, p.k, p.key, p.v, p.value, shared, to, at, how, full, batch,
                         kv_head, lane);
    return;
  }
  if (lane != 0)
    return;
  const int distance = how & ((1 << BSD_SM90_MAP_SHIFT) - 1);
  bsd_barrier_expect(full, 2 * C::tile);
#pragma unroll
  for (int c = 0; c < C::D; c += 64) {
    bsd_tma_load(to + c * 128, &p.of_messages, full, c, at, 0, 0, 0);
    bsd_tma_load(to + C::tile + c * 128, &p.of_messages, full, c, at + distance, 0, 0, 0);
  }
}

/* Streams the tiles of entries [begin, end) of the chunk. */
template <class C>
__device__ __forceinline__ void stream(const forward_params &p, uint32_t shared,
                                       sm90_place<C::stages> &ring, const producer_chunk &chunk,
                                       int begin, int end, int lane) {
  const uint32_t tiles = shared + SM90_HEADER + C::residents * C::members * C::tile;
#pragma unroll 1
  for (int e = begin; e < end; e++) {
    const uint32_t entry = __shfl_sync(~0u, chunk.entry, e);
    const int at = __shfl_sync(~0u, chunk.tile.x, e);
    const uint32_t how = __shfl_sync(~0u, chunk.tile.y, e);
    const int kv_head = chunk.word(SM90_WORD_KV_HEAD);
    const uint32_t full = sm90_barrier(shared, SM90_FULL, ring.at);
    bsd_barrier_wait(full + SM90_EMPTY - SM90_FULL, ring.phase);
    if (entry >> BSD_SM90_MASK_SHIFT)
      sm90_put_key_band(p.lists, chunk.item, entry, shared, ring.at, lane);
    load_entry<C>(p, shared, tiles + ring.at * 2 * C::tile, at, how, full, chunk.batch, kv_head,
                  lane);
    ring.next();
  }
}

/* ---- the walk ---- */

/* Asks for an item and its first entries: one load of each, and nothing waits for them here. */
__device__ __forceinline__ void fetch_item(const forward_params &p, int x, int lane,
                                           producer_chunk &to) {
  to.x = x;
  to.batch = x / p.lists.nitems;
  const uint32_t *words =
      reinterpret_cast<const uint32_t *>(p.lists.items + (x - to.batch * p.lists.nitems)) + lane;
  to.item = __ldg(words);
  to.entry = __ldg(words + SM90_WORD_FIRST);
  to.tile.x = __ldg(words + SM90_WORD_FIRST_AT);
  to.tile.y = __ldg(words + SM90_WORD_FIRST_HOW);
}

/* Asks for the entries that follow the chunk's in its item. */
__device__ __forceinline__ void fetch_entries(const forward_params &p, const producer_chunk &chunk,
                                              int lane, producer_chunk &to) {
  const uint32_t *entries =
      p.lists.entries + sm90_word64(chunk.item, SM90_WORD_BEGIN) + chunk.done + 32;
  to.entry = lane < chunk.left - 32 ? __ldg(entries + lane) : 0;
}

/* The tiles of entries that do not stand in their item. */
__device__ __forceinline__ int2 fetch_tiles(const forward_params &p, uint32_t entry) {
  if (entry == 0)
    return make_int2(0, 0);
  return __ldg(
      reinterpret_cast<const int2 *>(p.lists.tiles + (entry & ((1 << BSD_SM90_TILE_BITS) - 1))));
}

template <class C>
__device__ __forceinline__ void hand_over(uint32_t shared, uint32_t &count,
                                          const producer_chunk &chunk, int lane) {
  if (chunk.word(SM90_WORD_ROWS) < 0)
    return; /* an empty item */
  const uint32_t last = chunk.left <= 32 ? SM90_LAST : 0;
  sm90_hand_over<C::members>(shared, count, min(chunk.left, 32) | last | chunk.batch << 16,
                             chunk.entry, chunk.item, lane);
}

/* Lists do not depend on the kernel before, which may still run: the first chunk is handed over beside it. */
template <class C>
__device__ __forceinline__ void begin_walk(const forward_params &p, uint32_t shared,
                                           uint32_t &count, int lane, producer_chunk &first) {
  fetch_item(p, blockIdx.x, lane, first);
  if (lane == 0 && p.lists.use_maps && p.lists.steps[0] > 0) {
    bsd_tma_prefetch(&p.q.of_step[0]);
    bsd_tma_prefetch(&p.k.of_step[0]);
    bsd_tma_prefetch(&p.v.of_step[0]);
  }
  first.left = first.word(SM90_WORD_COUNT);
  first.done = 0;
  if (p.messages != nullptr)
    first.tile = find_rows<C::D>(p, first);
  hand_over<C>(shared, count, first, lane);
  bsd_grid_wait();
}

/* Walks the items of this CTA; while a chunk is streamed, the next one and its tiles are looked up. */
template <class C>
__device__ __forceinline__ void walk_items(const forward_params &p, uint32_t shared,
                                           uint32_t &count, int lane) {
  sm90_place<C::stages> ring = {0, 1};
  uint32_t uses = 0;
  producer_chunk now;
  begin_walk<C>(p, shared, count, lane, now);
#pragma unroll 1
  for (;;) {
    const int n = min(now.left, 32), x = now.x + static_cast<int>(gridDim.x);
    const bool last = now.left <= 32, over = last && x >= p.lists.total;
    producer_chunk next = now;
    if (!last)
      fetch_entries(p, now, lane, next);
    else if (!over)
      fetch_item(p, x, lane, next);
    if (now.done == 0)
      load_own<C>(p, shared, uses, now.item, now.batch, lane);
    stream<C>(p, shared, ring, now, 0, n / 2, lane);
    if (!last)
      next.tile = fetch_tiles(p, next.entry);
    if (p.messages != nullptr)
      next.tile = find_rows<C::D>(p, next);
    stream<C>(p, shared, ring, now, n / 2, n, lane);
    if (over)
      return;
    next.left = last ? next.word(SM90_WORD_COUNT) : now.left - 32;
    next.done = last ? 0 : now.done + 32;
    now = next;
    hand_over<C>(shared, count, now, lane);
  }
}

template <class C>
__device__ __forceinline__ void produce(const forward_params &p, uint32_t shared, int lane) {
  uint32_t count = 0;
  if (blockIdx.x < p.lists.total)
    walk_items<C>(p, shared, count, lane);
  sm90_hand_over<C::members>(shared, count, SM90_END, 0, ~0u, lane);
}

} // namespace

#endif
