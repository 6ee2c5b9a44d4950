/* pattern_build.h - how a pattern grows, for those who make one: pattern.c and pattern_text.c.
 *
 * Each function appends one zeroed element (dilation 1, no window) and gives its address, which is
 * valid until the next of its kind. Whatever state a failure leaves, bsd_pattern_destroy frees it
 * all. */
#ifndef BSD_PATTERN_BUILD_H
#define BSD_PATTERN_BUILD_H

#include "pattern.h"

bsd_status bsd_pattern_new_branch(bsd_pattern *pattern, bsd_pattern_branch **branch,
                                  bsd_error *error);
bsd_status bsd_pattern_new_term(bsd_pattern_branch *branch, bsd_term_kind kind,
                                bsd_pattern_term **term, bsd_error *error);
bsd_status bsd_pattern_new_step(bsd_pattern_term *term, int64_t step, bsd_error *error);

#endif
