/* attend_rows.c - moves this rank's rows between files in global order and its memory. */
#include "examples/attend_rows.h"

#include <stdlib.h>
#include <string.h>

#include "examples/floats.h"
#include "examples/npy.h"

enum { STAGE_ELEMENTS = 1 << 18 }; /* 1 MiB of f4 between a file and bf16 in memory */

/* Joins runs that follow each other without a gap; returns how many are left. */
static int64_t join_runs(bsd_position_run *runs, int64_t count) {
  int64_t kept = 0;
  for (int64_t i = 0; i < count; i++) {
    if (runs[i].count == 0)
      continue;
    if (kept > 0 && runs[kept - 1].first + runs[kept - 1].count == runs[i].first)
      runs[kept - 1].count += runs[i].count;
    else
      runs[kept++] = runs[i];
  }
  return kept;
}

int attend_rows_create(const bsd_plan *plan, int64_t length, attend_rows *rows, cli_error *error) {
  *rows = (attend_rows){.length = length};
  int64_t count = 0;
  bsd_status status = bsd_plan_local_length(plan, &rows->local_length);
  if (status == BSD_OK)
    status = bsd_plan_position_runs(plan, NULL, 0, &count);
  if (status != BSD_OK)
    return cli_fail_status(error, status, "the plan does not tell which tokens this rank holds");
  if (count == 0)
    return CLI_GOOD;
  rows->runs = calloc((size_t)count, sizeof *rows->runs);
  if (rows->runs == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for %lld runs of positions", (long long)count);
  status = bsd_plan_position_runs(plan, rows->runs, count, &count);
  if (status != BSD_OK)
    return cli_fail_status(error, status, "the plan does not tell which tokens this rank holds");
  rows->count = join_runs(rows->runs, count);
  return CLI_GOOD;
}

void attend_rows_free(attend_rows *rows) {
  free(rows->runs);
  *rows = (attend_rows){0};
}

static int64_t memory_size(const attend_tensor *tensor) {
  return tensor->narrow ? 2 : tensor->file_size;
}

int attend_local_bytes(const attend_rows *rows, const attend_tensor *tensor, int64_t *bytes,
                       cli_error *error) {
  int64_t total;
  if (__builtin_mul_overflow(tensor->planes, rows->local_length, &total) ||
      __builtin_mul_overflow(total, tensor->row_elements, &total) ||
      __builtin_mul_overflow(total, memory_size(tensor), &total))
    return cli_fail(error, CLI_FAILED, "%s: this rank's part has more than 2^63-1 bytes",
                    tensor->path);
  *bytes = total;
  return CLI_GOOD;
}

/* `elements` f4 of the file from `offset` on into bf16 memory, or back. */
static int move_narrow(const attend_tensor *tensor, int writing, uint16_t *memory, int64_t elements,
                       int64_t offset, float *stage, cli_error *error) {
  int code = CLI_GOOD;
  for (int64_t done = 0; done < elements && code == CLI_GOOD; done += STAGE_ELEMENTS) {
    int64_t now = elements - done < STAGE_ELEMENTS ? elements - done : STAGE_ELEMENTS;
    int64_t at = offset + 4 * done;
    if (writing) {
      for (int64_t i = 0; i < now; i++)
        stage[i] = bfloat_to_float(memory[done + i]);
      code = npy_write_at(tensor->path, tensor->file, stage, 4 * now, at, error);
    } else {
      code = npy_read_at(tensor->path, tensor->file, stage, 4 * now, at, error);
      for (int64_t i = 0; i < now && code == CLI_GOOD; i++)
        memory[done + i] = float_to_bfloat(stage[i]);
    }
  }
  return code;
}

/* One run of one plane. */
static int move_run(const attend_tensor *tensor, int writing, char *memory, int64_t elements,
                    int64_t offset, float *stage, cli_error *error) {
  if (tensor->narrow)
    return move_narrow(tensor, writing, (uint16_t *)(void *)memory, elements, offset, stage, error);
  int64_t bytes = elements * tensor->file_size;
  return writing ? npy_write_at(tensor->path, tensor->file, memory, bytes, offset, error)
                 : npy_read_at(tensor->path, tensor->file, memory, bytes, offset, error);
}

/* No product overflows: each is within the file's size, which npy.c has judged. */
static int move(const attend_rows *rows, const attend_tensor *tensor, int writing, char *memory,
                cli_error *error) {
  float *stage = tensor->narrow ? malloc(STAGE_ELEMENTS * sizeof *stage) : NULL;
  if (tensor->narrow && stage == NULL)
    return cli_fail(error, CLI_FAILED, "%s: no memory to convert it", tensor->path);
  int code = CLI_GOOD;
  for (int64_t plane = 0; plane < tensor->planes && code == CLI_GOOD; plane++)
    for (int64_t i = 0; i < rows->count && code == CLI_GOOD; i++) {
      int64_t first = (plane * rows->length + rows->runs[i].first) * tensor->row_elements;
      int64_t elements = rows->runs[i].count * tensor->row_elements;
      code = move_run(tensor, writing, memory, elements,
                      tensor->data_offset + first * tensor->file_size, stage, error);
      memory += elements * memory_size(tensor);
    }
  free(stage);
  return code;
}

int attend_read(const attend_rows *rows, const attend_tensor *tensor, void *memory,
                cli_error *error) {
  return move(rows, tensor, 0, memory, error);
}

int attend_write(const attend_rows *rows, const attend_tensor *tensor, const void *memory,
                 cli_error *error) {
  return move(rows, tensor, 1, (char *)(uintptr_t)memory, error);
}
