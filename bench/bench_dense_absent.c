/* bench_dense_absent.c - the dense baseline on the host in a build without CBLAS: there is none. */
#include "bench/bench_dense.h"

static int no_library(void **state, cli_error *error) {
  (void)state;
  return cli_fail(error, CLI_UNUSABLE, "this build has no CBLAS");
}

const bench_dense_library bench_dense_on_host = {.open = no_library};
