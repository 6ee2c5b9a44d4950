/* results.cuh - the sm80 kernels' accumulators to memory. */
#ifndef BSD_SM80_RESULTS_CUH
#define BSD_SM80_RESULTS_CUH

#include "steps.cuh"

namespace bsd_sm80 {

/* Where a row of results goes: to an fp32 accumulator, to which it is added, or rounded to the output. */
struct result_row {
  float *accumulator;
  char *output;
};

/* accumulator: packed [B][heads][n][D], or NULL. */
__device__ __forceinline__ result_row find_result(const bsd_call &call, float *accumulator,
                                                  const bsd_tensor &output, int64_t heads,
                                                  int64_t batch, int64_t head, int64_t token) {
  if (accumulator)
    return {accumulator + ((batch * heads + head) * call.tokens + token) * call.head_dim, nullptr};
  return {nullptr, bsd_tensor_row(output, token, batch, head, 2)};
}

/* Two neighbouring elements. The accumulator becomes keep * accumulator + them. */
template <typename S>
__device__ __forceinline__ void put_pair(const result_row &row, int element, float x, float y,
                                         float keep) {
  if (row.accumulator) {
    float2 *at = reinterpret_cast<float2 *>(row.accumulator + element);
    const float2 old = *at;
    *at = make_float2(fmaf(keep, old.x, x), fmaf(keep, old.y, y));
  } else {
    *reinterpret_cast<uint32_t *>(row.output + 2 * element) = bsd_pack2(x, y, typename S::type());
  }
}

/* factor * total, elements from 8 * group0 on. */
template <typename S, int M>
__device__ __forceinline__ void
put_gradient(const own_table &own, const task &t, const bsd_call &call,
             const float (&total)[S::tall][M][4], int group0, float factor, float *accumulator,
             const bsd_tensor &output, int64_t heads, int64_t head) {
#pragma unroll
  for (int m = 0; m < S::tall; m++)
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const int token = own.token[my_slot<S>(m, r)];
      if (token < 0)
        continue;
      const result_row row = find_result(call, accumulator, output, heads, t.batch, head, token);
#pragma unroll
      for (int j = 0; j < M; j++) {
        const int element = my_column(group0 + j);
        if (element < call.head_dim)
          put_pair<S>(row, element, factor * total[m][j][2 * r], factor * total[m][j][2 * r + 1],
                      1);
      }
    }
}

} // namespace bsd_sm80

#endif
