/* attend_inputs.c - opens q, k, v, do and cu_seqlens and judges their shapes and types together. */
#include "examples/attend_inputs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int bad_shape(const attend_file *file, const char *expected, cli_error *error) {
  char shape[256];
  npy_shape_text(&file->header, shape, sizeof shape);
  return cli_fail(error, CLI_UNUSABLE, "%s: its shape is %s, expected %s", file->path, shape,
                  expected);
}

static int judge_type(const attend_file *file, const attend_file *q, cli_error *error) {
  npy_type type = file->header.type;
  if (type != NPY_F4 && type != NPY_F2)
    return cli_fail(error, CLI_UNUSABLE, "%s: its dtype is %s, expected f4 or f2", file->path,
                    npy_type_name(type));
  if (type != q->header.type)
    return cli_fail(error, CLI_UNUSABLE, "%s: its dtype is %s, expected %s as in %s", file->path,
                    npy_type_name(type), npy_type_name(q->header.type), q->path);
  return CLI_GOOD;
}

/* The dtype to compute in: the files' own, or bf16 from f4 if asked for. */
static int choose_dtype(const attend_options *options, const attend_file *q, bsd_dtype *dtype,
                        cli_error *error) {
  bsd_dtype own = q->header.type == NPY_F4 ? BSD_F32 : BSD_F16;
  *dtype = options->has_dtype ? options->dtype : own;
  if (*dtype == own || (*dtype == BSD_BF16 && own == BSD_F32))
    return CLI_GOOD;
  return cli_fail(error, CLI_UNUSABLE, "%s: its dtype is %s, expected %s for --dtype %s", q->path,
                  npy_type_name(q->header.type), *dtype == BSD_F16 ? "f2" : "f4",
                  cli_dtype_name(*dtype));
}

/* q's own shape, which gives the problem's sizes. */
static int judge_query(const attend_file *q, attend_inputs *inputs, cli_error *error) {
  const npy_header *header = &q->header;
  if (header->dimensions != 3 && header->dimensions != 4)
    return bad_shape(q, "[n][H][D] or [B][n][H][D]", error);
  if (header->elements == 0)
    return bad_shape(q, "no dimension of 0", error);
  inputs->batched = header->dimensions == 4;
  const int64_t *shape = header->shape + inputs->batched;
  if (shape[2] > 256)
    return bad_shape(q, "a last dimension (of each head) of at most 256", error);
  inputs->problem.batch = inputs->batched ? header->shape[0] : 1;
  inputs->problem.length = shape[0];
  inputs->problem.heads = shape[1];
  inputs->problem.head_dim = shape[2];
  return CLI_GOOD;
}

/* k: as q in all but the number of heads, which divides q's. */
static int judge_key(const attend_file *q, const attend_file *k, attend_inputs *inputs,
                     cli_error *error) {
  char expected[600], shape[256];
  npy_header wanted = q->header;
  int head_axis = wanted.dimensions - 2;
  wanted.shape[head_axis] = k->header.dimensions == q->header.dimensions
                                ? k->header.shape[head_axis]
                                : wanted.shape[head_axis];
  int same = k->header.dimensions == wanted.dimensions &&
             memcmp(k->header.shape, wanted.shape, sizeof wanted.shape) == 0;
  int64_t heads = wanted.shape[head_axis];
  if (!same || heads < 1 || inputs->problem.heads % heads != 0) {
    npy_shape_text(&q->header, shape, sizeof shape);
    snprintf(expected, sizeof expected, "%s as in %s, or a number of heads that divides its %lld",
             shape, q->path, (long long)inputs->problem.heads);
    return bad_shape(k, expected, error);
  }
  inputs->problem.kv_heads = heads;
  return CLI_GOOD;
}

/* file has the shape that `like` has. */
static int judge_like(const attend_file *file, const attend_file *like, cli_error *error) {
  if (file->header.dimensions == like->header.dimensions &&
      memcmp(file->header.shape, like->header.shape, sizeof like->header.shape) == 0)
    return CLI_GOOD;
  char expected[600], shape[256];
  npy_shape_text(&like->header, shape, sizeof shape);
  snprintf(expected, sizeof expected, "%s as in %s", shape, like->path);
  return bad_shape(file, expected, error);
}

static int judge_tensors(const attend_options *options, attend_inputs *inputs, cli_error *error) {
  const attend_file *files = inputs->files;
  for (int i = 0; i < ATTEND_INPUTS && files[i].path != NULL; i++) {
    int code = judge_type(&files[i], &files[ATTEND_Q], error);
    if (code != CLI_GOOD)
      return code;
  }
  int code = choose_dtype(options, &files[ATTEND_Q], &inputs->problem.dtype, error);
  if (code == CLI_GOOD)
    code = judge_query(&files[ATTEND_Q], inputs, error);
  if (code == CLI_GOOD)
    code = judge_key(&files[ATTEND_Q], &files[ATTEND_K], inputs, error);
  if (code == CLI_GOOD)
    code = judge_like(&files[ATTEND_V], &files[ATTEND_K], error);
  if (code == CLI_GOOD && files[ATTEND_DO].path != NULL)
    code = judge_like(&files[ATTEND_DO], &files[ATTEND_Q], error);
  return code;
}

static int read_documents(const attend_options *options, attend_inputs *inputs, cli_error *error) {
  bsd_problem *problem = &inputs->problem;
  if (problem->batch != 1)
    return cli_fail(error, CLI_UNUSABLE, "--cu-seqlens is for one batch entry, but %s has %lld",
                    options->q, (long long)problem->batch);
  int code = npy_read_offsets(options->cu_seqlens, &inputs->cu_seqlens, &problem->documents, error);
  if (code != CLI_GOOD)
    return code;
  int64_t last = inputs->cu_seqlens[problem->documents];
  if (last != problem->length)
    return cli_fail(error, CLI_UNUSABLE,
                    "%s: its last offset is %lld, expected %lld, the tokens of %s",
                    options->cu_seqlens, (long long)last, (long long)problem->length, options->q);
  problem->cu_seqlens = inputs->cu_seqlens;
  return CLI_GOOD;
}

int attend_inputs_open(const attend_options *options, attend_inputs *inputs, cli_error *error) {
  const char *const paths[ATTEND_INPUTS] = {options->q, options->k, options->v, options->gradient};
  *inputs = (attend_inputs){.problem = {.struct_size = sizeof inputs->problem,
                                        .causal = options->causal,
                                        .scale = options->scale,
                                        .block = options->common.block,
                                        .layout = options->common.layout,
                                        .allow_atomics = options->common.allow_atomics,
                                        .allow_tf32 = options->common.allow_tf32}};
  for (int i = 0; i < ATTEND_INPUTS; i++)
    inputs->files[i].file = -1;
  for (int i = 0; i < ATTEND_INPUTS && paths[i] != NULL; i++) {
    attend_file *file = &inputs->files[i];
    file->path = paths[i];
    int code = npy_open(file->path, &file->file, &file->header, error);
    if (code != CLI_GOOD)
      return code;
  }
  int code = judge_tensors(options, inputs, error);
  if (code == CLI_GOOD && options->cu_seqlens != NULL)
    code = read_documents(options, inputs, error);
  return code;
}

void attend_inputs_close(attend_inputs *inputs) {
  for (int i = 0; i < ATTEND_INPUTS; i++)
    if (inputs->files[i].path != NULL && inputs->files[i].file >= 0)
      close(inputs->files[i].file);
  free(inputs->cu_seqlens);
  *inputs = (attend_inputs){0};
}
