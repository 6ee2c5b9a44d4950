/* ptx_tile.cuh - tiles of 64 columns of 16-bit elements in shared memory, 128 bytes a row, written and read
 * with the 128-byte swizzle by ordinary instructions. */
#ifndef TESTS_GPU_PTX_TILE_CUH
#define TESTS_GPU_PTX_TILE_CUH

#include <stdint.h>

/* Byte of element (row, column) of a matrix of `rows` rows, its tiles of 64 columns one behind the other. */
static __device__ __forceinline__ int ptx_tile_place(int rows, int row, int column) {
  const int tile = column / 64, piece = column % 64 / 8 ^ (row & 7);
  return tile * rows * 128 + row * 128 + piece * 16 + column % 8 * 2;
}

/* The whole block copies matrix [rows][columns] to tiles at `to`. */
template <typename T>
static __device__ void ptx_tile_fill(char *to, const T *matrix, int rows, int columns) {
  for (int i = threadIdx.x; i < rows * columns; i += blockDim.x)
    *reinterpret_cast<T *>(to + ptx_tile_place(rows, i / columns, i % columns)) = matrix[i];
}

/* The first byte of dynamic shared memory at a multiple of 1024. */
static __device__ __forceinline__ char *ptx_tile_memory() {
  extern __shared__ char ptx_shared[];
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(ptx_shared));
  return ptx_shared + (1024 - address % 1024) % 1024;
}

#endif
