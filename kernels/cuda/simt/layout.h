/* layout.h - the sizes of the SIMT kernels' tiles, for host and device. */
#ifndef BSD_SIMT_LAYOUT_H
#define BSD_SIMT_LAYOUT_H

#include "../launch.h"

#ifdef __cplusplus
#define BSD_SIMT_CONSTANT constexpr
#else
#define BSD_SIMT_CONSTANT static inline
#endif

enum {
  BSD_SIMT_STEP = 64,   /* slots of the other side that are multiplied at once */
  BSD_SIMT_CHUNK = 64,  /* elements of their rows that are in shared memory at once */
  BSD_SIMT_PADDING = 4, /* floats after each row: vectors of neighbouring rows, different banks */
  BSD_SIMT_ROW_GROUPS = 8,    /* threads across a tile's own rows; each has rows/8 of them */
  BSD_SIMT_TABLE_BYTES = 2560 /* shared memory beside the tiles, at most */
};

/* Threads across the other side's slots, and across the elements of a chunk. */
BSD_SIMT_CONSTANT int bsd_simt_column_groups(int width) {
  return width <= 64 ? 8 : 16;
}

/* Floats from one own row's scores to the next: row groups of a warp fall into different banks. */
BSD_SIMT_CONSTANT int bsd_simt_score_pitch(int width) {
  return BSD_SIMT_STEP + bsd_simt_column_groups(width);
}

/* Dynamic shared memory of an instance: own tensors, a chunk of the other side's rows, scores. */
BSD_SIMT_CONSTANT int64_t bsd_simt_shared_bytes(bsd_tile_kernel kernel, int width, int rows) {
  return (int64_t)sizeof(float) *
         ((kernel == BSD_TILE_FORWARD ? 1 : 2) * rows * (width + BSD_SIMT_PADDING) +
          BSD_SIMT_STEP * (BSD_SIMT_CHUNK + BSD_SIMT_PADDING) + rows * bsd_simt_score_pitch(width));
}

#endif
