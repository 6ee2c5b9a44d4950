/* scale.h - how much the random suites do: BSD_TEST_SCALE (default 1) times their usual counts. */
#ifndef TESTS_SCALE_H
#define TESTS_SCALE_H

#include <stdint.h>

/* count * BSD_TEST_SCALE, at least 1. */
int64_t test_count(int64_t count);

#endif
