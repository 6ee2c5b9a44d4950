/* bench_output.c - result files: written under a temporary name, renamed when complete; devices and pipes are
 * written as they are. */
#include "bench/bench_output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int failed(const char *path, int code, cli_error *error) {
  return cli_fail(error, code, "%s: %s", path, strerror(errno));
}

/* What is no regular file cannot be replaced. */
static int open_as_it_is(bench_output *output, cli_error *error) {
  output->file = fopen(output->path, "w");
  return output->file != NULL ? CLI_GOOD : failed(output->path, CLI_UNUSABLE, error);
}

/* The file to be replaced is what a symbolic link leads to. */
static int open_temporary(bench_output *output, cli_error *error) {
  output->target = realpath(output->path, NULL);
  if (output->target == NULL)
    output->target = strdup(output->path);
  size_t size = output->target != NULL ? strlen(output->target) + 32 : 0;
  output->temporary = output->target != NULL ? malloc(size) : NULL;
  if (output->temporary == NULL)
    return cli_fail(error, CLI_FAILED, "%s: no memory for its name", output->path);
  snprintf(output->temporary, size, "%s.%ld.tmp", output->target, (long)getpid());
  output->file = fopen(output->temporary, "wx");
  if (output->file != NULL)
    return CLI_GOOD;
  int code = failed(output->path, CLI_UNUSABLE, error);
  free(output->temporary); /* another's, or none */
  output->temporary = NULL;
  return code;
}

int bench_output_open(const char *path, bench_output *output, cli_error *error) {
  *output = (bench_output){.path = path};
  if (path == NULL)
    return CLI_GOOD;
  if (strcmp(path, "-") == 0) {
    output->file = stdout;
    return CLI_GOOD;
  }
  if (path[0] == '\0')
    return cli_fail(error, CLI_UNUSABLE, "the name of an output file is empty");
  struct stat there;
  int exists = stat(path, &there) == 0;
  if (exists && S_ISDIR(there.st_mode))
    return cli_fail(error, CLI_UNUSABLE, "%s: is a directory, expected a file", path);
  int code = exists && !S_ISREG(there.st_mode) ? open_as_it_is(output, error)
                                               : open_temporary(output, error);
  if (code != CLI_GOOD)
    bench_output_discard(output);
  return code;
}

static void free_names(bench_output *output) {
  free(output->temporary);
  free(output->target);
  output->temporary = output->target = NULL;
}

int bench_output_commit(bench_output *output, cli_error *error) {
  if (output->file == NULL)
    return CLI_GOOD;
  if (output->file == stdout) {
    int flushed = fflush(stdout) == 0 && !ferror(stdout);
    output->file = NULL;
    return flushed ? CLI_GOOD : failed("standard output", CLI_FAILED, error);
  }
  int good = fflush(output->file) == 0 && !ferror(output->file);
  if (output->temporary != NULL)
    good = good && fsync(fileno(output->file)) == 0;
  good = fclose(output->file) == 0 && good;
  output->file = NULL;
  if (output->temporary != NULL)
    good = good && rename(output->temporary, output->target) == 0;
  int code = good ? CLI_GOOD : failed(output->path, CLI_FAILED, error);
  if (good)
    free_names(output);
  else
    bench_output_discard(output);
  return code;
}

void bench_output_discard(bench_output *output) {
  if (output->file != NULL && output->file != stdout)
    fclose(output->file);
  if (output->temporary != NULL)
    unlink(output->temporary);
  free_names(output);
  *output = (bench_output){0};
}
