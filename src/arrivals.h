/* arrivals.h - for each row of a share, the last message that it waits for.
 *
 * Messages are ordered as they arrive, by ring step, so that "the last" decides the stage of a row however
 * the steps are cut into stages. A row waits for what it reads, and for what a row of an earlier pass waits
 * for that writes one of its tokens: so passes add up in their order whatever arrives when, and a token's
 * bits never depend on the stages. */
#ifndef BSD_ARRIVALS_H
#define BSD_ARRIVALS_H

#include "share.h"

typedef struct bsd_arrivals {
  int32_t *
      *last[2]; /* by side and share list: [nown] fragment sources, index of a peer + 1; 0: none.
                      * NULL without peers */
  int64_t nlists;
} bsd_arrivals;

bsd_status bsd_arrivals_create(const bsd_share *share, bsd_arrivals *arrivals, bsd_error *error);
void bsd_arrivals_free(bsd_arrivals *arrivals);

/* Source that own tile `own` of a share list waits for on a side. */
static inline int32_t bsd_arrivals_last(const bsd_arrivals *a, int side, int64_t list,
                                        int64_t own) {
  return a->last[side] == NULL ? 0 : a->last[side][list][own];
}

#endif
