/* test_npy.c - .npy headers, document offsets, 16-bit floats, and the shared parts of command
 * lines. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/cli.h"
#include "examples/floats.h"
#include "examples/npy.h"

/* ---- headers ----------------------------------------------------------------------------- */

/* The bytes of a header of `major` with this dict; returns their count. */
static size_t make_header(int major, const char *dict, unsigned char *bytes) {
  size_t length = strlen(dict), begin = major == 1 ? 10 : 12;
  memcpy(bytes, "\x93NUMPY", 6);
  bytes[6] = (unsigned char)major;
  bytes[7] = 0;
  for (size_t i = 8; i < begin; i++)
    bytes[i] = (unsigned char)(length >> 8 * (i - 8));
  memcpy(bytes + begin, dict, length);
  return begin + length;
}

/* Parses from memory of exactly that size, so that a sanitizer sees a read beyond it. */
static int parse(int major, const char *dict, npy_header *header, cli_error *error) {
  unsigned char *bytes = malloc(strlen(dict) + 12);
  size_t count = make_header(major, dict, bytes);
  bytes = realloc(bytes, count);
  *error = (cli_error){0};
  int code = npy_parse_header("file.npy", bytes, count, header, error);
  free(bytes);
  return code;
}

START_TEST(good_headers_are_read) {
  static const struct {
    const char *dict;
    npy_type type;
    int dimensions;
    int64_t shape[3], elements;
  } cases[] = {
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }   \n", NPY_F4, 2, {3, 4}, 12},
      {"{'shape': (5,), 'fortran_order': False, 'descr': '<i8'}", NPY_I8, 1, {5}, 5},
      {"{\"descr\":\"<f2\",\"fortran_order\":False,\"shape\":(2,3,7,)}", NPY_F2, 3, {2, 3, 7}, 42},
      {"{'descr': '<i4', 'fortran_order': False, 'shape': ()}", NPY_I4, 0, {0}, 1},
      {"{'descr': '<i4', 'fortran_order': False, 'shape': (0, 9)}", NPY_I4, 2, {0, 9}, 0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    for (int major = 1; major <= 2; major++) {
      npy_header header;
      cli_error error;
      ck_assert_msg(parse(major, cases[i].dict, &header, &error) == CLI_GOOD, "%s: %s",
                    cases[i].dict, error.text);
      ck_assert_int_eq(header.type, cases[i].type);
      ck_assert_int_eq(header.dimensions, cases[i].dimensions);
      ck_assert_mem_eq(header.shape, cases[i].shape, sizeof cases[i].shape);
      ck_assert_int_eq(header.elements, cases[i].elements);
      ck_assert_int_eq(header.bytes, cases[i].elements * npy_type_size(cases[i].type));
      ck_assert_int_eq(header.data_offset, (int64_t)strlen(cases[i].dict) + (major == 1 ? 10 : 12));
    }
}
END_TEST

START_TEST(bad_headers_are_one_sentence) {
  static const struct {
    const char *dict, *words;
  } cases[] = {
      {"", "'{'"},
      {"[1]", "'{'"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)", "',' or '}'"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4", "',' or ')'"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (3", "',' or ')'"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (3)}", "a tuple"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (-3,)}", "a dimension"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': 3}", "the tuple"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", "dimensions"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775808,)}", "2^63-1"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296,4294967296)}", "2^63-1"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807,)}", "2^63-1"},
      {"{'descr': '<f4', 'fortran_order': True, 'shape': (3, 4)}", "Fortran"},
      {"{'descr': '<f4', 'fortran_order': 0, 'shape': (3, 4)}", "True or False"},
      {"{'descr': '>f4', 'fortran_order': False, 'shape': (3, 4)}", "'>f4'"},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4)}", "'<f8'"},
      {"{'descr': '<f4\n', 'fortran_order': False, 'shape': (3, 4)}", "printable"},
      {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3, 4)}", "structured"},
      {"{'descr': '<f4', 'fortran_order': False}", "no 'shape'"},
      {"{'fortran_order': False, 'shape': (3, 4)}", "no 'descr'"},
      {"{'descr': '<f4', 'shape': (3, 4)}", "no 'fortran_order'"},
      {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", "twice"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'x': 1}", "'x'"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)} x", "the header's end"},
      {"{'descr' '<f4'}", "':'"},
      {"{'descr", "short quoted string"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    npy_header header = {.dimensions = 77};
    cli_error error;
    ck_assert_int_eq(parse(1, cases[i].dict, &header, &error), CLI_UNUSABLE);
    ck_assert_msg(strstr(error.text, cases[i].words) != NULL, "%s: %s", cases[i].dict, error.text);
    ck_assert_msg(strncmp(error.text, "file.npy: ", 10) == 0, "%s", error.text);
    ck_assert_ptr_null(strchr(error.text, '\n'));
    ck_assert_int_eq(header.dimensions, 77);
  }
}
END_TEST

START_TEST(every_cut_of_a_header_is_refused) {
  static const char dict[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }";
  for (int major = 1; major <= 2; major++) {
    unsigned char whole[128];
    size_t count = make_header(major, dict, whole);
    for (size_t cut = 0; cut < count; cut++) {
      unsigned char *bytes = malloc(cut + 1);
      memcpy(bytes, whole, cut);
      bytes = realloc(bytes, cut == 0 ? 1 : cut);
      npy_header header;
      cli_error error = {0};
      ck_assert_int_eq(npy_parse_header("f", bytes, cut, &header, &error), CLI_UNUSABLE);
      ck_assert_str_ne(error.text, "");
      free(bytes);
    }
  }
}
END_TEST

START_TEST(unknown_versions_and_long_headers_are_refused) {
  unsigned char bytes[128] = "\x93NUMPY\x03";
  npy_header header;
  cli_error error = {0};
  ck_assert_int_eq(npy_parse_header("f", bytes, sizeof bytes, &header, &error), CLI_UNUSABLE);
  ck_assert_ptr_nonnull(strstr(error.text, "3.0"));
  bytes[6] = 2;
  bytes[8] = 1;
  bytes[10] = 1; /* 65537 bytes */
  error = (cli_error){0};
  ck_assert_int_eq(npy_parse_header("f", bytes, sizeof bytes, &header, &error), CLI_UNUSABLE);
  ck_assert_ptr_nonnull(strstr(error.text, "65537"));
}
END_TEST

START_TEST(a_written_header_is_read_back) {
  for (int dimensions = 0; dimensions <= NPY_MAX_DIMENSIONS; dimensions++) {
    npy_header written = {.type = NPY_F2, .dimensions = dimensions}, read;
    for (int i = 0; i < dimensions; i++)
      written.shape[i] = i == 0 ? 1234567890123 : 1 + i % 2;
    char text[NPY_FORMAT_BYTES];
    cli_error error = {0};
    ck_assert_int_eq(npy_format_header("f", &written, text, &error), CLI_GOOD);
    ck_assert_int_eq(written.data_offset % 64, 0);
    ck_assert_int_eq(
        npy_parse_header("f", (unsigned char *)text, (size_t)written.data_offset, &read, &error),
        CLI_GOOD);
    ck_assert_mem_eq(&read, &written, sizeof read);
  }
}
END_TEST

/* ---- files ------------------------------------------------------------------------------- */

static char scratch[64];

static void make_scratch(void) {
  snprintf(scratch, sizeof scratch, "/tmp/test_npy.XXXXXX");
  int file = mkstemp(scratch);
  ck_assert_int_ge(file, 0);
  close(file);
}

static void remove_scratch(void) {
  unlink(scratch);
}

/* Writes dict and `bytes` bytes of data into the scratch file. */
static void write_scratch(const char *dict, const void *data, size_t bytes) {
  unsigned char header[256];
  FILE *file = fopen(scratch, "wb");
  ck_assert_ptr_nonnull(file);
  fwrite(header, 1, make_header(1, dict, header), file);
  fwrite(data, 1, bytes, file);
  fclose(file);
}

START_TEST(size_and_shape_of_a_file_must_agree) {
  static const char dict[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}";
  const float data[5] = {1, 2, 3, 4, 5};
  for (size_t bytes = 0; bytes <= sizeof data; bytes++) {
    write_scratch(dict, data, bytes);
    int file = -1;
    npy_header header;
    cli_error error = {0};
    int code = npy_open(scratch, &file, &header, &error);
    ck_assert_int_eq(code, bytes == 16 ? CLI_GOOD : CLI_UNUSABLE);
    if (code == CLI_GOOD)
      close(file);
    else
      ck_assert_msg(strstr(error.text, "expected 16 for its shape (2, 2) of f4") != NULL, "%s",
                    error.text);
  }
}
END_TEST

START_TEST(what_is_no_file_is_refused) {
  static const char *const paths[] = {"/nonexistent/x.npy", "/tmp", "/dev/null", ""};
  for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
    int file = -1;
    npy_header header;
    cli_error error = {0};
    ck_assert_int_eq(npy_open(paths[i], &file, &header, &error), CLI_UNUSABLE);
    ck_assert_int_eq(file, -1);
    ck_assert_str_ne(error.text, "");
  }
}
END_TEST

START_TEST(offsets_are_read_and_judged) {
  static const struct {
    int64_t values[4];
    size_t count;
    int good;
  } cases[] = {{{0, 3, 3, 9}, 4, 1}, {{0, 5}, 2, 1},    {{0}, 1, 0},
               {{1, 5}, 2, 0},       {{0, 5, 4}, 3, 0}, {{0, -1}, 2, 0}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    for (int wide = 0; wide <= 1; wide++) {
      char dict[128];
      int32_t narrow[4];
      for (int j = 0; j < 4; j++)
        narrow[j] = (int32_t)cases[i].values[j];
      snprintf(dict, sizeof dict, "{'descr': '<%s', 'fortran_order': False, 'shape': (%zu,)}",
               wide ? "i8" : "i4", cases[i].count);
      write_scratch(dict, wide ? (const void *)cases[i].values : narrow,
                    cases[i].count * (wide ? 8 : 4));
      int64_t *offsets = NULL, documents = 0;
      cli_error error = {0};
      int code = npy_read_offsets(scratch, &offsets, &documents, &error);
      ck_assert_int_eq(code, cases[i].good ? CLI_GOOD : CLI_UNUSABLE);
      if (code == CLI_GOOD) {
        ck_assert_int_eq(documents, (int64_t)cases[i].count - 1);
        ck_assert_mem_eq(offsets, cases[i].values, cases[i].count * 8);
      }
      free(offsets);
    }
}
END_TEST

START_TEST(offsets_of_another_type_or_shape_are_refused) {
  static const char *const dicts[] = {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
                                      "{'descr': '<i4', 'fortran_order': False, 'shape': (1, 2)}",
                                      "{'descr': '<i4', 'fortran_order': False, 'shape': (0,)}"};
  static const size_t bytes[] = {8, 8, 0};
  const int64_t data[1] = {0};
  for (size_t i = 0; i < 3; i++) {
    write_scratch(dicts[i], data, bytes[i]);
    int64_t *offsets = NULL, documents = 0;
    cli_error error = {0};
    ck_assert_int_eq(npy_read_offsets(scratch, &offsets, &documents, &error), CLI_UNUSABLE);
    ck_assert_ptr_null(offsets);
  }
}
END_TEST

/* ---- floats ------------------------------------------------------------------------------ */

START_TEST(every_half_is_kept) {
  for (uint32_t bits = 0; bits < 65536; bits++) {
    float value = half_to_float((uint16_t)bits);
    uint16_t back = float_to_half(value);
    ck_assert_int_eq(isnan(value) ? (back & 0x7E00) == 0x7E00 : back == bits, 1);
    value = bfloat_to_float((uint16_t)bits);
    back = float_to_bfloat(value);
    ck_assert_int_eq(isnan(value) ? isnan(bfloat_to_float(back)) : back == bits, 1);
  }
}
END_TEST

/* The nearest of two neighbours, ties to the even one. */
START_TEST(floats_between_halves_go_to_the_nearest) {
  for (uint16_t bits = 0; bits < 0x7BFF; bits++) {
    float low = half_to_float(bits), high = half_to_float((uint16_t)(bits + 1));
    float middle = (low + high) / 2; /* exact in float */
    ck_assert_int_eq(float_to_half(nextafterf(middle, low)), bits);
    ck_assert_int_eq(float_to_half(nextafterf(middle, high)), bits + 1);
    ck_assert_int_eq(float_to_half(middle), bits + (bits & 1));
  }
  ck_assert_int_eq(float_to_half(65519.99f), 0x7BFF);
  ck_assert_int_eq(float_to_half(65520.0f), 0x7C00);
  ck_assert_int_eq(float_to_half(-1e30f), 0xFC00);
  ck_assert_int_eq(float_to_bfloat(1.00390625f), 0x3F80); /* a tie, to even */
  ck_assert_int_eq(float_to_bfloat(1.01171875f), 0x3F82);
}
END_TEST

/* ---- command lines ----------------------------------------------------------------------- */

START_TEST(sizes_take_suffixes) {
  static const struct {
    const char *text;
    int64_t value; /* -1: refused */
  } cases[] = {{"0", 0},
               {"17", 17},
               {"2K", 2048},
               {"3M", 3 << 20},
               {"8G", INT64_C(8) << 30},
               {"", -1},
               {"-1", -1},
               {"+1", -1},
               {" 1", -1},
               {"1 ", -1},
               {"1k", -1},
               {"1KK", -1},
               {"K", -1},
               {"0x10", -1},
               {"9223372036854775807", INT64_MAX},
               {"8589934592G", -1},
               {"9223372036854775808", -1}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    int64_t value = -1;
    cli_error error = {0};
    int code = cli_parse_size("--x", cases[i].text, 0, INT64_MAX, &value, &error);
    ck_assert_int_eq(code, cases[i].value < 0 ? CLI_UNUSABLE : CLI_GOOD);
    ck_assert_int_eq(value, cases[i].value);
    ck_assert_int_eq(code != CLI_GOOD, strncmp(error.text, "--x is ", 7) == 0);
  }
}
END_TEST

START_TEST(size_lists_and_ranges) {
  static const struct {
    const char *text;
    int64_t count, last;
  } cases[] = {{"8", 1, 8},
               {"2048,4096", 2, 4096},
               {"2K:1M:x2", 10, 1 << 20},
               {"1K:8K:+1K", 8, 8192},
               {"1,2:9:x3,5", 4, 5},
               {"1:9223372036854775807:x3", 40, -1},
               {"", 0, 0},
               {"1,", 0, 0},
               {",1", 0, 0},
               {"1:2", 0, 0},
               {"1:2:x1", 0, 0},
               {"1:2:+0", 0, 0},
               {"0:8:x2", 0, 0},
               {"5:3:+1", 0, 0},
               {"1:70000:+1", 0, 0},
               {"0", 0, 0}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    cli_size_list list = {0};
    cli_error error = {0};
    int code = cli_parse_size_list("-l", cases[i].text, 1, INT64_MAX, &list, &error);
    ck_assert_int_eq(code, cases[i].count == 0 ? CLI_UNUSABLE : CLI_GOOD);
    ck_assert_int_eq(list.count, cases[i].count);
    if (cases[i].count > 0 && cases[i].last > 0)
      ck_assert_int_eq(list.values[list.count - 1], cases[i].last);
    cli_size_list_free(&list);
  }
}
END_TEST

START_TEST(names_layouts_blocks_and_numbers) {
  cli_error error = {0};
  bsd_layout_spec layout = {0};
  ck_assert_int_eq(cli_parse_layout("dilated:2:1K", &layout, &error), CLI_GOOD);
  ck_assert_int_eq(layout.kind, BSD_LAYOUT_DILATED);
  ck_assert_int_eq(layout.group, 2);
  ck_assert_int_eq(layout.unit, 1024);
  static const char *const bad[] = {
      "", "dilated", "dilated:1", "dilated:0:1", "dilated:1:2:3", "custom", "zigzag "};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    ck_assert_int_eq(cli_parse_layout(bad[i], &layout, &error), CLI_UNUSABLE);
  ck_assert_int_eq(layout.group, 2);
  int64_t block = 0;
  ck_assert_int_eq(cli_parse_block("128", &block, &error), CLI_GOOD);
  ck_assert_int_eq(cli_parse_block("48", &block, &error), CLI_UNUSABLE);
  ck_assert_int_eq(cli_parse_block("512", &block, &error), CLI_UNUSABLE);
  ck_assert_int_eq(block, 128);
  error = (cli_error){0};
  bsd_dtype dtype = BSD_F32;
  ck_assert_int_eq(cli_parse_dtype("fp16", &dtype, &error), CLI_UNUSABLE);
  ck_assert_str_eq(error.text, "--dtype is 'fp16', expected f32, bf16 or f16");
  double seconds = 0;
  static const char *const numbers[] = {"0", "-1", "nan", "inf", "1e", "", "1e999", "2x"};
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
    ck_assert_int_eq(cli_parse_double("-T", numbers[i], 0, 1, &seconds, &error), CLI_UNUSABLE);
  ck_assert_int_eq(cli_parse_double("-T", "0.5", 0, 1, &seconds, &error), CLI_GOOD);
  uint64_t seed = 0;
  ck_assert_int_eq(cli_parse_seed("--seed", "18446744073709551615", &seed, &error), CLI_GOOD);
  ck_assert_uint_eq(seed, UINT64_MAX);
  ck_assert_int_eq(cli_parse_seed("--seed", "18446744073709551616", &seed, &error), CLI_UNUSABLE);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("npy");
  TCase *tests = tcase_create("npy");
  tcase_add_checked_fixture(tests, make_scratch, remove_scratch);
  tcase_set_timeout(tests, 60);
  tcase_add_test(tests, good_headers_are_read);
  tcase_add_test(tests, bad_headers_are_one_sentence);
  tcase_add_test(tests, every_cut_of_a_header_is_refused);
  tcase_add_test(tests, unknown_versions_and_long_headers_are_refused);
  tcase_add_test(tests, a_written_header_is_read_back);
  tcase_add_test(tests, size_and_shape_of_a_file_must_agree);
  tcase_add_test(tests, what_is_no_file_is_refused);
  tcase_add_test(tests, offsets_are_read_and_judged);
  tcase_add_test(tests, offsets_of_another_type_or_shape_are_refused);
  tcase_add_test(tests, every_half_is_kept);
  tcase_add_test(tests, floats_between_halves_go_to_the_nearest);
  tcase_add_test(tests, sizes_take_suffixes);
  tcase_add_test(tests, size_lists_and_ranges);
  tcase_add_test(tests, names_layouts_blocks_and_numbers);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
