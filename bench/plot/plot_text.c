/* plot_text.c - the report's files and words: paths, escaping, numbers and sizes for a reader. */
#include "bench/plot/plot_text.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int plot_path(const char *directory, const char *name, const char *suffix, char path[PLOT_PATH],
              cli_error *error) {
  int length = snprintf(path, PLOT_PATH, "%s/%s%s", directory, name, suffix);
  return length < PLOT_PATH
             ? CLI_GOOD
             : cli_fail(error, CLI_UNUSABLE, "--plot %.64s...: the name is too long", directory);
}

int plot_read_file(const char *path, char **text, cli_error *error) {
  size_t size = 0, capacity = 1 << 16, got = 1;
  FILE *file = fopen(path, "r");
  char *read = file != NULL ? malloc(capacity) : NULL;
  while (read != NULL && got > 0) {
    got = fread(read + size, 1, capacity - size - 1, file);
    size += got;
    char *grown = size + 1 < capacity ? read : realloc(read, capacity *= 2);
    if (grown == NULL)
      free(read);
    read = grown;
  }
  int code = read != NULL && !ferror(file)
                 ? CLI_GOOD
                 : cli_fail(error, CLI_FAILED, "%s: %s", path, strerror(errno));
  if (file != NULL)
    fclose(file);
  if (code != CLI_GOOD) {
    free(read);
    return code;
  }
  read[size] = '\0';
  *text = read;
  return CLI_GOOD;
}

void plot_write_escaped(FILE *file, const char *text) {
  for (; *text != '\0'; text++) {
    if (*text == '<')
      fputs("&lt;", file);
    else if (*text == '>')
      fputs("&gt;", file);
    else if (*text == '&')
      fputs("&amp;", file);
    else if (*text == '"')
      fputs("&quot;", file);
    else
      fputc((unsigned char)*text < ' ' && *text != '\n' ? '?' : *text, file);
  }
}

void plot_write_quoted(FILE *file, const char *text) {
  for (; *text != '\0'; text++) {
    if (*text == '\'')
      fputc('\'', file);
    fputc((unsigned char)*text < ' ' ? '?' : *text, file);
  }
}

void plot_number(double value, char text[PLOT_NUMBER]) {
  double size = fabs(value);
  if (isnan(value))
    text[0] = '\0';
  else if (size == 0 || size >= 1000)
    snprintf(text, PLOT_NUMBER, "%.0f", value);
  else if (size >= 100)
    snprintf(text, PLOT_NUMBER, "%.1f", value);
  else if (size >= 1)
    snprintf(text, PLOT_NUMBER, size >= 10 ? "%.1f" : "%.2f", value);
  else
    snprintf(text, PLOT_NUMBER, "%.3g", value);
}

void plot_tokens(int64_t tokens, char text[PLOT_NUMBER]) {
  static const char letters[] = {'\0', 'K', 'M', 'G'};
  int power = 0;
  while (power < 3 && tokens >= 1024 && tokens % 1024 == 0) {
    tokens /= 1024;
    power++;
  }
  snprintf(text, PLOT_NUMBER, "%lld%.1s", (long long)tokens, power > 0 ? &letters[power] : "");
}

void plot_bytes(double bytes, char text[PLOT_NUMBER]) {
  static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  char number[PLOT_NUMBER];
  int power = 0;
  text[0] = '\0';
  if (!(bytes >= 0))
    return;
  while (power < 6 && bytes >= 1024) {
    bytes /= 1024;
    power++;
  }
  plot_number(bytes, number);
  snprintf(text, PLOT_NUMBER, "%.20s %s", number, units[power]);
}
