/* query_gradient.cu - dq of a stage's rows, fp32 arithmetic, any GPU.
 *
 *   dP = dO V^T,  P = exp(scale Q K^T - lse),  dS = P (dP - delta),  dQ += dS K
 *   over the steps of a row's list in order,  dq = scale dQ. */
#include "../instances.cuh"
#include "simt.h"
#include "tile.cuh"

namespace bsd_simt {
namespace {

/* lse and delta of a thread's own queries. A query that sees no key has no rows and sees = false. */
template <typename S> struct statistics {
  float lse[S::mine], delta[S::mine];
  unsigned sees; /* bit i */
};

template <typename S>
__device__ __forceinline__ statistics<S> load_statistics(const table &t, const task &work,
                                                         const bsd_call &call) {
  const place<S> me = my_place<S>();
  const int64_t base = (work.batch * call.heads + work.item.head) * call.tokens;
  statistics<S> s;
  s.sees = 0;
#pragma unroll
  for (int i = 0; i < S::mine; i++) {
    const int token = t.own_token[me.row + i * BSD_SIMT_ROW_GROUPS];
    s.lse[i] = token >= 0 ? call.lse.local[base + token] : 0;
    s.delta[i] = token >= 0 ? call.delta.local[base + token] : 0;
    if (token >= 0 && s.lse[i] != bsd_minus_infinity())
      s.sees |= 1u << i;
  }
  return s;
}

/* scores hold dP and become dS; x holds Q K^T. */
template <typename S>
__device__ __forceinline__ void score_gradient(const block<S> &x, const statistics<S> &s,
                                               const table &t, bool partial, float scale,
                                               float *scores) {
  const place<S> me = my_place<S>();
#pragma unroll
  for (int i = 0; i < S::mine; i++) {
    unsigned counts =
        partial ? counting_slots<S>(t, me.row + i * BSD_SIMT_ROW_GROUPS, me.column) : ~0u;
    if (!(s.sees >> i & 1))
      counts = 0;
#pragma unroll
    for (int j = 0; j < S::across; j++) {
      float *at =
          scores + (me.row + i * BSD_SIMT_ROW_GROUPS) * S::score_pitch + me.column + j * S::columns;
      const float p = __expf(fmaf(x[i][j], scale, -s.lse[i]));
      *at = counts >> j & 1 ? p * (*at - s.delta[i]) : 0;
    }
  }
}

template <typename S>
__global__ void __launch_bounds__(S::threads, 256 / S::threads)
    query_gradient(const bsd_call call, const bsd_cuda_list *lists, const bsd_cuda_item *items,
                   int subtiles) {
  extern __shared__ float4 shared[];
  __shared__ table slots;
  float *own_q = reinterpret_cast<float *>(shared), *own_do = own_q + S::rows * S::own_pitch;
  float *chunk = own_do + S::rows * S::own_pitch;
  float *scores = chunk + BSD_SIMT_STEP * S::chunk_pitch;
  const place<S> me = my_place<S>();
  const int head_dim = static_cast<int>(call.head_dim);
  const int last_chunk = (head_dim - 1) / BSD_SIMT_CHUNK;
  const task t = my_task<S>(lists, items, subtiles, static_cast<int>(call.block));
  if (t.own_tokens <= 0)
    return;
  if (threadIdx.x < S::rows)
    put_own<S>(slots, t, call, t.item.head, call.q.local, &call.d_o.local, call.lse.local);
  __syncthreads();
  load_own<S>(own_q, slots.first_row, head_dim, call.dtype);
  load_own<S>(own_do, slots.second_row, head_dim, call.dtype);
  const statistics<S> stats = load_statistics<S>(slots, t, call);
  __syncthreads();
  if (threadIdx.x < BSD_SIMT_STEP)
    put_keys(slots, t, call, 0);
  __syncthreads();
  block<S> total[S::chunks];
#pragma unroll
  for (int c = 0; c < S::chunks; c++)
    clear<S>(total[c]);

  for (int step = 0; step < t.steps; step++) {
    if (step_is_seen(slots, step)) {
      block<S> x;
      clear<S>(x);
      for (int c = 0; c <= last_chunk; c++) {
        load_chunk<S>(chunk, slots.second_row, c, head_dim, call.dtype);
        __syncthreads();
        multiply_chunk<S>(x, own_do, chunk, c, head_dim);
        __syncthreads();
      }
      keep<S>(x, scores); /* registers do not hold dP, Q K^T and dQ at once */
      clear<S>(x);
      for (int c = 0; c <= last_chunk; c++) {
        if (c > 0)
          __syncthreads();
        load_chunk<S>(chunk, slots.first_row, c, head_dim, call.dtype);
        __syncthreads();
        multiply_chunk<S>(x, own_q, chunk, c, head_dim);
      }
      score_gradient<S>(x, stats, slots, step_is_partial(slots, step), call.scale, scores);
      __syncthreads();
#pragma unroll
      for (int c = S::chunks - 1; c >= 0; c--) { /* the last chunk of k is still there */
        if (c > last_chunk)
          continue;
        if (c < last_chunk) {
          __syncthreads();
          load_chunk<S>(chunk, slots.first_row, c, head_dim, call.dtype);
          __syncthreads();
        }
        if (c == 0 && threadIdx.x < BSD_SIMT_STEP)
          put_keys(slots, t, call, step + 1);
        weigh_rows<S>(x, scores + me.row * S::score_pitch, chunk + 4 * me.column);
        add<S>(total[c], x);
      }
    } else if (threadIdx.x < BSD_SIMT_STEP) {
      put_keys(slots, t, call, step + 1);
    }
    __syncthreads();
  }
  put_gradient<S>(slots, t, call, total, call.scale, call.acc_dq, call.dq, call.heads, t.item.head);
}

/* ---- launches --------------------------------------------------------------------------------- */

template <int Width, int Rows> constexpr bsd_instance make() {
  using tile = shape<Width, Rows>;
  return {Width,
          Rows,
          BSD_EVERY_DTYPE,
          query_gradient<tile>,
          tile::threads,
          1,
          bsd_simt_shared_bytes(BSD_TILE_QUERY_GRADIENT, Width, Rows)};
}

const bsd_instance instances[] = {
    make<64, 64>(),  make<64, 32>(),  make<64, 16>(), make<128, 32>(),
    make<128, 16>(), make<256, 32>(), make<256, 8>(),
};

} // namespace
} // namespace bsd_simt

bsd_status bsd_simt_backward_dq(void *device, const bsd_call *call, const bsd_lists *lists,
                                int64_t pass, int stage, void *stream, bsd_error *error) {
  const int rows =
      bsd_simt_rows(static_cast<const bsd_cuda_device *>(device), BSD_TILE_QUERY_GRADIENT,
                    bsd_tile_width(call->head_dim), call->block);
  return bsd_run_instance(bsd_simt::instances, "simt query gradient", rows, device, call,
                          lists->work[pass], stage, stream, error);
}

bsd_status bsd_simt_open_backward_dq(const bsd_cuda_device *device, bsd_error *error) {
  return bsd_open_instances(bsd_simt::instances, BSD_SIMT_TABLE_BYTES, device, error);
}
