/* same_share.h - compares two shares of one rank, which were made in different ways, to the last bit. */
#ifndef TESTS_SAME_SHARE_H
#define TESTS_SAME_SHARE_H

#include "share.h"

/* Whether they are the same; *what (may be NULL) says what is not. */
int same_share(const bsd_share *a, const bsd_share *b, const char **what);

#endif
