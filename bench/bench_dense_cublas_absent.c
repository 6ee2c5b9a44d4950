/* bench_dense_cublas_absent.c - the dense baseline on a GPU in a build without cuBLAS: there is none. */
#include "bench/bench_dense.h"

static int no_library(void **state, cli_error *error) {
  (void)state;
  return cli_fail(error, CLI_UNUSABLE, "this build has no cuBLAS");
}

const bench_dense_library bench_dense_on_cuda = {.open = no_library};
