/* layout.h - the sizes of the sm80 kernels' tiles, for host and device. */
#ifndef BSD_SM80_LAYOUT_H
#define BSD_SM80_LAYOUT_H

#include "../launch.h"

#ifdef __cplusplus
#define BSD_SM80_CONSTANT constexpr
#else
#define BSD_SM80_CONSTANT static inline
#endif

enum {
  BSD_SM80_STEP = 64, /* slots of the other side that are multiplied at once */
  BSD_SM80_RUN = 16,  /* slots of them that are looked up at once */
  BSD_SM80_BATCH = 8, /* steps that one warp looks up at once: 4 runs each, one by a lane */
  BSD_SM80_TABLE_BYTES = 9 * 1024 /* shared memory beside the tiles, at most */
};

/* Steps of the other side that are in shared memory at once: wide rows leave room for one. */
BSD_SM80_CONSTANT int bsd_sm80_stages(int width) {
  return width > 128 ? 1 : 2;
}

/* Own rows that are narrow are kept in registers. Their tile in shared memory is needed only at the
 * beginning: it lies where the second step will. */
BSD_SM80_CONSTANT int bsd_sm80_keeps_own(int width) {
  return width <= 64;
}

/* Dynamic shared memory of an instance: two tiles of a step for each stage, own tiles that stay. */
BSD_SM80_CONSTANT int64_t bsd_sm80_shared_bytes(bsd_tile_kernel kernel, int width, int slots) {
  return (int64_t)2 * width *
         ((bsd_sm80_keeps_own(width)    ? 0
           : kernel == BSD_TILE_FORWARD ? 1
                                        : 2) *
              slots +
          2 * bsd_sm80_stages(width) * BSD_SM80_STEP);
}

#endif
