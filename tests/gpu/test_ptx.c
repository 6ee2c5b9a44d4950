/* test_ptx.c - kernels/cuda/ptx.cuh against the CPU, to the bit in 1000 launches.
 *
 * Each test is a process, because a kernel that traps ends CUDA for the process that launched it.
 * Skipped without a GPU and where the GPU is older than sm_80; what only sm_90a has is left out on others. */
#include <check.h>
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ptx_cases.h"
#include "support/suite.h"

enum { SKIPPED = 77, MOST_SECONDS = 60 };

static int capability; /* of device 0, 90 for 9.0; 0: there is none */

static void expect(ptx_report report, const char *what) {
  ck_assert_msg(report.failure[0] == '\0', "%s: %s", what, report.failure);
  ck_assert_msg(report.wrong == 0, "%s: %lld elements are wrong, the first, %lld, is %g, not %g",
                what, (long long)report.wrong, (long long)report.first, report.found,
                report.expected);
  ck_assert_msg(report.unequal == 0, "%s: %lld words differ from the first of %d launches", what,
                (long long)report.unequal, PTX_LAUNCHES);
}

START_TEST(products_of_a_warpgroup) {
  static const char *const places[] = {"shared memory", "registers", "matrix loads"};
  char what[128];
  for (int half = 0; half < 2; half++)
    for (int columns = 64; columns <= 128; columns += 64)
      for (int depth = 64; depth <= 128; depth += 64)
        for (int transposed = 0; transposed < 2; transposed++)
          for (int a = columns == 128; a < 3; a++) { /* the kernels share no A with 128 columns */
            snprintf(what, sizeof what, "%s [64][%d] from %s times %s [%d]", half ? "f16" : "bf16",
                     depth, places[a], transposed ? "rows of" : "columns of", columns);
            expect(ptx_product(half, columns, depth, transposed, (ptx_operand)a), what);
          }
}
END_TEST

START_TEST(accumulator_is_an_operand) {
  for (int half = 0; half < 2; half++)
    for (int columns = 64; columns <= 128; columns += 64)
      expect(ptx_accumulator_as_operand(half, columns), half ? "f16" : "bf16");
}
END_TEST

/* A whole tile, both ends, beyond both ends. */
static const int rows_of_tiles[] = {0, 64, 128, -10, 150, 1000};
enum { TILES = sizeof rows_of_tiles / sizeof rows_of_tiles[0] };

START_TEST(tensor_loads) {
  char what[128];
  for (int half = 0; half < 2; half++)
    for (int dim = 64; dim <= 128; dim += 64)
      for (int step = 1; step <= 3; step += 2)
        for (int i = 0; i < TILES; i++) {
          snprintf(what, sizeof what, "load, dim %d step %d row %d", dim, step, rows_of_tiles[i]);
          expect(ptx_tensor_load(half, dim, step, rows_of_tiles[i]), what);
        }
}
END_TEST

START_TEST(tensor_stores) {
  char what[128];
  for (int half = 0; half < 2; half++)
    for (int dim = 64; dim <= 128; dim += 64)
      for (int step = 1; step <= 3; step += 2)
        for (int i = 0; i < TILES; i++) {
          if (rows_of_tiles[i] < 0)
            continue; /* an illegal instruction by design, see bsd_tma_store */
          snprintf(what, sizeof what, "store, dim %d step %d row %d", dim, step, rows_of_tiles[i]);
          expect(ptx_tensor_store(half, dim, step, rows_of_tiles[i]), what);
        }
}
END_TEST

START_TEST(pieces_matrices_and_pairs) {
  expect(ptx_bulk_load(), "bulk load");
  expect(ptx_store_matrix(), "stmatrix");
  expect(ptx_add_pair(), "addition of pairs");
  expect(ptx_multiply(), "bf16 product of pairs");
}
END_TEST

START_TEST(barrier_phases) {
  static const int stages[] = {2, 3, 8};
  char what[64];
  for (int consumers = 1; consumers <= 2; consumers++)
    for (int i = 0; i < 3; i++) {
      snprintf(what, sizeof what, "%d consumers, %d stages", consumers, stages[i]);
      expect(ptx_ring(consumers, stages[i]), what);
    }
}
END_TEST

START_TEST(dependent_launches) {
  expect(ptx_dependent_launches(), "dependent launches");
}
END_TEST

START_TEST(products_of_a_warp) {
  for (int half = 0; half < 2; half++)
    for (int loads = 0; loads < 2; loads++)
      expect(ptx_warp_product(half, loads), loads ? "matrix loads" : "by hand");
}
END_TEST

START_TEST(copies) {
  expect(ptx_copies(), "copies");
}
END_TEST

START_TEST(arithmetic) {
  for (int half = 0; half < 2; half++)
    expect(ptx_pack(half), half ? "f16" : "bf16");
  expect(ptx_exp2(), "exp2");
}
END_TEST

static int find_capability(void) {
  int count = 0, major = 0, minor = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0)
    return 0;
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) != cudaSuccess ||
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0) != cudaSuccess)
    return 0;
  return 10 * major + minor;
}

/* find_capability() by a child: tests fork, and CUDA does not outlive a fork once it has started. -1: the child
 * came to grief. */
static int ask_capability(void) {
  fflush(NULL);
  const pid_t child = fork();
  if (child == 0)
    _exit(find_capability());
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
    return -1;
  return WEXITSTATUS(status);
}

int main(int argc, char **argv) {
  capability = ask_capability();
  if (capability < 0) {
    printf("test_ptx: the process that asked for the GPU's capability did not end well\n");
    return EXIT_FAILURE;
  }
  if (capability < 80) {
    printf("test_ptx: %s: skipped\n",
           capability == 0 ? "no CUDA device" : "the GPU is older than sm_80");
    return SKIPPED;
  }
  setenv("CK_FORK", "yes", 1);
  TCase *tests = tcase_create("ptx");
  tcase_set_timeout(tests, MOST_SECONDS);
  tcase_add_test(tests, products_of_a_warp);
  tcase_add_test(tests, copies);
  tcase_add_test(tests, arithmetic);
  if (capability == 90) {
    tcase_add_test(tests, products_of_a_warpgroup);
    tcase_add_test(tests, accumulator_is_an_operand);
    tcase_add_test(tests, tensor_loads);
    tcase_add_test(tests, tensor_stores);
    tcase_add_test(tests, pieces_matrices_and_pairs);
    tcase_add_test(tests, barrier_phases);
    tcase_add_test(tests, dependent_launches);
  } else
    printf("test_ptx: not a GPU of sm_90a: its instructions are left out\n");
  return suite_run("ptx", tests, &argc, &argv);
}
