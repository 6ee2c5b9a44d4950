/* backward_output.cuh - from a member's sums to dq, or dk and dv: rounded rows, or fp32 sums. */
#ifndef BSD_SM90_BACKWARD_OUTPUT_CUH
#define BSD_SM90_BACKWARD_OUTPUT_CUH

#include "backward.cuh"

namespace sm90 {

/* Transposes 4x4 words among four lanes: lane t of each four gets word t of them all. */
__device__ __forceinline__ void transpose_quad(uint32_t (&v)[4], int lane) {
#pragma unroll
  for (int d = 1; d <= 2; d *= 2)
#pragma unroll
    for (int i = 0; i < 4; i++)
      if ((i & d) == 0) {
        const bool upper = lane & d;
        const uint32_t other = __shfl_xor_sync(~0u, upper ? v[i] : v[i + d], d);
        v[i] = upper ? other : v[i];
        v[i + d] = upper ? v[i + d] : other;
      }
}

/* One consumer warpgroup, its own pair, and where its sums go. */
template <class C> struct own_output {
  using T = typename C::type;
  const backward_params &p;
  const uint32_t shared;
  const int m, warp, lane; /* member; warp of the warpgroup */
  uint32_t own;            /* address of the own pair */
  uint32_t own_tile;       /* address of what is to be known of its tokens */

  __device__ __forceinline__ own_output(const backward_params &params, uint32_t base, int member,
                                        int w, int l)
      : p(params), shared(base), m(member), warp(w), lane(l) {
  }

  /* sum * factor is an output: the first or the second. */
  struct weighted {
    const float (&sum)[C::D / 2];
    float factor;
    int which;
  };
  /* sum * factor, rounded to the type, to the rows of the own tokens: 16 bytes a lane, 64 a row. */
  __device__ __forceinline__ void write_output(const weighted &w, uint4 tile, int batch, int head) {
    const bsd_tensor &to = w.which ? p.second : p.first;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const bsd_cuda_token token =
          sm90_token(p.lists, tile.x, tile.y, warp * 16 + lane / 4 + 8 * r);
      char *row = bsd_tensor_row(to, token.index, batch, head, 2) + lane % 4 * 16;
#pragma unroll
      for (int i = 0; i < C::D / 8; i += 4) {
        uint32_t v[4];
#pragma unroll
        for (int j = 0; j < 4; j++)
          v[j] = bsd_pack2(w.sum[4 * (i + j) + 2 * r] * w.factor,
                           w.sum[4 * (i + j) + 2 * r + 1] * w.factor, T());
        transpose_quad(v, lane);
        if (token.index >= 0)
          *reinterpret_cast<uint4 *>(row + 16 * i) = make_uint4(v[0], v[1], v[2], v[3]);
      }
    }
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

  /* Leaves all outputs of the item, whose own tile is `tile`. */
  template <typename... Sums>
  __device__ __forceinline__ void leave(uint4 tile, int batch, int head, const Sums &...sums) {
    if (p.first_sum != nullptr)
      (add_output(sums, tile, batch, head), ...);
    else
      (write_output(sums, tile, batch, head), ...);
  }
};

} // namespace sm90

#endif
