/* forward.cu - o and lse of a stage's rows, fp32 arithmetic, any GPU.
 *
 *   S = Q K^T,  m' = max(m, scale S),  P = exp(scale S - m'),  l = l exp(m - m') + sum P,
 *   O = O exp(m - m') + P V   over the steps of a row's list in order,  o = O / l,  lse = m + log l. */
#include "../instances.cuh"
#include "simt.h"
#include "tile.cuh"

namespace bsd_simt {
namespace {

/* Running softmax of a thread's own rows; the threads of a row group hold equal values. */
template <typename S> struct softmax { float maximum[S::mine], sum[S::mine]; };

/* Scores become probabilities, written to `scores` for the product with V; factor rescales what is summed
 * so far. A row of which no slot counts keeps its maximum and sum. */
template <typename S>
__device__ __forceinline__ void update(softmax<S> &state, block<S> &x, const table &t, bool partial,
                                       float scale, float *scores, float (&factor)[S::mine]) {
  const place<S> me = my_place<S>();
#pragma unroll
  for (int i = 0; i < S::mine; i++) {
    const unsigned counts =
        partial ? counting_slots<S>(t, me.row + i * BSD_SIMT_ROW_GROUPS, me.column) : ~0u;
    float maximum = bsd_minus_infinity(), sum = 0;
#pragma unroll
    for (int j = 0; j < S::across; j++) {
      x[i][j] *= scale;
      if (counts >> j & 1)
        maximum = fmaxf(maximum, x[i][j]);
    }
    maximum = fmaxf(state.maximum[i], row_max<S>(maximum));
    factor[i] = maximum == bsd_minus_infinity() ? 1 : __expf(state.maximum[i] - maximum);
#pragma unroll
    for (int j = 0; j < S::across; j++) {
      const float p = counts >> j & 1 ? __expf(x[i][j] - maximum) : 0;
      sum += p;
      scores[(me.row + i * BSD_SIMT_ROW_GROUPS) * S::score_pitch + me.column + j * S::columns] = p;
    }
    state.maximum[i] = maximum;
    state.sum[i] = fmaf(state.sum[i], factor[i], row_sum<S>(sum));
  }
}

/* Four elements of a row that sees a key join the accumulator, whose lse was `before`; the two are weighted
 * by their softmax denominators a and b. */
__device__ __forceinline__ void merge_four(float4 *at, const float *values, float before, float a,
                                           float b) {
  float4 x = make_float4(values[0], values[1], values[2], values[3]);
  if (before != bsd_minus_infinity()) {
    const float4 old = *at;
    x.x = (a * old.x + b * x.x) / (a + b);
    x.y = (a * old.y + b * x.y) / (a + b);
    x.z = (a * old.z + b * x.z) / (a + b);
    x.w = (a * old.w + b * x.w) / (a + b);
  }
  *at = x;
}

/* Writes a thread's part of own row i, or merges it into (acc_o, acc_lse), where `before` was its lse. */
template <typename S>
__device__ __forceinline__ void finish_row(const task &t, const bsd_call &call, int i, int64_t row,
                                           int64_t token, float before, const softmax<S> &state,
                                           const block<S> (&total)[S::chunks]) {
  const place<S> me = my_place<S>();
  const bool empty = state.sum[i] == 0;
  const float inverse = empty ? 0 : 1 / state.sum[i];
  const float lse = empty ? bsd_minus_infinity() : state.maximum[i] + logf(state.sum[i]);
  const float maximum = fmaxf(before, lse);
  if (call.acc_o && empty)
    return;
  const float a = expf(before - maximum), b = expf(lse - maximum);
#pragma unroll
  for (int c = 0; c < S::chunks; c++)
#pragma unroll
    for (int e = 0; e < S::across; e += 4) {
      const int element = c * BSD_SIMT_CHUNK + element_of<S>(me.column, e);
      float values[4];
      for (int k = 0; k < 4; k++)
        values[k] = empty ? 0 : total[c][i][e + k] * inverse;
      if (element >= call.head_dim)
        continue;
      if (call.acc_o)
        merge_four(reinterpret_cast<float4 *>(call.acc_o + row * call.head_dim + element), values,
                   before, a, b);
      else
        put_four(call, nullptr, call.o, call.heads, t.batch, t.item.head, token, element, values);
    }
  if (me.column == 0 && call.acc_o)
    call.acc_lse[row] = before == bsd_minus_infinity() ? lse : maximum + logf(a + b);
  else if (me.column == 0 && call.lse_out)
    call.lse_out[row] = lse;
}

template <typename S>
__device__ __forceinline__ void finish(const table &slots, const task &t, const bsd_call &call,
                                       const softmax<S> &state,
                                       const block<S> (&total)[S::chunks]) {
  const place<S> me = my_place<S>();
  const int64_t base = (t.batch * call.heads + t.item.head) * call.tokens;
  int token[S::mine];
  float before[S::mine];
#pragma unroll
  for (int i = 0; i < S::mine; i++) {
    token[i] = slots.own_token[me.row + i * BSD_SIMT_ROW_GROUPS];
    before[i] = call.acc_o && token[i] >= 0 ? call.acc_lse[base + token[i]] : bsd_minus_infinity();
  }
  __syncwarp(); /* a row's threads, all of one warp, have read acc_lse before one of them writes it */
#pragma unroll
  for (int i = 0; i < S::mine; i++)
    if (token[i] >= 0)
      finish_row<S>(t, call, i, base + token[i], token[i], before[i], state, total);
}

template <typename S>
__global__ void __launch_bounds__(S::threads, 256 / S::threads)
    forward(const bsd_call call, const bsd_cuda_list *lists, const bsd_cuda_item *items,
            int subtiles) {
  extern __shared__ float4 shared[];
  __shared__ table slots;
  float *own = reinterpret_cast<float *>(shared);
  float *chunk = own + S::rows * S::own_pitch;
  float *scores = chunk + BSD_SIMT_STEP * S::chunk_pitch;
  const place<S> me = my_place<S>();
  const int head_dim = static_cast<int>(call.head_dim);
  const int last_chunk = (head_dim - 1) / BSD_SIMT_CHUNK;
  const task t = my_task<S>(lists, items, subtiles, static_cast<int>(call.block));
  if (t.own_tokens <= 0)
    return;
  if (threadIdx.x < S::rows)
    put_own<S>(slots, t, call, t.item.head, call.q.local, nullptr, nullptr);
  __syncthreads();
  load_own<S>(own, slots.first_row, head_dim, call.dtype);
  __syncthreads();
  if (threadIdx.x < BSD_SIMT_STEP)
    put_keys(slots, t, call, 0);
  __syncthreads();
  softmax<S> state;
  block<S> total[S::chunks];
#pragma unroll
  for (int c = 0; c < S::chunks; c++)
    clear<S>(total[c]);
#pragma unroll
  for (int i = 0; i < S::mine; i++)
    state.maximum[i] = bsd_minus_infinity(), state.sum[i] = 0;

  for (int step = 0; step < t.steps; step++) {
    const bool seen = step_is_seen(slots, step);
    if (seen) {
      block<S> x;
      float factor[S::mine];
      clear<S>(x);
      for (int c = 0; c <= last_chunk; c++) {
        load_chunk<S>(chunk, slots.first_row, c, head_dim, call.dtype);
        __syncthreads();
        multiply_chunk<S>(x, own, chunk, c, head_dim);
        __syncthreads();
      }
      update<S>(state, x, slots, step_is_partial(slots, step), call.scale, scores, factor);
#pragma unroll
      for (int c = 0; c < S::chunks; c++) {
        if (c > last_chunk)
          break;
        if (c > 0)
          __syncthreads();
        load_chunk<S>(chunk, slots.second_row, c, head_dim, call.dtype);
        __syncthreads();
        if (c == last_chunk && threadIdx.x < BSD_SIMT_STEP)
          put_keys(slots, t, call, step + 1);
        weigh_rows<S>(x, scores + me.row * S::score_pitch, chunk + 4 * me.column);
#pragma unroll
        for (int i = 0; i < S::mine; i++)
#pragma unroll
          for (int e = 0; e < S::across; e++)
            total[c][i][e] = fmaf(total[c][i][e], factor[i], x[i][e]);
      }
    } else if (threadIdx.x < BSD_SIMT_STEP) {
      put_keys(slots, t, call, step + 1);
    }
    __syncthreads();
  }

  finish<S>(slots, t, call, state, total);
}

/* ---- launches --------------------------------------------------------------------------------- */

template <int Width, int Rows> constexpr bsd_instance make() {
  using tile = shape<Width, Rows>;
  return {Width,
          Rows,
          BSD_EVERY_DTYPE,
          forward<tile>,
          tile::threads,
          1,
          bsd_simt_shared_bytes(BSD_TILE_FORWARD, Width, Rows)};
}

const bsd_instance instances[] = {
    make<64, 64>(),  make<64, 32>(),  make<64, 16>(),  make<128, 64>(),
    make<128, 16>(), make<256, 32>(), make<256, 16>(),
};

} // namespace
} // namespace bsd_simt

bsd_status bsd_simt_forward(void *device, const bsd_call *call, const bsd_lists *lists,
                            int64_t pass, int stage, void *stream, bsd_error *error) {
  const int rows = bsd_simt_rows(static_cast<const bsd_cuda_device *>(device), BSD_TILE_FORWARD,
                                 bsd_tile_width(call->head_dim), call->block);
  return bsd_run_instance(bsd_simt::instances, "simt forward", rows, device, call,
                          lists->work[pass], stage, stream, error);
}

bsd_status bsd_simt_open_forward(const bsd_cuda_device *device, bsd_error *error) {
  return bsd_open_instances(bsd_simt::instances, BSD_SIMT_TABLE_BYTES, device, error);
}
