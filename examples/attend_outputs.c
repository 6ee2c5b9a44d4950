/* attend_outputs.c - creates, synchronises and renames the output files. */
#define _GNU_SOURCE /* fallocate */
#include "examples/attend_outputs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the signal handler removes: it has nothing but the program's own memory to look at. */
static const char *volatile doomed[ATTEND_OUTPUTS];

static void remove_parts(int signal_number) {
  for (int i = 0; i < ATTEND_OUTPUTS; i++)
    if (doomed[i] != NULL)
      unlink(doomed[i]);
  raise(signal_number); /* SA_RESETHAND: ends the program as it would have */
}

static void watch_signals(void) {
  static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
  struct sigaction action = {.sa_handler = remove_parts, .sa_flags = (int)SA_RESETHAND};
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
    sigaction(numbers[i], &action, NULL);
  signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error of the write, then */
}

/* A full disk is a failed run; anything else that the name or its directory refuses is unusable. */
static int fail_file(cli_error *error, const char *path, const char *what) {
  int full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG || errno == EIO;
  return cli_fail(error, full ? CLI_FAILED : CLI_UNUSABLE, "%s: %s: %s", path, what,
                  strerror(errno));
}

/* ---- names and shapes -------------------------------------------------------------------- */

static int name_outputs(const attend_options *options, uint64_t ending, attend_outputs *outputs,
                        cli_error *error) {
  static const char *const names[] = {"o", "lse", "dq", "dk", "dv"};
  for (int i = 0; i < outputs->count; i++) {
    attend_output *output = &outputs->files[i];
    if (asprintf(&output->path, "%s.%s.npy", options->output, names[i]) < 0)
      output->path = NULL;
    if (asprintf(&output->part_path, "%s.%s.npy.part-%016llx", options->output, names[i],
                 (unsigned long long)ending) < 0)
      output->part_path = NULL;
    if (output->path == NULL || output->part_path == NULL)
      return cli_fail(error, CLI_FAILED, "no memory for the name of an output");
  }
  return CLI_GOOD;
}

static npy_header lse_header(const attend_inputs *inputs) {
  npy_header header = {.type = NPY_F4};
  if (inputs->batched)
    header.shape[header.dimensions++] = inputs->problem.batch;
  header.shape[header.dimensions++] = inputs->problem.heads;
  header.shape[header.dimensions++] = inputs->problem.length;
  return header;
}

/* Judges one output's name before anything is created: not a directory, not one of the inputs. */
static int judge_name(const attend_inputs *inputs, const char *path, cli_error *error) {
  struct stat there, input;
  if (stat(path, &there) != 0)
    return CLI_GOOD; /* nothing there; creating the temporary file says what else is wrong */
  if (!S_ISREG(there.st_mode))
    return cli_fail(error, CLI_UNUSABLE, "%s: is not a regular file, so it cannot be replaced",
                    path);
  for (int i = 0; i < ATTEND_INPUTS; i++)
    if (inputs->files[i].file >= 0 && fstat(inputs->files[i].file, &input) == 0 &&
        input.st_dev == there.st_dev && input.st_ino == there.st_ino)
      return cli_fail(error, CLI_UNUSABLE, "%s: would replace the input %s, expected another -o",
                      path, inputs->files[i].path);
  return CLI_GOOD;
}

/* ---- creation ---------------------------------------------------------------------------- */

/* Takes the file's blocks now, where the system can: a full disk is known before the work. */
static int take_space(const attend_output *output, cli_error *error) {
  int64_t size;
  if (__builtin_add_overflow(output->header.bytes, output->header.data_offset, &size))
    return cli_fail(error, CLI_UNUSABLE, "%s: would have more than 2^63-1 bytes", output->path);
  int taken = fallocate(output->file, 0, 0, size);
  if (taken != 0 && errno != ENOSPC && errno != EDQUOT && errno != EFBIG)
    taken = ftruncate(output->file, size);
  return taken == 0 ? CLI_GOOD : fail_file(error, output->path, "cannot get its space");
}

static int create_file(int index, attend_output *output, cli_error *error) {
  char text[NPY_FORMAT_BYTES];
  int code = npy_format_header(output->path, &output->header, text, error);
  if (code != CLI_GOOD)
    return code;
  output->file = open(output->part_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (output->file < 0)
    return fail_file(error, output->path, "cannot be created");
  output->created = 1;
  doomed[index] = output->part_path;
  code = take_space(output, error);
  if (code == CLI_GOOD)
    code = npy_write_at(output->path, output->file, text, output->header.data_offset, 0, error);
  return code;
}

/* Rank 0 judges the names and creates all files. */
static int create_files(const attend_inputs *inputs, attend_outputs *outputs, cli_error *error) {
  for (int i = 0; i < outputs->count; i++) {
    int code = judge_name(inputs, outputs->files[i].path, error);
    if (code != CLI_GOOD)
      return code;
  }
  for (int i = 0; i < outputs->count; i++) {
    int code = create_file(i, &outputs->files[i], error);
    if (code != CLI_GOOD)
      return code;
  }
  return CLI_GOOD;
}

/* The other ranks open what rank 0 has created. */
static int open_files(attend_outputs *outputs, cli_error *error) {
  for (int i = 0; i < outputs->count; i++) {
    attend_output *output = &outputs->files[i];
    char text[NPY_FORMAT_BYTES];
    int code = npy_format_header(output->path, &output->header, text, error);
    if (code != CLI_GOOD)
      return code;
    output->file = open(output->part_path, O_RDWR | O_CLOEXEC);
    if (output->file < 0)
      return fail_file(error, output->part_path, "cannot be opened by every rank");
    output->created = 1;
    doomed[i] = output->part_path;
  }
  return CLI_GOOD;
}

/* The same random number on all ranks, for names that nobody else has. */
static int agree_on_ending(cli_world *world, uint64_t *ending, cli_error *error) {
  uint64_t mine = 0;
  int code = CLI_GOOD;
  if (getrandom(&mine, sizeof mine, 0) != (ssize_t)sizeof mine)
    code = cli_fail(error, CLI_FAILED, "the system gave no random number: %s", strerror(errno));
  uint64_t *all = calloc((size_t)world->size, sizeof *all);
  if (all == NULL)
    code = cli_fail(error, CLI_FAILED, "no memory for a number of each rank");
  code = cli_agree(world, code, error);
  if (code == CLI_GOOD)
    code = cli_allgather(world, &mine, sizeof mine, all, error);
  if (code == CLI_GOOD)
    *ending = all[0];
  free(all);
  return code;
}

int attend_outputs_create(cli_world *world, const attend_options *options,
                          const attend_inputs *inputs, attend_outputs *outputs, cli_error *error) {
  *outputs = (attend_outputs){.count = options->gradient != NULL ? ATTEND_OUTPUTS : ATTEND_DQ};
  const npy_header *q = &inputs->files[ATTEND_Q].header, *k = &inputs->files[ATTEND_K].header;
  const npy_header headers[ATTEND_OUTPUTS] = {*q, lse_header(inputs), *q, *k, *k};
  for (int i = 0; i < ATTEND_OUTPUTS; i++) {
    outputs->files[i].file = -1;
    outputs->files[i].header = headers[i];
  }
  uint64_t ending = 0;
  int code = agree_on_ending(world, &ending, error);
  if (code != CLI_GOOD)
    return code;
  watch_signals();
  code = name_outputs(options, ending, outputs, error);
  if (code == CLI_GOOD && world->rank == 0)
    code = create_files(inputs, outputs, error);
  code = cli_agree(world, code, error);
  if (code != CLI_GOOD || world->size == 1)
    return code;
  return cli_agree(world, world->rank == 0 ? CLI_GOOD : open_files(outputs, error), error);
}

/* ---- the end ----------------------------------------------------------------------------- */

static int synchronise(attend_outputs *outputs, cli_error *error) {
  for (int i = 0; i < outputs->count; i++) {
    attend_output *output = &outputs->files[i];
    if (fsync(output->file) != 0)
      return fail_file(error, output->path, "cannot be written");
    int file = output->file;
    output->file = -1;
    if (close(file) != 0)
      return fail_file(error, output->path, "cannot be written");
  }
  return CLI_GOOD;
}

/* Makes the renaming itself last; a system that cannot has renamed all the same. */
static void synchronise_directory(const char *path) {
  char *directory = strdup(path);
  if (directory == NULL)
    return;
  char *slash = strrchr(directory, '/');
  if (slash == directory)
    slash++;
  if (slash != NULL)
    *slash = '\0';
  int file = open(slash == NULL ? "." : directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file >= 0) {
    fsync(file);
    close(file);
  }
  free(directory);
}

static int rename_files(attend_outputs *outputs, cli_error *error) {
  for (int i = 0; i < outputs->count; i++) {
    attend_output *output = &outputs->files[i];
    if (rename(output->part_path, output->path) != 0)
      return fail_file(error, output->path, "cannot take its name");
    output->created = 0;
    doomed[i] = NULL;
  }
  synchronise_directory(outputs->files[0].path);
  return CLI_GOOD;
}

int attend_outputs_commit(cli_world *world, attend_outputs *outputs, cli_error *error) {
  int code = cli_agree(world, synchronise(outputs, error), error);
  if (code != CLI_GOOD)
    return code;
  return cli_agree(world, world->rank == 0 ? rename_files(outputs, error) : CLI_GOOD, error);
}

void attend_outputs_discard(attend_outputs *outputs) {
  for (int i = 0; i < outputs->count; i++) {
    attend_output *output = &outputs->files[i];
    if (output->file >= 0)
      close(output->file);
    doomed[i] = NULL;
    if (output->created)
      unlink(output->part_path); /* on ranks other than 0 it may be gone: that is fine */
    free(output->path);
    free(output->part_path);
  }
  *outputs = (attend_outputs){0};
}
