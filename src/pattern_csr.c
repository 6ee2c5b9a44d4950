/* pattern_csr.c - checks, transposes, hashes and reads explicit block patterns. */
#include "pattern_csr.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "hash.h"
#include "memory.h"

enum { READ_BYTES = 1 << 14 };

static bsd_status check_columns(const bsd_pattern_term *term, int64_t head, int64_t row,
                                bsd_error *error) {
  const int64_t *ptr = term->csr_ptr + head * term->csr_rows + row;
  int64_t before = -1;
  for (int64_t entry = ptr[0]; entry < ptr[1]; entry++) {
    int64_t column = term->csr_columns[entry];
    if (column < 0 || column >= term->csr_rows)
      return bsd_fail(error, BSD_ERR_PATTERN,
                      "csr: head %" PRId64 ", row %" PRId64 " has column %" PRId64
                      ", expected 0 .. %" PRId64,
                      head, row, column, term->csr_rows - 1);
    if (column <= before)
      return bsd_fail(error, BSD_ERR_PATTERN,
                      "csr: head %" PRId64 ", row %" PRId64 " has column %" PRId64 " after %" PRId64
                      ", expected ascending and unique columns",
                      head, row, column, before);
    before = column;
  }
  return BSD_OK;
}

bsd_status bsd_csr_check(const bsd_pattern_term *term, bsd_error *error) {
  int64_t nrows;
  if (term->csr_rows < 1)
    return bsd_fail(error, BSD_ERR_PATTERN, "csr: csr_rows is %" PRId64 ", expected at least 1",
                    term->csr_rows);
  if (term->csr_heads < 1)
    return bsd_fail(error, BSD_ERR_PATTERN, "csr: csr_heads is %" PRId64 ", expected at least 1",
                    term->csr_heads);
  if (!bsd_mul(term->csr_rows, term->csr_heads, &nrows) || nrows == INT64_MAX)
    return bsd_fail(error, BSD_ERR_MEMORY, "csr: %" PRId64 " rows for %" PRId64 " heads do not fit",
                    term->csr_rows, term->csr_heads);
  if (!term->csr_ptr)
    return bsd_fail(error, BSD_ERR_PATTERN, "csr: csr_ptr is NULL, expected %" PRId64 " offsets",
                    nrows + 1);
  if (term->csr_ptr[0] != 0)
    return bsd_fail(error, BSD_ERR_PATTERN, "csr: csr_ptr[0] is %" PRId64 ", expected 0",
                    term->csr_ptr[0]);
  for (int64_t i = 0; i < nrows; i++)
    if (term->csr_ptr[i + 1] < term->csr_ptr[i])
      return bsd_fail(error, BSD_ERR_PATTERN,
                      "csr: csr_ptr[%" PRId64 "] is %" PRId64 ", expected at least %" PRId64, i + 1,
                      term->csr_ptr[i + 1], term->csr_ptr[i]);
  if (term->csr_ptr[nrows] > 0 && !term->csr_columns)
    return bsd_fail(error, BSD_ERR_PATTERN,
                    "csr: csr_columns is NULL, expected %" PRId64 " columns", term->csr_ptr[nrows]);
  for (int64_t head = 0; head < term->csr_heads; head++)
    for (int64_t row = 0; row < term->csr_rows; row++)
      BSD_TRY(check_columns(term, head, row, error));
  return BSD_OK;
}

/* A counting sort by column; rows come out ascending because they go in ascending. */
static bsd_status transpose(bsd_pattern_term *term, bsd_error *error) {
  int64_t rows = term->csr_rows, all_rows = rows * term->csr_heads;
  int64_t entries = term->csr_ptr[all_rows];
  BSD_TRY(bsd_alloc(&term->csr_column_ptr, all_rows + 1, sizeof(int64_t), error));
  BSD_TRY(bsd_alloc(&term->csr_column_rows, entries, sizeof(int64_t), error));
  int64_t *start = term->csr_column_ptr;
  for (int64_t head = 0; head < term->csr_heads; head++)
    for (int64_t e = term->csr_ptr[head * rows]; e < term->csr_ptr[(head + 1) * rows]; e++)
      start[head * rows + term->csr_columns[e] + 1]++;
  for (int64_t i = 0; i < all_rows; i++)
    start[i + 1] += start[i];
  /* Filling moves each start to its end, which is the next one's start: shifted back afterwards. */
  for (int64_t i = 0; i < all_rows; i++)
    for (int64_t e = term->csr_ptr[i]; e < term->csr_ptr[i + 1]; e++)
      term->csr_column_rows[start[i / rows * rows + term->csr_columns[e]]++] = i % rows;
  memmove(start + 1, start, (size_t)all_rows * sizeof *start);
  start[0] = 0;
  return BSD_OK;
}

bsd_status bsd_csr_finish(bsd_pattern_term *term, bsd_error *error) {
  int64_t all_rows = term->csr_rows * term->csr_heads;
  BSD_TRY(transpose(term, error));
  bsd_hash hash;
  bsd_hash_begin(&hash);
  bsd_hash_i64(&hash, term->csr_rows);
  bsd_hash_i64(&hash, term->csr_heads);
  bsd_hash_bytes(&hash, term->csr_ptr, (size_t)(all_rows + 1) * sizeof(int64_t));
  bsd_hash_bytes(&hash, term->csr_columns, (size_t)term->csr_ptr[all_rows] * sizeof(int64_t));
  term->csr_hash = bsd_hash_value(&hash);
  return BSD_OK;
}

/* ---- the text file ----------------------------------------------------------------------- */

typedef struct csr_reader {
  const char *path;
  FILE *file;
  bsd_pattern_term *term;
  int64_t ptr_capacity, columns_capacity;
  int64_t entries;
  int64_t value; /* the number under way, -1: none */
  bsd_error *error;
} csr_reader;

static bsd_status end_number(csr_reader *reader) {
  bsd_pattern_term *term = reader->term;
  if (reader->value < 0)
    return BSD_OK;
  if (reader->entries > term->csr_ptr[term->csr_rows] &&
      reader->value <= term->csr_columns[reader->entries - 1])
    return bsd_fail(reader->error, BSD_ERR_PATTERN,
                    "csr file '%.200s', line %" PRId64 ": column %" PRId64 " after %" PRId64
                    ", expected ascending and unique columns",
                    reader->path, term->csr_rows + 1, reader->value,
                    term->csr_columns[reader->entries - 1]);
  BSD_TRY(bsd_grow(&term->csr_columns, &reader->columns_capacity, reader->entries + 1,
                   sizeof(int64_t), reader->error));
  term->csr_columns[reader->entries++] = reader->value;
  reader->value = -1;
  return BSD_OK;
}

static bsd_status end_line(csr_reader *reader) {
  bsd_pattern_term *term = reader->term;
  BSD_TRY(end_number(reader));
  BSD_TRY(bsd_grow(&term->csr_ptr, &reader->ptr_capacity, term->csr_rows + 2, sizeof(int64_t),
                   reader->error));
  term->csr_ptr[++term->csr_rows] = reader->entries;
  return BSD_OK;
}

static bsd_status read_byte(csr_reader *reader, unsigned char byte) {
  if (byte >= '0' && byte <= '9') {
    int64_t digit = byte - '0', value = bsd_max(reader->value, 0);
    if (!bsd_mul(value, 10, &value) || !bsd_add(value, digit, &reader->value))
      return bsd_fail(reader->error, BSD_ERR_PATTERN,
                      "csr file '%.200s', line %" PRId64
                      ": a column is too large, expected at most the number of lines - 1",
                      reader->path, reader->term->csr_rows + 1);
    return BSD_OK;
  }
  if (byte == '\n')
    return end_line(reader);
  if (byte == ' ' || byte == '\t' || byte == '\r')
    return end_number(reader);
  return bsd_fail(reader->error, BSD_ERR_PATTERN,
                  "csr file '%.200s', line %" PRId64
                  ": found byte 0x%02x, expected columns as digits separated by spaces",
                  reader->path, reader->term->csr_rows + 1, (unsigned)byte);
}

static bsd_status read_all(csr_reader *reader) {
  unsigned char buffer[READ_BYTES], last = '\n';
  size_t got;
  while ((got = fread(buffer, 1, sizeof buffer, reader->file)) > 0) {
    for (size_t i = 0; i < got; i++)
      BSD_TRY(read_byte(reader, buffer[i]));
    last = buffer[got - 1];
  }
  if (ferror(reader->file))
    return bsd_fail(reader->error, BSD_ERR_IO, "csr file '%.200s' cannot be read: %s", reader->path,
                    strerror(errno));
  if (last != '\n')
    BSD_TRY(end_line(reader));
  return BSD_OK;
}

/* The number of rows, and so the range of a column, is known only at the end. */
static bsd_status check_range(const csr_reader *reader) {
  const bsd_pattern_term *term = reader->term;
  if (term->csr_rows == 0)
    return bsd_fail(reader->error, BSD_ERR_PATTERN,
                    "csr file '%.200s' is empty, expected a line for each block row", reader->path);
  for (int64_t row = 0; row < term->csr_rows; row++) {
    int64_t end = term->csr_ptr[row + 1];
    if (end > term->csr_ptr[row] && term->csr_columns[end - 1] >= term->csr_rows)
      return bsd_fail(reader->error, BSD_ERR_PATTERN,
                      "csr file '%.200s', line %" PRId64 ": column %" PRId64
                      ", expected 0 .. %" PRId64 " (the file has %" PRId64 " lines)",
                      reader->path, row + 1, term->csr_columns[end - 1], term->csr_rows - 1,
                      term->csr_rows);
  }
  return BSD_OK;
}

bsd_status bsd_csr_read(bsd_pattern_term *term, const char *path, bsd_error *error) {
  csr_reader reader = {.path = path, .term = term, .value = -1, .error = error};
  term->csr_heads = 1;
  term->csr_rows = 0;
  BSD_TRY(bsd_grow(&term->csr_ptr, &reader.ptr_capacity, 1, sizeof(int64_t), error));
  term->csr_ptr[0] = 0;
  reader.file = fopen(path, "r");
  if (!reader.file)
    return bsd_fail(error, BSD_ERR_IO, "csr file '%.200s' cannot be opened: %s", path,
                    strerror(errno));
  bsd_status status = read_all(&reader);
  fclose(reader.file);
  BSD_TRY(status);
  return check_range(&reader);
}
