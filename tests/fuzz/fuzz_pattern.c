/* fuzz_pattern.c - libFuzzer entry: pattern text and, after a NUL byte, a csr file.
 *
 * clang -fsanitize=fuzzer,address,undefined with the sources of src. Whatever is accepted must be
 * valid, format to a text that gives the same pattern, and have rows and columns within their
 * grid. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "pattern.h"

enum { TEXT_BYTES = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The contract is broken: stop where the fuzzer sees it. */
static void require(int holds) {
  if (!holds)
    abort();
}

static void check_runs(const bsd_runs *runs, int64_t blocks) {
  int64_t before = -1;
  for (int64_t i = 0; i < runs->count; i++) {
    const bsd_run *run = &runs->run[i];
    require(run->count >= 1 && run->step >= 1 && run->first > before);
    require((run->count - 1) <= (blocks - 1 - run->first) / run->step);
    before = run->first + (run->count - 1) * run->step;
    require(before < blocks);
  }
}

static void check_lines(const bsd_pattern_branch *branch) {
  bsd_runs runs = {0};
  for (int causal = 0; causal <= 1; causal++)
    for (int64_t line = 0; line < 20; line += 7) {
      bsd_block_grid grid = {.head = line, .segment = 1, .blocks = 20, .causal = causal};
      if (bsd_branch_row(branch, &grid, line, &runs, NULL) == BSD_OK)
        check_runs(&runs, grid.blocks);
      runs.count = 0;
      if (bsd_branch_has_columns(branch) &&
          bsd_branch_column(branch, &grid, line, &runs, NULL) == BSD_OK)
        check_runs(&runs, grid.blocks);
      runs.count = 0;
    }
  bsd_runs_free(&runs);
}

static void check_pattern(const bsd_pattern *pattern) {
  size_t needed;
  char *text;
  bsd_pattern *again;
  require(bsd_pattern_is_valid(pattern));
  require(bsd_pattern_format(pattern, NULL, 0, &needed) == BSD_OK);
  require(bsd_alloc(&text, (int64_t)needed, 1, NULL) == BSD_OK);
  require(bsd_pattern_format(pattern, text, needed, NULL) == BSD_OK);
  require(bsd_pattern_parse(text, &again, NULL) == BSD_OK);
  require(bsd_pattern_content_hash(again) == bsd_pattern_content_hash(pattern));
  bsd_pattern_destroy(again);
  bsd_free(text);
  for (int64_t i = 0; i < pattern->nbranches; i++)
    check_lines(&pattern->branches[i]);
}

/* The bytes as a file that a csr term reads. */
static void check_csr(const uint8_t *data, size_t size) {
  char path[] = "/tmp/fuzz_pattern.XXXXXX", text[64];
  int descriptor = mkstemp(path);
  FILE *file = descriptor < 0 ? NULL : fdopen(descriptor, "w");
  require(file != NULL);
  require(fwrite(data, 1, size, file) == size);
  fclose(file);
  snprintf(text, sizeof text, "blocks=csr(%s)", path);
  bsd_pattern *pattern;
  if (bsd_pattern_parse(text, &pattern, NULL) == BSD_OK) {
    check_pattern(pattern);
    bsd_pattern_destroy(pattern);
  }
  remove(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char text[TEXT_BYTES];
  size_t length = strnlen((const char *)data, size);
  if (length >= sizeof text)
    return 0;
  memcpy(text, data, length);
  text[length] = 0;
  bsd_pattern *pattern;
  bsd_error error = {0};
  /* A file that the text happens to name is not the fuzzer's to read. */
  if (!strstr(text, "csr")) {
    if (bsd_pattern_parse(text, &pattern, &error) == BSD_OK) {
      check_pattern(pattern);
      bsd_pattern_destroy(pattern);
    } else {
      require(error.column >= 1 && (size_t)error.column <= length + 1);
    }
  }
  if (length < size)
    check_csr(data + length + 1, size - length - 1);
  return 0;
}
