/* test_foundation.c - status, memory, environment, log and hash: what every room stands on. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "env.h"
#include "hash.h"
#include "log.h"
#include "memory.h"
#include "status.h"

/* ---- status ------------------------------------------------------------------------------- */

START_TEST(every_status_has_words) {
  for (int a = BSD_OK; a <= BSD_ERR_BACKEND; a++) {
    ck_assert_str_ne(bsd_status_string((bsd_status)a), "unknown status");
    for (int b = BSD_OK; b < a; b++)
      ck_assert_str_ne(bsd_status_string((bsd_status)a), bsd_status_string((bsd_status)b));
  }
  ck_assert_str_eq(bsd_status_string((bsd_status)99), "unknown status");
  ck_assert_str_eq(bsd_status_string((bsd_status)-1), "unknown status");
}
END_TEST

static bsd_status propagates(bsd_status status) {
  BSD_TRY(status);
  return BSD_OK;
}

START_TEST(failing_fills_the_error) {
  bsd_error error;
  ck_assert_int_eq(bsd_fail(&error, BSD_ERR_ARG, "length is %d", 7), BSD_ERR_ARG);
  ck_assert_int_eq(error.status, BSD_ERR_ARG);
  ck_assert_int_eq(error.column, 0);
  ck_assert_str_eq(error.message, "length is 7");
  ck_assert_int_eq(bsd_fail_at(&error, BSD_ERR_PATTERN, 3, "w: %s", error.message),
                   BSD_ERR_PATTERN);
  ck_assert_int_eq(error.column, 3);
  ck_assert_str_eq(error.message, "w: length is 7");
  ck_assert_int_eq(bsd_fail(NULL, BSD_ERR_IO, "no one listens"), BSD_ERR_IO);
  bsd_fail(&error, BSD_ERR_IO, "%01000d", 1);
  ck_assert_uint_eq(strlen(error.message), sizeof error.message - 1);
  ck_assert_int_eq(propagates(BSD_ERR_PEER), BSD_ERR_PEER);
  ck_assert_int_eq(propagates(BSD_OK), BSD_OK);
}
END_TEST

/* ---- memory ------------------------------------------------------------------------------- */

START_TEST(sizes_are_checked) {
  int64_t out = -7;
  ck_assert(bsd_mul(3, 5, &out) && out == 15);
  ck_assert(bsd_mul(INT64_MAX, 1, &out) && out == INT64_MAX);
  ck_assert(bsd_mul(INT64_MAX, 0, &out) && out == 0);
  ck_assert(!bsd_mul(INT64_C(1) << 32, INT64_C(1) << 31, &out) && out == 0);
  ck_assert(bsd_add(INT64_MAX - 1, 1, &out) && out == INT64_MAX);
  ck_assert(!bsd_add(INT64_MAX, 1, &out) && out == INT64_MAX);
  ck_assert_int_eq(bsd_ceil_div(INT64_MAX, 2), INT64_MAX / 2 + 1);
  ck_assert_int_eq(bsd_ceil_div(0, 5), 0);
  ck_assert_int_eq(bsd_ceil_div(10, 5), 2);
}
END_TEST

START_TEST(allocations_are_zeroed_and_checked) {
  bsd_error error;
  char *memory = NULL;
  ck_assert_int_eq(bsd_alloc(&memory, 1000, 3, &error), BSD_OK);
  for (int i = 0; i < 3000; i++)
    ck_assert(memory[i] == 0);
  bsd_free(memory);
  ck_assert_int_eq(bsd_alloc(&memory, 0, 8, &error), BSD_OK);
  ck_assert_ptr_null(memory);
  char untouched;
  memory = &untouched;
  ck_assert_int_eq(bsd_alloc(&memory, INT64_MAX, 2, &error), BSD_ERR_MEMORY);
  ck_assert_int_eq(bsd_alloc(&memory, -1, 2, &error), BSD_ERR_MEMORY);
  ck_assert_int_eq(error.status, BSD_ERR_MEMORY);
  ck_assert_ptr_eq(memory, &untouched);
}
END_TEST

START_TEST(arrays_grow_by_doubling) {
  int64_t *values = NULL, capacity = 0, grown = 0;
  for (int64_t i = 0; i < 10000; i++) {
    int64_t before = capacity;
    ck_assert_int_eq(bsd_grow(&values, &capacity, i + 1, sizeof *values, NULL), BSD_OK);
    grown += capacity != before;
    values[i] = i;
  }
  ck_assert_int_lt(grown, 16);
  for (int64_t i = 0; i < 10000; i++)
    ck_assert(values[i] == i);
  int64_t *same = values, before = capacity;
  ck_assert_int_eq(bsd_grow(&values, &capacity, INT64_MAX, sizeof *values, NULL), BSD_ERR_MEMORY);
  ck_assert(values == same && capacity == before);
  bsd_free(values);
  bsd_free(NULL);
}
END_TEST

/* ---- environment and log ------------------------------------------------------------------ */

static void clear_environment(void) {
  unsetenv("BSD_DEBUG");
  unsetenv("BSD_CHECKSUM");
  unsetenv("BSD_FLIGHT_FILE");
  unsetenv("BSD_CPU_ISA");
  unsetenv("BSD_SERIALIZE_EXCHANGE");
  unsetenv("BSD_SM_MARGIN");
  unsetenv("BSD_CUDA_AWARE");
}

START_TEST(environment_defaults) {
  bsd_log_severity level;
  int checksum = -1;
  const char *path = "x";
  bsd_cpu_isa isa;
  clear_environment();
  ck_assert(bsd_env_debug(&level, NULL) == BSD_OK && level == BSD_LOG_QUIET);
  ck_assert(bsd_env_checksum(&checksum, NULL) == BSD_OK && checksum == 0);
  ck_assert(bsd_env_flight_file(&path, NULL) == BSD_OK && path == NULL);
  ck_assert(bsd_env_cpu_isa(&isa, NULL) == BSD_OK && isa == BSD_CPU_ISA_AUTO);
  ck_assert_int_eq(bsd_env_check(NULL), BSD_OK);
}
END_TEST

START_TEST(environment_overrides) {
  bsd_log_severity level;
  int checksum = -1, margin = -1;
  const char *path = "x";
  bsd_cpu_isa isa;
  clear_environment();
  setenv("BSD_CHECKSUM", "1", 1);
  setenv("BSD_FLIGHT_FILE", "/tmp/events", 1);
  setenv("BSD_CPU_ISA", "avx2", 1);
  ck_assert(bsd_env_checksum(&checksum, NULL) == BSD_OK && checksum == 1);
  ck_assert(bsd_env_flight_file(&path, NULL) == BSD_OK && strcmp(path, "/tmp/events") == 0);
  ck_assert(bsd_env_cpu_isa(&isa, NULL) == BSD_OK && isa == BSD_CPU_ISA_AVX2);
  setenv("BSD_SM_MARGIN", "6", 1);
  ck_assert(bsd_env_sm_margin(&margin, NULL) == BSD_OK && margin == 6);
  setenv("BSD_DEBUG", "WARN", 1);
  ck_assert(bsd_env_debug(&level, NULL) == BSD_OK && level == BSD_LOG_WARN);
  ck_assert_int_eq(bsd_log_level(), BSD_LOG_WARN);
  ck_assert_int_eq(bsd_env_check(NULL), BSD_OK);
  clear_environment();
}
END_TEST

START_TEST(environment_refuses_a_bad_value_in_words) {
  static const char *const bad[][2] = {
      {"BSD_DEBUG", "debug"},  {"BSD_DEBUG", ""},        {"BSD_CHECKSUM", "2"},
      {"BSD_CHECKSUM", "yes"}, {"BSD_CHECKSUM", ""},     {"BSD_CPU_ISA", "sse2"},
      {"BSD_CPU_ISA", "AVX2"}, {"BSD_FLIGHT_FILE", ""},  {"BSD_SERIALIZE_EXCHANGE", "on"},
      {"BSD_SM_MARGIN", "65"}, {"BSD_SM_MARGIN", "-1"},  {"BSD_SM_MARGIN", "4x"},
      {"BSD_SM_MARGIN", ""},   {"BSD_CUDA_AWARE", "yes"}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    bsd_error error = {0};
    clear_environment();
    setenv(bad[i][0], bad[i][1], 1);
    ck_assert_int_eq(bsd_env_check(&error), BSD_ERR_ARG);
    ck_assert_ptr_nonnull(strstr(error.message, bad[i][0]));
    ck_assert_ptr_nonnull(strstr(error.message, "expected"));
    ck_assert_int_eq(bsd_log_level(), BSD_LOG_QUIET);
  }
  clear_environment();
}
END_TEST

/* What writes to stderr under BSD_DEBUG=level (NULL: unset). */
static void captured(const char *level, char *text, size_t size) {
  FILE *file = tmpfile();
  int saved = dup(STDERR_FILENO);
  ck_assert(file && saved >= 0);
  fflush(stderr);
  dup2(fileno(file), STDERR_FILENO);
  clear_environment();
  if (level)
    setenv("BSD_DEBUG", level, 1);
  bsd_fail(NULL, BSD_ERR_ARG, "length is %d", 0);
  bsd_log(BSD_LOG_WARN, 3, -1, "warned");
  bsd_log(BSD_LOG_INFO, 3, 1, "told");
  bsd_log(BSD_LOG_TRACE, -1, -1, "traced");
  bsd_log(BSD_LOG_QUIET, -1, -1, "never");
  fflush(stderr);
  dup2(saved, STDERR_FILENO);
  close(saved);
  clear_environment();
  rewind(file);
  text[fread(text, 1, size - 1, file)] = 0;
  fclose(file);
}

START_TEST(log_is_quiet_until_asked) {
  char text[512];
  captured(NULL, text, sizeof text);
  ck_assert_str_eq(text, "");
  captured("ERROR", text, sizeof text);
  ck_assert_str_eq(text, "bsdattn ERROR: invalid argument: length is 0\n");
  captured("INFO", text, sizeof text);
  ck_assert_str_eq(text, "bsdattn ERROR: invalid argument: length is 0\n"
                         "bsdattn WARN rank 3: warned\n"
                         "bsdattn INFO rank 3 step 1: told\n");
  captured("TRACE", text, sizeof text);
  ck_assert_ptr_nonnull(strstr(text, "bsdattn TRACE: traced\n"));
  ck_assert_ptr_null(strstr(text, "never"));
  captured("LOUD", text, sizeof text);
  ck_assert_str_eq(text, "");
}
END_TEST

/* ---- hash --------------------------------------------------------------------------------- */

START_TEST(hash_is_xxh3_of_the_fields) {
  bsd_hash hash;
  ck_assert_uint_eq(bsd_hash_buffer("", 0), UINT64_C(0x2D06800538D394C2)); /* XXH3's own vector */
  bsd_hash_begin(&hash);
  ck_assert_uint_eq(bsd_hash_value(&hash), bsd_hash_buffer("", 0));
  int64_t fields[] = {1, -2};
  bsd_hash_i64(&hash, 1);
  uint64_t first = bsd_hash_value(&hash);
  bsd_hash_u64(&hash, (uint64_t)-2);
  ck_assert_uint_eq(bsd_hash_value(&hash), bsd_hash_buffer(fields, sizeof fields));
  ck_assert_uint_ne(bsd_hash_value(&hash), first);
}
END_TEST

static uint64_t hash_of_strings(const char *a, const char *b) {
  bsd_hash hash;
  bsd_hash_begin(&hash);
  bsd_hash_string(&hash, a);
  bsd_hash_string(&hash, b);
  return bsd_hash_value(&hash);
}

static uint64_t hash_of_double(double value) {
  bsd_hash hash;
  bsd_hash_begin(&hash);
  bsd_hash_f64(&hash, value);
  return bsd_hash_value(&hash);
}

START_TEST(hash_tells_fields_apart) {
  ck_assert_uint_ne(hash_of_strings("ab", "c"), hash_of_strings("a", "bc"));
  ck_assert_uint_ne(hash_of_strings("", ""), hash_of_strings("", NULL));
  ck_assert_uint_eq(hash_of_strings("x", NULL), hash_of_strings("x", NULL));
  ck_assert_uint_eq(hash_of_double(0.0), hash_of_double(-0.0));
  ck_assert_uint_ne(hash_of_double(1.0), hash_of_double(-1.0));
}
END_TEST

int main(void) {
  Suite *suite = suite_create("foundation");
  TCase *tests = tcase_create("foundation");
  tcase_add_test(tests, every_status_has_words);
  tcase_add_test(tests, failing_fills_the_error);
  tcase_add_test(tests, sizes_are_checked);
  tcase_add_test(tests, allocations_are_zeroed_and_checked);
  tcase_add_test(tests, arrays_grow_by_doubling);
  tcase_add_test(tests, environment_defaults);
  tcase_add_test(tests, environment_overrides);
  tcase_add_test(tests, environment_refuses_a_bad_value_in_words);
  tcase_add_test(tests, log_is_quiet_until_asked);
  tcase_add_test(tests, hash_is_xxh3_of_the_fields);
  tcase_add_test(tests, hash_tells_fields_apart);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
