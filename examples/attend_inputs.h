/* attend_inputs.h - the files that bsd_attend reads: opened, judged, turned into a problem. */
#ifndef BSD_ATTEND_INPUTS_H
#define BSD_ATTEND_INPUTS_H

#include "examples/attend_options.h"
#include "examples/npy.h"

enum { ATTEND_Q, ATTEND_K, ATTEND_V, ATTEND_DO, ATTEND_INPUTS };

typedef struct attend_file {
  const char *path;
  int file; /* descriptor, -1 if not open */
  npy_header header;
} attend_file;

typedef struct attend_inputs {
  attend_file files[ATTEND_INPUTS]; /* the last is not open without --grad */
  int batched;                      /* shapes are [B][n][H][D], else [n][H][D] */
  int64_t *cu_seqlens;              /* or NULL */
  bsd_problem problem;              /* cu_seqlens points to the above */
} attend_inputs;

/* Opens and judges all. *inputs must be released by attend_inputs_close in any case. */
int attend_inputs_open(const attend_options *options, attend_inputs *inputs, cli_error *error);
void attend_inputs_close(attend_inputs *inputs);

#endif
