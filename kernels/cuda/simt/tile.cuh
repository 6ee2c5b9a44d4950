/* tile.cuh - the parts of the SIMT kernels: thread layout, register products, loads, a step's table.
 *
 * A block of threads owns `Rows` slots of one tile (queries or keys) and walks the other side's blocks in
 * steps of 64 slots. Threads form 8 row groups x C column groups (C = 8 for head dimensions up to 64, else
 * 16). Thread (g, c) has own rows g, g + 8, ...; of a step the slots c, c + C, ...; of a chunk of 64 elements
 * those of element_of(). Everything is fp32, and every sum of a row has the same order whatever Rows is.
 *
 * Shared memory, floats:  own[tensors][Rows][Width + 4]  chunk[64][64 + 4]  scores[Rows][64 + C].
 * Lanes 1 apart share a column, lanes 2 apart a row: so vector loads of a half warp are one wavefront. */
#ifndef BSD_SIMT_TILE_CUH
#define BSD_SIMT_TILE_CUH

#include "../elements.cuh"
#include "../tiles.cuh"
#include "layout.h"

namespace bsd_simt {

template <int WidthOf, int RowsOf> struct shape {
  static constexpr int width = WidthOf;                           /* head dimension, padded */
  static constexpr int rows = RowsOf;                             /* own slots */
  static constexpr int columns = bsd_simt_column_groups(WidthOf); /* C */
  static constexpr int threads = BSD_SIMT_ROW_GROUPS * columns;
  static constexpr int mine = RowsOf / BSD_SIMT_ROW_GROUPS; /* own rows of a thread */
  static constexpr int across = BSD_SIMT_STEP / columns; /* slots, and elements of a chunk, of it */
  static constexpr int chunks = WidthOf / BSD_SIMT_CHUNK;
  static constexpr int own_pitch = WidthOf + BSD_SIMT_PADDING;
  static constexpr int chunk_pitch = BSD_SIMT_CHUNK + BSD_SIMT_PADDING;
  static constexpr int score_pitch = bsd_simt_score_pitch(WidthOf);
};

/* A thread's part of an own rows x 64 product. */
template <typename S> using block = float[S::mine][S::across];

template <typename S> struct place { int row, column; /* row group and column group */ };

template <typename S> __device__ __forceinline__ place<S> my_place() {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  if (S::columns == 8)
    return {(lane & 1) | (lane >> 4) << 1 | warp << 2, (lane >> 1) & 7};
  return {(lane & 1) | warp << 1, lane >> 1};
}

/* The element of a chunk that is the thread's e-th: vectors of four, 4*columns apart. */
template <typename S> __device__ __forceinline__ int element_of(int column, int e) {
  return 4 * column + (e & 3) + 4 * S::columns * (e >> 2);
}

/* Over the threads of a row group: all of them get the result, in one order. */
template <typename S> __device__ __forceinline__ float row_max(float x) {
  for (int distance = 2; distance < 2 * S::columns; distance *= 2)
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, distance));
  return x;
}
template <typename S> __device__ __forceinline__ float row_sum(float x) {
  for (int distance = 2; distance < 2 * S::columns; distance *= 2)
    x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}

template <typename S> __device__ __forceinline__ void clear(block<S> &x) {
#pragma unroll
  for (int i = 0; i < S::mine; i++)
#pragma unroll
    for (int j = 0; j < S::across; j++)
      x[i][j] = 0;
}

/* x[own row][slot] += sum over `count` elements of own row * slot's row. own: at the thread's first row and the
 * chunk's first element. chunk: at the thread's first slot. */
template <typename S>
__device__ __forceinline__ void multiply_rows(block<S> &x, const float *own, const float *chunk,
                                              int count) {
#pragma unroll 1
  for (int e = 0; e < count; e += 4) {
    float4 a[S::mine];
#pragma unroll
    for (int i = 0; i < S::mine; i++)
      a[i] = *reinterpret_cast<const float4 *>(own + i * BSD_SIMT_ROW_GROUPS * S::own_pitch + e);
#pragma unroll
    for (int j = 0; j < S::across; j++) {
      const float4 b =
          *reinterpret_cast<const float4 *>(chunk + j * S::columns * S::chunk_pitch + e);
#pragma unroll
      for (int i = 0; i < S::mine; i++)
        x[i][j] = fmaf(a[i].x, b.x, x[i][j]);
#pragma unroll
      for (int i = 0; i < S::mine; i++)
        x[i][j] = fmaf(a[i].y, b.y, x[i][j]);
#pragma unroll
      for (int i = 0; i < S::mine; i++)
        x[i][j] = fmaf(a[i].z, b.z, x[i][j]);
#pragma unroll
      for (int i = 0; i < S::mine; i++)
        x[i][j] = fmaf(a[i].w, b.w, x[i][j]);
    }
  }
}

/* The same over chunk number `at` of the own rows, for the whole thread block. */
template <typename S>
__device__ __forceinline__ void multiply_chunk(block<S> &x, const float *own, const float *chunk,
                                               int at, int head_dim) {
  const place<S> me = my_place<S>();
  multiply_rows<S>(x, own + me.row * S::own_pitch + at * BSD_SIMT_CHUNK,
                   chunk + me.column * S::chunk_pitch,
                   min(head_dim - at * BSD_SIMT_CHUNK, +BSD_SIMT_CHUNK));
}

template <typename S>
__device__ __forceinline__ void add_slot(block<S> &x, const float (&weight)[S::mine],
                                         const float *row) {
#pragma unroll
  for (int e = 0; e < S::across; e += 4) {
    const float4 b = *reinterpret_cast<const float4 *>(row + e * S::columns);
#pragma unroll
    for (int i = 0; i < S::mine; i++) {
      x[i][e] = fmaf(weight[i], b.x, x[i][e]);
      x[i][e + 1] = fmaf(weight[i], b.y, x[i][e + 1]);
      x[i][e + 2] = fmaf(weight[i], b.z, x[i][e + 2]);
      x[i][e + 3] = fmaf(weight[i], b.w, x[i][e + 3]);
    }
  }
}

/* x[own row][element] = sum over the step's slots of score * slot's element. scores: at the thread's first
 * row. chunk: at the thread's first element. */
template <typename S>
__device__ __forceinline__ void weigh_rows(block<S> &x, const float *scores, const float *chunk) {
  clear<S>(x);
#pragma unroll 1
  for (int slot = 0; slot < BSD_SIMT_STEP; slot += 4) {
    float4 p[S::mine];
#pragma unroll
    for (int i = 0; i < S::mine; i++)
      p[i] = *reinterpret_cast<const float4 *>(scores + i * BSD_SIMT_ROW_GROUPS * S::score_pitch +
                                               slot);
    float weight[S::mine];
#pragma unroll
    for (int k = 0; k < 4; k++) {
#pragma unroll
      for (int i = 0; i < S::mine; i++)
        weight[i] = k == 0 ? p[i].x : k == 1 ? p[i].y : k == 2 ? p[i].z : p[i].w;
      add_slot<S>(x, weight, chunk + (slot + k) * S::chunk_pitch);
    }
  }
}

template <typename S> __device__ __forceinline__ void add(block<S> &total, const block<S> &x) {
#pragma unroll
  for (int i = 0; i < S::mine; i++)
#pragma unroll
    for (int j = 0; j < S::across; j++)
      total[i][j] += x[i][j];
}

/* A thread's part of own rows x 64 slots, into shared memory. */
template <typename S> __device__ __forceinline__ void keep(const block<S> &x, float *scores) {
  const place<S> me = my_place<S>();
#pragma unroll
  for (int i = 0; i < S::mine; i++)
#pragma unroll
    for (int j = 0; j < S::across; j++)
      scores[(me.row + i * BSD_SIMT_ROW_GROUPS) * S::score_pitch + me.column + j * S::columns] =
          x[i][j];
}

/* ---- rows into shared memory ------------------------------------------------------------------ */

/* to[r][e] = element `first + e` of row r, e < count <= 64; zeros for NULL. */
template <typename S, int Rows>
__device__ __forceinline__ void load_f32(float *to, int pitch, const char *const *rows, int first,
                                         int count) {
  constexpr int per_row = BSD_SIMT_CHUNK / 4, total = Rows * per_row;
  constexpr int batch = total / S::threads < 4 ? (total + S::threads - 1) / S::threads : 4;
#pragma unroll 1
  for (int begin = 0; begin < total; begin += batch * S::threads) {
    float4 values[batch];
#pragma unroll
    for (int t = 0; t < batch; t++) {
      const int i = begin + t * S::threads + threadIdx.x, e = 4 * (i % per_row);
      values[t] = make_float4(0, 0, 0, 0);
      if (i < total && e < count && rows[i / per_row])
        values[t] = __ldg(reinterpret_cast<const float4 *>(rows[i / per_row]) + (first + e) / 4);
    }
#pragma unroll
    for (int t = 0; t < batch; t++) {
      const int i = begin + t * S::threads + threadIdx.x;
      if (i < total)
        *reinterpret_cast<float4 *>(to + i / per_row * pitch + 4 * (i % per_row)) = values[t];
    }
  }
}

template <typename S, int Rows>
__device__ __forceinline__ void load_16bit(float *to, int pitch, const char *const *rows, int first,
                                           int count, bsd_dtype dtype) {
  constexpr int per_row = BSD_SIMT_CHUNK / 8, total = Rows * per_row;
  constexpr int batch = total / S::threads < 4 ? (total + S::threads - 1) / S::threads : 4;
#pragma unroll 1
  for (int begin = 0; begin < total; begin += batch * S::threads) {
    uint4 words[batch];
#pragma unroll
    for (int t = 0; t < batch; t++) {
      const int i = begin + t * S::threads + threadIdx.x, e = 8 * (i % per_row);
      words[t] = make_uint4(0, 0, 0, 0);
      if (i < total && e < count && rows[i / per_row])
        words[t] = __ldg(reinterpret_cast<const uint4 *>(rows[i / per_row]) + (first + e) / 8);
    }
#pragma unroll
    for (int t = 0; t < batch; t++) {
      const int i = begin + t * S::threads + threadIdx.x;
      float values[8];
      bsd_widen_vector(words[t], dtype, values);
      float4 *at = reinterpret_cast<float4 *>(to + i / per_row * pitch + 8 * (i % per_row));
      if (i < total) {
        at[0] = make_float4(values[0], values[1], values[2], values[3]);
        at[1] = make_float4(values[4], values[5], values[6], values[7]);
      }
    }
  }
}

/* Chunk number `chunk` of `Rows` rows of head_dim elements. */
template <typename S, int Rows>
__device__ __forceinline__ void load_rows(float *to, int pitch, const char *const *rows, int chunk,
                                          int head_dim, bsd_dtype dtype) {
  const int first = chunk * BSD_SIMT_CHUNK, count = min(head_dim - first, +BSD_SIMT_CHUNK);
  if (dtype == BSD_F32)
    load_f32<S, Rows>(to, pitch, rows, first, count);
  else
    load_16bit<S, Rows>(to, pitch, rows, first, count, dtype);
}

template <typename S>
__device__ __forceinline__ void load_own(float *to, const char *const *rows, int head_dim,
                                         bsd_dtype dtype) {
  for (int c = 0; c * BSD_SIMT_CHUNK < head_dim; c++)
    load_rows<S, S::rows>(to + c * BSD_SIMT_CHUNK, S::own_pitch, rows, c, head_dim, dtype);
}

template <typename S>
__device__ __forceinline__ void load_chunk(float *to, const char *const *rows, int chunk,
                                           int head_dim, bsd_dtype dtype) {
  load_rows<S, BSD_SIMT_STEP>(to, S::chunk_pitch, rows, chunk, head_dim, dtype);
}

/* ---- the own tile, and steps over the other side ----------------------------------------------- */

/* In shared memory: what the threads know of a step's slots, and of the own slots. Rows are NULL where
 * nothing may be read. */
struct table {
  const char *first_row[BSD_SIMT_STEP], *second_row[BSD_SIMT_STEP]; /* k and v, or q and do */
  int first[BSD_SIMT_STEP], last[BSD_SIMT_STEP]; /* own slots that the slot pairs with, inclusive */
  float lse[BSD_SIMT_STEP], delta[BSD_SIMT_STEP]; /* of queries */
  int own_token[BSD_SIMT_STEP];                   /* -1: missing */
  int seen[2][2], partial[2][2]; /* by step's parity and warp: a slot pairs at all, not with all */
};
static_assert(sizeof(table) <= BSD_SIMT_TABLE_BYTES, "tile_choice.c counts on less");

/* What a block of threads works on. */
struct task {
  bsd_cuda_item item;
  const bsd_cuda_list *list;
  bsd_cuda_tile own;
  int own_first;  /* tile slot of own slot 0 */
  int own_tokens; /* own slots that the segment has; <= 0: nothing to do */
  int64_t batch;
  int steps;
};

template <typename S>
__device__ __forceinline__ task my_task(const bsd_cuda_list *lists, const bsd_cuda_item *items,
                                        int subtiles, int tile_slots) {
  task t;
  t.item = bsd_load_item(items + blockIdx.x / subtiles);
  t.list = lists + t.item.list;
  t.own = bsd_load_tile(t.list->rows + t.item.row);
  t.own_first = blockIdx.x % subtiles * S::rows;
  t.own_tokens = min(t.own.tokens - t.own_first, +S::rows);
  t.batch = blockIdx.y;
  t.steps = tile_slots >= BSD_SIMT_STEP
                ? t.item.count * (tile_slots / BSD_SIMT_STEP)
                : (t.item.count * tile_slots + BSD_SIMT_STEP - 1) / BSD_SIMT_STEP;
  return t;
}

/* Slot j of a step: a slot of an entry's tile. Entries follow one another, so a step has one part of a
 * large tile or several small tiles. */
struct step_slot {
  int entry, slot;
};

__device__ __forceinline__ step_slot slot_of(int step, int j, int tile_slots) {
  const int64_t at = static_cast<int64_t>(step) * BSD_SIMT_STEP + j;
  return {static_cast<int>(at / tile_slots), static_cast<int>(at % tile_slots)};
}

/* The other side's tile of slot j, and the own slots [first, last] that it pairs with; false: none.
 * Sign +1: own slots are queries, -1: keys. */
template <int Sign>
__device__ __forceinline__ bool find_slot(const task &t, step_slot s, bsd_cuda_tile &tile,
                                          int &first, int &last) {
  if (s.entry >= t.item.count)
    return false;
  tile = bsd_load_tile(t.list->blocks + __ldg(t.list->tiles + t.item.tiles + s.entry));
  if (s.slot >= tile.tokens)
    return false;
  const int64_t at = tile.t0 + s.slot - t.own.t0 - t.own_first;
  first = bsd_clamp_index(Sign > 0 ? at - t.list->highest : at + t.list->lowest);
  last = bsd_clamp_index(Sign > 0 ? at - t.list->lowest : at + t.list->highest);
  return first <= last && first < t.own_tokens && last >= 0;
}

/* Writes slot j (= threadIdx.x < 64) of a step into the table. */
__device__ __forceinline__ void put_slot(table &to, int j, int parity, const task &t, bool pairs,
                                         int first, int last, const char *first_row,
                                         const char *second_row) {
  to.first_row[j] = first_row;
  to.second_row[j] = second_row;
  to.first[j] = pairs ? first : BSD_CUDA_UNBOUNDED;
  to.last[j] = pairs ? last : -1;
  const bool partial = !pairs || first > 0 || last < t.own_tokens - 1;
  const bool any_seen = __any_sync(0xffffffffu, pairs);
  const bool any_partial = __any_sync(0xffffffffu, partial);
  if ((j & 31) == 0) {
    to.seen[parity][j >> 5] = any_seen;
    to.partial[parity][j >> 5] = any_partial;
  }
}

__device__ __forceinline__ bool step_is_seen(const table &t, int step) {
  return t.seen[step & 1][0] | t.seen[step & 1][1];
}
__device__ __forceinline__ bool step_is_partial(const table &t, int step) {
  return t.partial[step & 1][0] | t.partial[step & 1][1];
}

/* Slot threadIdx.x of a step: its k and v, unless no own slot may see it. */
__device__ __forceinline__ void put_keys(table &to, const task &t, const bsd_call &call, int step) {
  const int j = threadIdx.x;
  bsd_cuda_tile tile;
  int first, last;
  const char *k = nullptr, *v = nullptr;
  const step_slot s = slot_of(step, j, static_cast<int>(call.block));
  bool pairs = find_slot<1>(t, s, tile, first, last);
  if (pairs) {
    const bsd_cuda_token token = bsd_token_of_slot(tile, t.list->fragments, s.slot);
    const int64_t head = t.item.head / (call.heads / call.kv_heads);
    const int element = bsd_element_bytes(call.dtype);
    pairs = token.index >= 0;
    k = bsd_operand_row(call.k, token, t.batch, head, call.head_dim, element);
    v = bsd_operand_row(call.v, token, t.batch, head, call.head_dim, element);
  }
  put_slot(to, j, step & 1, t, pairs, first, last, k, v);
}

/* Bit j of the result: the pair (own slot, thread's j-th slot) counts. */
template <typename S>
__device__ __forceinline__ unsigned counting_slots(const table &t, int own_slot, int column) {
  unsigned bits = 0;
#pragma unroll
  for (int j = 0; j < S::across; j++) {
    const int slot = column + j * S::columns;
    bits |= static_cast<unsigned>(own_slot >= t.first[slot] && own_slot <= t.last[slot]) << j;
  }
  return bits;
}

/* Own slot threadIdx.x (< rows): its token, and its rows of one or two local tensors into the table. */
template <typename S>
__device__ __forceinline__ void put_own(table &to, const task &t, const bsd_call &call,
                                        int64_t head, const bsd_tensor &first,
                                        const bsd_tensor *second, const float *lse) {
  const int j = threadIdx.x, element = bsd_element_bytes(call.dtype);
  int token = -1;
  if (j < t.own_tokens)
    token = bsd_token_of_slot(t.own, t.list->row_fragments, t.own_first + j).index;
  const bool sees =
      token >= 0 && (!lse || lse[(t.batch * call.heads + t.item.head) * call.tokens + token] !=
                                 bsd_minus_infinity());
  to.own_token[j] = token;
  to.first_row[j] = sees ? bsd_tensor_row(first, token, t.batch, head, element) : nullptr;
  to.second_row[j] =
      sees && second ? bsd_tensor_row(*second, token, t.batch, head, element) : nullptr;
}

/* ---- results ---------------------------------------------------------------------------------- */

/* One own row's four elements from `element` on: added to an accumulator's row, or written. */
__device__ __forceinline__ void put_four(const bsd_call &call, float *accumulator,
                                         const bsd_tensor &tensor, int64_t heads, int64_t batch,
                                         int64_t head, int64_t token, int element,
                                         const float *values) {
  if (accumulator) {
    float4 *at = reinterpret_cast<float4 *>(
        accumulator + ((batch * heads + head) * call.tokens + token) * call.head_dim + element);
    float4 x = *at;
    x.x += values[0], x.y += values[1], x.z += values[2], x.w += values[3];
    *at = x;
  } else {
    bsd_store_four(bsd_tensor_row(tensor, token, batch, head, bsd_element_bytes(call.dtype)),
                   element / 4, call.dtype, values);
  }
}

/* A thread's part of all own rows' gradient. */
template <typename S>
__device__ __forceinline__ void put_gradient(const table &t, const task &work, const bsd_call &call,
                                             const block<S> (&total)[S::chunks], float factor,
                                             float *accumulator, const bsd_tensor &tensor,
                                             int64_t heads, int64_t head) {
  const place<S> me = my_place<S>();
#pragma unroll
  for (int i = 0; i < S::mine; i++) {
    const int token = t.own_token[me.row + i * BSD_SIMT_ROW_GROUPS];
    if (token < 0)
      continue;
#pragma unroll
    for (int c = 0; c < S::chunks; c++)
#pragma unroll
      for (int e = 0; e < S::across; e += 4) {
        const int element = c * BSD_SIMT_CHUNK + element_of<S>(me.column, e);
        float values[4];
        for (int k = 0; k < 4; k++)
          values[k] = factor * total[c][i][e + k];
        if (element < call.head_dim)
          put_four(call, accumulator, tensor, heads, work.batch, head, token, element, values);
      }
  }
}

} // namespace bsd_simt

#endif
