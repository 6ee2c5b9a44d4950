/* order.h - the order of work items in a launch. */
#ifndef BSD_SM90_ORDER_H
#define BSD_SM90_ORDER_H

#include "tiles.h"

/* Orders the items of `out` from `first` on for a launch of `places` CTAs, each of which takes every places-th
 * item; empty items keep that step. Errors: MEMORY. */
bsd_status bsd_sm90_order_items(const bsd_kernel_shape *shape, const bsd_pass *pass, int64_t first,
                                int64_t places, bsd_sm90_arrays *out, bsd_error *error);

#endif
