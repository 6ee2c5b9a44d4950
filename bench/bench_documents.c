/* bench_documents.c - the offsets of packed documents from a --cu-seqlens file. */
#include "bench/bench_documents.h"

#include <stdlib.h>
#include <unistd.h>

#include "examples/npy.h"

static int judge(const char *path, const int64_t *offsets, int64_t documents, cli_error *error) {
  if (offsets[0] != 0)
    return cli_fail(error, CLI_UNUSABLE, "%s: the first offset is %lld, expected 0", path,
                    (long long)offsets[0]);
  for (int64_t d = 0; d < documents; d++)
    if (offsets[d] > offsets[d + 1])
      return cli_fail(error, CLI_UNUSABLE,
                      "%s: offset %lld is %lld after %lld, expected no decrease", path,
                      (long long)d + 1, (long long)offsets[d + 1], (long long)offsets[d]);
  if (offsets[documents] < 1)
    return cli_fail(error, CLI_UNUSABLE, "%s: the documents hold no token", path);
  return CLI_GOOD;
}

/* i4 read into the same memory, widened from the end. */
static void widen(int64_t *offsets, int64_t count) {
  const int32_t *narrow = (const int32_t *)offsets;
  for (int64_t i = count - 1; i >= 0; i--) {
    int32_t value;
    __builtin_memcpy(&value, (const char *)narrow + 4 * i, sizeof value);
    offsets[i] = value;
  }
}

static int read_offsets(const char *path, int file, const npy_header *header, int64_t *offsets,
                        cli_error *error) {
  int code = npy_read_at(path, file, offsets, header->bytes, header->data_offset, error);
  if (code != CLI_GOOD)
    return code;
  if (header->type == NPY_I4)
    widen(offsets, header->elements);
  return judge(path, offsets, header->elements - 1, error);
}

int bench_documents_read(const char *path, int64_t **offsets, int64_t *documents,
                         cli_error *error) {
  npy_header header;
  int file = -1;
  int code = npy_open(path, &file, &header, error);
  if (code != CLI_GOOD)
    return code;
  int usable = (header.type == NPY_I4 || header.type == NPY_I8) && header.dimensions == 1 &&
               header.elements >= 2;
  int64_t *read = usable ? malloc((size_t)header.elements * sizeof *read) : NULL;
  if (!usable)
    code = cli_fail(
        error, CLI_UNUSABLE,
        "%s: %s with %d dimensions and %lld elements, expected i4 or i8 with one dimension of "
        "2 or more",
        path, npy_type_name(header.type), header.dimensions, (long long)header.elements);
  else if (read == NULL)
    code = cli_fail(error, CLI_FAILED, "%s: no memory for its offsets", path);
  else
    code = read_offsets(path, file, &header, read, error);
  close(file);
  if (code != CLI_GOOD) {
    free(read);
    return code;
  }
  *offsets = read;
  *documents = header.elements - 1;
  return CLI_GOOD;
}
