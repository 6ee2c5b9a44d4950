/* compare_npy.c - how far two .npy files of one shape are apart.
 *
 *   compare_npy A.npy B.npy [LIMIT]
 * prints "relative_error X max_difference Y": ||a - b|| / ||b|| and max |a - b|, in fp64. Equal
 * infinities (the lse of a query that sees no key) differ by 0; a NaN in either file makes both
 * figures nan. Exit status: 0, or 1 if the relative error is not at most LIMIT, or 2 if the files
 * cannot be compared. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "examples/floats.h"
#include "examples/npy.h"

enum { ELEMENTS_AT_A_TIME = 1 << 16 };

typedef struct input {
  const char *path;
  int file;
  npy_header header;
} input;

typedef struct sums {
  double difference, reference, largest; /* squares of a - b and of b, max |a - b| */
  int has_nan;
} sums;

static double element(npy_type type, const void *data, int64_t index) {
  switch (type) {
  case NPY_F4:
    return (double)((const float *)data)[index];
  case NPY_F2:
    return (double)half_to_float(((const uint16_t *)data)[index]);
  case NPY_I4:
    return ((const int32_t *)data)[index];
  case NPY_I8:
    return (double)((const int64_t *)data)[index];
  }
  return NAN;
}

static void add(sums *total, double a, double b) {
  double difference = a == b ? 0 : fabs(a - b);
  if (isnan(difference))
    total->has_nan = 1;
  total->difference += difference * difference;
  total->reference += isinf(b) ? 0 : b * b;
  if (difference > total->largest)
    total->largest = difference;
}

static int read_part(const input *file, int64_t first, int64_t count, void *data,
                     cli_error *error) {
  int64_t size = npy_type_size(file->header.type);
  return npy_read_at(file->path, file->file, data, count * size,
                     file->header.data_offset + first * size, error);
}

static int compare(const input *a, const input *b, sums *total, cli_error *error) {
  static int64_t a_data[ELEMENTS_AT_A_TIME], b_data[ELEMENTS_AT_A_TIME]; /* room for any type */
  for (int64_t first = 0; first < a->header.elements; first += ELEMENTS_AT_A_TIME) {
    int64_t left = a->header.elements - first;
    int64_t count = left < ELEMENTS_AT_A_TIME ? left : ELEMENTS_AT_A_TIME;
    int code = read_part(a, first, count, a_data, error);
    if (code == CLI_GOOD)
      code = read_part(b, first, count, b_data, error);
    if (code != CLI_GOOD)
      return code;
    for (int64_t i = 0; i < count; i++)
      add(total, element(a->header.type, a_data, i), element(b->header.type, b_data, i));
  }
  return CLI_GOOD;
}

static int same_shape(const input *a, const input *b, cli_error *error) {
  if (a->header.dimensions == b->header.dimensions &&
      memcmp(a->header.shape, b->header.shape, sizeof a->header.shape) == 0)
    return CLI_GOOD;
  char found[256], expected[256];
  npy_shape_text(&a->header, found, sizeof found);
  npy_shape_text(&b->header, expected, sizeof expected);
  return cli_fail(error, CLI_UNUSABLE, "%s: its shape is %s, expected %s as in %s", a->path, found,
                  expected, b->path);
}

static double relative_error(const sums *total) {
  if (total->has_nan)
    return NAN;
  return total->difference == 0 ? 0 : sqrt(total->difference) / sqrt(total->reference);
}

static int run(int argc, char **argv, cli_error *error) {
  if (argc != 3 && argc != 4)
    return cli_fail(error, CLI_UNUSABLE, "expected compare_npy A.npy B.npy [LIMIT]");
  double limit = INFINITY;
  if (argc == 4 && cli_parse_double("LIMIT", argv[3], 0, 0, &limit, error) != CLI_GOOD)
    return CLI_UNUSABLE;
  input a = {.path = argv[1], .file = -1}, b = {.path = argv[2], .file = -1};
  sums total = {0};
  int code = npy_open(a.path, &a.file, &a.header, error);
  if (code == CLI_GOOD)
    code = npy_open(b.path, &b.file, &b.header, error);
  if (code == CLI_GOOD)
    code = same_shape(&a, &b, error);
  if (code == CLI_GOOD)
    code = compare(&a, &b, &total, error);
  if (a.file >= 0)
    close(a.file);
  if (b.file >= 0)
    close(b.file);
  if (code != CLI_GOOD)
    return code;
  double relative = relative_error(&total);
  printf("relative_error %.3e max_difference %.3e\n", relative,
         total.has_nan ? NAN : total.largest);
  if (argc == 4 && !(relative <= limit))
    return cli_fail(error, CLI_FAILED, "%s and %s differ by %.3e, expected at most %s", a.path,
                    b.path, relative, argv[3]);
  return CLI_GOOD;
}

int main(int argc, char **argv) {
  cli_error error = {0};
  int code = run(argc, argv, &error);
  if (code != CLI_GOOD)
    fprintf(stderr, "compare_npy: %s\n", error.text);
  return code;
}
