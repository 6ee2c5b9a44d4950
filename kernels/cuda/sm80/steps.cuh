/* steps.cuh - the other side of an own tile in steps of 64 slots: looked up, copied, masked, handed to products.
 *
 * While a step is multiplied, the rows of the next are copied. Where they lie is looked up eight steps at
 * once by one warp, a lane for every *run* of 16 slots: if one fragment covers the run and all its slots pair
 * with all own slots, its first row and the distance of its rows tell everything. A step that has another kind
 * of run (tails, masks, several fragments) is *ragged*: it gets a table with an entry for each slot. */
#ifndef BSD_SM80_STEPS_CUH
#define BSD_SM80_STEPS_CUH

#include "tile.cuh"

namespace bsd_sm80 {

/* ---- in shared memory ---------------------------------------------------------------------------- */

struct __align__(16) run {
  const char *row; /* of the first slot */
  int stride;      /* bytes from a slot's row to the next one's */
};

/* Of k and v, or of q and do. */
struct run_pair {
  run first, second;
};

/* The same for lse and delta of queries. */
struct value_run {
  const float *lse, *delta;
  int stride;
};

/* Own slots that a slot pairs with, first <= own <= last; none: first > last. */
struct __align__(4) span {
  short first, last;
};

/* A ragged step. Rows are NULL where nothing may be read. */
struct slot_table {
  const char *first_row[BSD_SM80_STEP], *second_row[BSD_SM80_STEP];
  __align__(8) span own[BSD_SM80_STEP];
};

/* What there is to compute in a step that is copied: no slot pairs with an own slot, some pairs count, all count. */
enum outlook { NOTHING, SOME_PAIRS, ALL_PAIRS };

enum { RUNS = BSD_SM80_STEP / BSD_SM80_RUN, LOOKED_UP = 2 * BSD_SM80_BATCH };

/* The work of a block. It is kept in shared memory: look-ups are rare, registers are not to be had. */
struct task {
  bsd_cuda_item item;
  const bsd_cuda_list *list;
  const void *any; /* readable, aligned to 16: stands for rows that are not there */
  bsd_cuda_tile own;
  int own_first;  /* tile slot of own slot 0 */
  int own_tokens; /* own slots that the segment has; <= 0: nothing to do */
  int batch, kv_head;
  int block_shift; /* log2 of slots in a tile */
  int list_steps;  /* in one pass over the list */
  int steps;       /* in all: dk and dv pass over it once for each query head */
};

struct own_table {
  const char *first_row[64], *second_row[64];
  int token[64]; /* -1: missing */
};

struct key_tables {
  task work;
  own_table own;
  run_pair runs[LOOKED_UP][RUNS];
  int ragged[LOOKED_UP];
  outlook outlooks[2]; /* of the step computed and of the next one */
  slot_table slots[2]; /* of the same, where ragged */
};

struct query_tables : key_tables {
  value_run values[LOOKED_UP][RUNS];
  float lse[2][BSD_SM80_STEP], delta[2][BSD_SM80_STEP];
};
static_assert(sizeof(query_tables) <= BSD_SM80_TABLE_BYTES, "sm80.c counts on less");

/* ---- the own tile -------------------------------------------------------------------------------- */

template <typename S>
__device__ __forceinline__ task my_task(const bsd_call &call, const bsd_cuda_list *lists,
                                        const bsd_cuda_item *items, int subtiles, int parts) {
  task t;
  const int at = blockIdx.x / parts;
  t.item = bsd_load_item(items + at / subtiles);
  t.list = lists + t.item.list;
  t.any = items;
  t.own = bsd_load_tile(t.list->rows + t.item.row);
  t.own_first = at % subtiles * S::slots;
  t.own_tokens = min(t.own.tokens - t.own_first, +S::slots);
  t.batch = blockIdx.y;
  t.kv_head = t.item.head / static_cast<int>(call.heads / call.kv_heads);
  t.block_shift = 31 - __clz(static_cast<int>(call.block));
  t.list_steps = ((t.item.count << t.block_shift) + BSD_SM80_STEP - 1) / BSD_SM80_STEP;
  t.steps = t.list_steps;
  return t;
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

/* This thread's own slots: of the warp's m-th 16 rows, rows g and g + 8. */
template <typename S> __device__ __forceinline__ int my_slot(int m, int r) {
  return 16 * (S::tall * (threadIdx.x >> 5) + m) + ((threadIdx.x & 31) >> 2) + 8 * r;
}
/* This thread's first column in group j of 8. */
__device__ __forceinline__ int my_column(int j) {
  return 8 * j + 2 * (threadIdx.x & 3);
}

/* ---- looking up ---------------------------------------------------------------------------------- */

/* Where slot `slot` of a step stands: the head whose rows are meant, the place in the list, the tile's slot. */
struct place {
  int head, entry, slot;
  bool there;
};

template <bool Queries>
__device__ __forceinline__ place find_place(const task &t, int step, int slot) {
  place p;
  int at = step;
  p.head = t.kv_head;
  if (Queries) {
    const int pass = step < t.steps ? step / t.list_steps : 0;
    at -= pass * t.list_steps;
    p.head = __ldg(t.list->heads + t.item.place + pass);
  }
  at = at * BSD_SM80_STEP + slot;
  p.entry = at >> t.block_shift;
  p.slot = at & ((1 << t.block_shift) - 1);
  p.there = step < t.steps && p.entry < t.item.count;
  return p;
}

__device__ __forceinline__ bsd_cuda_tile tile_at(const task &t, const place &p) {
  if (!p.there)
    return {};
  return bsd_load_tile(t.list->blocks + __ldg(t.list->tiles + t.item.tiles + p.entry));
}

/* Own slots that a slot of the other side pairs with: low <= own <= high. Both grow with the slot. */
struct interval {
  int64_t low, high;
};

template <bool Queries>
__device__ __forceinline__ interval partners(const task &t, const bsd_cuda_tile &tile, int slot) {
  const int64_t distance = tile.t0 + slot - t.own.t0 - t.own_first;
  if (Queries)
    return {distance + t.list->lowest, distance + t.list->highest};
  return {distance - t.list->highest, distance - t.list->lowest};
}

template <bool Queries>
__device__ __forceinline__ const bsd_operand &first_operand(const bsd_call &call) {
  return Queries ? call.q : call.k;
}
template <bool Queries>
__device__ __forceinline__ const bsd_operand &second_operand(const bsd_call &call) {
  return Queries ? call.d_o : call.v;
}

/* Bytes from a fragment's row to its next one's. */
__device__ __forceinline__ int64_t stride_of(const bsd_operand &operand, const bsd_cuda_tile &tile,
                                             int64_t head_dim) {
  return 2 * tile.step * (tile.source == 0 ? operand.local.position_stride : head_dim);
}

__device__ __forceinline__ bool find_values(key_tables &, int, int, const task &, const bsd_call &,
                                            int, bsd_cuda_token, int) {
  return true;
}

/* lse and delta of a run; false: one of its queries sees no key. */
__device__ __forceinline__ bool find_values(query_tables &tables, int at, int number, const task &t,
                                            const bsd_call &call, int head, bsd_cuda_token token,
                                            int stride) {
  const value_run v = {bsd_operand_at(call.lse, token, t.batch, head, call.heads, call.tokens),
                       bsd_operand_at(call.delta, token, t.batch, head, call.heads, call.tokens),
                       stride};
  bool all_see = true;
#pragma unroll
  for (int i = 0; i < BSD_SM80_RUN; i++)
    all_see &= v.lse[i * v.stride] != bsd_minus_infinity();
  tables.values[at][number] = v;
  return all_see;
}

/* Looks up a run of 16 slots; false: it makes the step ragged. */
template <bool Queries, typename Tables>
__device__ __forceinline__ bool find_run(Tables &tables, const task &t, const bsd_call &call,
                                         int step, int number) {
  const place p = find_place<Queries>(t, step, number * BSD_SM80_RUN);
  const bsd_cuda_tile tile = tile_at(t, p);
  const int from = p.slot - tile.slot, at = step % LOOKED_UP;
  const bsd_operand &first = first_operand<Queries>(call), &second = second_operand<Queries>(call);
  const int64_t first_stride = stride_of(first, tile, call.head_dim);
  const int64_t second_stride = stride_of(second, tile, call.head_dim);
  const bool whole = p.there && from >= 0 && from + BSD_SM80_RUN <= tile.count &&
                     p.slot + BSD_SM80_RUN <= tile.tokens &&
                     partners<Queries>(t, tile, p.slot + BSD_SM80_RUN - 1).low <= 0 &&
                     partners<Queries>(t, tile, p.slot).high >= t.own_tokens - 1 &&
                     first_stride == static_cast<int>(first_stride * 16) / 16 &&
                     second_stride == static_cast<int>(second_stride * 16) / 16;
  if (!whole)
    return false;
  const bsd_cuda_token token = {tile.first + from * tile.step, tile.source};
  tables.runs[at][number].first = {bsd_operand_row(first, token, t.batch, p.head, call.head_dim, 2),
                                   static_cast<int>(first_stride)};
  tables.runs[at][number].second = {
      bsd_operand_row(second, token, t.batch, p.head, call.head_dim, 2),
      static_cast<int>(second_stride)};
  return find_values(tables, at, number, t, call, p.head, token, tile.step);
}

/* Looks up a batch of steps; called by one warp. */
template <bool Queries, typename Tables>
__device__ __forceinline__ void look_up(Tables &tables, const task &t, const bsd_call &call,
                                        int batch) {
  const int lane = threadIdx.x & 31, number = lane % RUNS;
  const int step = batch * BSD_SM80_BATCH + lane / RUNS;
  const bool whole = find_run<Queries>(tables, t, call, step, number);
  const unsigned all = (1u << RUNS) - 1, wholes = __ballot_sync(0xffffffffu, whole);
  if (number == 0)
    tables.ragged[step % LOOKED_UP] = (wholes >> lane & all) != all;
}

__device__ __forceinline__ void put_values(key_tables &, int, int, const bsd_call &, const task &,
                                           int, bsd_cuda_token, bool &) {
}

/* lse and delta of a ragged step's slot. A query that sees no key counts as missing. */
__device__ __forceinline__ void put_values(query_tables &tables, int step, int j,
                                           const bsd_call &call, const task &t, int head,
                                           bsd_cuda_token token, bool &there) {
  float lse = bsd_minus_infinity(), delta = 0;
  if (there)
    lse = bsd_operand_value(call.lse, token, t.batch, head, call.heads, call.tokens);
  there = lse != bsd_minus_infinity();
  if (there)
    delta = bsd_operand_value(call.delta, token, t.batch, head, call.heads, call.tokens);
  tables.lse[step % 2][j] = there ? lse : -bsd_minus_infinity();
  tables.delta[step % 2][j] = delta;
}

/* Fills a ragged step's table; the whole block. */
template <typename S, bool Queries, typename Tables>
__device__ __forceinline__ outlook put_slots(Tables &tables, const task &t, const bsd_call &call,
                                             int step) {
  slot_table &to = tables.slots[step % 2];
  bool any_there = false, any_partial = false;
  for (int j = threadIdx.x; j < BSD_SM80_STEP; j += S::threads) {
    const place p = find_place<Queries>(t, step, j);
    const bsd_cuda_tile tile = tile_at(t, p);
    const interval own = partners<Queries>(t, tile, p.slot);
    bsd_cuda_token token = {-1, 0};
    if (p.there && p.slot < tile.tokens && own.low < t.own_tokens && own.high >= 0)
      token = bsd_token_of_slot(tile, t.list->fragments, p.slot);
    bool there = token.index >= 0;
    put_values(tables, step, j, call, t, p.head, token, there);
    const bsd_operand &first = first_operand<Queries>(call),
                      &second = second_operand<Queries>(call);
    to.first_row[j] =
        there ? bsd_operand_row(first, token, t.batch, p.head, call.head_dim, 2) : nullptr;
    to.second_row[j] =
        there ? bsd_operand_row(second, token, t.batch, p.head, call.head_dim, 2) : nullptr;
    to.own[j] = {
        static_cast<short>(there ? max(own.low, static_cast<int64_t>(0)) : S::slots),
        static_cast<short>(there ? min(own.high, static_cast<int64_t>(t.own_tokens - 1)) : -1)};
    any_there |= there;
    any_partial |= !there || own.low > 0 || own.high < t.own_tokens - 1;
  }
  const bool seen = __syncthreads_or(any_there), partial = __syncthreads_or(any_partial);
  return !seen ? NOTHING : partial ? SOME_PAIRS : ALL_PAIRS;
}

/* ---- copying ------------------------------------------------------------------------------------- */

/* Rows of four runs of the first or the second tensor, as copy_rows. All addresses stand ready before the first copy:
 * reads of shared memory between copies hold them up. */
template <typename S>
__device__ __forceinline__ void copy_runs(uint32_t tile, const run_pair (&runs)[RUNS],
                                          run run_pair::*which, int head_dim) {
  constexpr int together = S::threads / S::pieces; /* <= BSD_SM80_RUN */
  constexpr int rounds = BSD_SM80_STEP / together, at_once = rounds < 8 ? rounds : 8;
  const int piece = threadIdx.x % S::pieces, row0 = threadIdx.x / S::pieces;
  const int bytes = 8 * piece < head_dim ? 16 : 0;
#pragma unroll
  for (int first = 0; first < rounds; first += at_once) {
    const char *from[at_once];
#pragma unroll
    for (int i = 0; i < at_once; i++) {
      const int row = row0 + (first + i) * together;
      const run r = runs[(first + i) * together / BSD_SM80_RUN].*which;
      from[i] = r.row + row % BSD_SM80_RUN * r.stride + (bytes ? 16 * piece : 0);
    }
#pragma unroll
    for (int i = 0; i < at_once; i++)
      bsd_copy_async_or_zero(piece_at<S>(tile, row0 + (first + i) * together, piece), from[i],
                             bytes);
  }
}

template <typename S> __device__ __forceinline__ void copy_values(key_tables &, int) {
}

/* lse and delta of four runs. */
template <typename S> __device__ __forceinline__ void copy_values(query_tables &tables, int step) {
  const value_run(&runs)[RUNS] = tables.values[step % LOOKED_UP];
#pragma unroll 1
  for (int j = threadIdx.x; j < 2 * BSD_SM80_STEP; j += S::threads) {
    const int slot = j % BSD_SM80_STEP;
    const value_run &v = runs[slot / BSD_SM80_RUN];
    const float *const from = j < BSD_SM80_STEP ? v.lse : v.delta;
    float *const to = j < BSD_SM80_STEP ? tables.lse[step % 2] : tables.delta[step % 2];
    bsd_copy_async_word(bsd_shared_address(to + slot), from + slot % BSD_SM80_RUN * v.stride);
  }
}

/* Begins copying a step; the whole block. */
template <typename S, bool Queries, typename Tables>
__device__ __forceinline__ void copy_step(Tables &tables, const bsd_call &call, int step,
                                          uint32_t tiles) {
  const int head_dim = static_cast<int>(call.head_dim);
  const uint32_t first = tile_of<S>(tiles, step), second = second_tile<S>(first);
  outlook o = ALL_PAIRS;
  if (tables.ragged[step % LOOKED_UP]) {
    o = put_slots<S, Queries>(tables, tables.work, call, step);
    if (o != NOTHING) {
      const slot_table &s = tables.slots[step % 2];
      copy_rows<S, BSD_SM80_STEP>(first, s.first_row, head_dim, tables.work.any);
      copy_rows<S, BSD_SM80_STEP>(second, s.second_row, head_dim, tables.work.any);
    }
  } else {
    const run_pair(&runs)[RUNS] = tables.runs[step % LOOKED_UP];
    copy_runs<S>(first, runs, &run_pair::first, head_dim);
    copy_runs<S>(second, runs, &run_pair::second, head_dim);
    copy_values<S>(tables, step);
  }
  if (threadIdx.x == 0)
    tables.outlooks[step % 2] = o;
}

/* ---- masking ------------------------------------------------------------------------------------- */

/* Gives every pair that does not count the value `hidden`, in all products. Slots from 8 * first on. */
template <typename S, int N, typename... Products>
__device__ __forceinline__ void mask(const slot_table &slots, int first, float hidden,
                                     float (&x)[S::tall][N][4], Products &...others) {
#pragma unroll
  for (int j = 0; j < N; j++) {
    struct __align__(8) pair {
      span own[2];
    };
    const pair p = *reinterpret_cast<const pair *>(slots.own + my_column(first + j));
#pragma unroll
    for (int m = 0; m < S::tall; m++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int own = my_slot<S>(m, e / 2);
        if (own < p.own[e % 2].first || own > p.own[e % 2].last) {
          x[m][j][e] = hidden;
          ((others[m][j][e] = hidden), ...);
        }
      }
  }
}

/* ---- the loop over steps ------------------------------------------------------------------------- */

/* As all three kernels have it. begin() starts copying the own rows, begun() takes them;
 * compute(step, partial, tile) is given the first tensor's tile. With one stage of tiles, copying waits until the
 * step before has been computed. */
template <typename S, bool Queries, typename Tables, typename Begin, typename Begun,
          typename Compute>
__device__ __forceinline__ void walk(Tables &tables, const task &t, const bsd_call &call,
                                     uint32_t tiles, Begin begin, Begun begun, Compute compute) {
  const int warp = threadIdx.x >> 5;
  if (threadIdx.x == 0)
    tables.work = t;
  if (warp == S::warps - 1)
    look_up<Queries>(tables, t, call, 0);
  __syncthreads(); /* the work, the table of own slots and the first batch are there */
  begin();
  if (S::stages > 1 && t.steps > 0)
    copy_step<S, Queries>(tables, call, 0, tiles);
  bsd_copy_async_wait();
  __syncthreads();
  begun();
#pragma unroll 1
  for (int step = 0; step < tables.work.steps; step++) {
    if (S::stages == 1) {
      __syncthreads(); /* everyone is done with the tiles */
      copy_step<S, Queries>(tables, call, step, tiles);
    }
    bsd_copy_async_wait();
    __syncthreads(); /* this step's rows are there, and nobody reads the step before */
    if (S::stages > 1 && step + 1 < tables.work.steps)
      copy_step<S, Queries>(tables, call, step + 1, tiles);
    const outlook now = tables.outlooks[step % 2];
    if (now != NOTHING)
      compute(step, now == SOME_PAIRS, tile_of<S>(tiles, step));
    const int batch = step / BSD_SM80_BATCH + 1;
    if (step % BSD_SM80_BATCH == BSD_SM80_BATCH / 2 && batch % S::warps == warp &&
        batch * BSD_SM80_BATCH < tables.work.steps)
      look_up<Queries>(tables, tables.work, call, batch);
  }
}

} // namespace bsd_sm80

#endif
