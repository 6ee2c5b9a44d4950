/* test_kernels.c - conformance of every backend's kernel table with kernels.h.
 *
 * Random calls (support/kernel_case.h) run on every backend that opens a device (support/kernel_run.h) and are
 * judged against the fp64 reference and, for other thread numbers and repeats, against the first run bit by bit
 * (support/kernel_judge.h). */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/kernel_judge.h"
#include "support/scale.h"

static void run_and_judge(const case_options *options, int accumulate, int threads) {
  kernel_case *c = kernel_case_make(options);
  kernel_family f;
  for (int i = 0; i < KERNEL_FAMILIES; i++) {
    if (!kernel_family_at(i, c, &f))
      continue;
    kernel_words words = kernel_describe(c, f.name, accumulate);
    kernel_results r = kernel_run(&f, c, threads, accumulate);
    kernel_judge(c, &f, &r, words.text);
    kernel_results_free(&r);
  }
  kernel_case_free(c);
}

static const int64_t dims[] = {1, 3, 20, 32, 64, 80, 128, 256};
static const int64_t blocks[] = {16, 32, 64, 128, 256};
enum { DIMS = sizeof dims / sizeof dims[0], BLOCKS = sizeof blocks / sizeof blocks[0] };

static case_options options_for(uint64_t seed, int64_t dim, int64_t block, bsd_dtype dtype) {
  uint64_t state = seed;
  const int64_t small = dim * block > 4096 ? 2 : 4;
  return (case_options){.seed = seed,
                        .dtype = dtype,
                        .dim = dim,
                        .block = block,
                        .tokens = 1 + case_draw(&state, small * (block < 64 ? 64 : block)),
                        .sources = (int)(1 + case_draw(&state, CASE_SOURCES)),
                        .npasses = (int)(1 + case_draw(&state, CASE_PASSES)),
                        .density = 0.2 * (double)case_draw(&state, 6)};
}

/* Every dtype, head dimension and block size, alone and with accumulators. */
START_TEST(results_keep_their_bounds) {
  const bsd_dtype dtype = (bsd_dtype)(_i % 3);
  for (int64_t x = 0; x < test_count(DIMS * BLOCKS); x++) {
    const int64_t d = x % DIMS, b = (x / DIMS + x) % BLOCKS;
    const uint64_t seed = (uint64_t)(1 + _i + 3 * x);
    const case_options options = options_for(seed, dims[d], blocks[b], dtype);
    run_and_judge(&options, options.npasses > 1 || seed % 2, 1 + (int)(seed % 3));
  }
}
END_TEST

/* Rows of more blocks than a chunk, and all keys for every query. */
START_TEST(long_rows_keep_their_bounds) {
  const case_options long_row = {.seed = 77,
                                 .dtype = BSD_F32,
                                 .dim = 16,
                                 .block = 16,
                                 .tokens = 900,
                                 .sources = 2,
                                 .npasses = 1,
                                 .density = 1};
  run_and_judge(&long_row, 0, 2);
}
END_TEST

START_TEST(bits_do_not_depend_on_threads_or_repeats) {
  for (int64_t i = 0; i < test_count(12); i++) {
    const uint64_t seed = 1000 + (uint64_t)i;
    const case_options options =
        options_for(seed, dims[i % DIMS], blocks[i % BLOCKS], (bsd_dtype)(i % 3));
    kernel_case *c = kernel_case_make(&options);
    kernel_family f;
    for (int x = 0; x < KERNEL_FAMILIES; x++) {
      if (!kernel_family_at(x, c, &f))
        continue;
      const int accumulate = options.npasses > 1;
      kernel_words words = kernel_describe(c, f.name, accumulate);
      kernel_results first = kernel_run(&f, c, 1, accumulate);
      for (int threads = 1; threads <= 3; threads++) {
        kernel_results again = kernel_run(&f, c, threads, accumulate);
        kernel_must_equal(&first, &again, "another number of threads or a repeat", words.text);
        kernel_results_free(&again);
      }
      kernel_results_free(&first);
    }
    kernel_case_free(c);
  }
}
END_TEST

/* The CPU backend's instruction sets are kernels of their own. */
START_TEST(every_instruction_set_keeps_the_bounds) {
  static const char *const sets[] = {"baseline", "avx2", "avx512"};
  const bsd_backend_table *table;
  setenv("BSD_CPU_ISA", sets[_i], 1);
  if (bsd_backend_find(BSD_BACKEND_CPU, NULL, &table, NULL) == BSD_OK &&
      kernel_backend_opens(table))
    for (int64_t i = 0; i < test_count(2 * DIMS); i++) {
      const case_options options =
          options_for(2000 + (uint64_t)i, dims[i % DIMS], blocks[i % BLOCKS], (bsd_dtype)(i % 3));
      run_and_judge(&options, options.npasses > 1, 2);
    }
  unsetenv("BSD_CPU_ISA");
}
END_TEST

START_TEST(the_cpu_refuses_what_it_lacks) {
  const bsd_backend_table *table;
  const bsd_kernel_shape shape = {
      .batch = 1, .heads = 1, .kv_heads = 1, .head_dim = 64, .block = 64, .dtype = BSD_F32};
  const bsd_kernels *kernels = NULL;
  bsd_error error;
  void *device;
  char text[80];
  ck_assert_int_eq(bsd_backend_find(BSD_BACKEND_CPU, NULL, &table, &error), BSD_OK);
  ck_assert_int_eq(table->open(NULL, &device, text, sizeof text, &error), BSD_OK);
  ck_assert_msg(strncmp(text, "CPU, ", 5) == 0, "description is '%s'", text);
  ck_assert_int_eq(table->select(device, &shape, BSD_KERNEL_SM80, &kernels, &error),
                   BSD_ERR_UNSUPPORTED);
  ck_assert_ptr_null(kernels);
  ck_assert_ptr_nonnull(strstr(error.message, "sm80"));
  ck_assert_int_eq(table->select(device, &shape, BSD_KERNEL_AUTO, &kernels, &error), BSD_OK);
  ck_assert_str_eq(kernels->forward_name, "cpu");
  ck_assert_str_eq(kernels->backward_name, "cpu");
  table->release(device, NULL);
  table->close(device);
  ck_assert_int_eq(bsd_backend_find((bsd_backend)9, NULL, &table, &error), BSD_ERR_UNSUPPORTED);
  ck_assert_int_eq(bsd_backend_find(BSD_BACKEND_AUTO, NULL, &table, &error), BSD_OK);
}
END_TEST

/* Two heads of one class and one of another, from a tensor with gaps. */
START_TEST(pack_gathers_rows_in_order) {
  enum { HEADS = 3, TOKENS = 20, DIM = 5, ROWS = 8 };
  static const bsd_pack_run runs[] = {{1, 3, 4, 0}, {14, 1, 2, 4}, {2, 2, 1, 0}, {19, 1, 1, 1}};
  static const int64_t class_ptr[] = {0, 2, 4}, head_row[] = {1, 20, 10};
  static const int32_t run_class[] = {0, 1, 0};
  static const int64_t expected[HEADS][6] = {
      {1, 4, 7, 10, 14, 15}, {2, 19, -1, -1, -1, -1}, {1, 4, 7, 10, 14, 15}};
  float from[2][TOKENS][HEADS][DIM + 1], to[2 * 30 * DIM + 30];
  for (size_t i = 0; i < sizeof from / sizeof(float); i++)
    (&from[0][0][0][0])[i] = (float)i;
  for (const bsd_backend_table *const *table = bsd_backends(); *table; table++) {
    if (!kernel_backend_opens(*table))
      continue;
    device_memory memory;
    bsd_error error;
    device_memory_open(&memory, *table, 0);
    const bsd_tensor tensor = {device_memory_take(&memory, from, sizeof from),
                               TOKENS * HEADS * (DIM + 1), HEADS * (DIM + 1), DIM + 1};
    const bsd_pack pack = {HEADS,
                           device_memory_take(&memory, run_class, sizeof run_class),
                           device_memory_take(&memory, class_ptr, sizeof class_ptr),
                           device_memory_take(&memory, runs, sizeof runs),
                           30,
                           device_memory_take(&memory, head_row, sizeof head_row)};
    void *packed = device_memory_take(&memory, NULL, sizeof to);
    ck_assert_msg((*table)->pack(memory.device, &pack, 2, &tensor, DIM, 4, packed, NULL, &error) ==
                      BSD_OK,
                  "%s", error.message);
    ck_assert_msg((*table)->copy_out(memory.device, to, packed, sizeof to, NULL, &error) == BSD_OK,
                  "%s", error.message);
    for (int b = 0; b < 2; b++)
      for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < 6 && expected[h][i] >= 0; i++)
          ck_assert(memcmp(to + (b * 30 + head_row[h] + i) * DIM, from[b][expected[h][i]][h],
                           DIM * sizeof(float)) == 0);
    ck_assert(isnan(to[0]) && isnan(to[22 * DIM]));
    device_memory_close(&memory);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("kernels");
  TCase *tests = tcase_create("conformance");
  tcase_set_timeout(tests, 600);
  tcase_add_loop_test(tests, results_keep_their_bounds, 0, 3);
  tcase_add_test(tests, long_rows_keep_their_bounds);
  tcase_add_test(tests, bits_do_not_depend_on_threads_or_repeats);
  tcase_add_loop_test(tests, every_instruction_set_keeps_the_bounds, 0, 3);
  tcase_add_test(tests, the_cpu_refuses_what_it_lacks);
  tcase_add_test(tests, pack_gathers_rows_in_order);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_ENV);
  const int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
