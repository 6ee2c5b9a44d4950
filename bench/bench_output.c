/* bench_output.c - result files: written under a temporary name, renamed when complete. */
#include "bench/bench_output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int failed(const char *path, int code, cli_error *error) {
  return cli_fail(error, code, "%s: %s", path, strerror(errno));
}

int bench_output_open(const char *path, bench_output *output, cli_error *error) {
  *output = (bench_output){.path = path};
  if (path == NULL)
    return CLI_GOOD;
  if (strcmp(path, "-") == 0) {
    output->file = stdout;
    return CLI_GOOD;
  }
  size_t size = strlen(path) + 32;
  output->temporary = malloc(size);
  if (output->temporary == NULL)
    return cli_fail(error, CLI_FAILED, "%s: no memory for its name", path);
  snprintf(output->temporary, size, "%s.%ld.tmp", path, (long)getpid());
  output->file = fopen(output->temporary, "wx");
  if (output->file != NULL)
    return CLI_GOOD;
  int code = failed(path, CLI_UNUSABLE, error);
  free(output->temporary);
  output->temporary = NULL;
  return code;
}

int bench_output_commit(bench_output *output, cli_error *error) {
  if (output->file == NULL)
    return CLI_GOOD;
  if (output->temporary == NULL) {
    int flushed = fflush(stdout) == 0 && !ferror(stdout);
    output->file = NULL;
    return flushed ? CLI_GOOD : failed("standard output", CLI_FAILED, error);
  }
  int good = fflush(output->file) == 0 && !ferror(output->file) && fsync(fileno(output->file)) == 0;
  good = fclose(output->file) == 0 && good;
  output->file = NULL;
  if (!good || rename(output->temporary, output->path) != 0) {
    int code = failed(output->path, CLI_FAILED, error);
    bench_output_discard(output);
    return code;
  }
  free(output->temporary);
  output->temporary = NULL;
  return CLI_GOOD;
}

void bench_output_discard(bench_output *output) {
  if (output->temporary != NULL) {
    if (output->file != NULL)
      fclose(output->file);
    unlink(output->temporary);
    free(output->temporary);
  }
  *output = (bench_output){0};
}
