/* query_gradient.cu - dq of a stage's rows by mma.sync.
 *
 *   P = exp(scale Q K^T - lse),  dP = dO V^T,  dS = P (dP - delta),  dQ += dS K
 *   over the steps of a row's list in order,  dq = scale dQ. dS is rounded to the type for its product. */
#include "../instances.cuh"
#include "results.cuh"
#include "sm80.h"

namespace bsd_sm80 {
namespace {

/* lse (times log2 e) and delta of a thread's own queries. One that sees no key has lse = +inf. */
template <typename S> struct statistics {
  float lse[S::tall][2], delta[S::tall][2];

  __device__ __forceinline__ void load(const own_table &own, const task &t, const bsd_call &call) {
    const int64_t base = (static_cast<int64_t>(t.batch) * call.heads + t.item.head) * call.tokens;
#pragma unroll
    for (int m = 0; m < S::tall; m++)
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const int token = own.token[my_slot<S>(m, r)];
        const float value = token >= 0 ? call.lse.local[base + token] : bsd_minus_infinity();
        const bool sees = value != bsd_minus_infinity();
        lse[m][r] = sees ? value * log2_e : -bsd_minus_infinity();
        delta[m][r] = sees ? call.delta.local[base + token] : 0;
      }
  }
};

/* x holds Q K^T and becomes dS; d holds dP. */
template <typename S, int N>
__device__ __forceinline__ void score_gradient(float (&x)[S::tall][N][4],
                                               const float (&d)[S::tall][N][4],
                                               const statistics<S> &q, float scale) {
#pragma unroll
  for (int m = 0; m < S::tall; m++)
#pragma unroll
    for (int j = 0; j < N; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const float p = bsd_exp2(fmaf(x[m][j][e], scale, -q.lse[m][e / 2]));
        x[m][j][e] = p * (d[m][j][e] - q.delta[m][e / 2]);
      }
}

template <typename S>
__global__ void __launch_bounds__(S::threads, S::blocks)
    query_gradient(const bsd_call call, const bsd_cuda_list *lists, const bsd_cuda_item *items,
                   int subtiles) {
  extern __shared__ __align__(128) char shared[];
  __shared__ key_tables tables;
  const uint32_t tiles = bsd_shared_address(shared);
  const uint32_t q_tile = own_place<S>(tiles, 0), do_tile = own_place<S>(tiles, 1);
  const int group0 = blockIdx.x % S::halves * (S::columns / 8);
  const task t = my_task<S>(call, lists, items, subtiles, S::halves);
  if (t.own_tokens <= 0)
    return;
  put_own<S>(tables.own, t, call, t.item.head, call.q.local, &call.d_o.local, call.lse.local);
  own_rows<S> q, d_o;
  statistics<S> own;
  float total[S::tall][S::columns / 8][4] = {};
  walk<S, false>(
      tables, t, call, tiles,
      [&] {
        const int head_dim = static_cast<int>(call.head_dim);
        copy_rows<S, S::slots>(q_tile, tables.own.first_row, head_dim, items);
        copy_rows<S, S::slots>(do_tile, tables.own.second_row, head_dim, items);
        own.load(tables.own, t, call);
      },
      [&] {
        q.set(q_tile);
        d_o.set(do_tile);
      },
      [&](int step, bool partial, uint32_t k_tile) {
        const uint32_t v_tile = second_tile<S>(k_tile);
#pragma unroll 1
        for (int first = 0; first < BSD_SM80_STEP / 8; first += S::groups) {
          float x[S::tall][S::groups][4], d[S::tall][S::groups][4];
          multiply_rows<S>(x, q, k_tile, first);
          multiply_rows<S>(d, d_o, v_tile, first);
          score_gradient<S>(x, d, own, call.scale * log2_e);
          if (partial)
            mask<S>(tables.slots[step % 2], first, 0, x);
          weigh_rows<S>(total, x, k_tile, first, group0);
        }
      });
  put_gradient<S>(tables.own, tables.work, call, total, group0, call.scale, call.acc_dq, call.dq,
                  call.heads, tables.work.item.head);
}

template <int Width, int Slots, typename Type> constexpr bsd_instance make(bsd_dtype dtype) {
  using tile = shape<BSD_TILE_QUERY_GRADIENT, Width, Slots, Type>;
  return {
      Width, Slots, dtype, query_gradient<tile>, tile::threads, tile::halves, tile::shared_bytes};
}

const bsd_instance instances[] = {
    make<64, 64, __nv_bfloat16>(BSD_BF16),  make<64, 16, __nv_bfloat16>(BSD_BF16),
    make<128, 64, __nv_bfloat16>(BSD_BF16), make<128, 16, __nv_bfloat16>(BSD_BF16),
    make<256, 64, __nv_bfloat16>(BSD_BF16), make<256, 16, __nv_bfloat16>(BSD_BF16),
    make<64, 64, __half>(BSD_F16),          make<64, 16, __half>(BSD_F16),
    make<128, 64, __half>(BSD_F16),         make<128, 16, __half>(BSD_F16),
    make<256, 64, __half>(BSD_F16),         make<256, 16, __half>(BSD_F16),
};

} // namespace
} // namespace bsd_sm80

bsd_status bsd_sm80_backward_dq(void *device, const bsd_call *call, const bsd_lists *lists,
                                int64_t pass, int stage, void *stream, bsd_error *error) {
  return bsd_run_instance(bsd_sm80::instances, "sm80 query gradient", bsd_sm80_rows(call->block),
                          device, call, lists->work[pass], stage, stream, error);
}

bsd_status bsd_sm80_open_backward_dq(const bsd_cuda_device *device, bsd_error *error) {
  return bsd_open_instances(bsd_sm80::instances, BSD_SM80_TABLE_BYTES, device, error);
}
