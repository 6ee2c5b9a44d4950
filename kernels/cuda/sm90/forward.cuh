/* forward.cuh - what the parts of the forward kernel share: parameters, and how a multiprocessor is divided.
 *
 * A CTA is `members` consumer warpgroups, one member of an item each, and behind them a warpgroup of which
 * one warp is the producer. It walks every gridDim.x-th item. */
#ifndef BSD_SM90_FORWARD_CUH
#define BSD_SM90_FORWARD_CUH

#include "pipeline.cuh"
#include "sm90.h"

namespace {

constexpr float LIMIT = 32768.f; /* a partial sum; also what f16 probabilities can hold */
constexpr float UNSET = -1e30f;  /* no maximum yet */
constexpr float LN2 = 0.69314718056f;
constexpr float LOG2E = 1.44269504089f;

/* In place of an entry's map: the producer has found the entry's rows in the messages' memory. */
constexpr uint32_t FORWARD_ROWS = 253;

struct forward_params {
  bsd_sm90_maps q, k, v, o;
  CUtensorMap of_messages;
  const char *messages; /* NULL: their rows are gathered */
  bsd_operand query, key, value;
  sm90_lists lists;
  float *lse, *acc_o, *acc_lse;
  bsd_tensor out;
  int64_t heads, tokens;
  float scale; /* times log2(e) */
};

template <typename Type, int HeadDim, int Count> struct config {
  using type = Type;
  static constexpr int D = HeadDim, members = Count;
  static constexpr int ctas = members > 1 ? 1 : D == 128 ? 2 : 3;
  static constexpr int threads = (members + 1) * 128;
  static constexpr int tile = 64 * D * 2;
  static constexpr int residents =
      2; /* own tiles of a member: one in use, one to come or being stored */
  static constexpr int room = (233472 / ctas - 1024) / 1024 * 1024;
  static constexpr int fit = (room - SM90_HEADER - residents * members * tile) / (2 * tile);
  static constexpr int stages = fit > SM90_MOST_STAGES ? SM90_MOST_STAGES : fit;
  static constexpr int shared = SM90_HEADER + residents * members * tile + stages * 2 * tile;
  static constexpr int pool =
      65536 / ctas / threads / 8 * 8 * (members + 1); /* of registers, a thread of each warpgroup */
  static constexpr int producer = members == 1 ? 40 : 32;
  static constexpr int consumer = (pool - producer) / members / 8 * 8;
  static_assert(stages >= 2, "a ring needs two stages");
};

} // namespace

#endif
