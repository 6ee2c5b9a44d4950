/* forward.cu - o and lse of a stage's rows by mma.sync.
 *
 *   S = Q K^T,  m' = max(m, scale S),  P = exp(scale S - m'),  l = l exp(m - m') + sum P,
 *   O = O exp(m - m') + P V   over the steps of a row's list in order,  o = O / l,  lse = m + log l.
 * Probabilities are summed in fp32 and rounded to the type for the product with V. Maxima are kept in units
 * of log 2, as the exponentials take them. */
#include "instances.cuh"
#include "tile.cuh"

namespace bsd_sm80 {
namespace {

/* Of a thread's two own rows; a row's four threads hold the same maximum and their own part of the sum. */
struct softmax {
  float maximum[2], sum[2];
};

/* Scores become probabilities; factor rescales what is summed so far. */
template <int N>
__device__ __forceinline__ void update(softmax &state, float (&x)[N][4], const step_table &s,
                                       int first, float scale, float (&factor)[2]) {
#pragma unroll
  for (int j = 0; j < N; j++)
#pragma unroll
    for (int e = 0; e < 4; e++)
      x[j][e] *= scale;
  if (s.partial[0] | s.partial[1])
    mask(x, s, first, bsd_minus_infinity());
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float maximum = state.maximum[r];
#pragma unroll
    for (int j = 0; j < N; j++)
      maximum = fmaxf(maximum, fmaxf(x[j][2 * r], x[j][2 * r + 1]));
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 1));
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 2));
    const float base = maximum == bsd_minus_infinity() ? 0 : maximum;
    float sum = 0;
#pragma unroll
    for (int j = 0; j < N; j++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        x[j][2 * r + e] = bsd_exp2(x[j][2 * r + e] - base);
        sum += x[j][2 * r + e];
      }
    factor[r] = bsd_exp2(state.maximum[r] - base);
    state.sum[r] = state.sum[r] * factor[r] + sum;
    state.maximum[r] = maximum;
  }
}

/* Two elements of a row join the accumulator, whose lse was `before`; a and b are the softmax denominators. */
__device__ __forceinline__ void merge_pair(float *at, float x, float y, float before, float a,
                                           float b) {
  float2 *to = reinterpret_cast<float2 *>(at), old = *to;
  if (before != bsd_minus_infinity()) {
    x = (a * old.x + b * x) / (a + b);
    y = (a * old.y + b * y) / (a + b);
  }
  *to = make_float2(x, y);
}

template <typename S>
__device__ __forceinline__ void finish(const own_table &own, const task &t, const bsd_call &call,
                                       softmax &state, float (&total)[S::width / 8][4]) {
  const int64_t base = (t.batch * call.heads + t.item.head) * call.tokens;
  float before[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int token = own.token[my_slot(r)];
    state.sum[r] += __shfl_xor_sync(0xffffffffu, state.sum[r], 1);
    state.sum[r] += __shfl_xor_sync(0xffffffffu, state.sum[r], 2);
    before[r] = call.acc_o && token >= 0 ? call.acc_lse[base + token] : bsd_minus_infinity();
  }
  __syncwarp(); /* a row's threads have read acc_lse before one of them writes it */
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int token = own.token[my_slot(r)];
    const bool empty = state.maximum[r] == bsd_minus_infinity();
    const float inverse = empty ? 0 : 1 / state.sum[r];
    const float lse = empty ? bsd_minus_infinity() : state.maximum[r] * ln_2 + logf(state.sum[r]);
    const float maximum = fmaxf(before[r], lse);
    if (token < 0 || (call.acc_o && empty))
      continue;
    const float a = expf(before[r] - maximum), b = expf(lse - maximum);
#pragma unroll
    for (int j = 0; j < S::width / 8; j++) {
      const int element = my_column(j);
      const float x = total[j][2 * r] * inverse, y = total[j][2 * r + 1] * inverse;
      if (element >= call.head_dim)
        continue;
      if (call.acc_o)
        merge_pair(call.acc_o + (base + token) * call.head_dim + element, x, y, before[r], a, b);
      else
        put_pair<S>(call, nullptr, call.o, call.heads, t.batch, t.item.head, token, element,
                    empty ? 0 : x, empty ? 0 : y);
    }
    if ((threadIdx.x & 3) != 0)
      continue;
    if (call.acc_o)
      call.acc_lse[base + token] = before[r] == bsd_minus_infinity() ? lse : maximum + logf(a + b);
    else if (call.lse_out)
      call.lse_out[base + token] = lse;
  }
}

template <typename S>
__global__ void __launch_bounds__(S::threads, S::slots == 16    ? 8
                                              : S::width == 64  ? 3
                                              : S::width == 128 ? 2
                                                                : 1)
    forward(const bsd_call call, const bsd_cuda_list *lists, const bsd_cuda_item *items,
            int subtiles) {
  extern __shared__ __align__(128) char shared[];
  __shared__ tables slots;
  const uint32_t own_tile = bsd_shared_address(shared), k_tiles = own_tile + S::own_bytes;
  const uint32_t v_tiles = k_tiles + S::stages * S::step_bytes;
  const task t = my_task<S>(call, lists, items, subtiles, 1);
  if (t.own_tokens <= 0)
    return;
  put_own<S>(slots.own, t, call, t.item.head, call.q.local, nullptr, nullptr);
  __syncthreads();
  copy_rows<S, S::slots>(own_tile, slots.own.first_row, static_cast<int>(call.head_dim), items);
  bsd_copy_async_wait();
  __syncthreads();
  constexpr int groups = S::width <= 128 ? 8 : 4; /* of 8 slots at once: registers */
  own_rows<S> q;
  q.set(own_tile);
  softmax state = {{bsd_minus_infinity(), bsd_minus_infinity()}, {0, 0}};
  float total[S::width / 8][4] = {};
  walk<S, false>(
      slots, t, k_tiles, v_tiles, t.steps, call, items,
      [&](int step, int j) { return tile_number(t, step, j); },
      [&](const bsd_cuda_tile &tile, int number, int step, int j) {
        return find_key(t, call, tile, number, step, j);
      },
      [&](const step_table &s, uint32_t k_tile, uint32_t v_tile) {
#pragma unroll 1
        for (int first = 0; first < BSD_SM80_STEP / 8; first += groups) {
          float x[groups][4], factor[2];
          multiply_rows<S>(x, q, k_tile, first);
          update(state, x, s, first, call.scale * log2_e, factor);
          /* Multiplying by 1 changes nothing: where no maximum of the warp moved, it is left out. */
          if (__any_sync(0xffffffffu, factor[0] != 1 || factor[1] != 1)) {
#pragma unroll
            for (int j = 0; j < S::width / 8; j++) {
              total[j][0] *= factor[0], total[j][1] *= factor[0];
              total[j][2] *= factor[1], total[j][3] *= factor[1];
            }
          }
          weigh_rows<S>(total, x, v_tile, first, 0);
        }
      });
  finish<S>(slots.own, t, call, state, total);
}

template <int Width, int Slots, typename Type> constexpr instance make(bsd_dtype dtype) {
  return {Width, Slots, dtype, forward<shape<Width, Slots, Type>>, 1};
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

bsd_status bsd_sm80_forward(void *device, const bsd_call *call, const bsd_lists *lists,
                            int64_t pass, int stage, void *stream, bsd_error *error) {
  return bsd_sm80::run_one(bsd_sm80::instances, BSD_SM80_FORWARD, "sm80 forward", device, call,
                           lists->work[pass], stage, stream, error);
}

bsd_status bsd_sm80_open_forward(const bsd_cuda_device *device, bsd_error *error) {
  return bsd_sm80::open_all(bsd_sm80::instances, BSD_SM80_FORWARD, device, error);
}
