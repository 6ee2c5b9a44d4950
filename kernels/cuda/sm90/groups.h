/* groups.h - row groups of a list. */
#ifndef BSD_SM90_GROUPS_H
#define BSD_SM90_GROUPS_H

#include "tiles.h"

/* Members of a group: `width`, and `narrow` where the last of a list's members are, narrow_share of a thousand. */
typedef struct bsd_sm90_widths {
  int width, narrow;
  int64_t narrow_share;
} bsd_sm90_widths;

/* How much groups share: entries of members, and of the unions that are walked. */
typedef struct bsd_sm90_sharing {
  int64_t own, walked;
} bsd_sm90_sharing;

/* Items of a list for one KV head with so many query heads that walk it, at the end of `to`; their heads are places
 * among those. Adds to *sharing. Errors: MEMORY. */
bsd_status bsd_sm90_add_groups(bsd_sm90_arrays *to, const bsd_sm90_cut *cut, int64_t heads,
                               const bsd_sm90_widths *widths, bsd_sm90_sharing *sharing,
                               bsd_error *error);

#endif
