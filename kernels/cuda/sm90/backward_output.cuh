/* backward_output.cuh - from a member's sums to dq, or dk and dv: through its own pair by the copy engine, row by
 * row, or into fp32 sums. */
#ifndef BSD_SM90_BACKWARD_OUTPUT_CUH
#define BSD_SM90_BACKWARD_OUTPUT_CUH

#include "backward.cuh"

namespace sm90 {

/* One consumer warpgroup, its own pair, and where its sums go. */
template <class C> struct own_output {
  using T = typename C::type;
  const backward_params &p;
  const uint32_t shared;
  const int m, warp, lane; /* member; warp of the warpgroup */
  uint32_t own;            /* address of the own pair */

  __device__ __forceinline__ own_output(const backward_params &params, uint32_t base, int member,
                                        int w, int l)
      : p(params), shared(base), m(member), warp(w), lane(l) {
  }

  __device__ __forceinline__ uint32_t own_tile() const {
    return shared + SM90_OWN_TILES + 16 * ((own - shared - C::header) / C::pair);
  }

  /* sum * factor is an output: the first or the second. */
  struct weighted {
    const float (&sum)[C::D / 2];
    float factor;
    int which;
  };
  /* sum * factor, rounded to the type, into a tile of the own pair. */
  __device__ __forceinline__ void stage_output(const weighted &w) {
    const int matrix = lane >> 3, row = (matrix & 1) * 8 + (lane & 7);
    const uint32_t to = own + w.which * C::tile + (warp * 16 + row) * 128;
#pragma unroll
    for (int i = 0; i < C::D / 8; i += 2) {
      const int column = i + (matrix >> 1);
      bsd_store_matrix(to + i / 8 * 8192 + (((column & 7) ^ (row & 7)) << 4),
                       bsd_pack2(w.sum[4 * i] * w.factor, w.sum[4 * i + 1] * w.factor, T()),
                       bsd_pack2(w.sum[4 * i + 2] * w.factor, w.sum[4 * i + 3] * w.factor, T()),
                       bsd_pack2(w.sum[4 * i + 4] * w.factor, w.sum[4 * i + 5] * w.factor, T()),
                       bsd_pack2(w.sum[4 * i + 6] * w.factor, w.sum[4 * i + 7] * w.factor, T()));
    }
  }
  /* The warp's 16 rows of a staged tile to wherever their tokens lie. */
  __device__ __forceinline__ void scatter_output(int which, uint4 tile, int batch, int head) {
    const bsd_tensor &to = which ? p.second : p.first;
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
  __device__ __forceinline__ void store_output(int which, uint4 tile, int batch, int head) {
    const bsd_sm90_maps &to = which ? p.out2 : p.out1;
#pragma unroll
    for (int c = 0; c < C::D; c += 64)
      bsd_tma_store(&to.of_step[tile.y >> BSD_SM90_MAP_SHIFT], own + which * C::tile + c * 128, c,
                    tile.x, tile.y & ((1 << BSD_SM90_MAP_SHIFT) - 1), head, batch);
  }
  /* sum * factor added to the fp32 sums of the own tokens, which nobody else adds to at the same time. */
  __device__ __forceinline__ void add_output(const weighted &w, uint4 tile, int batch, int head) {
    float *to = w.which ? p.second_sum : p.first_sum;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const int token = sm90_token(p.lists, tile.x, tile.y, warp * 16 + lane / 4 + 8 * r).index;
      if (token < 0)
        continue;
      float *row = to + ((batch * p.own_heads + head) * p.tokens + token) * C::D + 2 * (lane % 4);
#pragma unroll
      for (int i = 0; i < C::D / 8; i++)
        bsd_add_pair(row + 8 * i, w.sum[4 * i + 2 * r] * w.factor,
                     w.sum[4 * i + 2 * r + 1] * w.factor);
    }
  }

  /* Leaves all outputs of the item. Returns whether a store of the own pair is under way. */
  template <typename... Sums>
  __device__ __forceinline__ bool leave(int batch, int head, const Sums &...sums) {
    const uint4 tile = bsd_load_shared(own_tile());
    if (p.first_sum != nullptr) {
      (add_output(sums, tile, batch, head), ...);
      return false;
    }
    (stage_output(sums), ...);
    if (!sm90_by_map(p.lists, tile.y)) {
      __syncwarp();
      (scatter_output(sums.which, tile, batch, head), ...);
      return false;
    }
    bsd_fence_async();
    bsd_named_sync(8 + m, 128);
    if (warp == 0 && lane == 0) {
      (store_output(sums.which, tile, batch, head), ...);
      bsd_tma_commit();
    }
    return true;
  }
};

} // namespace sm90

#endif
