/* tile.cuh - the parts of the sm80 kernels: tiles in shared memory, products, a step's table, results.
 *
 * A block of warps owns `Slots` slots of one tile (16 a warp) and walks the other side's blocks in steps of 64
 * slots: one part of a large tile or several small tiles. While a step is multiplied, the rows of the next
 * are copied and the slots of the one after are looked up.
 *
 * Tiles in shared memory have rows of `width` 16-bit elements; the 16-byte piece c of row r stands at piece
 * c ^ (r & 7), so that ldmatrix meets no bank conflict. */
#ifndef BSD_SM80_TILE_CUH
#define BSD_SM80_TILE_CUH

#include "../elements.cuh"
#include "../ptx.cuh"
#include "../tiles.cuh"
#include "layout.h"

namespace bsd_sm80 {

template <int WidthOf, int SlotsOf, typename TypeOf> struct shape {
  using type = TypeOf;
  static constexpr int width = WidthOf; /* head dimension, padded */
  static constexpr int slots = SlotsOf; /* own slots */
  static constexpr int threads = 2 * SlotsOf;
  static constexpr int stages = bsd_sm80_stages(WidthOf);
  static constexpr int pieces = WidthOf / 8;    /* of 16 bytes, in a row */
  static constexpr int products = WidthOf / 16; /* k16 steps along a row */
  static constexpr int columns =
      WidthOf < 128 ? WidthOf : 128; /* of a gradient that a block makes */
  static constexpr int halves = WidthOf / columns;
  static constexpr int own_bytes = SlotsOf * WidthOf * 2;
  static constexpr int step_bytes = BSD_SM80_STEP * WidthOf * 2;
  static constexpr bool keep_own = WidthOf <= 64; /* own rows stay in registers */
};

constexpr float log2_e = 1.4426950408889634f, ln_2 = 0.6931471805599453f;

/* ---- tiles in shared memory -------------------------------------------------------------------- */

template <typename S>
__device__ __forceinline__ uint32_t piece_at(uint32_t tile, int row, int piece) {
  return tile + row * (S::width * 2) + (piece ^ (row & 7)) * 16;
}

/* Begins copying rows; zeros where a row is NULL and beyond head_dim. Any address serves for nothing. */
template <typename S, int Rows>
__device__ __forceinline__ void copy_rows(uint32_t tile, const char *const *rows, int head_dim,
                                          const void *any) {
  constexpr int together = S::threads / S::pieces; /* rows that the block's threads copy at once */
  const int piece = threadIdx.x % S::pieces;
  const bool in_row = 8 * piece < head_dim;
#pragma unroll 4
  for (int row = threadIdx.x / S::pieces; row < Rows; row += together) {
    const char *from = rows[row];
    const bool there = from && in_row;
    bsd_copy_async_or_zero(piece_at<S>(tile, row, piece),
                           there ? from + 16 * piece : static_cast<const char *>(any),
                           there ? 16 : 0);
  }
}

/* A operand: this warp's 16 own rows, elements 16*i .. 16*i + 15. */
template <typename S>
__device__ __forceinline__ void load_own(uint32_t (&a)[4], uint32_t tile, int i) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  bsd_load_matrix(a, piece_at<S>(tile, 16 * warp + (lane & 15), 2 * i + (lane >> 4)));
}

/* Own rows where the kernel wants them: in registers if they fit, else read again and again. */
template <typename S> struct own_rows {
  uint32_t in_registers[S::keep_own ? S::products : 1][4];
  uint32_t tile;

  __device__ __forceinline__ void set(uint32_t from) {
    tile = from;
    if (S::keep_own) {
#pragma unroll
      for (int i = 0; i < S::products; i++)
        load_own<S>(in_registers[S::keep_own ? i : 0], tile, i);
    }
  }
  __device__ __forceinline__ void get(uint32_t (&a)[4], int i) const {
    if (S::keep_own) {
#pragma unroll
      for (int j = 0; j < 4; j++)
        a[j] = in_registers[S::keep_own ? i : 0][j];
    } else {
      load_own<S>(a, tile, i);
    }
  }
};

/* ---- products ------------------------------------------------------------------------------------ */

/* x[slot group] = own rows * rows of slots 8*(first + j) .. of a step's tile, transposed; N groups of 8. */
template <typename S, int N>
__device__ __forceinline__ void multiply_rows(float (&x)[N][4], const own_rows<S> &own,
                                              uint32_t tile, int first) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int j = 0; j < N; j++)
    x[j][0] = x[j][1] = x[j][2] = x[j][3] = 0;
#pragma unroll
  for (int i = 0; i < S::products; i += 2) {
    uint32_t a[2][4];
    own.get(a[0], i);
    own.get(a[1], i + 1);
#pragma unroll
    for (int j = 0; j < N; j++) {
      uint32_t b[4];
      bsd_load_matrix(b, piece_at<S>(tile, 8 * (first + j) + (lane & 7), 2 * i + (lane >> 3)));
      bsd_mma(x[j], a[0], b[0], b[1], typename S::type());
      bsd_mma(x[j], a[1], b[2], b[3], typename S::type());
    }
  }
}

/* total[element group] += weights * rows of slots 8*first .. of a step's tile; the tile's elements from
 * 8 * group0 on, M groups of 8. Weights are rounded to the type. */
template <typename S, int N, int M>
__device__ __forceinline__ void weigh_rows(float (&total)[M][4], const float (&x)[N][4],
                                           uint32_t tile, int first, int group0) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int i = 0; i < N / 2; i++) {
    const typename S::type t = typename S::type();
    const uint32_t a[4] = {bsd_pack2(x[2 * i][0], x[2 * i][1], t),
                           bsd_pack2(x[2 * i][2], x[2 * i][3], t),
                           bsd_pack2(x[2 * i + 1][0], x[2 * i + 1][1], t),
                           bsd_pack2(x[2 * i + 1][2], x[2 * i + 1][3], t)};
#pragma unroll
    for (int j = 0; j < M; j += 2) {
      uint32_t b[4];
      bsd_load_matrix_transposed(
          b, piece_at<S>(tile, 8 * first + 16 * i + (lane & 15), group0 + j + (lane >> 4)));
      bsd_mma(total[j], a, b[0], b[1], t);
      bsd_mma(total[j + 1], a, b[2], b[3], t);
    }
  }
}

/* ---- the own tile, and steps over the other side ------------------------------------------------- */

/* In shared memory: what is known of a step's slots. Rows are NULL where nothing may be read. */
struct step_table {
  const char *first_row[BSD_SM80_STEP], *second_row[BSD_SM80_STEP]; /* k and v, or q and do */
  short first[BSD_SM80_STEP],
      last[BSD_SM80_STEP]; /* own slots that the slot pairs with, inclusive */
  float lse[BSD_SM80_STEP], delta[BSD_SM80_STEP]; /* of queries; lse times log2 e */
  int seen[2], partial[2]; /* by half of the step: a slot pairs at all, not with all */
};

struct own_table {
  const char *first_row[64], *second_row[64];
  int token[64]; /* -1: missing */
};

struct tables {
  step_table step[BSD_SM80_TABLES];
  own_table own;
};
static_assert(sizeof(tables) <= BSD_SM80_TABLE_BYTES, "sm80.c counts on less");

struct task {
  bsd_cuda_item item;
  const bsd_cuda_list *list;
  bsd_cuda_tile own;
  int own_first;  /* tile slot of own slot 0 */
  int own_tokens; /* own slots that the segment has; <= 0: nothing to do */
  int64_t batch;
  int steps, block;
};

template <typename S>
__device__ __forceinline__ task my_task(const bsd_call &call, const bsd_cuda_list *lists,
                                        const bsd_cuda_item *items, int subtiles, int parts) {
  task t;
  const int at = blockIdx.x / parts;
  t.item = bsd_load_item(items + at / subtiles);
  t.list = lists + t.item.list;
  t.own = bsd_load_tile(t.list->rows + t.item.row);
  t.own_first = at % subtiles * S::slots;
  t.own_tokens = min(t.own.tokens - t.own_first, +S::slots);
  t.batch = blockIdx.y;
  t.block = static_cast<int>(call.block);
  t.steps = (t.item.count * t.block + BSD_SM80_STEP - 1) / BSD_SM80_STEP;
  return t;
}

/* What is known of one slot of a step before it stands in the table. The look-up of a step is spread over three
 * iterations, so that no load is waited for: tile number, tile, then rows and statistics. */
struct slot_state {
  const char *first_row, *second_row;
  int first, last; /* own slots that it pairs with, inclusive */
  float lse, delta;
  bool there;
};

/* The other side's tile that slot j of a step lies in, -1: none. */
__device__ __forceinline__ int tile_number(const task &t, int step, int j) {
  const int entry = (step * BSD_SM80_STEP + j) / t.block;
  return entry < t.item.count ? __ldg(t.list->tiles + t.item.tiles + entry) : -1;
}

__device__ __forceinline__ bsd_cuda_tile tile_of(const task &t, int number) {
  return bsd_load_tile(t.list->blocks + max(number, 0));
}

/* The token in slot j of a step, whose tile this is; index -1: none, or it pairs with no own slot. Sign +1: own
 * slots are queries, -1: keys. */
template <int Sign>
__device__ __forceinline__ bsd_cuda_token find_token(const task &t, const bsd_cuda_tile &tile,
                                                     int number, int step, int j, slot_state &s) {
  const int slot = (step * BSD_SM80_STEP + j) % t.block;
  const int64_t distance = tile.t0 + slot - t.own.t0 - t.own_first;
  const int64_t low = Sign > 0 ? distance - t.list->highest : distance + t.list->lowest;
  const int64_t high = Sign > 0 ? distance - t.list->lowest : distance + t.list->highest;
  s.first = static_cast<int>(max(low, static_cast<int64_t>(0)));
  s.last = static_cast<int>(min(high, static_cast<int64_t>(t.own_tokens - 1)));
  if (number < 0 || slot >= tile.tokens || low >= t.own_tokens || high < 0)
    return {-1, 0};
  return bsd_token_of_slot(tile, t.list->fragments, slot);
}

/* A key, if some own slot may see it. */
__device__ __forceinline__ slot_state find_key(const task &t, const bsd_call &call,
                                               const bsd_cuda_tile &tile, int number, int step,
                                               int j) {
  slot_state s;
  const bsd_cuda_token token = find_token<1>(t, tile, number, step, j, s);
  const int64_t head = t.item.head / (call.heads / call.kv_heads);
  s.there = token.index >= 0;
  s.first_row = bsd_operand_row(call.k, token, t.batch, head, call.head_dim, 2);
  s.second_row = bsd_operand_row(call.v, token, t.batch, head, call.head_dim, 2);
  s.lse = s.delta = 0;
  return s;
}

/* A query of one head. lse is the raw one until put_slot judges it: one that sees no key counts as missing. */
__device__ __forceinline__ slot_state find_query(const task &t, const bsd_call &call, int64_t head,
                                                 const bsd_cuda_tile &tile, int number, int step,
                                                 int j) {
  slot_state s;
  const bsd_cuda_token token = find_token<-1>(t, tile, number, step, j, s);
  s.there = token.index >= 0;
  s.first_row = bsd_operand_row(call.q, token, t.batch, head, call.head_dim, 2);
  s.second_row = bsd_operand_row(call.d_o, token, t.batch, head, call.head_dim, 2);
  s.lse = bsd_minus_infinity(), s.delta = 0;
  if (s.there) {
    s.lse = bsd_operand_value(call.lse, token, t.batch, head, call.heads, call.tokens);
    s.delta = bsd_operand_value(call.delta, token, t.batch, head, call.heads, call.tokens);
  }
  return s;
}

/* Writes slot j of a step; called by whole warps of which each has one half of the step. Statistics of what is
 * not there make every probability 0. */
__device__ __forceinline__ void put_slot(step_table &to, int j, const task &t,
                                         const slot_state &s) {
  const bool there = s.there && s.lse != bsd_minus_infinity();
  to.first_row[j] = there ? s.first_row : nullptr;
  to.second_row[j] = there ? s.second_row : nullptr;
  to.first[j] = static_cast<short>(there ? s.first : BSD_SM80_STEP);
  to.last[j] = static_cast<short>(there ? s.last : -1);
  to.lse[j] = there ? s.lse * log2_e : -bsd_minus_infinity();
  to.delta[j] = there ? s.delta : 0;
  const bool any_seen = __any_sync(0xffffffffu, there);
  const bool any_partial =
      __any_sync(0xffffffffu, !there || s.first > 0 || s.last < t.own_tokens - 1);
  if ((j & 31) == 0) {
    to.seen[j >> 5] = any_seen;
    to.partial[j >> 5] = any_partial;
  }
}

/* Own slots: tokens, and rows of one or two local tensors. With lse, queries that see no key have none. */
template <typename S>
__device__ __forceinline__ void put_own(own_table &to, const task &t, const bsd_call &call,
                                        int64_t head, const bsd_tensor &first,
                                        const bsd_tensor *second, const float *lse) {
  const int j = threadIdx.x;
  if (j >= S::slots)
    return;
  int token = -1;
  if (j < t.own_tokens)
    token = bsd_token_of_slot(t.own, t.list->row_fragments, t.own_first + j).index;
  const bool sees =
      token >= 0 &&
      (!lse || lse[(t.batch * call.heads + head) * call.tokens + token] != bsd_minus_infinity());
  to.token[j] = token;
  to.first_row[j] = sees ? bsd_tensor_row(first, token, t.batch, head, 2) : nullptr;
  to.second_row[j] = sees && second ? bsd_tensor_row(*second, token, t.batch, head, 2) : nullptr;
}

/* Whether the pair of own slot and a step's slot counts. */
__device__ __forceinline__ bool counts(const step_table &s, int own, int slot) {
  return own >= s.first[slot] && own <= s.last[slot];
}

/* This thread's own slots: rows g and g + 8 of its warp's 16. */
__device__ __forceinline__ int my_slot(int r) {
  return 16 * (threadIdx.x >> 5) + ((threadIdx.x & 31) >> 2) + 8 * r;
}
/* This thread's first column in group j of 8. */
__device__ __forceinline__ int my_column(int j) {
  return 8 * j + 2 * (threadIdx.x & 3);
}

/* Gives every pair that does not count the value `hidden`. Slots from 8 * first on. */
template <int N>
__device__ __forceinline__ void mask(float (&x)[N][4], const step_table &s, int first,
                                     float hidden) {
#pragma unroll
  for (int j = 0; j < N; j++)
#pragma unroll
    for (int e = 0; e < 4; e++)
      if (!counts(s, my_slot(e >> 1), my_column(first + j) + (e & 1)))
        x[j][e] = hidden;
}

/* The loop over steps, as all three kernels have it. While step s is computed, the rows of s + 1 are copied, the
 * slots of s + 2 resolved, the tiles of s + 3 and the tile numbers of s + 4 loaded. With one stage of tiles,
 * copying waits until the step before has been computed.
 * number(step, j), resolve(tile, number, step, j) -> slot_state, compute(table, first tile, second tile). */
template <typename S, bool HasStatistics, typename Number, typename Resolve, typename Compute>
__device__ __forceinline__ void
walk(tables &slots, const task &t, uint32_t first_tiles, uint32_t second_tiles, int steps,
     const bsd_call &call, const void *any, Number number, Resolve resolve, Compute compute) {
  constexpr int mine = S::threads < BSD_SM80_STEP ? BSD_SM80_STEP / S::threads : 1;
  const int head_dim = static_cast<int>(call.head_dim), j0 = threadIdx.x;
  const bool looks_up = j0 < BSD_SM80_STEP; /* whole warps */
  int next_number[mine] = {}, tile_number_of[mine] = {};
  bsd_cuda_tile tile[mine] = {};
  slot_state state[mine];
  auto load =
      [&](int i,
          int step) { /* when `step` is resolved: the tile of the next, the number after it */
                      tile_number_of[i] = next_number[i];
                      tile[i] = tile_of(t, tile_number_of[i]);
                      next_number[i] = number(step + 2, j0 + i * S::threads);
      };
  auto copy = [&](int step) {
    const step_table &s = slots.step[step % BSD_SM80_TABLES];
    const int stage = step % S::stages;
    if (step < steps && (s.seen[0] | s.seen[1])) {
      copy_rows<S, BSD_SM80_STEP>(first_tiles + stage * S::step_bytes, s.first_row, head_dim, any);
      copy_rows<S, BSD_SM80_STEP>(second_tiles + stage * S::step_bytes, s.second_row, head_dim,
                                  any);
    }
  };
  /* Where rows alone are looked up, that is done when the slot is put: registers are dearer than time. */
  auto look_ahead = [&](int step) {
#pragma unroll
    for (int i = 0; i < mine; i++) {
      const int j = j0 + i * S::threads;
      if (HasStatistics)
        state[i] = resolve(tile[i], tile_number_of[i], step, j);
      if (HasStatistics)
        load(i, step);
    }
  };
  auto put = [&](int step) {
#pragma unroll
    for (int i = 0; i < mine; i++) {
      const int j = j0 + i * S::threads;
      if (!HasStatistics)
        state[i] = resolve(tile[i], tile_number_of[i], step, j);
      put_slot(slots.step[step % BSD_SM80_TABLES], j, t, state[i]);
      if (!HasStatistics)
        load(i, step);
    }
  };
  if (looks_up) {
#pragma unroll
    for (int i = 0; i < mine; i++) {
      tile_number_of[i] = number(0, j0 + i * S::threads);
      next_number[i] = number(1, j0 + i * S::threads);
      tile[i] = tile_of(t, tile_number_of[i]);
    }
    look_ahead(0);
    put(0);
    look_ahead(1);
    put(1);
  }
  __syncthreads();
  if (S::stages > 1)
    copy(0);
  for (int step = 0; step < steps; step++) {
    const step_table &s = slots.step[step % BSD_SM80_TABLES];
    if (S::stages == 1) {
      __syncthreads(); /* everyone is done with the tiles */
      copy(step);
    }
    bsd_copy_async_wait();
    __syncthreads(); /* this step's rows and the next one's table are there */
    if (S::stages > 1)
      copy(step + 1);
    if (looks_up)
      look_ahead(step + 2);
    if (s.seen[0] | s.seen[1])
      compute(s, first_tiles + step % S::stages * S::step_bytes,
              second_tiles + step % S::stages * S::step_bytes);
    if (looks_up)
      put(step + 2);
  }
}

/* ---- results ------------------------------------------------------------------------------------- */

/* Two neighbouring elements of one own row, added to an accumulator or rounded and written. */
template <typename S>
__device__ __forceinline__ void
put_pair(const bsd_call &call, float *accumulator, const bsd_tensor &tensor, int64_t heads,
         int64_t batch, int64_t head, int64_t token, int element, float a, float b) {
  if (accumulator) {
    float2 *at = reinterpret_cast<float2 *>(
        accumulator + ((batch * heads + head) * call.tokens + token) * call.head_dim + element);
    float2 x = *at;
    x.x += a, x.y += b;
    *at = x;
  } else {
    *reinterpret_cast<uint32_t *>(bsd_tensor_row(tensor, token, batch, head, 2) + 2 * element) =
        bsd_pack2(a, b, typename S::type());
  }
}

template <typename S, int M>
__device__ __forceinline__ void
put_gradient(const own_table &own, const task &t, const bsd_call &call, const float (&total)[M][4],
             int group0, float factor, float *accumulator, const bsd_tensor &tensor, int64_t heads,
             int64_t head) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int token = own.token[my_slot(r)];
    if (token < 0)
      continue;
#pragma unroll
    for (int j = 0; j < M; j++) {
      const int element = my_column(group0 + j);
      if (element < call.head_dim)
        put_pair<S>(call, accumulator, tensor, heads, t.batch, head, token, element,
                    factor * total[j][2 * r], factor * total[j][2 * r + 1]);
    }
  }
}

} // namespace bsd_sm80

#endif
