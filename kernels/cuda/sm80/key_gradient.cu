/* key_gradient.cu - dk and dv of a stage's rows by mma.sync. Own rows are keys.
 *
 *   P^T = exp(scale K Q^T - lse),  dV += P^T dO,  dP^T = V dO^T,  dS^T = P^T (dP^T - delta),  dK += dS^T Q
 *   over the list's query heads of the KV head in order, and for each over the steps of the row's list in
 *   order,  dk = scale dK. P^T and dS^T are rounded to the type for their products. */
#include "../instances.cuh"
#include "results.cuh"
#include "sm80.h"

namespace bsd_sm80 {
namespace {

/* x holds K Q^T and becomes P^T; d holds dP^T and becomes dS^T. lse and delta of slots from 8 * first on. */
template <typename S, int N>
__device__ __forceinline__ void probabilities(float (&x)[S::tall][N][4], float (&d)[S::tall][N][4],
                                              const float *lse, const float *delta, int first,
                                              float scale) {
#pragma unroll
  for (int j = 0; j < N; j++) {
    const float2 l = *reinterpret_cast<const float2 *>(lse + my_column(first + j));
    const float2 t = *reinterpret_cast<const float2 *>(delta + my_column(first + j));
    const float base[2] = {l.x * log2_e, l.y * log2_e};
#pragma unroll
    for (int m = 0; m < S::tall; m++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        x[m][j][e] = bsd_exp2(fmaf(x[m][j][e], scale, -base[e & 1]));
        d[m][j][e] = x[m][j][e] * (d[m][j][e] - (e & 1 ? t.y : t.x));
      }
  }
}

template <typename S>
__global__ void __launch_bounds__(S::threads, S::blocks)
    key_gradient(const bsd_call call, const bsd_cuda_list *lists, const bsd_cuda_item *items,
                 int subtiles) {
  extern __shared__ __align__(128) char shared[];
  __shared__ query_tables tables;
  const uint32_t tiles = bsd_shared_address(shared);
  const uint32_t k_tile = own_place<S>(tiles, 0), v_tile = own_place<S>(tiles, 1);
  const int group0 = blockIdx.x % S::halves * (S::columns / 8);
  task t = my_task<S>(call, lists, items, subtiles, S::halves);
  const int heads =
      bsd_heads_of_item(*t.list, t.item.place, static_cast<int>(call.heads / call.kv_heads));
  if (t.own_tokens <= 0 || heads == 0)
    return;
  t.steps = heads * t.list_steps;
  put_own<S>(tables.own, t, call, t.kv_head, call.k.local, &call.v.local, nullptr);
  own_rows<S> k, v;
  float total_k[S::tall][S::columns / 8][4] = {}, total_v[S::tall][S::columns / 8][4] = {};
  walk<S, true>(
      tables, t, call, tiles,
      [&] {
        const int head_dim = static_cast<int>(call.head_dim);
        copy_rows<S, S::slots>(k_tile, tables.own.first_row, head_dim, items);
        copy_rows<S, S::slots>(v_tile, tables.own.second_row, head_dim, items);
      },
      [&] {
        k.set(k_tile);
        v.set(v_tile);
      },
      [&](int step, bool partial, uint32_t q_tile) {
        const uint32_t do_tile = second_tile<S>(q_tile);
#pragma unroll 1
        for (int first = 0; first < BSD_SM80_STEP / 8; first += S::groups) {
          float x[S::tall][S::groups][4], d[S::tall][S::groups][4];
          multiply_rows<S>(x, k, q_tile, first);
          multiply_rows<S>(d, v, do_tile, first);
          probabilities<S>(x, d, tables.lse[step % 2], tables.delta[step % 2], first,
                           call.scale * log2_e);
          if (partial)
            mask<S>(tables.slots[step % 2], first, 0, x, d);
          weigh_rows<S>(total_v, x, do_tile, first, group0);
          weigh_rows<S>(total_k, d, q_tile, first, group0);
        }
      });
  put_gradient<S>(tables.own, tables.work, call, total_k, group0, call.scale, call.acc_dk, call.dk,
                  call.kv_heads, tables.work.kv_head);
  put_gradient<S>(tables.own, tables.work, call, total_v, group0, 1, call.acc_dv, call.dv,
                  call.kv_heads, tables.work.kv_head);
}

template <int Width, int Slots, typename Type> constexpr bsd_instance make(bsd_dtype dtype) {
  using tile = shape<BSD_TILE_KEY_GRADIENT, Width, Slots, Type>;
  return {Width, Slots, dtype, key_gradient<tile>, tile::threads, tile::halves, tile::shared_bytes};
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

bsd_status bsd_sm80_backward_dkv(void *device, const bsd_call *call, const bsd_lists *lists,
                                 int64_t pass, int stage, void *stream, bsd_error *error) {
  return bsd_run_instance(bsd_sm80::instances, "sm80 key gradient", bsd_sm80_rows(call->block),
                          device, call, lists->work[pass], stage, stream, error);
}

bsd_status bsd_sm80_open_backward_dkv(const bsd_cuda_device *device, bsd_error *error) {
  return bsd_open_instances(bsd_sm80::instances, BSD_SM80_TABLE_BYTES, device, error);
}
