/* scale.c - see scale.h. */
#include "support/scale.h"

#include <stdlib.h>

int64_t test_count(int64_t count) {
  const char *text = getenv("BSD_TEST_SCALE");
  double scaled = (double)count * (text ? atof(text) : 1);
  return scaled < 1 ? 1 : (int64_t)scaled;
}
