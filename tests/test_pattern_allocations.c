/* test_pattern_allocations.c - each allocation of the pattern room fails once: an error in words,
 * nothing leaked, nothing changed, and the next call works. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "pattern.h"
#include "support/failing_memory.h"

/* ---- what is tried ------------------------------------------------------------------------ */

static char csr_path[] = "test_pattern_allocations.XXXXXX";
static char csr_text[64];

static bsd_status use_lines(const bsd_pattern *pattern, bsd_error *error) {
  bsd_runs runs = {0};
  bsd_status status = BSD_OK;
  bsd_block_grid grid = {.blocks = 3000};
  for (int64_t i = 0; i < pattern->nbranches && status == BSD_OK; i++) {
    status = bsd_branch_row(&pattern->branches[i], &grid, 1500, &runs, error);
    if (status == BSD_OK && bsd_branch_has_columns(&pattern->branches[i]))
      status = bsd_branch_column(&pattern->branches[i], &grid, 1500, &runs, error);
  }
  bsd_runs_free(&runs);
  return status;
}

static bsd_status add_csr(bsd_pattern *pattern, bsd_error *error) {
  int64_t ptr[] = {0, 1, 2, 3, 4}, columns[] = {0, 1, 1, 0}, steps[] = {3, 1};
  bsd_term terms[] = {
      {.kind = BSD_TERM_CSR, .csr_rows = 2, .csr_heads = 2, .csr_ptr = ptr, .csr_columns = columns},
      {.kind = BSD_TERM_DILATED, .steps = steps, .nsteps = 2}};
  return bsd_pattern_add_branch(pattern, &(bsd_branch){.terms = terms, .nterms = 2}, error);
}

static bsd_status try_all(bsd_error *error) {
  bsd_pattern *pattern = NULL, *copy = NULL;
  bsd_status status = bsd_pattern_parse(
      "w=1;w=2,blocks=strided(2,density=0.6)+local(1,1)+dilated(9:2:5);r=2;r=2;r=2;r=2;r=2;r=2;r=2;"
      "blocks=random(99,1)+global(2)",
      &pattern, error);
  if (status == BSD_OK)
    status = use_lines(pattern, error);
  if (status == BSD_OK) {
    int64_t before = pattern->nbranches;
    status = add_csr(pattern, error);
    ck_assert_int_eq(pattern->nbranches, before + (status == BSD_OK));
    ck_assert(bsd_pattern_is_valid(pattern));
  }
  if (status == BSD_OK)
    status = bsd_pattern_copy(pattern, &copy, error);
  bsd_pattern_destroy(pattern);
  bsd_pattern_destroy(copy);
  pattern = NULL;
  if (status == BSD_OK)
    status = bsd_pattern_parse(csr_text, &pattern, error);
  bsd_pattern_destroy(pattern);
  return status;
}

static void fail_each_allocation(int then_all) {
  int64_t k = 1;
  for (;; k++) {
    bsd_error error = {0};
    memory_fail_at(k, then_all);
    bsd_status status = try_all(&error);
    int64_t leaked = memory_live();
    int failed = memory_failed();
    memory_fail_at(0, 0);
    if (!failed) {
      ck_assert_int_eq(status, BSD_OK);
      break;
    }
    ck_assert_msg(status == BSD_ERR_MEMORY && error.status == status && error.message[0] != 0,
                  "allocation %d: status %d", (int)k, (int)status);
    ck_assert_msg(leaked == 0, "allocation %d: %d leaked", (int)k, (int)leaked);
    ck_assert_int_eq(try_all(&error), BSD_OK);
  }
  ck_assert_int_gt(k, 40);
}

START_TEST(each_allocation_fails_once) {
  fail_each_allocation(0);
}
END_TEST

START_TEST(each_allocation_fails_and_all_after_it) {
  fail_each_allocation(1);
}
END_TEST

static void write_csr(void) {
  FILE *file = fdopen(mkstemp(csr_path), "w");
  for (int i = 0; i < 40; i++)
    fprintf(file, "0 %d\n", i + (i == 0));
  fclose(file);
  snprintf(csr_text, sizeof csr_text, "blocks=csr(%s)", csr_path);
}

int main(void) {
  write_csr();
  Suite *suite = suite_create("pattern_allocations");
  TCase *tests = tcase_create("pattern");
  tcase_add_test(tests, each_allocation_fails_once);
  tcase_add_test(tests, each_allocation_fails_and_all_after_it);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failures = srunner_ntests_failed(runner);
  srunner_free(runner);
  unlink(csr_path);
  return failures != 0;
}
