/* bench_dense_absent.c - the dense baseline of a build without CBLAS: there is none. */
#include "bench/bench_dense.h"

int bench_dense_available(void) {
  return 0;
}

const char *bench_dense_library(void) {
  return "none";
}

void bench_dense_forward(const bench_dense_call *call) {
  (void)call;
}

void bench_dense_backward(const bench_dense_call *call) {
  (void)call;
}
