/* forward.cu - attention forward on sm_90a: TMA, wgmma, row groups.
 *
 * Per member (64 queries of one head), over the entries of its list in order:
 *   S = Q K^T;  P = exp2(S*scale*log2(e) - n);  l += row sums of P;  O += P V
 * and o = O / l, lse = (n + log2 l) ln 2. n, a row's scaled maximum, does not run: it is taken at the first
 * entry and again only when a thread's partial sum reaches LIMIT, from the intact scores; then O and l are
 * scaled. The rule looks at one row at a time, so a row's bits depend on its own list alone.
 * QK^T of an entry is issued together with PV of the entry before. */
#include "pipeline.cuh"

#include "../launch.cuh"
#include "sm90.h"

namespace {

constexpr float LIMIT = 32768.f; /* a partial sum; also what f16 probabilities can hold */
constexpr float UNSET = -1e30f;  /* no maximum yet */
constexpr float LN2 = 0.69314718056f;
constexpr float LOG2E = 1.44269504089f;

struct forward_params {
  bsd_sm90_maps q, k, v, o;
  bsd_operand query, key, value;
  sm90_lists lists;
  float *lse, *acc_o, *acc_lse;
  bsd_tensor out;
  int64_t heads, tokens;
  float scale; /* times log2(e) */
};

template <typename Type, int HeadDim, int Count> struct config {
  using type = Type;
  static constexpr int D = HeadDim, members = Count;
  static constexpr int threads = (members + 1) * 128;
  static constexpr int ctas = members > 2 ? 1 : members == 2 || D == 128 ? 2 : 3;
  static constexpr int tile = 64 * D * 2;
  static constexpr int residents =
      2; /* own tiles of a member: one in use, one to come or being stored */
  static constexpr int room = 233472 / ctas / 1024 * 1024 - 1024;
  static constexpr int fit = (room - SM90_HEADER - residents * members * tile) / (2 * tile);
  static constexpr int stages = fit > SM90_MOST_STAGES ? SM90_MOST_STAGES : fit;
  static constexpr int shared = SM90_HEADER + residents * members * tile + stages * 2 * tile;
  static constexpr int pool = 65536 / ctas / threads / 8 * 8 * (members + 1);
  static constexpr int producer = members == 1 ? 40 : 32;
  static constexpr int consumer = (pool - producer) / members / 8 * 8;
  static_assert(stages >= 2, "a ring needs two stages");
};

/* ---- producer ----------------------------------------------------------------------------------- */

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
        sm90_load<C::D>(to, p.q, at, how, barrier, batch, head);
      }
      continue;
    }
    sm90_gather<C::D>(p.lists, p.query, shared, to, at, how, batch, head, lane);
    sm90_gathered(barrier, lane);
  }
}

/* What the producer holds of up to 32 entries: of each, a lane holds the entry and its tile. */
struct producer_chunk {
  uint32_t entry;
  int2 tile; /* at, how */
};

__device__ __forceinline__ int2 find_tile(const forward_params &p, uint32_t entry) {
  if (entry == 0)
    return make_int2(0, 0);
  return __ldg(
      reinterpret_cast<const int2 *>(p.lists.tiles + (entry & ((1 << BSD_SM90_TILE_BITS) - 1))));
}

/* Streams the tiles of entries [begin, end) of the chunk. */
template <class C>
__device__ __forceinline__ void stream(const forward_params &p, uint32_t shared,
                                       sm90_place<C::stages> &ring, const producer_chunk &chunk,
                                       uint32_t item, int begin, int end, int batch, int lane) {
  const uint32_t tiles = shared + SM90_HEADER + C::residents * C::members * C::tile;
#pragma unroll 1
  for (int e = begin; e < end; e++) {
    const uint32_t entry = __shfl_sync(~0u, chunk.entry, e);
    const int at = __shfl_sync(~0u, chunk.tile.x, e);
    const uint32_t how = __shfl_sync(~0u, chunk.tile.y, e);
    const int kv_head = __shfl_sync(~0u, item, SM90_WORD_KV_HEAD);
    const uint32_t full = sm90_barrier(shared, SM90_FULL, ring.at);
    bsd_barrier_wait(full + SM90_EMPTY - SM90_FULL, ring.phase);
    if (entry >> BSD_SM90_MASK_SHIFT)
      sm90_put_key_band(p.lists, item, entry, shared, ring.at, lane);
    sm90_load_pair<C::D>(p.lists, p.k, p.key, p.v, p.value, shared, tiles + ring.at * 2 * C::tile,
                         at, how, full, batch, kv_head, lane);
    ring.next();
  }
}

/* Walks the items; while a chunk is streamed, the next one and its tiles are looked up. */
template <class C>
__device__ __forceinline__ void produce(const forward_params &p, uint32_t shared, int lane) {
  sm90_place<C::stages> ring = {0, 1};
  uint32_t uses = 0, count = 0;
  int x = blockIdx.x, batch = x / p.lists.nitems;
  const uint32_t *words =
      reinterpret_cast<const uint32_t *>(p.lists.items + (x - batch * p.lists.nitems));
  uint32_t item = __ldg(words + lane);
  producer_chunk chunk = {__ldg(words + 32 + lane)};
  chunk.tile = find_tile(p, chunk.entry);
  if (lane == 0 && p.lists.use_maps && p.lists.steps[0] > 0) {
    bsd_tma_prefetch(&p.q.of_step[0]);
    bsd_tma_prefetch(&p.k.of_step[0]);
    bsd_tma_prefetch(&p.v.of_step[0]);
  }
  int left = __shfl_sync(~0u, item, SM90_WORD_COUNT), done = 0;
  bsd_grid_wait();
#pragma unroll 1
  for (;;) {
    const int n = min(left, 32), now = batch;
    const uint32_t item_now = item;
    uint32_t next = 0;
    const bool last = left <= 32;
    if (!last) {
      const uint32_t *entries = p.lists.entries + sm90_word64(item, SM90_WORD_BEGIN) + done + 32;
      next = lane < left - 32 ? __ldg(entries + lane) : 0;
    } else if ((x += gridDim.x) < p.lists.total) {
      batch = x / p.lists.nitems;
      words = reinterpret_cast<const uint32_t *>(p.lists.items + (x - batch * p.lists.nitems));
      item = __ldg(words + lane);
      next = __ldg(words + 32 + lane);
    }
    const bool empty = static_cast<int>(__shfl_sync(~0u, item_now, SM90_WORD_ROWS)) < 0;
    if (!empty) {
      sm90_hand_over<C::members>(shared, count,
                                 n | (done ? 0 : SM90_FIRST) | (last ? SM90_LAST : 0) | now << 16,
                                 chunk.entry, item_now, lane);
      if (done == 0)
        load_own<C>(p, shared, uses, item_now, now, lane);
    }
    stream<C>(p, shared, ring, chunk, item_now, 0, n / 2, now, lane);
    const int2 tile = find_tile(p, next);
    stream<C>(p, shared, ring, chunk, item_now, n / 2, n, now, lane);
    chunk = {next, tile};
    left -= n;
    done += n;
    if (!last)
      continue;
    if (x >= p.lists.total)
      break;
    left = __shfl_sync(~0u, item, SM90_WORD_COUNT);
    done = 0;
  }
  sm90_hand_over<C::members>(shared, count, SM90_END, 0, ~0u, lane);
}

/* ---- consumer ----------------------------------------------------------------------------------- */

/* One consumer warpgroup: registers that live across entries, and the parts of a step. */
template <class C> struct consumer {
  using T = typename C::type;
  const forward_params &p;
  const uint32_t shared;
  const int m, warp, lane; /* member; warp of the warpgroup */

  float o[C::D / 2], n0, n1, l0, l1; /* of rows lane/4 and lane/4 + 8 of the warp's 16 */
  uint32_t prob[4][4];               /* P as A operands of the product with V */
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
  /* Frees a resident tile once no store reads it any more; the store is of this warp 0's lane 0. */
  __device__ __forceinline__ void release_own(bool &pending, int resident) {
    if (pending && warp == 0) {
      bsd_tma_wait_read();
      bsd_barrier_arrive_if(sm90_barrier(shared, SM90_OWN_EMPTY, m * C::residents + resident),
                            lane == 0);
    }
    pending = false;
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

  /* True maxima of the rows of which a thread says that they may raise theirs; O, l scaled to them;
   * probabilities. Nothing in flight. */
  __device__ __forceinline__ void raise(const float (&s)[32], bool thread0, bool thread1) {
    const uint32_t quad = 15u << (lane & 28);
    const bool may0 = __ballot_sync(~0u, thread0) & quad, may1 = __ballot_sync(~0u, thread1) & quad;
    float x0 = s[0], x1 = s[2];
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

  /* Probabilities by the old maxima. True if some row's sum is too large: then raise() must follow. */
  __device__ __forceinline__ bool soften(const float (&s)[32], uint32_t release, bool &may0,
                                         bool &may1) {
    float r0, r1;
    exponentials(s, r0, r1);
    bsd_barrier_arrive_if(release, lane == 0 ? release : 0);
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
    sm90_mask<false>(s, shared, stage_of, t64, warp, lane, p.scale > 0 ? -INFINITY : INFINITY);
  }

  /* An entry with no product before it in flight. These return what soften does. */
  __device__ __forceinline__ bool begin(float (&s)[32], bool masked, bool fresh, bool &may0,
                                        bool &may1) {
    wait_full();
    scores(s);
    bsd_wgmma_wait<0>();
    bsd_hold(s);
    if (masked)
      mask(s, stage_now());
    may0 = may1 = true;
    const bool outgrown = fresh || soften(s, 0, may0, may1);
    advance();
    return outgrown;
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
    if (Masked)
      mask(s, stage_of);
    return soften(s, release, may0, may1);
  }

  /* The product that is left over. */
  __device__ __forceinline__ void drain() {
    add_values();
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

  /* ---- output ---- */

  __device__ __forceinline__ void write_lse(int64_t query, float lse) {
    if (p.lse != nullptr && lane % 4 == 0)
      p.lse[query] = lse;
  }

  /* O/l rounded to the type, into the member's own tile (Q is not needed any more). */
  __device__ __forceinline__ void stage_output(float f0, float f1) {
    const int matrix = lane >> 3, row = (matrix & 1) * 8 + (lane & 7);
    const uint32_t to = own + (warp * 16 + row) * 128;
#pragma unroll
    for (int i = 0; i < C::D / 8; i += 2) {
      const int column = i + (matrix >> 1);
      bsd_store_matrix(to + i / 8 * 8192 + (((column & 7) ^ (row & 7)) << 4),
                       bsd_pack2(o[4 * i] * f0, o[4 * i + 1] * f0, T()),
                       bsd_pack2(o[4 * i + 2] * f1, o[4 * i + 3] * f1, T()),
                       bsd_pack2(o[4 * i + 4] * f0, o[4 * i + 5] * f0, T()),
                       bsd_pack2(o[4 * i + 6] * f1, o[4 * i + 7] * f1, T()));
    }
  }

  /* The warp's 16 rows from the own tile to wherever their tokens lie. */
  __device__ __forceinline__ void scatter_output(int at, uint32_t how, int batch, int head) {
    __syncwarp();
#pragma unroll 1
    for (int i = lane; i < 16 * C::D / 8; i += 32) {
      const int row = warp * 16 + i / (C::D / 8), c = i % (C::D / 8);
      const bsd_cuda_token token = sm90_token(p.lists, at, how, row);
      if (token.index >= 0)
        *reinterpret_cast<uint4 *>(bsd_tensor_row(p.out, token.index, batch, head, 2) + 16 * c) =
            bsd_load_shared(own + c / 8 * 8192 + row * 128 + (((c % 8) ^ (row & 7)) << 4));
    }
  }

  /* One row's o and lse merged into the accumulators: this thread's columns. `before`: their lse. */
  __device__ __forceinline__ void merge_row(int r, int64_t query, float factor, float lse,
                                            float before) {
    const float most = fmaxf(before, lse);
    const float w0 = expf(before - most), w1 = expf(lse - most), sum = w0 + w1;
    float *acc = p.acc_o + query * C::D + 2 * (lane % 4);
#pragma unroll
    for (int i = 0; i < C::D / 8; i++) {
      float2 *to = reinterpret_cast<float2 *>(acc + 8 * i);
      const float a = r ? o[4 * i + 2] : o[4 * i], b = r ? o[4 * i + 3] : o[4 * i + 1];
      float2 v = *to;
      v.x = (w0 * v.x + w1 * (a * factor)) / sum;
      v.y = (w0 * v.y + w1 * (b * factor)) / sum;
      *to = v;
    }
    if (lane % 4 == 0)
      p.acc_lse[query] = most + logf(sum);
  }

  __device__ __forceinline__ void merge(int64_t first, int i0, int i1, float f0, float f1,
                                        float lse0, float lse1) {
    const float before0 = i0 >= 0 ? p.acc_lse[first + i0] : 0;
    const float before1 = i1 >= 0 ? p.acc_lse[first + i1] : 0;
    __syncwarp(); /* a row's four threads have read its lse */
    if (i0 >= 0 && fmaxf(before0, lse0) > -INFINITY)
      merge_row(0, first + i0, f0, lse0, before0);
    if (i1 >= 0 && fmaxf(before1, lse1) > -INFINITY)
      merge_row(1, first + i1, f1, lse1, before1);
    __syncwarp();
  }

  /* Leaves o and lse of the item where they belong. True: a tensor store of the own tile is under way. */
  __device__ __forceinline__ bool finish(int batch, int head) {
    l0 += __shfl_xor_sync(~0u, l0, 1);
    l0 += __shfl_xor_sync(~0u, l0, 2);
    l1 += __shfl_xor_sync(~0u, l1, 1);
    l1 += __shfl_xor_sync(~0u, l1, 2);
    const float f0 = l0 > 0 ? 1 / l0 : 0, f1 = l1 > 0 ? 1 / l1 : 0;
    const float lse0 = (n0 + log2f(l0)) * LN2, lse1 = (n1 + log2f(l1)) * LN2;
    const uint4 t = bsd_load_shared(own_tile());
    const int row = warp * 16 + lane / 4;
    const int64_t first = (batch * p.heads + head) * p.tokens;
    const int32_t i0 = sm90_token(p.lists, t.x, t.y, row).index;
    const int32_t i1 = sm90_token(p.lists, t.x, t.y, row + 8).index;
    if (p.acc_o != nullptr) {
      merge(first, i0, i1, f0, f1, lse0, lse1);
      return false;
    }
    if (i0 >= 0)
      write_lse(first + i0, lse0);
    if (i1 >= 0)
      write_lse(first + i1, lse1);
    stage_output(f0, f1);
    const bool by_map = sm90_by_map(p.lists, t.y);
    if (by_map)
      bsd_fence_async();
    else
      scatter_output(t.x, t.y, batch, head);
    bsd_named_sync(8 + m, 128);
    if (by_map && warp == 0 && lane == 0) {
#pragma unroll
      for (int c = 0; c < C::D; c += 64)
        bsd_tma_store(&p.o.of_step[t.y >> BSD_SM90_MAP_SHIFT], own + c * 128, c, t.x,
                      t.y & ((1 << BSD_SM90_MAP_SHIFT) - 1), head, batch);
      bsd_tma_commit();
    }
    return by_map;
  }
};

/* The first set bit's place, 32 if there is none. */
__device__ __forceinline__ int first_bit(uint32_t bits) {
  return bits ? __ffs(bits) - 1 : 32;
}

/* The entries of one chunk. have: the product of the entry before is yet to come; fresh: no entry has been. */
template <class C>
__device__ __forceinline__ void walk(consumer<C> &c, uint32_t active, uint32_t masked, int left,
                                     bool &have, bool &fresh, bool &pending, int other) {
#pragma unroll 1
  while (left > 0) {
    int n = 1;
    if (!(active & 1)) {
      n = min(first_bit(active), left);
      if (have)
        c.drain();
      have = false;
      c.skip(n);
    } else {
      float s[32];
      bool may0, may1, outgrown;
      if (!have) {
        outgrown = c.begin(s, masked & 1, fresh, may0, may1);
        c.release_own(pending, other);
        have = true;
        fresh = false;
      } else if (masked & 1) {
        outgrown = c.template step<true>(s, may0, may1);
      } else {
        const int run = min(first_bit(~active | masked), left);
        n = 0;
#pragma unroll 1
        do {
          outgrown = c.template step<false>(s, may0, may1);
          n++;
        } while (!outgrown && n < run);
      }
      if (outgrown)
        c.raise(s, may0, may1);
    }
    left -= n;
    active = n < 32 ? active >> n : 0;
    masked = n < 32 ? masked >> n : 0;
  }
}

template <class C>
__device__ __forceinline__ void consume(const forward_params &p, uint32_t shared, int m, int warp,
                                        int lane) {
  consumer<C> c(p, shared, m, warp, lane);
  uint32_t chunk = 0, use = 0; /* modulo 2 * their places */
  bool pending = false;        /* a store of the resident tile before is under way */
  bsd_grid_wait();
#pragma unroll 1
  for (;;) {
    bool have = false, fresh = true, present = false;
    uint32_t word, at;
    c.start(use % C::residents);
#pragma unroll 1
    for (;;) {
      bsd_barrier_wait(sm90_barrier(shared, SM90_CHUNK_FULL, chunk % SM90_CHUNK_SLOTS),
                       chunk / SM90_CHUNK_SLOTS);
      at = shared + SM90_CHUNKS + 64 * (chunk % SM90_CHUNK_SLOTS);
      const uint32_t active = sm90_uniform(bsd_load_word(at + 16 + 4 * m));
      const uint32_t masked = sm90_uniform(bsd_load_word(at + 32 + 4 * m));
      word = sm90_uniform(bsd_load_word(at));
      if (word & SM90_END)
        break;
      present = word >> (SM90_PRESENT_SHIFT + m) & 1;
      if (present && word & SM90_FIRST)
        bsd_barrier_wait(sm90_barrier(shared, SM90_OWN_FULL, m * C::residents + use % C::residents),
                         use / C::residents);
      walk<C>(c, active, masked, word & SM90_COUNT, have, fresh, pending, 1 - use % C::residents);
      if (word & SM90_LAST)
        break;
      c.free_chunk(chunk);
    }
    if (word & SM90_END)
      break;
    if (have)
      c.drain();
    const int head = sm90_uniform(bsd_load_word(at + 48 + 4 * m));
    c.free_chunk(chunk);
    if (!present)
      continue;
    c.release_own(pending, 1 - use % C::residents);
    pending = c.finish(word >> 16, head);
    if (!pending) {
      bsd_named_sync(8 + m, 128); /* all have read what lies beside the own tile */
      bool at_once = true;
      c.release_own(at_once, use % C::residents);
    }
    use = (use + 1) % (2 * C::residents);
  }
  if (warp == 0)
    bsd_tma_wait();
}

template <class C>
__global__ void __launch_bounds__(C::threads, C::ctas)
    forward_kernel(const __grid_constant__ forward_params p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) uint8_t memory[];
  const uint32_t shared = bsd_shared_address(memory);
  const int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0), lane = threadIdx.x & 31;
  if (threadIdx.x == 0) {
    for (int i = 0; i < C::stages; i++) {
      bsd_barrier_init(sm90_barrier(shared, SM90_FULL, i), 1);
      bsd_barrier_init(sm90_barrier(shared, SM90_EMPTY, i), 4 * C::members);
    }
    for (int i = 0; i < C::residents * C::members; i++) {
      bsd_barrier_init(sm90_barrier(shared, SM90_OWN_FULL, i), 1);
      bsd_barrier_init(sm90_barrier(shared, SM90_OWN_EMPTY, i), 1);
    }
    for (int i = 0; i < SM90_CHUNK_SLOTS; i++) {
      bsd_barrier_init(sm90_barrier(shared, SM90_CHUNK_FULL, i), 1);
      bsd_barrier_init(sm90_barrier(shared, SM90_CHUNK_EMPTY, i), 4 * C::members);
    }
    bsd_barrier_init_fence();
  }
  __syncthreads();
  bsd_grid_launch_next();
  if (warp >= 4 * C::members) {
    bsd_registers_shrink<C::producer>();
    if (warp == 4 * C::members)
      produce<C>(p, shared, lane);
  } else {
    bsd_registers_grow<C::consumer>();
    consume<C>(p, shared, warp / 4, warp % 4, lane);
  }
#endif
}

/* ---- host --------------------------------------------------------------------------------------- */

template <class C>
bsd_status launch(void *device, const bsd_call *call, bsd_sm90_pass *pass,
                  const bsd_sm90_stage *stage, void *stream, bsd_error *error) {
  bsd_tensor out = call->o;
  if (call->acc_o != nullptr)
    out.data = nullptr;
  const bsd_tensor tensors[] = {call->q.local, call->k.local, call->v.local, out};
  const int64_t heads[] = {call->heads, call->kv_heads, call->kv_heads, call->heads};
  const bsd_sm90_map_cache *cache = nullptr;
  BSD_TRY(bsd_sm90_maps_find(call, pass->steps, tensors, heads, 4, &pass->maps[BSD_SM90_FORWARD],
                             &cache, error));
  forward_params p = {cache->maps[0], cache->maps[1], cache->maps[2], cache->maps[3]};
  p.query = call->q;
  p.key = call->k;
  p.value = call->v;
  p.lists = sm90_make_lists(*pass, *stage, call->batch, cache->usable);
  p.lse = call->lse_out;
  p.acc_o = call->acc_o;
  p.acc_lse = call->acc_lse;
  p.out = call->o;
  p.heads = call->heads;
  p.tokens = call->tokens;
  p.scale = call->scale * LOG2E;
  const int places = static_cast<bsd_cuda_device *>(device)->multiprocessors * C::ctas;
  const bsd_cuda_grid grid = {p.lists.total < places ? p.lists.total : places, 1, C::threads,
                              C::shared, 1};
  return bsd_launch(device, "sm90 forward", forward_kernel<C>, grid, stream, error, p);
}

template <typename T, int D>
bsd_status launch_width(void *device, const bsd_call *call, bsd_sm90_pass *pass,
                        const bsd_sm90_stage *stage, void *stream, bsd_error *error) {
  if (stage->grouped)
    return launch<config<T, D, D == 64 ? 4 : 3>>(device, call, pass, stage, stream, error);
  return launch<config<T, D, 1>>(device, call, pass, stage, stream, error);
}

template <class C> bsd_status allow(bsd_error *error) {
  return bsd_cuda_allow_shared(reinterpret_cast<const void *>(forward_kernel<C>), C::shared, error);
}

template <typename T> bsd_status allow_type(bsd_error *error) {
  BSD_TRY((allow<config<T, 64, 4>>(error)));
  BSD_TRY((allow<config<T, 64, 1>>(error)));
  BSD_TRY((allow<config<T, 128, 3>>(error)));
  return allow<config<T, 128, 1>>(error);
}

} // namespace

extern "C" bsd_status bsd_sm90_forward_open(bsd_error *error) {
  BSD_TRY(allow_type<__nv_bfloat16>(error));
  return allow_type<__half>(error);
}

extern "C" bsd_status bsd_sm90_forward(void *device, const bsd_call *call, bsd_sm90_pass *pass,
                                       int stage, void *stream, bsd_error *error) {
  const bsd_sm90_stage *s = &pass->stages[stage];
  if (s->nitems == 0 || call->batch == 0)
    return BSD_OK;
  if (call->dtype == BSD_BF16)
    return call->head_dim == 64
               ? launch_width<__nv_bfloat16, 64>(device, call, pass, s, stream, error)
               : launch_width<__nv_bfloat16, 128>(device, call, pass, s, stream, error);
  return call->head_dim == 64 ? launch_width<__half, 64>(device, call, pass, s, stream, error)
                              : launch_width<__half, 128>(device, call, pass, s, stream, error);
}
