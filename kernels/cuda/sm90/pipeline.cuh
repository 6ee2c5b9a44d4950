/* pipeline.cuh - shared memory of the sm90 kernels, and the producer's ways of filling it.
 *
 * A CTA is `Members` consumer warpgroups, one member of an item each, and a producer warpgroup of which one
 * warp works. The producer walks items and entries ahead of the consumers and hands over, through barriers in
 * shared memory: *chunks* (up to 32 entries of an item: which of them each member has, and which need a
 * mask), *resident* tiles (a member's own), and a ring of *streamed* tiles. Consumers read no lists. */
#ifndef BSD_SM90_PIPELINE_CUH
#define BSD_SM90_PIPELINE_CUH

#include <stddef.h>

#include "../ptx.cuh"
#include "../tiles.cuh"
#include "maps.h"
#include "work.h"

/* Bytes from the start of shared memory. Barriers are 8 bytes. */
enum {
  SM90_FULL = 0,       /* [16] a streamed tile has arrived */
  SM90_EMPTY = 128,    /* [16] and is free again */
  SM90_OWN_FULL = 256, /* [8] a resident tile */
  SM90_OWN_EMPTY = 320,
  SM90_CHUNK_FULL = 384, /* [8] */
  SM90_CHUNK_EMPTY = 448,
  SM90_BANDS = 512,     /* [12] bsd_sm90_band */
  SM90_OWN_TILES = 896, /* [8] bsd_sm90_tile */
  SM90_CHUNKS = 1024,   /* [8] sm90_chunk */
  SM90_ROWS = 1536,     /* [64] row pointers of a tile that is gathered */
  SM90_HEADER = 2048,   /* tiles begin here */
  SM90_CHUNK_SLOTS = 8,
  SM90_MOST_STAGES = 12
};

/* Up to 32 entries of an item, as the consumers see them; 64 bytes, written as four vectors. */
struct sm90_chunk {
  uint32_t word; /* entries | flags | a bit per member that the item has | batch << 16 */
  uint32_t unused[3];
  uint32_t active[BSD_SM90_MEMBERS], masked[BSD_SM90_MEMBERS]; /* a bit per entry */
  int32_t heads[BSD_SM90_MEMBERS];
};
enum { SM90_COUNT = 63, SM90_FIRST = 64, SM90_LAST = 128, SM90_END = 256, SM90_PRESENT_SHIFT = 12 };

/* What a launch reads beside its tensors. */
struct sm90_lists {
  const bsd_sm90_item *items;
  const uint32_t *entries;
  const bsd_sm90_tile *tiles, *rows;
  const bsd_sm90_slot *slots;
  int32_t steps[BSD_SM90_STEPS];
  int32_t nitems, total; /* total: of all batch entries */
  int32_t use_maps;
};

static inline sm90_lists sm90_make_lists(const bsd_sm90_pass &pass, const bsd_sm90_stage &stage,
                                         int64_t batch, int use_maps) {
  sm90_lists l = {stage.items, pass.entries, pass.tiles, pass.rows, pass.slots};
  for (int s = 0; s < BSD_SM90_STEPS; s++)
    l.steps[s] = pass.steps[s];
  l.nitems = static_cast<int32_t>(stage.nitems);
  l.total = static_cast<int32_t>(stage.nitems * batch);
  l.use_maps = use_maps;
  return l;
}

static __device__ __forceinline__ uint32_t sm90_barrier(uint32_t shared, int kind, int index) {
  return shared + kind + 8 * index;
}

/* A place in the ring: next() moves on. */
template <int Places> struct sm90_place {
  int at;
  uint32_t phase;
  __device__ __forceinline__ void next() {
    if (++at == Places) {
      at = 0;
      phase ^= 1;
    }
  }
};

/* The token in a tile's slot: its index in `source`; -1: none. */
static __device__ __forceinline__ bsd_cuda_token sm90_token(const sm90_lists &l, int at,
                                                            uint32_t how, int slot) {
  const int map = how >> BSD_SM90_MAP_SHIFT;
  const int32_t residue = how & ((1 << BSD_SM90_MAP_SHIFT) - 1);
  if (map < BSD_SM90_STEPS)
    return {(at + slot) * l.steps[map] + residue, 0};
  if (map == BSD_SM90_MESSAGE)
    return {at + slot, residue + 1};
  const int2 v = __ldg(reinterpret_cast<const int2 *>(l.slots + at + slot));
  return {v.x, v.y};
}

/* Loads a tile row by row: the whole warp, 16 bytes a lane. Slots without a token become zero. The caller
 * waits for the copies. */
template <int D>
static __device__ __forceinline__ void
sm90_gather(const sm90_lists &l, const bsd_operand &operand, uint32_t shared, uint32_t to, int at,
            uint32_t how, int64_t batch, int head, int lane) {
  const uint32_t table = shared + SM90_ROWS;
#pragma unroll 1
  for (int s = lane; s < 64; s += 32) {
    const char *row = bsd_operand_row(operand, sm90_token(l, at, how, s), batch, head, D, 2);
    bsd_store_pointer(table + 8 * s, row);
  }
  __syncwarp();
#pragma unroll 1
  for (int i = lane; i < 64 * D / 8; i += 32) {
    const int row = i / (D / 8), c = i % (D / 8);
    const char *from = bsd_load_pointer(table + 8 * row);
    const uint32_t place = to + c / 8 * 8192 + row * 128 + (((c % 8) ^ (row & 7)) << 4);
    if (from == nullptr)
      bsd_store_shared(place, 0, 0, 0, 0);
    else
      bsd_copy_async(place, from + 16 * c);
  }
  __syncwarp();
}

/* One tile by the copy engine: one lane. */
template <int D>
static __device__ __forceinline__ void sm90_load(uint32_t to, const bsd_sm90_maps &maps, int at,
                                                 uint32_t how, uint32_t barrier, int batch,
                                                 int head) {
  const CUtensorMap *map = &maps.of_step[how >> BSD_SM90_MAP_SHIFT];
  const int residue = how & ((1 << BSD_SM90_MAP_SHIFT) - 1);
#pragma unroll
  for (int c = 0; c < D; c += 64)
    bsd_tma_load(to + c * 128, map, barrier, c, at, residue, head, batch);
}

static __device__ __forceinline__ bool sm90_by_map(const sm90_lists &l, uint32_t how) {
  return l.use_maps && how >> BSD_SM90_MAP_SHIFT < BSD_SM90_STEPS;
}

/* After sm90_gather: waits for the warp's copies, makes them visible to wgmma, arrives: one lane for all, or each for
 * what it has brought, where the tile is also read row by row. */
template <int Arrivals>
static __device__ __forceinline__ void sm90_gathered(uint32_t barrier, int lane) {
  bsd_copy_async_wait();
  bsd_fence_async();
  if (Arrivals == 1)
    __syncwarp();
  if (Arrivals == 32 || lane == 0)
    bsd_barrier_arrive(barrier);
}

/* Two tiles of the same tokens and head, one behind the other, complete on `barrier`, of which it is 1 or 32
 * arrivals: the whole warp. */
template <int D, int Arrivals = 1>
static __device__ __forceinline__ void
sm90_load_pair(const sm90_lists &l, const bsd_sm90_maps &first_maps, const bsd_operand &first,
               const bsd_sm90_maps &second_maps, const bsd_operand &second, uint32_t shared,
               uint32_t to, int at, uint32_t how, uint32_t barrier, int batch, int head, int lane) {
  if (sm90_by_map(l, how)) {
    if (lane == 0) {
      bsd_barrier_expect(barrier, 2 * 64 * D * 2);
      if (Arrivals > 1)
        bsd_barrier_arrive_times(barrier, Arrivals - 1);
      sm90_load<D>(to, first_maps, at, how, barrier, batch, head);
      sm90_load<D>(to + 64 * D * 2, second_maps, at, how, barrier, batch, head);
    }
    return;
  }
#pragma unroll 1
  for (int t = 0; t < 2; t++)
    sm90_gather<D>(l, t ? second : first, shared, to + t * 64 * D * 2, at, how, batch, head, lane);
  sm90_gathered<Arrivals>(barrier, lane);
}

/* ---- chunks ------------------------------------------------------------------------------------- */

/* Hands over the entries that the warp's lanes hold (entry 0 where there is none). item NULL: the end. chunk:
 * counts modulo 16. */
template <int Members>
static __device__ __forceinline__ void sm90_put_chunk(uint32_t shared, uint32_t &chunk,
                                                      uint32_t word, uint32_t entry,
                                                      const bsd_sm90_item *item, int lane) {
  const uint32_t place = chunk % SM90_CHUNK_SLOTS, to = shared + SM90_CHUNKS + 64 * place;
  bsd_barrier_wait(sm90_barrier(shared, SM90_CHUNK_EMPTY, place), chunk / SM90_CHUNK_SLOTS ^ 1);
#pragma unroll
  for (int m = 0; m < Members; m++) {
    const uint32_t active = __ballot_sync(~0u, entry >> (BSD_SM90_TILE_BITS + m) & 1);
    const uint32_t masked = __ballot_sync(~0u, entry >> (BSD_SM90_MASK_SHIFT + m) & 1);
    const uint32_t present = item != nullptr && __ldg(&item->rows[m]) >= 0;
    word |= present << (SM90_PRESENT_SHIFT + m);
    if (lane == 0) {
      bsd_store_word(to + 16 + 4 * m, active);
      bsd_store_word(to + 32 + 4 * m, masked);
      if (present)
        bsd_store_word(to + 48 + 4 * m, __ldg(&item->heads[m]));
    }
  }
  if (lane == 0) {
    bsd_store_word(to, word);
    bsd_barrier_arrive(sm90_barrier(shared, SM90_CHUNK_FULL, place));
  }
  __syncwarp();
  chunk = (chunk + 1) % (2 * SM90_CHUNK_SLOTS);
}

/* A value that all lanes hold, such that the compiler knows it to be one for the warp: what is derived from it
 * lives in uniform registers, and loops around wgmma are known to be convergent. */
static __device__ __forceinline__ uint32_t sm90_uniform(uint32_t v) {
  return __reduce_or_sync(~0u, v);
}

/* The first set bit's place, 32 if there is none. */
static __device__ __forceinline__ int sm90_first_bit(uint32_t bits) {
  return bits ? __ffs(bits) - 1 : 32;
}

/* Words of bsd_sm90_item. Lane l holds word l; of what stands in the item per entry it holds entry l's. */
enum {
  SM90_WORD_KV_HEAD,
  SM90_WORD_COUNT,
  SM90_WORD_BEGIN,
  SM90_WORD_ROWS = 4,
  SM90_WORD_HEADS = 8,
  SM90_WORD_LOWEST = 12,
  SM90_WORD_HIGHEST = 14,
  SM90_WORD_AT = 18,
  SM90_WORD_HOW = 22,
  SM90_WORD_T64 = 26,
  SM90_WORD_FIRST = 32,
  SM90_WORD_FIRST_AT = 64,
  SM90_WORD_FIRST_HOW = 96
};
static_assert(sizeof(bsd_sm90_item) == 512 && offsetof(bsd_sm90_item, own_at) == 4 * SM90_WORD_AT &&
                  offsetof(bsd_sm90_item, lowest) == 4 * SM90_WORD_LOWEST &&
                  offsetof(bsd_sm90_item, first) == 4 * SM90_WORD_FIRST &&
                  offsetof(bsd_sm90_item, first_at) == 4 * SM90_WORD_FIRST_AT &&
                  offsetof(bsd_sm90_item, first_how) == 4 * SM90_WORD_FIRST_HOW,
              "words of an item");

static __device__ __forceinline__ int64_t sm90_word64(uint32_t item, int word) {
  const uint32_t low = __shfl_sync(~0u, item, word), high = __shfl_sync(~0u, item, word + 1);
  return static_cast<int64_t>(static_cast<uint64_t>(high) << 32 | low);
}

/* Hands over entries, one a lane (0 where there is none), of the item. */
template <int Members>
static __device__ __forceinline__ void sm90_hand_over(uint32_t shared, uint32_t &chunk,
                                                      uint32_t word, uint32_t entry, uint32_t item,
                                                      int lane) {
  const uint32_t place = chunk % SM90_CHUNK_SLOTS, to = shared + SM90_CHUNKS + 64 * place;
  bsd_barrier_wait(sm90_barrier(shared, SM90_CHUNK_EMPTY, place), chunk / SM90_CHUNK_SLOTS ^ 1);
  uint32_t active[BSD_SM90_MEMBERS] = {}, masked[BSD_SM90_MEMBERS] = {};
#pragma unroll
  for (int m = 0; m < Members; m++) {
    active[m] = __ballot_sync(~0u, entry >> (BSD_SM90_TILE_BITS + m) & 1);
    masked[m] = __ballot_sync(~0u, entry >> (BSD_SM90_MASK_SHIFT + m) & 1);
  }
  const uint32_t there = __ballot_sync(~0u, static_cast<int32_t>(item) >= 0);
  const uint32_t present = there >> SM90_WORD_ROWS & ((1 << Members) - 1);
  uint32_t heads[BSD_SM90_MEMBERS];
#pragma unroll
  for (int m = 0; m < BSD_SM90_MEMBERS; m++)
    heads[m] = __shfl_sync(~0u, item, SM90_WORD_HEADS + m);
  if (lane == 0) {
    bsd_store_word(to, word | present << SM90_PRESENT_SHIFT);
    bsd_store_shared(to + 16, active[0], active[1], active[2], active[3]);
    bsd_store_shared(to + 32, masked[0], masked[1], masked[2], masked[3]);
    bsd_store_shared(to + 48, heads[0], heads[1], heads[2], heads[3]);
    bsd_barrier_arrive(sm90_barrier(shared, SM90_CHUNK_FULL, place));
  }
  __syncwarp();
  chunk = (chunk + 1) % (2 * SM90_CHUNK_SLOTS);
}

/* ---- masks -------------------------------------------------------------------------------------- */

/* What a consumer needs to mask a streamed tile (32 bytes): the item's bounds plus sign times the first
 * gathered index of the tile, and its tokens. sign: -1 where keys are streamed, 1 for queries. */
static __device__ __forceinline__ void sm90_put_band(const sm90_lists &l, const bsd_sm90_item *item,
                                                     uint32_t entry, uint32_t shared, int stage,
                                                     int sign) {
  const uint32_t to = shared + SM90_BANDS + 32 * stage;
  const bsd_sm90_tile *tile = l.tiles + (entry & ((1 << BSD_SM90_TILE_BITS) - 1));
  const int64_t t0 = static_cast<int64_t>(__ldg(&tile->t64)) * 64 * sign;
  const int64_t lowest = __ldg(&item->lowest) + t0, highest = __ldg(&item->highest) + t0;
  bsd_store_shared(to, static_cast<uint32_t>(lowest), static_cast<uint32_t>(lowest >> 32),
                   static_cast<uint32_t>(highest), static_cast<uint32_t>(highest >> 32));
  bsd_store_word(to + 16, __ldg(&tile->keys));
}

/* The same by the whole warp, whose lanes hold the item's words; keys are streamed. */
static __device__ __forceinline__ void sm90_put_key_band(const sm90_lists &l, uint32_t item,
                                                         uint32_t entry, uint32_t shared, int stage,
                                                         int lane) {
  const uint32_t to = shared + SM90_BANDS + 32 * stage;
  const int2 tile =
      __ldg(reinterpret_cast<const int2 *>(l.tiles + (entry & ((1 << BSD_SM90_TILE_BITS) - 1))) +
            1); /* t64, keys */
  const int64_t t0 = static_cast<int64_t>(tile.x) * 64;
  const int64_t lowest = sm90_word64(item, SM90_WORD_LOWEST) - t0;
  const int64_t highest = sm90_word64(item, SM90_WORD_HIGHEST) - t0;
  if (lane == 0) {
    bsd_store_shared(to, static_cast<uint32_t>(lowest), static_cast<uint32_t>(lowest >> 32),
                     static_cast<uint32_t>(highest), static_cast<uint32_t>(highest >> 32));
    bsd_store_word(to + 16, tile.y);
  }
}

/* Sets the scores that do not count to `masked`. Rows are queries, columns keys, or, Transposed, rows keys and
 * columns queries. own_t64: of the row tile. */
template <bool Transposed>
static __device__ __forceinline__ void sm90_mask(float (&s)[32], uint32_t shared, int stage,
                                                 int own_t64, int warp, int lane, float masked) {
  const uint4 v = bsd_load_shared(shared + SM90_BANDS + 32 * stage);
  const int end = static_cast<int>(bsd_load_word(shared + SM90_BANDS + 32 * stage + 16)) >> 16;
  const int64_t own = static_cast<int64_t>(own_t64) * 64;
  const int64_t low = static_cast<int64_t>(v.y) << 32 | v.x;
  const int64_t high = static_cast<int64_t>(v.w) << 32 | v.z;
  /* the columns that count for row slot i: i + first .. i + last */
  const int first = bsd_clamp_index(Transposed ? own - high : low + own);
  const int last = bsd_clamp_index(Transposed ? own - low : high + own);
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int row = 16 * warp + lane / 4 + 8 * r;
    const int from = max(first + row, 0), to = min(last + row, end - 1);
    const uint32_t count = max(to - from + 1, 0);
#pragma unroll
    for (int j = 0; j < 8; j++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        const uint32_t column = 8 * j + 2 * (lane % 4) + e;
        if (column - from >= count)
          s[4 * j + 2 * r + e] = masked;
      }
  }
}

#endif
