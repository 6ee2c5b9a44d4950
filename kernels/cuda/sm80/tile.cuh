/* tile.cuh - tiles of the sm80 kernels in shared memory, and products of a warp with them.
 *
 * A block of warps owns `Slots` slots of one tile, 16 * tall a warp, and walks the other side in steps of 64
 * slots (steps.cuh). A warp that has two times 16 rows reads the other side half as often for its products, but
 * needs the registers of two.
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

/* What a kernel asks of a multiprocessor's registers. For width 64 the values are those that ran fastest
 * (bench/NOTES.md). */
struct balance {
  int tall;   /* groups of 16 own slots that a warp has */
  int groups; /* of 8 slots of a step that are multiplied at once */
  int blocks; /* that are on a multiprocessor at once, as far as registers go */
};

/* Groups decide the order of a row's sums: they are the same for 16 own slots as for 64. */
constexpr balance balance_of(bsd_tile_kernel kernel, int width, int slots) {
  const int wide = width / 128;
  constexpr balance tall_tiles[3][3] = {
      {{2, 8, 4}, {1, 8, 2}, {1, 2, 1}}, /* forward */
      {{2, 4, 4}, {1, 4, 1}, {1, 4, 1}}, /* query gradient */
      {{1, 4, 3}, {1, 2, 1}, {1, 2, 1}}, /* key gradient */
  };
  return slots == 16 ? balance{1, tall_tiles[kernel][wide].groups, 8} : tall_tiles[kernel][wide];
}

template <bsd_tile_kernel Kernel, int WidthOf, int SlotsOf, typename TypeOf> struct shape {
  using type = TypeOf;
  static constexpr balance chosen = balance_of(Kernel, WidthOf, SlotsOf);
  static constexpr int width = WidthOf; /* head dimension, padded */
  static constexpr int slots = SlotsOf; /* own slots */
  static constexpr int tall = chosen.tall, groups = chosen.groups, blocks = chosen.blocks;
  static constexpr int warps = SlotsOf / (16 * tall);
  static constexpr int threads = 32 * warps;
  static constexpr int stages = bsd_sm80_stages(WidthOf);
  static constexpr int pieces = WidthOf / 8;    /* of 16 bytes, in a row */
  static constexpr int products = WidthOf / 16; /* k16 steps along a row */
  static constexpr int columns =
      WidthOf < 128 ? WidthOf : 128; /* of a gradient that a block makes */
  static constexpr int halves = WidthOf / columns;
  static constexpr int own_bytes = SlotsOf * WidthOf * 2;
  static constexpr int64_t shared_bytes = bsd_sm80_shared_bytes(Kernel, WidthOf, SlotsOf);
  static constexpr int step_bytes = BSD_SM80_STEP * WidthOf * 2;
  static constexpr bool keep_own = bsd_sm80_keeps_own(WidthOf); /* own rows stay in registers */
};

constexpr float log2_e = 1.4426950408889634f, ln_2 = 0.6931471805599453f;

/* ---- tiles in shared memory -------------------------------------------------------------------- */

template <typename S>
__device__ __forceinline__ uint32_t piece_at(uint32_t tile, int row, int piece) {
  return tile + row * (S::width * 2) + (piece ^ (row & 7)) * 16;
}

/* Where a step's rows lie, of the first and of the second tensor. The steps' tiles begin at `tiles`. */
template <typename S> __device__ __forceinline__ uint32_t tile_of(uint32_t tiles, int step) {
  return tiles + step % S::stages * S::step_bytes;
}
template <typename S> __device__ __forceinline__ uint32_t second_tile(uint32_t first) {
  return first + S::stages * S::step_bytes;
}

/* Where own tile `which` lies: see bsd_sm80_keeps_own. */
template <typename S> __device__ __forceinline__ uint32_t own_place(uint32_t tiles, int which) {
  return tiles + (S::keep_own ? (which * S::stages + 1) * S::step_bytes
                              : 2 * S::stages * S::step_bytes + which * S::own_bytes);
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

/* Multiplies the own tile by -1, whole block. */
template <typename S> __device__ __forceinline__ void negate_own(uint32_t tile) {
  for (int at = 16 * threadIdx.x; at < S::own_bytes; at += 16 * S::threads) {
    const uint4 v = bsd_load_shared(tile + at);
    bsd_store_shared(tile + at, v.x ^ 0x80008000u, v.y ^ 0x80008000u, v.z ^ 0x80008000u,
                     v.w ^ 0x80008000u);
  }
}

/* Own rows where the kernel wants them: in registers if they fit, else read again and again. */
template <typename S> struct own_rows {
  uint32_t in_registers[S::tall][S::keep_own ? S::products : 1][4];
  uint32_t tile;

  /* A operand: the warp's own rows 16*m .., elements 16*i .. 16*i + 15. */
  __device__ __forceinline__ void load(uint32_t (&a)[4], int m, int i) const {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    bsd_load_matrix(
        a, piece_at<S>(tile, 16 * (S::tall * warp + m) + (lane & 15), 2 * i + (lane >> 4)));
  }
  __device__ __forceinline__ void set(uint32_t from) {
    tile = from;
    if (S::keep_own) {
#pragma unroll
      for (int m = 0; m < S::tall; m++)
#pragma unroll
        for (int i = 0; i < S::products; i++)
          load(in_registers[m][S::keep_own ? i : 0], m, i);
    }
  }
  __device__ __forceinline__ void get(uint32_t (&a)[4], int m, int i) const {
    if (S::keep_own) {
#pragma unroll
      for (int j = 0; j < 4; j++)
        a[j] = in_registers[m][S::keep_own ? i : 0][j];
    } else {
      load(a, m, i);
    }
  }
};

/* ---- products ------------------------------------------------------------------------------------ */

/* x[m][slot group] = own rows * rows of slots 8*(first + j) .. of a step's tile, transposed; N groups of 8. */
template <typename S, int N>
__device__ __forceinline__ void multiply_rows(float (&x)[S::tall][N][4], const own_rows<S> &own,
                                              uint32_t tile, int first) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int m = 0; m < S::tall; m++)
#pragma unroll
    for (int j = 0; j < N; j++)
      x[m][j][0] = x[m][j][1] = x[m][j][2] = x[m][j][3] = 0;
#pragma unroll
  for (int i = 0; i < S::products; i += 2) {
    uint32_t a[S::tall][2][4];
#pragma unroll
    for (int m = 0; m < S::tall; m++) {
      own.get(a[m][0], m, i);
      own.get(a[m][1], m, i + 1);
    }
#pragma unroll
    for (int j = 0; j < N; j++) {
      uint32_t b[4];
      bsd_load_matrix(b, piece_at<S>(tile, 8 * (first + j) + (lane & 7), 2 * i + (lane >> 3)));
#pragma unroll
      for (int m = 0; m < S::tall; m++)
        bsd_mma(x[m][j], a[m][0], b[0], b[1], typename S::type());
#pragma unroll
      for (int m = 0; m < S::tall; m++)
        bsd_mma(x[m][j], a[m][1], b[2], b[3], typename S::type());
    }
  }
}

/* total[m][element group] += weights * rows of slots 8*first .. of a step's tile; the tile's elements from
 * 8 * group0 on, M groups of 8. Weights are rounded to the type. */
template <typename S, int N, int M>
__device__ __forceinline__ void weigh_rows(float (&total)[S::tall][M][4],
                                           const float (&x)[S::tall][N][4], uint32_t tile,
                                           int first, int group0) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int i = 0; i < N / 2; i++) {
    const typename S::type t = typename S::type();
    uint32_t a[S::tall][4];
#pragma unroll
    for (int m = 0; m < S::tall; m++)
#pragma unroll
      for (int e = 0; e < 4; e++)
        a[m][e] = bsd_pack2(x[m][2 * i + e / 2][e % 2 * 2], x[m][2 * i + e / 2][e % 2 * 2 + 1], t);
#pragma unroll
    for (int j = 0; j < M; j += 2) {
      uint32_t b[4];
      bsd_load_matrix_transposed(
          b, piece_at<S>(tile, 8 * first + 16 * i + (lane & 15), group0 + j + (lane >> 4)));
#pragma unroll
      for (int m = 0; m < S::tall; m++) {
        bsd_mma(total[m][j], a[m], b[0], b[1], t);
        bsd_mma(total[m][j + 1], a[m], b[2], b[3], t);
      }
    }
  }
}

} // namespace bsd_sm80

#endif
