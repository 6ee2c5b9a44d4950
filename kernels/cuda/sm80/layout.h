/* layout.h - the sizes of the sm80 kernels' tiles, for host and device. */
#ifndef BSD_SM80_LAYOUT_H
#define BSD_SM80_LAYOUT_H

enum {
  BSD_SM80_STEP = 64,  /* slots of the other side that are multiplied at once */
  BSD_SM80_TABLES = 3, /* of the step computed, the one that is loading, the one being looked up */
  BSD_SM80_TABLE_BYTES = 8 * 1024 /* shared memory beside the tiles, at most */
};

typedef enum bsd_sm80_kernel {
  BSD_SM80_FORWARD,
  BSD_SM80_QUERY_GRADIENT,
  BSD_SM80_KEY_GRADIENT
} bsd_sm80_kernel;

/* Steps of the other side that are in shared memory at once: wide rows leave room for one. */
static inline
#ifdef __CUDACC__
    constexpr
#endif
    int
    bsd_sm80_stages(int width) {
  return width > 128 ? 1 : 2;
}

#endif
