/* forward_finish.cuh - the end of an item: o = O / l and lse = (n + log2 l) ln 2 to where they belong. */
#ifndef BSD_SM90_FORWARD_FINISH_CUH
#define BSD_SM90_FORWARD_FINISH_CUH

#include "forward_consumer.cuh"

namespace {

/* What the end of an item needs of a thread's two rows. */
struct row_ends {
  int32_t token0, token1; /* -1: none */
  float factor0, factor1; /* 1 / l */
  float lse0, lse1;
};

/* All that follows from n and l alone; lse is written where it is not to be merged. */
template <class C>
__device__ __forceinline__ row_ends end_rows(const consumer<C> &c, int lane, int64_t first,
                                             uint4 tile) {
  row_ends e;
  const int row = c.warp * 16 + lane / 4;
  e.token0 = sm90_token(c.p.lists, tile.x, tile.y, row).index;
  e.token1 = sm90_token(c.p.lists, tile.x, tile.y, row + 8).index;
  float l0 = c.l0, l1 = c.l1;
  l0 += __shfl_xor_sync(~0u, l0, 1);
  l0 += __shfl_xor_sync(~0u, l0, 2);
  l1 += __shfl_xor_sync(~0u, l1, 1);
  l1 += __shfl_xor_sync(~0u, l1, 2);
  e.factor0 = l0 > 0 ? __fdividef(1, l0) : 0;
  e.factor1 = l1 > 0 ? __fdividef(1, l1) : 0;
  e.lse0 = (c.n0 + __log2f(l0)) * LN2;
  e.lse1 = (c.n1 + __log2f(l1)) * LN2;
  if (c.p.lse != nullptr && c.p.acc_o == nullptr && lane % 4 == 0) {
    if (e.token0 >= 0)
      c.p.lse[first + e.token0] = e.lse0;
    if (e.token1 >= 0)
      c.p.lse[first + e.token1] = e.lse1;
  }
  return e;
}

/* O/l rounded to the type, into the member's own tile (Q is not needed any more). */
template <class C>
__device__ __forceinline__ void stage_output(const consumer<C> &c, int lane, uint32_t own, float f0,
                                             float f1) {
  using T = typename C::type;
  const int matrix = lane >> 3, row = (matrix & 1) * 8 + (lane & 7);
  const uint32_t to = own + (c.warp * 16 + row) * 128;
#pragma unroll
  for (int i = 0; i < C::D / 8; i += 2) {
    const int column = i + (matrix >> 1);
    bsd_store_matrix(to + i / 8 * 8192 + (((column & 7) ^ (row & 7)) << 4),
                     bsd_pack2(c.o[4 * i] * f0, c.o[4 * i + 1] * f0, T()),
                     bsd_pack2(c.o[4 * i + 2] * f1, c.o[4 * i + 3] * f1, T()),
                     bsd_pack2(c.o[4 * i + 4] * f0, c.o[4 * i + 5] * f0, T()),
                     bsd_pack2(c.o[4 * i + 6] * f1, c.o[4 * i + 7] * f1, T()));
  }
  bsd_fence_async(); /* the copy engine reads the tile now, or writes it later */
}

/* The warp's 16 rows from the own tile to wherever their tokens lie. */
template <class C>
__device__ __forceinline__ void scatter_output(const consumer<C> &c, int lane, int at, uint32_t how,
                                               int batch, int head) {
  __syncwarp();
#pragma unroll 1
  for (int i = lane; i < 16 * C::D / 8; i += 32) {
    const int row = c.warp * 16 + i / (C::D / 8), k = i % (C::D / 8);
    const bsd_cuda_token token = sm90_token(c.p.lists, at, how, row);
    if (token.index >= 0)
      *reinterpret_cast<uint4 *>(bsd_tensor_row(c.p.out, token.index, batch, head, 2) + 16 * k) =
          bsd_load_shared(c.own + k / 8 * 8192 + row * 128 + (((k % 8) ^ (row & 7)) << 4));
  }
}

/* One row's o and lse merged into the accumulators: this thread's columns, several loads under way at once.
 * `before`: their lse. */
template <class C>
__device__ __forceinline__ void merge_row(const consumer<C> &c, int lane, int r, int64_t query,
                                          float factor, float lse, float before) {
  constexpr int LOADS = 8;
  const float most = fmaxf(before, lse);
  const float w0 = expf(before - most), w1 = expf(lse - most), sum = w0 + w1;
  const float keep = w0 / sum, add = w1 / sum * factor;
  float2 *acc = reinterpret_cast<float2 *>(c.p.acc_o + query * C::D) + lane % 4;
#pragma unroll
  for (int begin = 0; begin < C::D / 8; begin += LOADS) {
    float2 v[LOADS];
#pragma unroll
    for (int i = 0; i < LOADS; i++)
      v[i] = acc[4 * (begin + i)];
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
      const int at = 4 * (begin + i) + 2 * r;
      v[i].x = fmaf(add, c.o[at], keep * v[i].x);
      v[i].y = fmaf(add, c.o[at + 1], keep * v[i].y);
      acc[4 * (begin + i)] = v[i];
    }
  }
  if (lane % 4 == 0)
    c.p.acc_lse[query] = most + logf(sum);
}

/* Neither has seen a key. A NaN has: it must spread. */
__device__ __forceinline__ bool are_empty(float before, float lse) {
  return before == -INFINITY && lse == -INFINITY;
}

template <class C>
__device__ __forceinline__ void merge(const consumer<C> &c, int lane, int64_t first,
                                      const row_ends &e) {
  const int32_t i0 = e.token0, i1 = e.token1;
  const float before0 = i0 >= 0 ? c.p.acc_lse[first + i0] : 0;
  const float before1 = i1 >= 0 ? c.p.acc_lse[first + i1] : 0;
  __syncwarp(); /* a row's four threads have read its lse */
  if (i0 >= 0 && !are_empty(before0, e.lse0))
    merge_row(c, lane, 0, first + i0, e.factor0, e.lse0, before0);
  if (i1 >= 0 && !are_empty(before1, e.lse1))
    merge_row(c, lane, 1, first + i1, e.factor1, e.lse1, before1);
  __syncwarp();
}

/* Once all warps have staged their rows: the copy engine stores the own tile. */
template <class C>
__device__ __forceinline__ void store_own(const consumer<C> &c, int lane, uint32_t own, int at,
                                          uint32_t how, int batch, int head) {
  bsd_named_sync(8 + c.m, 128);
  if (c.warp == 0 && lane == 0) {
#pragma unroll
    for (int k = 0; k < C::D; k += 64)
      bsd_tma_store(&c.p.o.of_step[how >> BSD_SM90_MAP_SHIFT], own + k * 128, k, at,
                    how & ((1 << BSD_SM90_MAP_SHIFT) - 1), head, batch);
    bsd_tma_commit();
  }
}

/* Leaves o and lse of the item where they belong. have: the product of its last entry is yet to come; what
 * does not need O is done beside it, in a branch of its own, since O must not be in flight where branches meet.
 * True: a tensor store of the own tile is under way. */
template <class C>
__device__ __forceinline__ bool finish(consumer<C> &c, bool have, int batch, int head) {
  const int lane = c.lane_again();
  const int64_t first = (batch * c.p.heads + head) * c.p.tokens;
  const uint4 tile = bsd_load_shared(c.own_tile());
  row_ends e;
  if (have) {
    c.add_values();
    e = end_rows(c, lane, first, tile);
    c.wait_values();
  } else {
    e = end_rows(c, lane, first, tile);
  }
  if (c.p.acc_o != nullptr) {
    merge(c, lane, first, e);
    return false;
  }
  stage_output(c, lane, c.own, e.factor0, e.factor1);
  if (sm90_by_map(c.p.lists, tile.y)) {
    store_own(c, lane, c.own, tile.x, tile.y, batch, head);
    return true;
  }
  scatter_output(c, lane, tile.x, tile.y, batch, head);
  return false;
}

} // namespace

#endif
