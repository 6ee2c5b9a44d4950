/* tiles.cuh - from a tile's slots to rows in memory, for every kernel family.
 *
 * A kernel keeps one row pointer per slot in shared memory, found by one thread per slot; NULL stands for a
 * slot that is missing, out of the segment, or not to be read: its row is zero. Pairs are masked by index,
 * never by value. Nothing here needs more than sm_61. */
#ifndef BSD_CUDA_TILES_CUH
#define BSD_CUDA_TILES_CUH

#include "lists.h"

/* Both halves of a 32-byte struct by two vector loads through the read-only cache. */
static __device__ __forceinline__ bsd_cuda_tile bsd_load_tile(const bsd_cuda_tile *tile) {
  union {
    int4 words[2];
    bsd_cuda_tile tile;
  } u;
  u.words[0] = __ldg(reinterpret_cast<const int4 *>(tile));
  u.words[1] = __ldg(reinterpret_cast<const int4 *>(tile) + 1);
  return u.tile;
}

static __device__ __forceinline__ bsd_cuda_item bsd_load_item(const bsd_cuda_item *item) {
  union {
    int4 words[2];
    bsd_cuda_item item;
  } u;
  u.words[0] = __ldg(reinterpret_cast<const int4 *>(item));
  u.words[1] = __ldg(reinterpret_cast<const int4 *>(item) + 1);
  return u.item;
}

/* Where a slot's token lies: its index in `source`, or -1 if the slot is missing. */
struct bsd_cuda_token {
  int32_t index, source;
};

static __device__ __forceinline__ bsd_cuda_token
bsd_token_of_slot(const bsd_cuda_tile &tile, const bsd_cuda_fragment *fragments, int slot) {
  int from = slot - tile.slot;
  if (from >= 0 && from < tile.count)
    return {tile.first + from * tile.step, tile.source};
  for (int f = 1; f < tile.nfragments; f++) {
    union {
      int4 words;
      bsd_cuda_fragment fragment;
    } u;
    u.words = __ldg(reinterpret_cast<const int4 *>(fragments + tile.fragment + f));
    from = slot - u.fragment.slot;
    if (from >= 0 && from < u.fragment.count)
      return {u.fragment.first + from * u.fragment.step, u.fragment.source};
  }
  return {-1, 0};
}

/* The first byte of a token's row of D elements, of one head and batch entry; NULL for no token.
 * element: bytes of an element. */
static __device__ __forceinline__ const char *bsd_operand_row(const bsd_operand &operand,
                                                              bsd_cuda_token token, int64_t batch,
                                                              int64_t head, int64_t head_dim,
                                                              int element) {
  if (token.index < 0)
    return nullptr;
  if (token.source == 0) {
    const bsd_tensor &t = operand.local;
    return static_cast<const char *>(t.data) +
           (batch * t.batch_stride + token.index * t.position_stride + head * t.head_stride) *
               element;
  }
  const bsd_received &r = operand.received[token.source - 1];
  return static_cast<const char *>(r.data) +
         (batch * r.batch_rows + r.head_row[head] + token.index) * head_dim * element;
}

/* The same of an output or own row, which is local. */
static __device__ __forceinline__ char *bsd_tensor_row(const bsd_tensor &t, int64_t token,
                                                       int64_t batch, int64_t head, int element) {
  return static_cast<char *>(t.data) +
         (batch * t.batch_stride + token * t.position_stride + head * t.head_stride) * element;
}

/* A token's place in an fp32 [B][H][n] operand; `heads` and `tokens` are the local tensor's H and n. */
static __device__ __forceinline__ const float *bsd_operand_at(const bsd_operand_f32 &operand,
                                                              bsd_cuda_token token, int64_t batch,
                                                              int64_t head, int64_t heads,
                                                              int64_t tokens) {
  if (token.source == 0)
    return operand.local + (batch * heads + head) * tokens + token.index;
  const bsd_received &r = operand.received[token.source - 1];
  return static_cast<const float *>(r.data) + batch * r.batch_rows + r.head_row[head] + token.index;
}

static __device__ __forceinline__ float bsd_operand_value(const bsd_operand_f32 &operand,
                                                          bsd_cuda_token token, int64_t batch,
                                                          int64_t head, int64_t heads,
                                                          int64_t tokens) {
  return *bsd_operand_at(operand, token, batch, head, heads, tokens);
}

/* Own rows of dk and dv are keys of one KV head, which heads of the list read that stand one after another.
 * Their number, from place `place` on; 0 if the first of them stands before it: its item does the work of all. */
static __device__ __forceinline__ int bsd_heads_of_item(const bsd_cuda_list &list, int place,
                                                        int group) {
  const int kv_head = list.heads[place] / group;
  int last = place;
  if (place > 0 && list.heads[place - 1] / group == kv_head)
    return 0;
  while (last < list.nheads && list.heads[last] / group == kv_head)
    last++;
  return last - place;
}

/* Which pairs of two tiles count. With i the query's slot and j the key's: lowest <= j - i <= highest,
 * i < queries, j < keys (their tiles' tokens). Slots are counted from the tiles' slot 0. */
struct bsd_cuda_band {
  int lowest, highest, queries, keys;
};

static __device__ __forceinline__ int bsd_clamp_index(int64_t x) {
  return x < -BSD_CUDA_UNBOUNDED  ? -BSD_CUDA_UNBOUNDED
         : x > BSD_CUDA_UNBOUNDED ? BSD_CUDA_UNBOUNDED
                                  : static_cast<int>(x);
}

static __device__ __forceinline__ bsd_cuda_band bsd_band_of(const bsd_cuda_list &list,
                                                            const bsd_cuda_tile &query,
                                                            const bsd_cuda_tile &key) {
  const int64_t shift = query.t0 - key.t0;
  return {bsd_clamp_index(list.lowest + shift), bsd_clamp_index(list.highest + shift), query.tokens,
          key.tokens};
}

static __device__ __forceinline__ bool bsd_counts(const bsd_cuda_band &b, int query, int key) {
  const int distance = key - query;
  return distance >= b.lowest && distance <= b.highest && query < b.queries && key < b.keys;
}

/* Whether every pair of query slots [q0, q0 + nq) and key slots [k0, k0 + nk) counts: no mask is needed. */
static __device__ __forceinline__ bool bsd_all_count(const bsd_cuda_band &b, int q0, int nq, int k0,
                                                     int nk) {
  return q0 + nq <= b.queries && k0 + nk <= b.keys && k0 - (q0 + nq - 1) >= b.lowest &&
         k0 + nk - 1 - q0 <= b.highest;
}

/* Whether some query slot in [q0, q0 + nq) of the segment may see key slot `key`; if not, the key's row
 * must not be read: it may hold NaN. */
static __device__ __forceinline__ bool bsd_key_is_seen(const bsd_cuda_band &b, int q0, int nq,
                                                       int key) {
  const int last = min(q0 + nq, b.queries) - 1;
  return key < b.keys && last >= q0 && key >= q0 + b.lowest && key <= last + b.highest;
}

/* The same from the other side: whether query slot `query` may see some key slot in [k0, k0 + nk). */
static __device__ __forceinline__ bool bsd_query_sees(const bsd_cuda_band &b, int query, int k0,
                                                      int nk) {
  const int last = min(k0 + nk, b.keys) - 1;
  return query < b.queries && last >= k0 && last - query >= b.lowest && k0 - query <= b.highest;
}

#endif
