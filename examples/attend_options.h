/* attend_options.h - the command line of bsd_attend, judged before any file is opened. */
#ifndef BSD_ATTEND_OPTIONS_H
#define BSD_ATTEND_OPTIONS_H

#include "bench/cli.h"

typedef struct attend_options {
  cli_common common;
  const char *pattern; /* all strings are argv's */
  const char *q, *k, *v;
  const char *output;     /* the prefix of the outputs' names */
  const char *gradient;   /* do.npy, or NULL */
  const char *cu_seqlens; /* or NULL */
  double scale;           /* 0: 1/sqrt(D) */
  int has_dtype;          /* --dtype was given */
  bsd_dtype dtype;
  int causal, stats, help, version;
} attend_options;

extern const char attend_help[];

/* Fills *options from argv. With help or version set, nothing else has been judged. */
int attend_options_parse(int argc, char **argv, attend_options *options, cli_error *error);

#endif
