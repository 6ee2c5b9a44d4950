/* forward.cu - o and lse of a stage's rows by mma.sync.
 *
 *   S = Q K^T,  m' = max(m, scale S),  P = exp(scale S - m'),  l = l exp(m - m') + sum P,
 *   O = O exp(m - m') + P V   over the steps of a row's list in order,  o = O / l,  lse = m + log l.
 * Probabilities are summed in fp32 and rounded to the type for the product with V. Maxima are kept in units
 * of log 2, as the exponentials take them. A negative scale is made positive by negating Q, so that the largest product
 * is the largest score. */
#include "../instances.cuh"
#include "results.cuh"
#include "sm80.h"

namespace bsd_sm80 {
namespace {

constexpr float least_scale = 1e-37f; /* what is hidden stays at -infinity when it is multiplied */

/* Of a thread's own rows; a row's four threads hold the same maximum and their own part of the sum. */
template <typename S> struct softmax { float maximum[S::tall][2], sum[S::tall][2]; };

/* The largest of a row's products in a step, the same in its four threads. */
template <int N> __device__ __forceinline__ float largest(const float (&x)[N][4], int r) {
  float maximum = fmaxf(x[0][2 * r], x[0][2 * r + 1]);
#pragma unroll
  for (int j = 1; j < N; j++)
    maximum = fmaxf(maximum, fmaxf(x[j][2 * r], x[j][2 * r + 1]));
  maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 1));
  return fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 2));
}

/* Products become probabilities; what is summed so far is rescaled. */
template <typename S, int N, int M>
__device__ __forceinline__ void update(softmax<S> &state, float (&x)[S::tall][N][4],
                                       float (&total)[S::tall][M][4], float scale) {
  float factor[S::tall][2];
  bool moved = false;
#pragma unroll
  for (int m = 0; m < S::tall; m++)
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const float before = state.maximum[m][r];
      const float maximum = fmaxf(before, largest(x[m], r) * scale);
      const float base = maximum == bsd_minus_infinity() ? 0 : maximum;
      float sum = 0;
#pragma unroll
      for (int j = 0; j < N; j++)
#pragma unroll
        for (int e = 2 * r; e < 2 * r + 2; e++) {
          x[m][j][e] = bsd_exp2(fmaf(x[m][j][e], scale, -base));
          sum += x[m][j][e];
        }
      factor[m][r] = bsd_exp2(before - base);
      moved |= factor[m][r] != 1;
      state.sum[m][r] = fmaf(state.sum[m][r], factor[m][r], sum);
      state.maximum[m][r] = maximum;
    }
  /* Multiplying by 1 changes nothing: where no maximum of the warp moved, it is left out. */
  if (!__any_sync(0xffffffffu, moved))
    return;
#pragma unroll
  for (int m = 0; m < S::tall; m++)
#pragma unroll
    for (int j = 0; j < M; j++)
#pragma unroll
      for (int e = 0; e < 4; e++)
        total[m][j][e] *= factor[m][e / 2];
}

/* A row's o and lse, or their joining of the accumulators, whose lse was `before`. */
template <typename S, int M>
__device__ __forceinline__ void finish_row(const task &t, const bsd_call &call, int token,
                                           float before, float maximum, float sum,
                                           const float (&total)[M][4], int r) {
  const int64_t row = (static_cast<int64_t>(t.batch) * call.heads + t.item.head) * call.tokens;
  const bool empty = sum == 0, alone = before == bsd_minus_infinity();
  if (token < 0 || (call.acc_o && empty))
    return;
  float lse = empty ? bsd_minus_infinity() : maximum * ln_2 + logf(sum);
  float keep = 0, factor = empty ? 0 : 1 / sum;
  if (!alone) {
    /* Softmax denominators, in units of the larger one. */
    const float larger = fmaxf(before, lse), a = expf(before - larger), b = expf(lse - larger);
    keep = a / (a + b), factor *= b / (a + b), lse = larger + logf(a + b);
  }
  const result_row to =
      find_result(call, call.acc_o, call.o, call.heads, t.batch, t.item.head, token);
#pragma unroll
  for (int j = 0; j < M; j++) {
    const int element = my_column(j);
    if (element < call.head_dim)
      put_pair<S>(to, element, empty ? 0 : factor * total[j][2 * r],
                  empty ? 0 : factor * total[j][2 * r + 1], keep);
  }
  float *const lse_to = call.acc_o ? call.acc_lse : call.lse_out;
  if (lse_to && (threadIdx.x & 3) == 0)
    lse_to[row + token] = lse;
}

template <typename S, int M>
__device__ __forceinline__ void finish(const own_table &own, const task &t, const bsd_call &call,
                                       const softmax<S> &state,
                                       const float (&total)[S::tall][M][4]) {
  const int64_t row = (static_cast<int64_t>(t.batch) * call.heads + t.item.head) * call.tokens;
#pragma unroll
  for (int m = 0; m < S::tall; m++)
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const int token = own.token[my_slot<S>(m, r)];
      float sum = state.sum[m][r], before = bsd_minus_infinity();
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      if (call.acc_o && token >= 0)
        before = call.acc_lse[row + token];
      __syncwarp(); /* a row's threads have read acc_lse before one of them writes it */
      finish_row<S>(t, call, token, before, state.maximum[m][r], sum, total[m], r);
    }
}

template <typename S>
__global__ void __launch_bounds__(S::threads, S::blocks)
    forward(const bsd_call call, const bsd_cuda_list *lists, const bsd_cuda_item *items,
            int subtiles) {
  extern __shared__ __align__(128) char shared[];
  __shared__ key_tables tables;
  const uint32_t tiles = bsd_shared_address(shared);
  const uint32_t own_tile = own_place<S>(tiles, 0);
  const task t = my_task<S>(call, lists, items, subtiles, 1);
  if (t.own_tokens <= 0)
    return;
  const float scale = fmaxf(fabsf(call.scale) * log2_e, least_scale);
  put_own<S>(tables.own, t, call, t.item.head, call.q.local, nullptr, nullptr);
  own_rows<S> q;
  softmax<S> state;
  float total[S::tall][S::width / 8][4] = {};
#pragma unroll
  for (int m = 0; m < S::tall; m++)
#pragma unroll
    for (int r = 0; r < 2; r++)
      state.maximum[m][r] = bsd_minus_infinity(), state.sum[m][r] = 0;
  walk<S, false>(
      tables, t, call, tiles,
      [&] {
        copy_rows<S, S::slots>(own_tile, tables.own.first_row, static_cast<int>(call.head_dim),
                               items);
      },
      [&] {
        if (call.scale < 0) {
          negate_own<S>(own_tile);
          __syncthreads();
        }
        q.set(own_tile);
      },
      [&](int step, bool partial, uint32_t k_tile) {
        const uint32_t v_tile = second_tile<S>(k_tile);
#pragma unroll 1
        for (int first = 0; first < BSD_SM80_STEP / 8; first += S::groups) {
          float x[S::tall][S::groups][4];
          multiply_rows<S>(x, q, k_tile, first);
          if (partial)
            mask<S>(tables.slots[step % 2], first, bsd_minus_infinity(), x);
          update<S>(state, x, total, scale);
          weigh_rows<S>(total, x, v_tile, first, 0);
        }
      });
  finish<S>(tables.own, tables.work, call, state, total);
}

template <int Width, int Slots, typename Type> constexpr bsd_instance make(bsd_dtype dtype) {
  using tile = shape<BSD_TILE_FORWARD, Width, Slots, Type>;
  return {Width, Slots, dtype, forward<tile>, tile::threads, 1, tile::shared_bytes};
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

bsd_status bsd_sm80_forward(void *device, const bsd_call *call, const bsd_lists *lists,
                            int64_t pass, int stage, void *stream, bsd_error *error) {
  return bsd_run_instance(bsd_sm80::instances, "sm80 forward", bsd_sm80_rows(call->block), device,
                          call, lists->work[pass], stage, stream, error);
}

bsd_status bsd_sm80_open_forward(const bsd_cuda_device *device, bsd_error *error) {
  return bsd_open_instances(bsd_sm80::instances, BSD_SM80_TABLE_BYTES, device, error);
}
