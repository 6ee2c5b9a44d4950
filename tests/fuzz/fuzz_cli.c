/* fuzz_cli.c - libFuzzer entry: lines of text as bsd_attend's arguments, and as the values of the
 * shared parsers. Nothing may crash, hang, leak, or be refused without a sentence. */
#include <stdlib.h>
#include <string.h>

#include "examples/attend_options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_ARGUMENTS = 32 };

static void expect(int code, const cli_error *error) {
  if ((code == CLI_GOOD) != (error->text[0] == '\0'))
    abort();
}

static void judge_value(const char *text) {
  cli_error error = {0};
  cli_size_list list = {0};
  expect(cli_parse_size_list("--x", text, 1, INT64_MAX, &list, &error), &error);
  cli_size_list_free(&list);
  error = (cli_error){0};
  bsd_layout_spec layout;
  expect(cli_parse_layout(text, &layout, &error), &error);
  error = (cli_error){0};
  double number;
  expect(cli_parse_double("--x", text, 0, 1, &number, &error), &error);
  error = (cli_error){0};
  uint64_t seed;
  expect(cli_parse_seed("--x", text, &seed, &error), &error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char *text = malloc(size + 1);
  if (text == NULL)
    return 0;
  memcpy(text, data, size);
  text[size] = '\0';
  char program[] = "bsd_attend";
  char *arguments[MAX_ARGUMENTS + 2] = {program};
  int count = 1;
  char *rest = text;
  for (char *line; count <= MAX_ARGUMENTS && (line = strsep(&rest, "\n")) != NULL;)
    arguments[count++] = line;
  for (int i = 1; i < count; i++)
    judge_value(arguments[i]);
  attend_options options;
  cli_error error = {0};
  expect(attend_options_parse(count, arguments, &options, &error), &error);
  free(text);
  return 0;
}
