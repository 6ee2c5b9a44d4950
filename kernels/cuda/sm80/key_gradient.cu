/* key_gradient.cu - dk and dv of a stage's rows by mma.sync. Own rows are keys.
 *
 *   P^T = exp(scale K Q^T - lse),  dV += P^T dO,  dP^T = V dO^T,  dS^T = P^T (dP^T - delta),  dK += dS^T Q
 *   over the list's query heads of the KV head in order, and for each over the steps of the row's list in
 *   order,  dk = scale dK. P^T and dS^T are rounded to the type for their products. */
#include "instances.cuh"
#include "tile.cuh"

namespace bsd_sm80 {
namespace {

/* x holds K Q^T and becomes P^T; d holds dP^T and becomes dS^T. Slots from 8 * first on. */
template <int N>
__device__ __forceinline__ void probabilities(float (&x)[N][4], float (&d)[N][4],
                                              const step_table &s, int first, float scale) {
#pragma unroll
  for (int j = 0; j < N; j++) {
    const float2 lse = *reinterpret_cast<const float2 *>(s.lse + my_column(first + j));
    const float2 delta = *reinterpret_cast<const float2 *>(s.delta + my_column(first + j));
#pragma unroll
    for (int e = 0; e < 4; e++) {
      x[j][e] = bsd_exp2(fmaf(x[j][e], scale, -(e & 1 ? lse.y : lse.x)));
      d[j][e] = x[j][e] * (d[j][e] - (e & 1 ? delta.y : delta.x));
    }
  }
  if (s.partial[0] | s.partial[1]) {
    mask(x, s, first, 0);
    mask(d, s, first, 0);
  }
}

/* The number of heads of the item's KV head, from the item's on; 0 if an earlier item has them. */
__device__ __forceinline__ int heads_of(const task &t, int group) {
  const int32_t *heads = t.list->heads;
  const int kv_head = t.item.head / group;
  int last = t.item.place;
  if (t.item.place > 0 && heads[t.item.place - 1] / group == kv_head)
    return 0;
  while (last < t.list->nheads && heads[last] / group == kv_head)
    last++;
  return last - t.item.place;
}

template <typename S>
__global__ void __launch_bounds__(S::threads, S::slots == 16   ? 8
                                              : S::width == 64 ? 2
                                                               : 1)
    key_gradient(const bsd_call call, const bsd_cuda_list *lists, const bsd_cuda_item *items,
                 int subtiles) {
  extern __shared__ __align__(128) char shared[];
  __shared__ tables slots;
  constexpr int groups = S::width <= 64 ? 4 : 2; /* of 8 slots at once: registers */
  const uint32_t k_tile = bsd_shared_address(shared), v_tile = k_tile + S::own_bytes;
  const uint32_t q_tiles = v_tile + S::own_bytes, do_tiles = q_tiles + S::stages * S::step_bytes;
  const int group0 = blockIdx.x % S::halves * (S::columns / 8),
            head_dim = static_cast<int>(call.head_dim);
  const int group = static_cast<int>(call.heads / call.kv_heads);
  const task t = my_task<S>(call, lists, items, subtiles, S::halves);
  const int heads = heads_of(t, group);
  if (t.own_tokens <= 0 || heads == 0)
    return;
  put_own<S>(slots.own, t, call, t.item.head / group, call.k.local, &call.v.local, nullptr);
  __syncthreads();
  copy_rows<S, S::slots>(k_tile, slots.own.first_row, head_dim, items);
  copy_rows<S, S::slots>(v_tile, slots.own.second_row, head_dim, items);
  bsd_copy_async_wait();
  __syncthreads();
  own_rows<S> k, v;
  k.set(k_tile);
  v.set(v_tile);
  float total_k[S::columns / 8][4] = {}, total_v[S::columns / 8][4] = {};
  walk<S, true>(
      slots, t, q_tiles, do_tiles, heads * t.steps, call, items,
      [&](int step, int j) {
        return step < heads * t.steps ? tile_number(t, step % t.steps, j) : -1;
      },
      [&](const bsd_cuda_tile &tile, int number, int step, int j) {
        const int which = step < heads * t.steps ? step / t.steps : 0;
        return find_query(t, call, __ldg(t.list->heads + t.item.place + which), tile, number,
                          step - which * t.steps, j);
      },
      [&](const step_table &s, uint32_t q_tile, uint32_t do_tile) {
#pragma unroll 1
        for (int first = 0; first < BSD_SM80_STEP / 8; first += groups) {
          float x[groups][4], d[groups][4];
          multiply_rows<S>(x, k, q_tile, first);
          multiply_rows<S>(d, v, do_tile, first);
          probabilities(x, d, s, first, call.scale * log2_e);
          weigh_rows<S>(total_v, x, do_tile, first, group0);
          weigh_rows<S>(total_k, d, q_tile, first, group0);
        }
      });
  const int kv_head = t.item.head / group;
  put_gradient<S>(slots.own, t, call, total_k, group0, call.scale, call.acc_dk, call.dk,
                  call.kv_heads, kv_head);
  put_gradient<S>(slots.own, t, call, total_v, group0, 1, call.acc_dv, call.dv, call.kv_heads,
                  kv_head);
}

template <int Width, int Slots, typename Type> constexpr instance make(bsd_dtype dtype) {
  return {Width, Slots, dtype, key_gradient<shape<Width, Slots, Type>>,
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

bsd_status bsd_sm80_backward_dkv(void *device, const bsd_call *call, const bsd_lists *lists,
                                 int64_t pass, int stage, void *stream, bsd_error *error) {
  return bsd_sm80::run_one(bsd_sm80::instances, BSD_SM80_KEY_GRADIENT, "sm80 key gradient", device,
                           call, lists->work[pass], stage, stream, error);
}

bsd_status bsd_sm80_open_backward_dkv(const bsd_cuda_device *device, bsd_error *error) {
  return bsd_sm80::open_all(bsd_sm80::instances, BSD_SM80_KEY_GRADIENT, device, error);
}
