/* fuzz_npy.c - libFuzzer entry: any bytes as the beginning of a .npy file.
 *
 * A header that is accepted must be writable and read back as the same. */
#include <stdlib.h>
#include <string.h>

#include "examples/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  npy_header header, again;
  cli_error error = {0};
  int code = npy_parse_header("fuzz.npy", data, size, &header, &error);
  if ((code == CLI_GOOD) != (error.text[0] == '\0') || strchr(error.text, '\n') != NULL)
    abort();
  if (code != CLI_GOOD)
    return 0;
  char text[NPY_FORMAT_BYTES];
  npy_header written = header;
  if (npy_format_header("fuzz.npy", &written, text, &error) != CLI_GOOD ||
      npy_parse_header("fuzz.npy", (const uint8_t *)text, (size_t)written.data_offset, &again,
                       &error) != CLI_GOOD)
    abort();
  if (again.bytes != header.bytes || again.dimensions != header.dimensions ||
      memcmp(again.shape, header.shape, sizeof again.shape) != 0)
    abort();
  return 0;
}
