/* order.h - the order of work items in a launch. */
#ifndef BSD_SM90_ORDER_H
#define BSD_SM90_ORDER_H

#include "tiles.h"

int bsd_sm90_members(const bsd_sm90_item *item);

/* What the CTAs of a launch have to do: the one that has most, and all. */
typedef struct bsd_sm90_load {
  int64_t most, all;
} bsd_sm90_load;

/* Of n items dealt to `places` CTAs. cost[m]: of an entry of m members. Errors: MEMORY. */
bsd_status bsd_sm90_load_of(const bsd_kernel_shape *shape, const bsd_pass *pass,
                            const bsd_sm90_item *items, int64_t n, int64_t places, const int *cost,
                            bsd_sm90_load *load, bsd_error *error);

/* Orders the items of `out` from `first` on for a launch of `places` CTAs, each of which takes every places-th
 * item; empty items keep that step. Errors: MEMORY. */
bsd_status bsd_sm90_order_items(const bsd_kernel_shape *shape, const bsd_pass *pass, int64_t first,
                                int64_t places, const int *cost, bsd_sm90_arrays *out,
                                bsd_error *error);

#endif
