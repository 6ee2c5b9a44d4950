/* backward.cuh - the shape of the gradient kernels of sm_90a: parameters, configurations, shared memory.
 *
 *   dq (backward_query.cu):    own Q, dO of a query head;  streamed K, V
 *   dk, dv (backward_key.cu):  own K, V of a KV head;      streamed Q, dO of its query heads, head after head
 *
 * A tile stands in a *pair* with its companion (Q with dO, K with V), one behind the other. A CTA's parts:
 *
 *   backward_producer.cuh    one warp brings tiles
 *   backward_statistics.cuh  another, or three, bring lse and delta
 *   backward_walker.cuh      a consumer warpgroup's place in the ring, its products and masks
 *   backward_output.cuh      from its sums to the outputs
 *   backward_consumer.cuh    its walk over the items
 *   backward_launch.cuh      the kernel, and its launch from the host
 *
 * No atomics: each member's sums are its own, in the order of its list. */
#ifndef BSD_SM90_BACKWARD_CUH
#define BSD_SM90_BACKWARD_CUH

#include "pipeline.cuh"

namespace sm90 {

constexpr float LOG2E = 1.44269504089f;

struct backward_params {
  bsd_sm90_maps own1, own2, other1, other2; /* Q, dO, K, V or K, V, Q, dO */
  bsd_operand own_first, own_second, other_first, other_second;
  bsd_operand_f32 lse, delta;
  sm90_lists lists;
  const int32_t *query_heads; /* of all items; dk, dv */
  bsd_tensor first, second;   /* outputs, and fp32 sums to add to instead, or NULL */
  float *first_sum, *second_sum;
  int64_t own_heads, heads, tokens;
  int beside_previous;            /* dq: runs while dk, dv, launched right before, still run */
  float scale, exponent, inverse; /* scale; times log2(e); 1/scale */
};

/* ForKeys: dk, dv. Kept: own tiles that are held in registers: products then read half as much shared memory,
 * and where both are, the place of an own pair is free for the next one at once. */
template <typename Type, int HeadDim, int Count, int Ctas, bool ForKeys, int Kept>
struct backward_config {
  using type = Type;
  static constexpr int D = HeadDim, members = Count, ctas = Ctas, kept = Kept;
  static constexpr bool keys = ForKeys;
  static constexpr int threads = (members + 1) * 128;
  static constexpr int tile = 64 * D * 2, pair = 2 * tile;
  static constexpr int residents = D == 64 && kept < 2 ? 2 : 1; /* own pairs of a member */
  static constexpr int room = 232448 / ctas / 1024 * 1024 - (ctas > 1 ? 1024 : 0);
  static constexpr int header = SM90_HEADER + (keys ? 1024 : 0);
  static constexpr int own_statistics = keys ? 0 : 512, statistics = keys ? 1024 : 0;
  static constexpr int own_bytes = residents * members * (pair + own_statistics);
  static constexpr int fit = (room - header - own_bytes) / (pair + statistics);
  static constexpr int stages = fit > SM90_MOST_STAGES ? SM90_MOST_STAGES : fit;
  static constexpr int ring_at = header + residents * members * pair;
  static constexpr int statistics_at = ring_at + stages * pair;
  static constexpr int shared = header + own_bytes + stages * (pair + statistics);
  static constexpr int pool = 65536 / ctas / threads / 8 * 8 * (members + 1);
  static constexpr int producer = members > 2 ? 32 : 40;
  static constexpr int consumer = (pool - producer) / members / 8 * 8;
  static_assert(stages >= 2, "a ring needs two stages");
};

/* dk, dv, from the start of shared memory. */
enum {
  SM90_SELECTORS = SM90_HEADER, /* operands that pick lse or delta from the pieces */
  SM90_LANDED =
      SM90_HEADER + 512, /* [16] a streamed pair has arrived; it is full once it has its pieces */
};

/* Counts the uses of each member's places, a byte a member. */
__device__ __forceinline__ uint32_t next_use(uint32_t &uses, int m) {
  const uint32_t use = uses >> (8 * m) & 255;
  uses = (uses & ~(255u << (8 * m))) | ((use + 1) & 255) << (8 * m);
  return use;
}

} // namespace sm90

#endif
