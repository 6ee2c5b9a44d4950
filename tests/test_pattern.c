/* test_pattern.c - patterns as text and as structs: both ways, errors with their columns, csr
 * files. */
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pattern.h"
#include "support/dice.h"

enum { TEXT_TRIALS = 4000, MAX_TERMS = 4 };

static dice rolls;

static bsd_pattern *parsed(const char *text) {
  bsd_pattern *pattern = NULL;
  bsd_error error = {0};
  ck_assert_msg(bsd_pattern_parse(text, &pattern, &error) == BSD_OK, "'%s': %s", text,
                error.message);
  ck_assert(bsd_pattern_is_valid(pattern));
  return pattern;
}

/* ---- text --------------------------------------------------------------------------------- */

static void check_text(const char *text, const char *canonical) {
  bsd_pattern *pattern = parsed(text), *again;
  size_t needed = 0;
  char buffer[4096];
  ck_assert_int_eq(bsd_pattern_format(pattern, buffer, sizeof buffer, &needed), BSD_OK);
  ck_assert_str_eq(buffer, canonical);
  ck_assert_uint_eq(needed, strlen(canonical) + 1);
  again = parsed(buffer);
  ck_assert_uint_eq(bsd_pattern_content_hash(pattern), bsd_pattern_content_hash(again));
  bsd_pattern_destroy(pattern);
  bsd_pattern_destroy(again);
}

START_TEST(canonical_text) {
  check_text("w=0", "blocks=full");
  check_text("blocks=full", "blocks=full");
  check_text("combine=sum|blocks=full", "blocks=full");
  check_text("combine=heads| w=2048; w=8192,r=4", "combine=heads|w=2048;w=8192,r=4");
  check_text(" combine = heads | w = 2K ; w = 8K , r = 4 ", "combine=heads|w=2048;w=8192,r=4");
  check_text("blocks=full,window=3:-1,offset=kv,r=3,w=1M", "w=1048576,r=3,offset=kv,window=3:-1");
  check_text("r=1,offset=mod,w=1G", "w=1073741824");
  check_text("offset=group", "offset=group");
  check_text("window=-1:-1", "window=-1:-1");
  check_text("w=9223372036854775807", "w=9223372036854775807");
  check_text("w=007", "w=7");
  check_text("blocks= local( -1 , 2K )+ dilated (1 : 2:4) + global(0)",
             "blocks=local(-1,2048)+dilated(1:2:4)+global(0)");
  check_text("blocks=random(1,18446744073709551615)", "blocks=random(1,18446744073709551615)");
  check_text("blocks=strided(1:2,density=0.1)", "blocks=strided(1:2,density=0.1)");
  check_text("blocks=strided(1,density=1)", "blocks=strided(1,density=1)");
  check_text("blocks=strided(1,density=1.000)", "blocks=strided(1,density=1)");
  check_text("blocks=strided(1,density=00.500000000)", "blocks=strided(1,density=0.5)");
  check_text("blocks=strided(1,density=0.000000001)", "blocks=strided(1,density=0.000000001)");
  check_text("blocks=strided(1,density=0.123456789)", "blocks=strided(1,density=0.123456789)");
  check_text("blocks=strided(2:1,rows=1K)", "blocks=strided(2:1,rows=1024)");
  check_text("blocks=full+full", "blocks=full+full");
  check_text("blocks=full,w=3;blocks=full", "w=3;blocks=full");
}
END_TEST

START_TEST(errors_have_columns) {
  static const struct {
    const char *text;
    int column;
  } bad[] = {
      {"", 1},
      {"   ", 4},
      {";", 1},
      {"w=1;", 5},
      {"w=1; ", 6},
      {"w=1;;w=2", 5},
      {"w=1,", 5},
      {"w=1,,r=1", 5},
      {"w", 2},
      {"w=", 3},
      {"w= ,r=1", 4},
      {"w=1 r=2", 5},
      {"w=-1", 3},
      {"w=+1", 3},
      {"w=1.5", 4},
      {"w=1k", 4},
      {"w=1KK", 5},
      {"w=1KB", 5},
      {"w=2 K", 5},
      {"w=1 0", 5},
      {"w=9223372036854775808", 3},
      {"w=8589934592G", 3},
      {"w=99999999999999999999999", 3},
      {"w=K", 3},
      {"r=0", 3},
      {"q=3", 1},
      {"W=3", 1},
      {"w=1,q=3", 5},
      {"w=1,w=2", 5},
      {"blocks=full,blocks=full", 13},
      {"wi ndow=1:1", 1},
      {"offset=", 8},
      {"offset=modd", 8},
      {"offset=MOD", 8},
      {"window=1", 9},
      {"window=1,2", 9},
      {"window=-2:1", 8},
      {"window=- 1:1", 8},
      {"window=-1K:1", 8},
      {"window=-12:1", 8},
      {"blocks=", 8},
      {"blocks=ful", 8},
      {"blocks=full2", 8},
      {"blocks=full()", 12},
      {"blocks=full+", 13},
      {"blocks=full|full", 12},
      {"blocks=local", 13},
      {"blocks=local(1)", 15},
      {"blocks=local(1,2", 17},
      {"blocks=local(1,-2)", 16},
      {"blocks=dilated()", 16},
      {"blocks=dilated(0)", 16},
      {"blocks=dilated(1,2)", 17},
      {"blocks=dilated(1:)", 18},
      {"blocks=strided(1)", 17},
      {"blocks=strided(1:2,)", 20},
      {"blocks=strided(1,rows=0)", 23},
      {"blocks=strided(1,rows=-1)", 23},
      {"blocks=strided(1,rows=1,density=1)", 24},
      {"blocks=strided(1,density=0)", 26},
      {"blocks=strided(1,density=0.0)", 26},
      {"blocks=strided(1,density=1.1)", 26},
      {"blocks=strided(1,density=1.000000001)", 26},
      {"blocks=strided(1,density=2)", 26},
      {"blocks=strided(1,density=18446744073709551617)", 26},
      {"blocks=strided(1,density=.5)", 26},
      {"blocks=strided(1,density=1.)", 28},
      {"blocks=strided(1,density=0. 5)", 28},
      {"blocks=strided(1,density=0.1234567890)", 37},
      {"blocks=strided(1,density=1K)", 27},
      {"blocks=strided(1,density=1e-1)", 27},
      {"blocks=strided(1,density=-1)", 26},
      {"blocks=strided(1,rows=1:2)", 24},
      {"blocks=global(-1)", 15},
      {"blocks=random(0,1)", 15},
      {"blocks=random(1,18446744073709551616)", 17},
      {"blocks=random(1)", 16},
      {"blocks=csr()", 12},
      {"blocks=csr(  )", 14},
      {"blocks=csr(file", 16},
      {"blocks=csr(#0123456789abcdef)", 12},
      {"combine=heads", 14},
      {"combine=heads|", 15},
      {"combine=all|w=1", 9},
      {"combine=heads|combine=heads|w=1", 15},
      {"w=1;combine=sum|w=1", 5},
      {"w=1\x01", 4},
      {"w=1\xc3\xa9", 4},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    bsd_pattern *pattern = (bsd_pattern *)&bad;
    bsd_error error = {0};
    bsd_status status = bsd_pattern_parse(bad[i].text, &pattern, &error);
    ck_assert_msg(status == BSD_ERR_PATTERN && error.status == status, "'%s' gave %d", bad[i].text,
                  (int)status);
    ck_assert_msg(error.column == bad[i].column, "'%s': column %d, expected %d (%s)", bad[i].text,
                  error.column, bad[i].column, error.message);
    ck_assert_ptr_eq(pattern, (bsd_pattern *)&bad);
    ck_assert_ptr_nonnull(strstr(error.message, "expected "));
    ck_assert_int_eq(bsd_pattern_parse(bad[i].text, &pattern, NULL), BSD_ERR_PATTERN);
  }
}
END_TEST

/* The text of a random pattern, made by this file; spaces between tokens if asked. */
static size_t random_text(char *text, size_t size, int spaces) {
  static const char *const offsets[] = {"mod", "group", "kv"};
  FILE *out = fmemopen(text, size, "w");
  const char *gap = spaces ? " \t " : "";
  int64_t branches = dice_range(&rolls, 1, 5);
  if (dice_chance(&rolls, 30))
    fprintf(out, "combine%s=%s%s%s|", gap, gap, dice_chance(&rolls, 50) ? "sum" : "heads", gap);
  for (int64_t b = 0; b < branches; b++) {
    fprintf(out, "%s%sw=%s%" PRId64, b ? ";" : "", gap, gap, dice_range(&rolls, 0, 5));
    if (dice_chance(&rolls, 50))
      fprintf(out, "%s,%sr=%" PRIu64, gap, gap,
              (dice_bits(&rolls) >> dice_range(&rolls, 1, 62)) | 1);
    if (dice_chance(&rolls, 50))
      fprintf(out, ",offset%s=%s", gap, offsets[dice_range(&rolls, 0, 2)]);
    if (dice_chance(&rolls, 50))
      fprintf(out, ",window=%" PRId64 "%s:%s%" PRId64, dice_range(&rolls, -1, 99), gap, gap,
              dice_range(&rolls, -1, 99));
    int64_t terms = dice_range(&rolls, 0, MAX_TERMS);
    for (int64_t t = 0; t < terms; t++) {
      fprintf(out, "%s", t ? "+" : ",blocks=");
      switch (dice_range(&rolls, 0, 6)) {
      case 0:
        fprintf(out, "full");
        break;
      case 1:
        fprintf(out, "local(%" PRId64 ",%s%" PRId64 ")", dice_range(&rolls, -1, 9), gap,
                dice_range(&rolls, -1, 9));
        break;
      case 2:
        fprintf(out, "dilated(%" PRId64 "%s:%" PRId64 ")", dice_range(&rolls, 1, 9), gap,
                dice_range(&rolls, 1, INT64_MAX - 1));
        break;
      case 3:
        fprintf(out, "strided(%" PRId64 ",density=0.%09" PRId64 ")", dice_range(&rolls, 1, 9),
                dice_range(&rolls, 1, 999999999));
        break;
      case 4:
        fprintf(out, "strided(%" PRId64 ":3,%srows%s=%" PRId64 ")", dice_range(&rolls, 1, 9), gap,
                gap, dice_range(&rolls, 1, 99));
        break;
      case 5:
        fprintf(out, "global%s(%" PRId64 "%s)", gap, dice_range(&rolls, 0, 9), gap);
        break;
      default:
        fprintf(out, "random(%" PRId64 ",%" PRIu64 ")", dice_range(&rolls, 1, 9),
                dice_bits(&rolls));
      }
    }
  }
  long length = ftell(out);
  fclose(out);
  return (size_t)length;
}

START_TEST(round_trip_of_random_texts) {
  rolls.state = 7;
  for (int trial = 0; trial < TEXT_TRIALS; trial++) {
    char text[4096], canonical[4096];
    size_t needed, length = random_text(text, sizeof text - 1, trial % 2);
    text[length] = 0;
    bsd_pattern *pattern = parsed(text);
    ck_assert_int_eq(bsd_pattern_format(pattern, NULL, 0, &needed), BSD_OK);
    ck_assert_int_eq(bsd_pattern_format(pattern, canonical, needed, NULL), BSD_OK);
    ck_assert_ptr_null(strpbrk(canonical, " \tKMG"));
    check_text(canonical, canonical);
    bsd_pattern *again = parsed(canonical), *copy;
    ck_assert_int_eq(bsd_pattern_copy(pattern, &copy, NULL), BSD_OK);
    ck_assert(bsd_pattern_is_valid(copy));
    ck_assert_uint_eq(bsd_pattern_content_hash(again), bsd_pattern_content_hash(pattern));
    ck_assert_uint_eq(bsd_pattern_content_hash(copy), bsd_pattern_content_hash(pattern));
    bsd_pattern_destroy(pattern);
    bsd_pattern_destroy(again);
    bsd_pattern_destroy(copy);
  }
}
END_TEST

START_TEST(format_needs_room) {
  bsd_pattern *pattern = parsed("w=12");
  char buffer[8] = "xxxxxxx";
  size_t needed = 0;
  ck_assert_int_eq(bsd_pattern_format(pattern, buffer, 4, &needed), BSD_ERR_ARG);
  ck_assert_str_eq(buffer, "xxxxxxx");
  ck_assert_int_eq(bsd_pattern_format(pattern, NULL, 0, &needed), BSD_OK);
  ck_assert_uint_eq(needed, 5);
  ck_assert_int_eq(bsd_pattern_format(pattern, buffer, 5, NULL), BSD_OK);
  ck_assert_str_eq(buffer, "w=12");
  ck_assert_int_eq(bsd_pattern_format(NULL, buffer, 5, NULL), BSD_ERR_ARG);
  ck_assert_int_eq(bsd_pattern_parse(NULL, &pattern, NULL), BSD_ERR_ARG);
  bsd_pattern_destroy(pattern);
}
END_TEST

START_TEST(hash_tells_patterns_apart) {
  static const char *const texts[] = {
      "blocks=full",
      "combine=heads|blocks=full",
      "w=1",
      "r=2",
      "offset=kv",
      "window=1:2",
      "window=2:1",
      "w=1;w=1",
      "w=2;w=1",
      "w=1;w=2",
      "blocks=full+full",
      "blocks=local(1,2)",
      "blocks=global(1)",
      "blocks=random(1,0)",
      "blocks=random(1,1)",
      "blocks=dilated(1:2)",
      "blocks=dilated(2:1)",
      "blocks=strided(1:2,rows=1)",
      "blocks=strided(1:2,density=0.000000001)",
  };
  enum { COUNT = sizeof texts / sizeof *texts };
  uint64_t hashes[COUNT];
  for (int i = 0; i < COUNT; i++) {
    bsd_pattern *pattern = parsed(texts[i]);
    hashes[i] = bsd_pattern_content_hash(pattern);
    bsd_pattern_destroy(pattern);
    for (int j = 0; j < i; j++)
      ck_assert_msg(hashes[i] != hashes[j], "'%s' and '%s'", texts[i], texts[j]);
  }
}
END_TEST

/* ---- branches from structs ---------------------------------------------------------------- */

static void refuse_branch(bsd_branch branch, const char *words) {
  bsd_pattern *pattern;
  bsd_error error = {0};
  ck_assert_int_eq(bsd_pattern_create(BSD_COMBINE_HEADS, &pattern), BSD_OK);
  ck_assert_int_eq(bsd_pattern_add_branch(pattern, &branch, &error), BSD_ERR_PATTERN);
  ck_assert_int_eq(error.column, 0);
  ck_assert_msg(strstr(error.message, words) != NULL, "%s", error.message);
  ck_assert_int_eq(pattern->nbranches, 0);
  bsd_pattern_destroy(pattern);
}

static void refuse_term(bsd_term term, const char *words) {
  refuse_branch((bsd_branch){.terms = &term, .nterms = 1}, words);
}

START_TEST(bad_branches_are_refused_in_words) {
  int64_t zero = 0, ptr[] = {0, 2, 3}, ascending[] = {0, 1, 1}, twice[] = {1, 1, 0},
          far[] = {0, 2, 0}, falling[] = {0, 2, 1}, late[] = {1, 1, 1};
  refuse_branch((bsd_branch){.segment = -1}, "segment is -1");
  refuse_branch((bsd_branch){.dilation = -3}, "dilation is -3");
  refuse_branch((bsd_branch){.offset = (bsd_offset)3}, "offset is 3");
  refuse_branch((bsd_branch){.has_window = 1, .window_left = -2}, "window_left is -2");
  refuse_branch((bsd_branch){.nterms = 1}, "terms is NULL");
  refuse_branch((bsd_branch){.nterms = -1}, "nterms is -1");
  refuse_term((bsd_term){.kind = (bsd_term_kind)9}, "kind of a term is 9");
  refuse_term((bsd_term){.kind = BSD_TERM_LOCAL, .left = -2}, "left is -2");
  refuse_term((bsd_term){.kind = BSD_TERM_DILATED}, "nsteps is 0");
  refuse_term((bsd_term){.kind = BSD_TERM_DILATED, .nsteps = 1}, "steps is NULL");
  refuse_term((bsd_term){.kind = BSD_TERM_DILATED, .nsteps = 1, .steps = &zero}, "a step is 0");
  refuse_term((bsd_term){.kind = BSD_TERM_STRIDED, .nsteps = 1, .steps = ptr + 1}, "density is 0");
  refuse_term((bsd_term){.kind = BSD_TERM_STRIDED, .nsteps = 1, .steps = ptr + 1, .rows = -1},
              "rows is -1");
  refuse_term((bsd_term){.kind = BSD_TERM_GLOBAL, .count = -1}, "count of global is -1");
  refuse_term((bsd_term){.kind = BSD_TERM_RANDOM}, "count of random is 0");
  bsd_term csr = {
      .kind = BSD_TERM_CSR, .csr_rows = 2, .csr_heads = 1, .csr_ptr = ptr, .csr_columns = twice};
  refuse_term(csr, "ascending");
  csr.csr_columns = far;
  refuse_term(csr, "column 2");
  csr.csr_columns = ascending;
  csr.csr_ptr = falling;
  refuse_term(csr, "csr_ptr[2] is 1");
  csr.csr_ptr = late;
  refuse_term(csr, "csr_ptr[0] is 1");
  csr.csr_ptr = NULL;
  refuse_term(csr, "csr_ptr is NULL");
  csr.csr_rows = 0;
  refuse_term(csr, "csr_rows is 0");
  bsd_pattern *pattern;
  ck_assert_int_eq(bsd_pattern_create((bsd_combine)2, &pattern), BSD_ERR_ARG);
  ck_assert_int_eq(bsd_pattern_add_branch(NULL, NULL, NULL), BSD_ERR_ARG);
}
END_TEST

START_TEST(branches_are_copied_and_stay_after_a_refusal) {
  bsd_pattern *pattern;
  int64_t steps[] = {1, 2}, ptr[] = {0, 2, 3}, columns[] = {0, 1, 0};
  bsd_term terms[] = {{.kind = BSD_TERM_STRIDED, .steps = steps, .nsteps = 2, .density = 50000000},
                      {.kind = BSD_TERM_CSR,
                       .csr_rows = 2,
                       .csr_heads = 1,
                       .csr_ptr = ptr,
                       .csr_columns = columns}};
  ck_assert_int_eq(bsd_pattern_create(BSD_COMBINE_SUM, &pattern), BSD_OK);
  for (int i = 0; i < 100; i++) {
    bsd_branch branch = {.segment = i, .terms = terms, .nterms = i % 3};
    ck_assert_int_eq(bsd_pattern_add_branch(pattern, &branch, NULL), BSD_OK);
    branch.dilation = -1;
    ck_assert_int_eq(bsd_pattern_add_branch(pattern, &branch, NULL), BSD_ERR_PATTERN);
  }
  steps[0] = ptr[0] = columns[0] = 77;
  ck_assert_int_eq(pattern->nbranches, 100);
  ck_assert(bsd_pattern_is_valid(pattern));
  bsd_pattern *copy;
  ck_assert_int_eq(bsd_pattern_copy(pattern, &copy, NULL), BSD_OK);
  ck_assert_uint_eq(bsd_pattern_content_hash(copy), bsd_pattern_content_hash(pattern));
  pattern->branches[4].terms[0].density = 0;
  ck_assert(!bsd_pattern_is_valid(pattern));
  bsd_pattern_destroy(pattern);
  ck_assert_int_eq(bsd_pattern_add_branch(copy, &(bsd_branch){.segment = 5}, NULL), BSD_OK);
  char text[8192], *tail;
  ck_assert_int_eq(bsd_pattern_format(copy, text, sizeof text, NULL), BSD_OK);
  tail = strstr(text, "csr(#");
  ck_assert_ptr_nonnull(tail);
  ck_assert_uint_eq(strspn(tail + 5, "0123456789abcdef"), 16);
  ck_assert_int_eq(tail[21], ')');
  bsd_pattern_destroy(copy);
  bsd_pattern_destroy(NULL);
}
END_TEST

/* ---- csr ---------------------------------------------------------------------------------- */

static void write_file(const char *path, const char *content, size_t bytes) {
  FILE *file = fopen(path, "w");
  ck_assert_ptr_nonnull(file);
  ck_assert_uint_eq(fwrite(content, 1, bytes, file), bytes);
  fclose(file);
}

START_TEST(csr_file_is_read_line_by_line) {
  char path[] = "test_pattern_csr.XXXXXX", text[128], back[128];
  close(mkstemp(path));
  write_file(path, "0 2\n\n 1\t2 \r\n3", 13);
  snprintf(text, sizeof text, "blocks=csr(  %s )", path);
  bsd_pattern *pattern = parsed(text);
  snprintf(text, sizeof text, "blocks=csr(%s)", path);
  ck_assert_int_eq(bsd_pattern_format(pattern, back, sizeof back, NULL), BSD_OK);
  ck_assert_str_eq(back, text);
  int64_t ptr[] = {0, 2, 2, 4, 5}, columns[] = {0, 2, 1, 2, 3};
  bsd_term term = {
      .kind = BSD_TERM_CSR, .csr_rows = 4, .csr_heads = 1, .csr_ptr = ptr, .csr_columns = columns};
  bsd_pattern *same;
  ck_assert_int_eq(bsd_pattern_create(BSD_COMBINE_SUM, &same), BSD_OK);
  ck_assert_int_eq(bsd_pattern_add_branch(same, &(bsd_branch){.terms = &term, .nterms = 1}, NULL),
                   BSD_OK);
  ck_assert_uint_eq(bsd_pattern_content_hash(same), bsd_pattern_content_hash(pattern));
  bsd_pattern_destroy(same);
  bsd_pattern_destroy(pattern);
  unlink(path);
}
END_TEST

START_TEST(bad_csr_files_are_refused_in_words) {
  static const struct {
    const char *content, *words;
    size_t bytes;
  } bad[] = {
      {"", "is empty", 0},      {"0\n2\n", "line 2", 4},
      {"0 0\n\n", "line 1", 5}, {"1 0\n\n", "ascending", 5},
      {"0,1\n\n", "0x2c", 5},   {"0\n-1\n", "line 2", 5},
      {"0\n1\0\n", "0x00", 5},  {"99999999999999999999\n", "too large", 21},
  };
  char path[] = "test_pattern_csr.XXXXXX", text[128];
  close(mkstemp(path));
  snprintf(text, sizeof text, "w=5,blocks=full+csr(%s)", path);
  bsd_pattern *pattern;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    bsd_error error = {0};
    write_file(path, bad[i].content, bad[i].bytes);
    ck_assert_int_eq(bsd_pattern_parse(text, &pattern, &error), BSD_ERR_PATTERN);
    ck_assert_int_eq(error.column, 21);
    ck_assert_msg(strstr(error.message, bad[i].words) && strstr(error.message, path), "%s",
                  error.message);
  }
  unlink(path);
  bsd_error error = {0};
  ck_assert_int_eq(bsd_pattern_parse(text, &pattern, &error), BSD_ERR_IO);
  ck_assert_int_eq(error.column, 21);
  ck_assert_int_eq(bsd_pattern_parse("blocks=csr(/)", &pattern, &error), BSD_ERR_IO);
}
END_TEST

static TCase *add_case(Suite *suite, const char *name) {
  TCase *tests = tcase_create(name);
  tcase_set_timeout(tests, 120);
  suite_add_tcase(suite, tests);
  return tests;
}

int main(void) {
  Suite *suite = suite_create("pattern");
  TCase *texts = add_case(suite, "texts");
  tcase_add_test(texts, canonical_text);
  tcase_add_test(texts, errors_have_columns);
  tcase_add_test(texts, round_trip_of_random_texts);
  tcase_add_test(texts, format_needs_room);
  tcase_add_test(texts, hash_tells_patterns_apart);
  TCase *structs = add_case(suite, "structs");
  tcase_add_test(structs, bad_branches_are_refused_in_words);
  tcase_add_test(structs, branches_are_copied_and_stay_after_a_refusal);
  TCase *csr = add_case(suite, "csr");
  tcase_add_test(csr, csr_file_is_read_line_by_line);
  tcase_add_test(csr, bad_csr_files_are_refused_in_words);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
