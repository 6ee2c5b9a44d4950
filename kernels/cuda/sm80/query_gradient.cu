/* query_gradient.cu - dq of a stage's rows by mma.sync.
 *
 *   P = exp(scale Q K^T - lse),  dP = dO V^T,  dS = P (dP - delta),  dQ += dS K
 *   over the steps of a row's list in order,  dq = scale dQ. dS is rounded to the type for its product. */
#include "instances.cuh"
#include "tile.cuh"

namespace bsd_sm80 {
namespace {

/* lse (times log2 e) and delta of a thread's two own queries. One that sees no key has lse = +inf. */
struct statistics {
  float lse[2], delta[2];
};

__device__ __forceinline__ statistics load_statistics(const own_table &own, const task &t,
                                                      const bsd_call &call) {
  const int64_t base = (t.batch * call.heads + t.item.head) * call.tokens;
  statistics s;
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int token = own.token[my_slot(r)];
    const float lse = token >= 0 ? call.lse.local[base + token] : bsd_minus_infinity();
    const bool sees = lse != bsd_minus_infinity();
    s.lse[r] = sees ? lse * log2_e : -bsd_minus_infinity();
    s.delta[r] = sees ? call.delta.local[base + token] : 0;
  }
  return s;
}

/* x holds Q K^T and becomes dS; d holds dP. Slots from 8 * first on. */
template <int N>
__device__ __forceinline__ void score_gradient(float (&x)[N][4], const float (&d)[N][4],
                                               const statistics &q, const step_table &s, int first,
                                               float scale) {
#pragma unroll
  for (int j = 0; j < N; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int r = e >> 1;
      const float p = bsd_exp2(fmaf(x[j][e], scale, -q.lse[r]));
      x[j][e] = p * (d[j][e] - q.delta[r]);
    }
  if (s.partial[0] | s.partial[1])
    mask(x, s, first, 0);
}

template <typename S>
__global__ void __launch_bounds__(S::threads, S::slots == 16   ? 8
                                              : S::width == 64 ? 2
                                                               : 1)
    query_gradient(const bsd_call call, const bsd_cuda_list *lists, const bsd_cuda_item *items,
                   int subtiles) {
  extern __shared__ __align__(128) char shared[];
  __shared__ tables slots;
  constexpr int groups = 4; /* of 8 slots at once: registers */
  const uint32_t q_tile = bsd_shared_address(shared), do_tile = q_tile + S::own_bytes;
  const uint32_t k_tiles = do_tile + S::own_bytes, v_tiles = k_tiles + S::stages * S::step_bytes;
  const int group0 = blockIdx.x % S::halves * (S::columns / 8),
            head_dim = static_cast<int>(call.head_dim);
  const task t = my_task<S>(call, lists, items, subtiles, S::halves);
  if (t.own_tokens <= 0)
    return;
  put_own<S>(slots.own, t, call, t.item.head, call.q.local, &call.d_o.local, call.lse.local);
  __syncthreads();
  copy_rows<S, S::slots>(q_tile, slots.own.first_row, head_dim, items);
  copy_rows<S, S::slots>(do_tile, slots.own.second_row, head_dim, items);
  bsd_copy_async_wait();
  __syncthreads();
  own_rows<S> q, d_o;
  q.set(q_tile);
  d_o.set(do_tile);
  const statistics own = load_statistics(slots.own, t, call);
  float total[S::columns / 8][4] = {};
  walk<S, false>(
      slots, t, k_tiles, v_tiles, t.steps, call, items,
      [&](int step, int j) { return tile_number(t, step, j); },
      [&](const bsd_cuda_tile &tile, int number, int step, int j) {
        return find_key(t, call, tile, number, step, j);
      },
      [&](const step_table &s, uint32_t k_tile, uint32_t v_tile) {
#pragma unroll 1
        for (int first = 0; first < BSD_SM80_STEP / 8; first += groups) {
          float x[groups][4], d[groups][4];
          multiply_rows<S>(x, q, k_tile, first);
          multiply_rows<S>(d, d_o, v_tile, first);
          score_gradient(x, d, own, s, first, call.scale * log2_e);
          weigh_rows<S>(total, x, k_tile, first, group0);
        }
      });
  put_gradient<S>(slots.own, t, call, total, group0, call.scale, call.acc_dq, call.dq, call.heads,
                  t.item.head);
}

template <int Width, int Slots, typename Type> constexpr instance make(bsd_dtype dtype) {
  return {Width, Slots, dtype, query_gradient<shape<Width, Slots, Type>>,
          shape<Width, Slots, Type>::halves};
}

const instance instances[] = {
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
  return bsd_sm80::run_one(bsd_sm80::instances, BSD_SM80_QUERY_GRADIENT, "sm80 query gradient",
                           device, call, lists->work[pass], stage, stream, error);
}

bsd_status bsd_sm80_open_backward_dq(const bsd_cuda_device *device, bsd_error *error) {
  return bsd_sm80::open_all(bsd_sm80::instances, BSD_SM80_QUERY_GRADIENT, device, error);
}
