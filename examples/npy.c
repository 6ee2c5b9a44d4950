/* npy.c - reads and writes the headers of .npy files, and bytes at offsets of them. */
#include "examples/npy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "data is taken from little-endian files as is");

static const struct {
  const char *name;
  int64_t size;
} types[] = {
    [NPY_F4] = {"f4", 4}, [NPY_F2] = {"f2", 2}, [NPY_I4] = {"i4", 4}, [NPY_I8] = {"i8", 8}};

enum { TYPES = sizeof types / sizeof types[0] };

int64_t npy_type_size(npy_type type) {
  return types[type].size;
}

const char *npy_type_name(npy_type type) {
  return types[type].name;
}

void npy_shape_text(const npy_header *header, char *text, size_t size) {
  size_t used = 0;
  snprintf(text, size, "(");
  for (int i = 0; i < header->dimensions; i++) {
    used = strlen(text);
    snprintf(text + used, size - used, "%s%lld", i == 0 ? "" : ", ", (long long)header->shape[i]);
  }
  used = strlen(text);
  snprintf(text + used, size - used, header->dimensions == 1 ? ",)" : ")");
}

/* elements and bytes from type and shape; 0 on overflow. */
static int fill_sizes(npy_header *header) {
  header->elements = 1;
  for (int i = 0; i < header->dimensions; i++)
    if (__builtin_mul_overflow(header->elements, header->shape[i], &header->elements))
      return 0;
  return !__builtin_mul_overflow(header->elements, types[header->type].size, &header->bytes);
}

/* ---- the header's dict, a Python literal -------------------------------------------------- */

typedef struct scanner {
  const char *path;
  const char *at, *end;
  cli_error *error;
} scanner;

static void skip_space(scanner *s) {
  while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
    s->at++;
}

/* Takes c, after spaces, if it is next. */
static int take(scanner *s, char c) {
  skip_space(s);
  if (s->at == s->end || *s->at != c)
    return 0;
  s->at++;
  return 1;
}

/* Text that is safe to print: what comes next, at most 24 printable characters. */
static void next_text(const scanner *s, char text[32]) {
  size_t count = 0;
  for (const char *p = s->at; p < s->end && count < 24 && *p >= ' ' && *p <= '~'; p++)
    text[count++] = *p;
  snprintf(text + count, 32 - count, "%s", count == 0 ? "nothing readable" : "");
}

static int bad_header(scanner *s, const char *expected) {
  char found[32];
  next_text(s, found);
  return cli_fail(s->error, CLI_UNUSABLE, "%s: its header has '%s' where %s was expected", s->path,
                  found, expected);
}

/* A string in either kind of quotes, without escapes. */
static int scan_string(scanner *s, char *text, size_t size) {
  skip_space(s);
  char quote = s->at < s->end ? *s->at : '\0';
  if (quote != '\'' && quote != '"')
    return bad_header(s, "a quoted string");
  const char *begin = s->at + 1;
  const char *end = memchr(begin, quote, (size_t)(s->end - begin));
  if (end == NULL || (size_t)(end - begin) >= size)
    return bad_header(s, "a short quoted string");
  for (const char *p = begin; p < end; p++)
    if (*p < ' ' || *p > '~')
      return bad_header(s, "a printable string");
  memcpy(text, begin, (size_t)(end - begin));
  text[end - begin] = '\0';
  s->at = end + 1;
  return CLI_GOOD;
}

static int scan_type(scanner *s, npy_header *header) {
  skip_space(s);
  if (s->at < s->end && *s->at == '[')
    return cli_fail(s->error, CLI_UNUSABLE,
                    "%s: has a structured dtype, expected plain '<f4', '<f2', '<i4' or '<i8'",
                    s->path);
  char text[32];
  int code = scan_string(s, text, sizeof text);
  if (code != CLI_GOOD)
    return code;
  for (int i = 0; i < TYPES; i++)
    if (text[0] == '<' && strcmp(text + 1, types[i].name) == 0) {
      header->type = (npy_type)i;
      return CLI_GOOD;
    }
  return cli_fail(s->error, CLI_UNUSABLE,
                  "%s: its dtype is '%s', expected little-endian '<f4', '<f2', '<i4' or '<i8'",
                  s->path, text);
}

static int take_word(scanner *s, const char *word) {
  skip_space(s);
  size_t length = strlen(word);
  if ((size_t)(s->end - s->at) < length || memcmp(s->at, word, length) != 0)
    return 0;
  s->at += length;
  return 1;
}

static int scan_order(scanner *s) {
  if (take_word(s, "False"))
    return CLI_GOOD;
  if (take_word(s, "True"))
    return cli_fail(s->error, CLI_UNUSABLE,
                    "%s: is in Fortran order, expected C order (numpy.ascontiguousarray)", s->path);
  return bad_header(s, "True or False");
}

static int scan_dimension(scanner *s, int64_t *value) {
  skip_space(s);
  if (s->at == s->end || *s->at < '0' || *s->at > '9')
    return bad_header(s, "a dimension");
  int64_t number = 0;
  for (; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++)
    if (__builtin_mul_overflow(number, 10, &number) ||
        __builtin_add_overflow(number, *s->at - '0', &number))
      return cli_fail(s->error, CLI_UNUSABLE, "%s: a dimension of its shape is beyond 2^63-1",
                      s->path);
  *value = number;
  return CLI_GOOD;
}

static int scan_shape(scanner *s, npy_header *header) {
  if (!take(s, '('))
    return bad_header(s, "the tuple of its shape");
  header->dimensions = 0;
  int comma = 1;
  while (!take(s, ')')) {
    if (!comma)
      return bad_header(s, "',' or ')'");
    if (header->dimensions == NPY_MAX_DIMENSIONS)
      return cli_fail(s->error, CLI_UNUSABLE, "%s: has more than %d dimensions", s->path,
                      NPY_MAX_DIMENSIONS);
    int code = scan_dimension(s, &header->shape[header->dimensions]);
    if (code != CLI_GOOD)
      return code;
    header->dimensions++;
    comma = take(s, ',');
  }
  return header->dimensions == 1 && !comma ? bad_header(s, "a tuple such as (5,)") : CLI_GOOD;
}

/* One key and its value; *seen collects a bit per key. */
static int scan_entry(scanner *s, npy_header *header, unsigned *seen) {
  static const char *const keys[] = {"descr", "fortran_order", "shape"};
  char key[32];
  int code = scan_string(s, key, sizeof key);
  if (code != CLI_GOOD)
    return code;
  unsigned index = 0;
  while (index < 3 && strcmp(key, keys[index]) != 0)
    index++;
  if (index == 3 || (*seen & 1u << index) != 0)
    return cli_fail(s->error, CLI_UNUSABLE,
                    "%s: its header has the key '%s'%s, expected descr, fortran_order and shape "
                    "once each",
                    s->path, key, index == 3 ? "" : " twice");
  *seen |= 1u << index;
  if (!take(s, ':'))
    return bad_header(s, "':'");
  return index == 0 ? scan_type(s, header) : index == 1 ? scan_order(s) : scan_shape(s, header);
}

static int scan_dict(scanner *s, npy_header *header) {
  if (!take(s, '{'))
    return bad_header(s, "'{'");
  unsigned seen = 0;
  int comma = 1;
  while (!take(s, '}')) {
    if (!comma)
      return bad_header(s, "',' or '}'");
    int code = scan_entry(s, header, &seen);
    if (code != CLI_GOOD)
      return code;
    comma = take(s, ',');
  }
  if (seen != 7)
    return cli_fail(s->error, CLI_UNUSABLE, "%s: its header has no '%s'", s->path,
                    (seen & 1) == 0   ? "descr"
                    : (seen & 2) == 0 ? "fortran_order"
                                      : "shape");
  skip_space(s);
  return s->at == s->end ? CLI_GOOD : bad_header(s, "the header's end");
}

int npy_parse_header(const char *path, const unsigned char *bytes, size_t count, npy_header *header,
                     cli_error *error) {
  if (count < 10 || memcmp(bytes, "\x93NUMPY", 6) != 0)
    return cli_fail(error, CLI_UNUSABLE,
                    "%s: is not a .npy file: it does not begin with \\x93NUMPY", path);
  unsigned major = bytes[6], minor = bytes[7];
  if ((major != 1 && major != 2) || minor != 0)
    return cli_fail(error, CLI_UNUSABLE, "%s: is of .npy version %u.%u, expected 1.0 or 2.0", path,
                    major, minor);
  size_t begin = major == 1 ? 10 : 12;
  if (count < begin)
    return cli_fail(error, CLI_UNUSABLE, "%s: ends within its .npy header", path);
  uint64_t length = bytes[8] | (uint64_t)bytes[9] << 8;
  if (major == 2)
    length |= (uint64_t)bytes[10] << 16 | (uint64_t)bytes[11] << 24;
  if (length > NPY_MAX_HEADER)
    return cli_fail(error, CLI_UNUSABLE, "%s: its header has %llu bytes, expected at most %d", path,
                    (unsigned long long)length, NPY_MAX_HEADER);
  if (count - begin < length)
    return cli_fail(error, CLI_UNUSABLE, "%s: ends within its .npy header", path);
  npy_header read = {.data_offset = (int64_t)(begin + length)};
  const char *text = (const char *)bytes + begin;
  scanner s = {.path = path, .at = text, .end = text + length, .error = error};
  int code = scan_dict(&s, &read);
  if (code != CLI_GOOD)
    return code;
  if (!fill_sizes(&read))
    return cli_fail(error, CLI_UNUSABLE, "%s: its shape needs more than 2^63-1 bytes", path);
  *header = read;
  return CLI_GOOD;
}

/* ---- files ------------------------------------------------------------------------------- */

static int fail_errno(cli_error *error, int code, const char *path, const char *what) {
  return cli_fail(error, code, "%s: %s: %s", path, what, strerror(errno));
}

static int read_header(const char *path, int file, int64_t size, npy_header *header,
                       cli_error *error) {
  int64_t count = size < NPY_MAX_HEADER + 12 ? size : NPY_MAX_HEADER + 12;
  unsigned char *bytes = malloc((size_t)count + 1);
  if (bytes == NULL)
    return cli_fail(error, CLI_FAILED, "%s: no memory for its header", path);
  int code = npy_read_at(path, file, bytes, count, 0, error);
  if (code == CLI_GOOD)
    code = npy_parse_header(path, bytes, (size_t)count, header, error);
  free(bytes);
  return code;
}

static int judge_file(const char *path, int file, npy_header *header, cli_error *error) {
  struct stat status;
  if (fstat(file, &status) != 0)
    return fail_errno(error, CLI_UNUSABLE, path, "cannot be read");
  if (!S_ISREG(status.st_mode))
    return cli_fail(error, CLI_UNUSABLE, "%s: is not a regular file", path);
  npy_header read;
  int code = read_header(path, file, status.st_size, &read, error);
  if (code != CLI_GOOD)
    return code;
  int64_t bytes = status.st_size - read.data_offset;
  if (bytes != read.bytes) {
    char shape[256];
    npy_shape_text(&read, shape, sizeof shape);
    return cli_fail(error, CLI_UNUSABLE,
                    "%s: holds %lld bytes of data, expected %lld for its shape %s of %s", path,
                    (long long)bytes, (long long)read.bytes, shape, npy_type_name(read.type));
  }
  *header = read;
  return CLI_GOOD;
}

int npy_open(const char *path, int *file, npy_header *header, cli_error *error) {
  /* Not blocking: a named pipe in place of a file is refused, not waited for. */
  int opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (opened < 0)
    return fail_errno(error, CLI_UNUSABLE, path, "cannot be opened");
  int code = judge_file(path, opened, header, error);
  if (code != CLI_GOOD) {
    close(opened);
    return code;
  }
  *file = opened;
  return CLI_GOOD;
}

int npy_format_header(const char *path, npy_header *header, char *text, cli_error *error) {
  if (!fill_sizes(header))
    return cli_fail(error, CLI_UNUSABLE, "%s: would have more than 2^63-1 bytes", path);
  char shape[256];
  npy_shape_text(header, shape, sizeof shape);
  memcpy(text, "\x93NUMPY\x01", 7);
  text[7] = '\0';
  int length = snprintf(text + 10, NPY_FORMAT_BYTES - 10,
                        "{'descr': '<%s', 'fortran_order': False, 'shape': %s, }",
                        npy_type_name(header->type), shape);
  /* NumPy's own padding: spaces and a newline, so that data begins at a multiple of 64 bytes. */
  int total = (10 + length + 1 + 63) / 64 * 64;
  memset(text + 10 + length, ' ', (size_t)(total - 10 - length));
  text[total - 1] = '\n';
  text[8] = (char)((total - 10) & 255);
  text[9] = (char)((total - 10) >> 8);
  header->data_offset = total;
  return CLI_GOOD;
}

enum { BYTES_AT_A_TIME = 1 << 30 };

int npy_read_at(const char *path, int file, void *data, int64_t bytes, int64_t offset,
                cli_error *error) {
  char *to = data;
  while (bytes > 0) {
    size_t want = (size_t)(bytes < BYTES_AT_A_TIME ? bytes : BYTES_AT_A_TIME);
    ssize_t got = pread(file, to, want, offset);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return fail_errno(error, CLI_FAILED, path, "cannot be read");
    if (got == 0)
      return cli_fail(error, CLI_FAILED, "%s: became shorter while it was read", path);
    to += got;
    offset += got;
    bytes -= got;
  }
  return CLI_GOOD;
}

int npy_write_at(const char *path, int file, const void *data, int64_t bytes, int64_t offset,
                 cli_error *error) {
  const char *from = data;
  while (bytes > 0) {
    size_t want = (size_t)(bytes < BYTES_AT_A_TIME ? bytes : BYTES_AT_A_TIME);
    ssize_t put = pwrite(file, from, want, offset);
    if (put < 0 && errno == EINTR)
      continue;
    if (put <= 0)
      return fail_errno(error, CLI_FAILED, path, "cannot be written");
    from += put;
    offset += put;
    bytes -= put;
  }
  return CLI_GOOD;
}

/* ---- document offsets --------------------------------------------------------------------- */

static int judge_offsets(const char *path, const int64_t *offsets, int64_t count,
                         cli_error *error) {
  if (offsets[0] != 0)
    return cli_fail(error, CLI_UNUSABLE, "%s: its first offset is %lld, expected 0", path,
                    (long long)offsets[0]);
  for (int64_t i = 1; i < count; i++)
    if (offsets[i] < offsets[i - 1])
      return cli_fail(error, CLI_UNUSABLE,
                      "%s: its entry %lld is %lld, expected at least %lld, the one before", path,
                      (long long)i, (long long)offsets[i], (long long)offsets[i - 1]);
  return CLI_GOOD;
}

/* Reads i4 or i8 data into values, which has room for 8 bytes an element. */
static int read_integers(const char *path, int file, const npy_header *header, int64_t *values,
                         cli_error *error) {
  int code = npy_read_at(path, file, values, header->bytes, header->data_offset, error);
  if (code != CLI_GOOD || header->type == NPY_I8)
    return code;
  /* From the end: each value lies at or behind the four bytes that it comes from. */
  for (int64_t i = header->elements - 1; i >= 0; i--) {
    int32_t narrow;
    memcpy(&narrow, (const char *)values + 4 * i, sizeof narrow);
    values[i] = narrow;
  }
  return CLI_GOOD;
}

static int read_offsets(const char *path, int file, const npy_header *header, int64_t **offsets,
                        cli_error *error) {
  char shape[256];
  npy_shape_text(header, shape, sizeof shape);
  if (header->type != NPY_I4 && header->type != NPY_I8)
    return cli_fail(error, CLI_UNUSABLE, "%s: its dtype is %s, expected i4 or i8", path,
                    npy_type_name(header->type));
  if (header->dimensions != 1 || header->elements < 2)
    return cli_fail(error, CLI_UNUSABLE,
                    "%s: its shape is %s, expected (documents + 1,) with at least one document",
                    path, shape);
  int64_t *values = header->elements > INT64_MAX / 8 ? NULL : malloc((size_t)header->elements * 8);
  if (values == NULL)
    return cli_fail(error, CLI_FAILED, "%s: no memory for its %lld offsets", path,
                    (long long)header->elements);
  int code = read_integers(path, file, header, values, error);
  if (code == CLI_GOOD)
    code = judge_offsets(path, values, header->elements, error);
  if (code != CLI_GOOD) {
    free(values);
    return code;
  }
  *offsets = values;
  return CLI_GOOD;
}

int npy_read_offsets(const char *path, int64_t **offsets, int64_t *documents, cli_error *error) {
  int file = -1;
  npy_header header;
  int code = npy_open(path, &file, &header, error);
  if (code != CLI_GOOD)
    return code;
  code = read_offsets(path, file, &header, offsets, error);
  close(file);
  if (code == CLI_GOOD)
    *documents = header.elements - 1;
  return code;
}
