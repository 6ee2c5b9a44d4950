/* layout.h - the sizes of the SIMT kernels' tiles, for host and device. */
#ifndef BSD_SIMT_LAYOUT_H
#define BSD_SIMT_LAYOUT_H

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

#endif
