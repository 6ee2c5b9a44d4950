/* key_gradient.cu - dk and dv of a stage's rows, fp32 arithmetic, any GPU. Own rows are keys.
 *
 *   P^T = exp(scale K Q^T - lse),  dV += P^T dO,  dP^T = V dO^T,  dS^T = P^T (dP^T - delta),
 *   dK += dS^T Q   over the list's query heads of the KV head in order, and for each over the steps of the
 *   row's list in order,  dk = scale dK. */
#include "../instances.cuh"
#include "simt.h"
#include "tile.cuh"

namespace bsd_simt {
namespace {

/* Slot threadIdx.x of a step: q, do, lse and delta of one query head, unless the query sees no own slot or no
 * key at all. */
__device__ __forceinline__ void put_queries(table &to, const task &t, const bsd_call &call,
                                            int64_t head, int step) {
  const int j = threadIdx.x;
  bsd_cuda_tile tile;
  int first, last;
  const char *q = nullptr, *d_o = nullptr;
  const step_slot s = slot_of(step, j, static_cast<int>(call.block));
  bool pairs = find_slot<-1>(t, s, tile, first, last);
  if (pairs) {
    const bsd_cuda_token token = bsd_token_of_slot(tile, t.list->fragments, s.slot);
    float lse = bsd_minus_infinity();
    if (token.index >= 0)
      lse = bsd_operand_value(call.lse, token, t.batch, head, call.heads, call.tokens);
    pairs = lse != bsd_minus_infinity();
    if (pairs) {
      const int element = bsd_element_bytes(call.dtype);
      q = bsd_operand_row(call.q, token, t.batch, head, call.head_dim, element);
      d_o = bsd_operand_row(call.d_o, token, t.batch, head, call.head_dim, element);
      to.lse[j] = lse;
      to.delta[j] = bsd_operand_value(call.delta, token, t.batch, head, call.heads, call.tokens);
    }
  }
  put_slot(to, j, step & 1, t, pairs, first, last, q, d_o);
}

/* x holds K Q^T and becomes P^T, also in `scores`. */
template <typename S>
__device__ __forceinline__ void probabilities(block<S> &x, const table &t, bool partial,
                                              float scale, float *scores) {
  const place<S> me = my_place<S>();
#pragma unroll
  for (int i = 0; i < S::mine; i++) {
    const int row = me.row + i * BSD_SIMT_ROW_GROUPS;
    const unsigned counts = partial ? counting_slots<S>(t, row, me.column) : ~0u;
#pragma unroll
    for (int j = 0; j < S::across; j++) {
      const int slot = me.column + j * S::columns;
      const float p = __expf(fmaf(x[i][j], scale, -t.lse[slot]));
      x[i][j] = counts >> j & 1 ? p : 0;
      scores[row * S::score_pitch + slot] = x[i][j];
    }
  }
}

/* p holds P^T and becomes dS^T; x holds dP^T. */
template <typename S>
__device__ __forceinline__ void score_gradient(block<S> &p, const block<S> &x, const table &t,
                                               bool partial) {
  const place<S> me = my_place<S>();
#pragma unroll
  for (int i = 0; i < S::mine; i++) {
    const int row = me.row + i * BSD_SIMT_ROW_GROUPS;
    const unsigned counts = partial ? counting_slots<S>(t, row, me.column) : ~0u;
#pragma unroll
    for (int j = 0; j < S::across; j++)
      p[i][j] = counts >> j & 1 ? p[i][j] * (x[i][j] - t.delta[me.column + j * S::columns]) : 0;
  }
}

template <typename S>
__global__ void __launch_bounds__(S::threads, 256 / S::threads)
    key_gradient(const bsd_call call, const bsd_cuda_list *lists, const bsd_cuda_item *items,
                 int subtiles) {
  extern __shared__ float4 shared[];
  __shared__ table slots;
  float *own_k = reinterpret_cast<float *>(shared), *own_v = own_k + S::rows * S::own_pitch;
  float *chunk = own_v + S::rows * S::own_pitch;
  float *scores = chunk + BSD_SIMT_STEP * S::chunk_pitch;
  const place<S> me = my_place<S>();
  const int head_dim = static_cast<int>(call.head_dim);
  const int last_chunk = (head_dim - 1) / BSD_SIMT_CHUNK;
  const int group = static_cast<int>(call.heads / call.kv_heads);
  const task t = my_task<S>(lists, items, subtiles, static_cast<int>(call.block));
  const int heads = bsd_heads_of_item(*t.list, t.item.place, group);
  if (t.own_tokens <= 0 || heads == 0)
    return;
  if (threadIdx.x < S::rows)
    put_own<S>(slots, t, call, t.item.head / group, call.k.local, &call.v.local, nullptr);
  __syncthreads();
  load_own<S>(own_k, slots.first_row, head_dim, call.dtype);
  load_own<S>(own_v, slots.second_row, head_dim, call.dtype);
  block<S> total_k[S::chunks], total_v[S::chunks];
#pragma unroll
  for (int c = 0; c < S::chunks; c++) {
    clear<S>(total_k[c]);
    clear<S>(total_v[c]);
  }

  for (int at = 0; at < heads * t.steps; at++) {
    const int step = at % t.steps, head = t.list->heads[t.item.place + at / t.steps];
    __syncthreads();
    if (threadIdx.x < BSD_SIMT_STEP)
      put_queries(slots, t, call, head, step);
    __syncthreads();
    if (!step_is_seen(slots, step))
      continue;
    block<S> p, x;
    clear<S>(p);
    for (int c = 0; c <= last_chunk; c++) {
      load_chunk<S>(chunk, slots.first_row, c, head_dim, call.dtype);
      __syncthreads();
      multiply_chunk<S>(p, own_k, chunk, c, head_dim);
      __syncthreads();
    }
    probabilities<S>(p, slots, step_is_partial(slots, step), call.scale, scores);
    clear<S>(x);
    for (int c = 0; c <= last_chunk; c++) {
      if (c > 0)
        __syncthreads();
      load_chunk<S>(chunk, slots.second_row, c, head_dim, call.dtype);
      __syncthreads();
      multiply_chunk<S>(x, own_v, chunk, c, head_dim);
    }
    score_gradient<S>(p, x, slots, step_is_partial(slots, step));
#pragma unroll
    for (int c = S::chunks - 1; c >= 0; c--) { /* the last chunk of do is still there */
      if (c > last_chunk)
        continue;
      if (c < last_chunk) {
        __syncthreads();
        load_chunk<S>(chunk, slots.second_row, c, head_dim, call.dtype);
        __syncthreads();
      }
      weigh_rows<S>(x, scores + me.row * S::score_pitch, chunk + 4 * me.column);
      add<S>(total_v[c], x);
    }
    __syncthreads();
    keep<S>(p, scores);
#pragma unroll
    for (int c = 0; c < S::chunks; c++) {
      if (c > last_chunk)
        break;
      if (c > 0)
        __syncthreads();
      load_chunk<S>(chunk, slots.first_row, c, head_dim, call.dtype);
      __syncthreads();
      weigh_rows<S>(x, scores + me.row * S::score_pitch, chunk + 4 * me.column);
      add<S>(total_k[c], x);
    }
  }
  const int kv_head = t.item.head / group;
  put_gradient<S>(slots, t, call, total_k, call.scale, call.acc_dk, call.dk, call.kv_heads,
                  kv_head);
  put_gradient<S>(slots, t, call, total_v, 1, call.acc_dv, call.dv, call.kv_heads, kv_head);
}

/* ---- launches --------------------------------------------------------------------------------- */

template <int Width, int Rows> constexpr bsd_instance make() {
  using tile = shape<Width, Rows>;
  return {Width,
          Rows,
          BSD_EVERY_DTYPE,
          key_gradient<tile>,
          tile::threads,
          1,
          bsd_simt_shared_bytes(BSD_TILE_KEY_GRADIENT, Width, Rows)};
}

const bsd_instance instances[] = {
    make<64, 32>(),  make<64, 16>(),  make<128, 32>(),
    make<128, 16>(), make<256, 16>(), make<256, 8>(),
};

} // namespace
} // namespace bsd_simt

bsd_status bsd_simt_backward_dkv(void *device, const bsd_call *call, const bsd_lists *lists,
                                 int64_t pass, int stage, void *stream, bsd_error *error) {
  const int rows =
      bsd_simt_rows(static_cast<const bsd_cuda_device *>(device), BSD_TILE_KEY_GRADIENT,
                    bsd_tile_width(call->head_dim), call->block);
  return bsd_run_instance(bsd_simt::instances, "simt key gradient", rows, device, call,
                          lists->work[pass], stage, stream, error);
}

bsd_status bsd_simt_open_backward_dkv(const bsd_cuda_device *device, bsd_error *error) {
  return bsd_open_instances(bsd_simt::instances, BSD_SIMT_TABLE_BYTES, device, error);
}
