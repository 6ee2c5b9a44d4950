/* backward.cuh - what the gradient kernels of sm_90a share: shape, producer, walk over an item, output.
 *
 *   dq (backward_query.cu):    own Q, dO of a query head;  streamed K, V
 *   dk, dv (backward_key.cu):  own K, V of a KV head;      streamed Q, dO of its query heads, head after head
 *
 * A tile stands in a *pair* with its companion (Q with dO, K with V), one behind the other. Beside the warp
 * that loads tiles (pipeline.cuh), a second one brings lse and delta, *statistics*: of own queries as floats,
 * of streamed ones in pieces that the tensor cores add (backward_key.cu). No atomics: each member's sums are
 * its own, in the order of its list. */
#ifndef BSD_SM90_BACKWARD_CUH
#define BSD_SM90_BACKWARD_CUH

#include "../launch.cuh"
#include "pipeline.cuh"
#include "sm90.h"

namespace sm90 {

constexpr float LOG2E = 1.44269504089f;

struct backward_params {
  bsd_sm90_maps own1, own2, other1, other2, out1, out2; /* Q, dO, K, V, dQ or K, V, Q, dO, dK, dV */
  bsd_operand own_first, own_second, other_first, other_second;
  bsd_operand_f32 lse, delta;
  sm90_lists lists;
  const int32_t *query_heads; /* of all items; dk, dv */
  bsd_tensor first, second;   /* outputs, and fp32 sums to add to instead, or NULL */
  float *first_sum, *second_sum;
  int64_t own_heads, heads, tokens;
  int beside_previous; /* dk, dv: run while dq, launched right before, still runs */
  float scale, exponent, inverse; /* scale; times log2(e); 1/scale */
};

/* Keys: dk, dv. Deferred: a step's last product runs beside the next step's first. Kept: own tiles that are
 * held in registers. */
template <typename Type, int HeadDim, int Count, int Ctas, bool ForKeys, bool Deferred, int Kept>
struct backward_config {
  using type = Type;
  static constexpr int D = HeadDim, members = Count, ctas = Ctas, kept = Kept;
  static constexpr bool keys = ForKeys, deferred = Deferred;
  static constexpr int threads = (members + 1) * 128;
  static constexpr int tile = 64 * D * 2, pair = 2 * tile;
  static constexpr int residents = members > 1 && D == 64 ? 2 : 1; /* own pairs of a member */
  static constexpr int room = 232448 / ctas / 1024 * 1024 - (ctas > 1 ? 1024 : 0);
  static constexpr int header = SM90_HEADER + (keys ? 1024 : 0);
  static constexpr int own_statistics = keys ? 0 : 512, statistics = keys ? 1024 : 0;
  static constexpr int own_bytes = residents * members * (pair + own_statistics);
  static constexpr int fit = (room - header - own_bytes) / (pair + statistics);
  static constexpr int stages = fit > SM90_MOST_STAGES ? SM90_MOST_STAGES : fit;
  static constexpr int ring_at = header + residents * members * pair;
  static constexpr int statistics_at = ring_at + stages * pair;
  static constexpr int shared = header + own_bytes + stages * (pair + statistics);
  static constexpr int pool = 65536 / ctas / threads / 8 * 8 * (members + 1);
  static constexpr int producer = members > 2 ? 32 : 40;
  static constexpr int consumer = (pool - producer) / members / 8 * 8;
  static_assert(stages >= 2, "a ring needs two stages");
};

/* dk, dv, from the start of shared memory. */
enum {
  SM90_SELECTORS = SM90_HEADER,    /* operands that pick lse or delta from the pieces */
  SM90_LANDED = SM90_HEADER + 512, /* [16] a streamed pair has arrived; it is full once it has its pieces */
};

/* ---- producer ----------------------------------------------------------------------------------- */

/* Counts the uses of each member's places, a byte a member. */
__device__ __forceinline__ uint32_t next_use(uint32_t &uses, int m) {
  const uint32_t use = uses >> (8 * m) & 255;
  uses = (uses & ~(255u << (8 * m))) | ((use + 1) & 255) << (8 * m);
  return use;
}

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
      bsd_store_shared(shared + SM90_OWN_TILES + 16 * place, at, how, t64, 0);
    sm90_load_pair<C::D>(p.lists, p.own1, p.own_first, p.own2, p.own_second, shared,
                         shared + C::header + place * C::pair, at, how,
                         sm90_barrier(shared, SM90_OWN_FULL, place), batch, head, lane);
  }
}

/* One item's entries, for each query head whose tiles are streamed. Calls take(chunk's word, entry, tile) per
 * chunk and stream(entry, at, how, head) per entry. */
template <class C, typename Take, typename Stream>
__device__ __forceinline__ void walk_item(const backward_params &p, const bsd_sm90_item *item, int lane,
                                          Take take, Stream stream) {
  const int2 head_count = __ldg(reinterpret_cast<const int2 *>(item));
  const uint32_t first = __ldg(&item->first[lane]); /* in the item itself: no look-up waits for its count */
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
                               shared + C::ring_at + ring.at * C::pair, at, how, landed, batch, head,
                               lane);
          ring.next();
        });
  }
  sm90_put_chunk<C::members>(shared, chunk, SM90_END, 0, nullptr, lane);
}

/* ---- statistics --------------------------------------------------------------------------------- */

/* A query's lse and delta; of one that sees no key, or of no token, -inf and 0. */
__device__ __forceinline__ float2 statistics_of(const backward_params &p, bsd_cuda_token token, int batch,
                                                int head) {
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
      bsd_barrier_arrive(sm90_barrier(shared, SM90_OWN_FULL, place)); /* each lane for what it wrote */
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
      bsd_store_shared(pair + lane / 8 * 8192 + (first + __ffs(bits) - 1) * 128 + lane % 8 * 16, 0, 0, 0, 0);
}

/* dk, dv: beside each streamed pair, the pieces of its 64 queries. Each warp has places of the ring of its own,
 * so that one's reads hide another's, and sees every phase of their barriers: a warp that left out a use of a
 * place could take the use before the last for it, since a wait knows only a phase's parity. What a query with lse = -inf holds must not be read: its rows become zero once they have
 * arrived. */
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

/* ---- consumer ----------------------------------------------------------------------------------- */

/* One consumer warpgroup's place in the ring, its own pair, and its output. */
template <class C> struct walker {
  using T = typename C::type;
  const backward_params &p;
  const uint32_t shared;
  const int m, warp, lane; /* member; warp of the warpgroup */
  uint32_t own;                    /* address of the own pair */
  uint32_t tiles, full, phase;     /* descriptor, barrier and parity of the next streamed pair */
  uint32_t last_tiles, last_empty; /* of the entry whose last product is still to be issued */

  __device__ __forceinline__ walker(const backward_params &params, uint32_t base, int member, int w, int l)
      : p(params), shared(base), m(member), warp(w), lane(l) {
    rewind();
    phase = 0;
  }
  __device__ __forceinline__ int place(uint32_t use) const {
    return m * C::residents + use % C::residents;
  }
  __device__ __forceinline__ uint32_t own_tile() const {
    return shared + SM90_OWN_TILES + 16 * ((own - shared - C::header) / C::pair);
  }
  /* Frees the own pair in this place once no store reads it any more. */
  __device__ __forceinline__ void release_own(bool &pending, int at) {
    if (pending && warp == 0 && lane == 0) {
      bsd_tma_wait_read();
      bsd_barrier_arrive(sm90_barrier(shared, SM90_OWN_EMPTY, at));
    }
    pending = false;
  }
  __device__ __forceinline__ void free_chunk(uint32_t &chunk) {
    __syncwarp();
    bsd_barrier_arrive_if(sm90_barrier(shared, SM90_CHUNK_EMPTY, chunk % SM90_CHUNK_SLOTS), lane == 0);
    chunk = (chunk + 1) % (2 * SM90_CHUNK_SLOTS);
  }
  __device__ __forceinline__ void rewind() {
    tiles = bsd_descriptor_low(shared + C::ring_at, 8192);
    full = shared + SM90_FULL;
  }
  __device__ __forceinline__ int stage_now() const {
    return static_cast<int>(full - (shared + SM90_FULL)) / 8;
  }
  __device__ __forceinline__ void wait_full() { bsd_barrier_wait(full, phase); }
  /* On to the next streamed pair; this one is remembered as the last. */
  __device__ __forceinline__ void advance() {
    last_tiles = tiles;
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

  /* An own tile as A operands. */
  __device__ __forceinline__ void keep(uint32_t (&kept)[C::D / 16][4], int which) {
    const int row = warp * 16 + (lane & 15);
#pragma unroll
    for (int k = 0; k < C::D / 16; k++) {
      const int column = k % 4 * 2 + (lane >> 4);
      bsd_load_matrix(kept[k], own + which * C::tile + k / 4 * 8192 + row * 128 +
                                   ((column ^ (row & 7)) << 4));
    }
  }
  static __device__ __forceinline__ uint32_t step_offset(int k) { return (k / 4 * 8192 + k % 4 * 32) >> 4; }
  /* s = own tile (`which` of the pair) times streamed tile `which`, transposed. The caller fences and commits. */
  __device__ __forceinline__ void multiply(float (&s)[32], int which) {
    uint32_t a = bsd_descriptor_low(own + which * C::tile, 8192);
    bsd_forget(a); /* else all its descriptors are kept in registers from the start of the item */
    const uint32_t b = tiles + which * (C::tile >> 4);
#pragma unroll
    for (int k = 0; k < C::D / 16; k++)
      bsd_wgmma_ss<0>(s, bsd_descriptor(a + step_offset(k)), bsd_descriptor(b + step_offset(k)), k > 0,
                      T());
  }
  __device__ __forceinline__ void multiply(float (&s)[32], const uint32_t (&kept)[C::D / 16][4], int which) {
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
    const int64_t row0 = static_cast<int64_t>(static_cast<int>(bsd_load_word(own_tile() + 8))) * 64;
    const int64_t low = static_cast<int64_t>(v.y) << 32 | v.x;
    const int64_t high = static_cast<int64_t>(v.w) << 32 | v.z;
    /* the columns that count for row i: i + first .. i + last */
    const int first = bsd_clamp_index(C::keys ? row0 - high : low + row0);
    const int last = bsd_clamp_index(C::keys ? row0 - low : high + row0);
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const int row = 16 * warp + lane / 4 + 8 * r;
      const int from = max(first + row, 0) - 2 * (lane % 4), to = min(last + row, end - 1) - 2 * (lane % 4);
#pragma unroll
      for (int i = 0; i < 8; i++) {
        const uint32_t left = 8 * i >= from && 8 * i <= to ? 0xffffu : 0;
        const uint32_t right = 8 * i + 1 >= from && 8 * i + 1 <= to ? 0xffff0000u : 0;
        a[i / 2][i % 2 * 2 + r] &= left | right;
      }
    }
    __syncwarp(); /* all lanes have read, before one of them frees the place */
  }

  /* ---- output ---- */

  /* sum * factor, rounded to the type, into a tile of the own pair. */
  __device__ __forceinline__ void stage_output(const float (&sum)[C::D / 2], float factor, int which) {
    const int matrix = lane >> 3, row = (matrix & 1) * 8 + (lane & 7);
    const uint32_t to = own + which * C::tile + (warp * 16 + row) * 128;
#pragma unroll
    for (int i = 0; i < C::D / 8; i += 2) {
      const int column = i + (matrix >> 1);
      bsd_store_matrix(to + i / 8 * 8192 + (((column & 7) ^ (row & 7)) << 4),
                       bsd_pack2(sum[4 * i] * factor, sum[4 * i + 1] * factor, T()),
                       bsd_pack2(sum[4 * i + 2] * factor, sum[4 * i + 3] * factor, T()),
                       bsd_pack2(sum[4 * i + 4] * factor, sum[4 * i + 5] * factor, T()),
                       bsd_pack2(sum[4 * i + 6] * factor, sum[4 * i + 7] * factor, T()));
    }
  }
  /* The warp's 16 rows of a staged tile to wherever their tokens lie. */
  __device__ __forceinline__ void scatter_output(const bsd_tensor &to, int which, uint4 tile, int batch,
                                                 int head) {
#pragma unroll 1
    for (int i = lane; i < 16 * C::D / 8; i += 32) {
      const int row = warp * 16 + i / (C::D / 8), c = i % (C::D / 8);
      const bsd_cuda_token token = sm90_token(p.lists, tile.x, tile.y, row);
      if (token.index >= 0)
        *reinterpret_cast<uint4 *>(bsd_tensor_row(to, token.index, batch, head, 2) + 16 * c) =
            bsd_load_shared(own + which * C::tile + c / 8 * 8192 + row * 128 +
                            (((c % 8) ^ (row & 7)) << 4));
    }
  }
  __device__ __forceinline__ void store_output(const bsd_sm90_maps &to, int which, uint4 tile, int batch,
                                               int head) {
#pragma unroll
    for (int c = 0; c < C::D; c += 64)
      bsd_tma_store(&to.of_step[tile.y >> BSD_SM90_MAP_SHIFT], own + which * C::tile + c * 128, c, tile.x,
                    tile.y & ((1 << BSD_SM90_MAP_SHIFT) - 1), head, batch);
  }
  /* sum * factor added to the fp32 sums of the own tokens, which nobody else adds to at the same time. */
  __device__ __forceinline__ void add_output(const float (&sum)[C::D / 2], float factor, float *to,
                                             uint4 tile, int batch, int head) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const int token = sm90_token(p.lists, tile.x, tile.y, warp * 16 + lane / 4 + 8 * r).index;
      if (token < 0)
        continue;
      float *row = to + ((batch * p.own_heads + head) * p.tokens + token) * C::D + 2 * (lane % 4);
#pragma unroll
      for (int i = 0; i < C::D / 8; i++)
        bsd_add_pair(row + 8 * i, sum[4 * i + 2 * r] * factor, sum[4 * i + 2 * r + 1] * factor);
    }
  }
};

/* A word of shared memory that is the same for all. */
__device__ __forceinline__ uint32_t load_uniform(uint32_t from) {
  return __shfl_sync(~0u, bsd_load_word(from), 0);
}

/* The first set bit's place, 32 if there is none. */
__device__ __forceinline__ int first_bit(uint32_t bits) { return bits ? __ffs(bits) - 1 : 32; }

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

/* ---- kernel ------------------------------------------------------------------------------------- */

/* A operands of one k16 step without swizzle, all rows equal: ones in columns 0-2, then ones in columns 3-5. */
__device__ __forceinline__ void put_selectors(uint32_t shared, int thread) {
  const int word = thread & 3, block = thread >> 5;
  uint32_t v = 0;
  if (block == 0)
    v = word == 0 ? 0x3f803f80u : word == 1 ? 0x00003f80u : 0;
  else if (block == 2)
    v = word == 1 ? 0x3f800000u : word == 2 ? 0x3f803f80u : 0;
  bsd_store_word(shared + SM90_SELECTORS + 4 * thread, v);
  bsd_fence_async();
}

template <class C> __device__ __forceinline__ void init_barriers(uint32_t shared) {
  for (int i = 0; i < C::stages; i++) {
    bsd_barrier_init(sm90_barrier(shared, SM90_FULL, i), 1);
    if (C::keys)
      bsd_barrier_init(sm90_barrier(shared, SM90_LANDED, i), 1);
    bsd_barrier_init(sm90_barrier(shared, SM90_EMPTY, i), 4 * C::members);
  }
  for (int i = 0; i < C::residents * C::members; i++) {
    bsd_barrier_init(sm90_barrier(shared, SM90_OWN_FULL, i), C::keys ? 1 : 33); /* statistics: 32 lanes */
    bsd_barrier_init(sm90_barrier(shared, SM90_OWN_EMPTY, i), 1);
  }
  for (int i = 0; i < SM90_CHUNK_SLOTS; i++) {
    bsd_barrier_init(sm90_barrier(shared, SM90_CHUNK_FULL, i), 1);
    bsd_barrier_init(sm90_barrier(shared, SM90_CHUNK_EMPTY, i), 4 * C::members);
  }
  bsd_barrier_init_fence();
}

template <class Consumer>
__global__ void __launch_bounds__(Consumer::C::threads, Consumer::C::ctas)
    backward_kernel(const __grid_constant__ backward_params p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using C = typename Consumer::C;
  extern __shared__ __align__(1024) uint8_t memory[];
  const uint32_t shared = bsd_shared_address(memory);
  const int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0), lane = threadIdx.x & 31;
  if (threadIdx.x == 0)
    init_barriers<C>(shared);
  if (C::keys && threadIdx.x < 128)
    put_selectors(shared, threadIdx.x);
  if (warp == 4 * C::members)
    prefetch(p, lane);
  __syncthreads();
  if (p.beside_previous)
    __threadfence(); /* what this multiprocessor has cached may be older than delta */
  else
    bsd_grid_wait();
  bsd_grid_launch_next();
  if (warp >= 4 * C::members) {
    bsd_registers_shrink<C::producer>();
    if (warp == 4 * C::members)
      produce<C>(p, shared, lane);
    else if (C::keys)
      produce_pieces<C>(p, shared, warp - 4 * C::members - 1, 3, lane);
    else if (warp == 4 * C::members + 1)
      produce_own_statistics<C>(p, shared, lane);
  } else {
    bsd_registers_grow<C::consumer>();
    consume<Consumer>(p, shared, warp / 4, warp % 4, lane);
  }
  if (C::keys)
    bsd_grid_wait(); /* so that this kernel never ends before dq */
#endif
}

/* ---- host --------------------------------------------------------------------------------------- */

/* What both directions fill in alike. */
template <class C>
bsd_status make_params(const bsd_call *call, bsd_sm90_pass *pass, const bsd_sm90_stage *stage,
                       int beside_previous, backward_params *p, bsd_error *error) {
  const bsd_tensor none = {};
  const bsd_tensor tensors[] = {p->own_first.local,
                                p->own_second.local,
                                p->other_first.local,
                                p->other_second.local,
                                p->first_sum ? none : p->first,
                                p->second_sum ? none : p->second};
  const int64_t own = C::keys ? call->kv_heads : call->heads;
  const int64_t other = C::keys ? call->heads : call->kv_heads;
  const int64_t heads[] = {own, own, other, other, own, own};
  const bsd_sm90_map_cache *cache = nullptr;
  BSD_TRY(bsd_sm90_maps_find(call, pass->steps, tensors, heads, 6, &pass->maps[BSD_SM90_BACKWARD], &cache,
                             error));
  bsd_sm90_maps *const maps[] = {&p->own1, &p->own2, &p->other1, &p->other2, &p->out1, &p->out2};
  for (int t = 0; t < 6; t++)
    *maps[t] = cache->maps[t];
  p->lists = sm90_make_lists(*pass, *stage, call->batch, cache->usable);
  p->query_heads = pass->heads;
  p->lse = call->lse;
  p->delta = call->delta;
  p->beside_previous = beside_previous;
  p->own_heads = own;
  p->heads = call->heads;
  p->tokens = call->tokens;
  p->scale = call->scale;
  p->exponent = call->scale * LOG2E;
  p->inverse = 1 / call->scale;
  return BSD_OK;
}

template <class Consumer>
bsd_status launch(void *device, const char *name, const bsd_call *call, bsd_sm90_pass *pass,
                  const bsd_sm90_stage *stage, int beside_previous, backward_params &p, void *stream,
                  bsd_error *error) {
  using C = typename Consumer::C;
  BSD_TRY(make_params<C>(call, pass, stage, beside_previous, &p, error));
  const int places = static_cast<bsd_cuda_device *>(device)->multiprocessors * C::ctas;
  const int ctas = p.lists.total < places ? p.lists.total : places;
  const bsd_cuda_grid grid = {ctas > 0 ? ctas : 1, 1, C::threads, C::shared, 1};
  return bsd_launch(device, name, backward_kernel<Consumer>, grid, stream, error, p);
}

template <class Consumer> bsd_status allow(bsd_error *error) {
  return bsd_cuda_allow_shared(reinterpret_cast<const void *>(backward_kernel<Consumer>),
                               Consumer::C::shared, error);
}

} // namespace sm90

#endif
