/* make_npy.c - writes .npy files for tests of the programs, without Python.
 *
 *   make_npy FILE TYPE SHAPE normal:SEED | value:X | ramp | list:A,B,C
 * TYPE is f4, f2, i4 or i8, SHAPE as 16,4,64. f2 values are rounded from f4 to nearest even. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>

#include "examples/floats.h"
#include "examples/npy.h"

static uint64_t mix(uint64_t z) {
  z += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

/* A normal number that depends on seed and index alone (Box-Muller). */
static double normal(uint64_t seed, int64_t index) {
  uint64_t bits = mix(seed ^ mix((uint64_t)index));
  double u = ((double)(bits >> 32) + 1) / 4294967297.0;
  double v = (double)(bits & 0xFFFFFFFFu) / 4294967296.0;
  return sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v);
}

static double next_value(const char *rule, const char **list, int64_t index) {
  if (strncmp(rule, "normal:", 7) == 0)
    return normal(strtoull(rule + 7, NULL, 10), index);
  if (strncmp(rule, "value:", 6) == 0)
    return strtod(rule + 6, NULL);
  if (strcmp(rule, "ramp") == 0)
    return (double)index;
  char *end = NULL;
  double value = strtod(*list, &end);
  *list = *end == ',' ? end + 1 : end;
  return value;
}

static size_t encode(npy_type type, double value, void *out) {
  float single = (float)value;
  uint16_t half = float_to_half(single);
  int32_t small = (int32_t)value;
  int64_t large = (int64_t)value;
  const void *from = type == NPY_F4   ? (const void *)&single
                     : type == NPY_F2 ? (const void *)&half
                     : type == NPY_I4 ? (const void *)&small
                                      : (const void *)&large;
  size_t size = (size_t)npy_type_size(type);
  memcpy(out, from, size);
  return size;
}

static int write_file(const char *path, npy_header *header, const char *rule) {
  char text[NPY_FORMAT_BYTES];
  cli_error error = {0};
  if (npy_format_header(path, header, text, &error) != CLI_GOOD)
    return fprintf(stderr, "make_npy: %s\n", error.text), 2;
  FILE *file = fopen(path, "wb");
  if (file == NULL)
    return perror(path), 1;
  fwrite(text, 1, (size_t)header->data_offset, file);
  const char *list = strncmp(rule, "list:", 5) == 0 ? rule + 5 : rule;
  for (int64_t i = 0; i < header->elements; i++) {
    unsigned char bytes[8];
    fwrite(bytes, 1, encode(header->type, next_value(rule, &list, i), bytes), file);
  }
  return fclose(file) != 0 ? (perror(path), 1) : 0;
}

int main(int argc, char **argv) {
  if (argc != 5)
    return fprintf(stderr, "usage: make_npy FILE TYPE SHAPE RULE\n"), 2;
  npy_header header = {0};
  int type = 0;
  static const char *const names[] = {"f4", "f2", "i4", "i8", NULL};
  cli_error error = {0};
  if (cli_parse_name("TYPE", argv[2], names, &type, &error) != CLI_GOOD)
    return fprintf(stderr, "make_npy: %s\n", error.text), 2;
  header.type = (npy_type)type;
  for (char *word = strtok(argv[3], ","); word != NULL; word = strtok(NULL, ",")) {
    if (header.dimensions == NPY_MAX_DIMENSIONS)
      return fprintf(stderr, "make_npy: too many dimensions\n"), 2;
    header.shape[header.dimensions++] = strtoll(word, NULL, 10);
  }
  return write_file(argv[1], &header, argv[4]);
}
