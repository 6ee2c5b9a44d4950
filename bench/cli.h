/* cli.h - what the programs' command lines have in common: numbers, names, options, sentences.
 *
 * Nothing here prints, exits or talks to another rank (world.h does): each function judges text and
 * fills a cli_error with one sentence that names the option, what was found and what was expected.
 * Every function returns an exit status: CLI_GOOD, CLI_FAILED or CLI_UNUSABLE. */
#ifndef BSD_CLI_H
#define BSD_CLI_H

#include <getopt.h>
#include <stddef.h>
#include <stdint.h>

#include "src/bsdattn.h"

enum { CLI_GOOD = 0, CLI_FAILED = 1, CLI_UNUSABLE = 2 };

typedef struct cli_error {
  char text[1024]; /* one sentence without the program's name and without a newline; "" if none */
} cli_error;

/* Writes the sentence and returns code. The first sentence of an error is kept. */
int cli_fail(cli_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The exit status that a library error means, and the library's sentence as the error's. */
int cli_exit_code(bsd_status status);
int cli_fail_status(cli_error *error, bsd_status status, const char *sentence);

/* ---- numbers ----------------------------------------------------------------------------- */

/* Digits and at most one of K, M, G (1024s), within min .. max. `option` names it in sentences. */
int cli_parse_size(const char *option, const char *text, int64_t min, int64_t max, int64_t *value,
                   cli_error *error);

/* Digits only, 0 .. 2^64-1. */
int cli_parse_seed(const char *option, const char *text, uint64_t *value, cli_error *error);

/* A finite decimal number, above == 0: at least min, 1: more than min. */
int cli_parse_double(const char *option, const char *text, double min, int above, double *value,
                     cli_error *error);

typedef struct cli_size_list {
  int64_t *values;
  int64_t count;
} cli_size_list;

/* Items joined by commas: INT, or a range INT:INT:xINT (multiply) or INT:INT:+INT (add), both ends
 * taken if they are met. Each value within min .. max, at most 65536 of them. *list is replaced. */
int cli_parse_size_list(const char *option, const char *text, int64_t min, int64_t max,
                        cli_size_list *list, cli_error *error);
void cli_size_list_free(cli_size_list *list);

/* ---- names ------------------------------------------------------------------------------- */

typedef enum cli_transport {
  CLI_TRANSPORT_AUTO = 0,
  CLI_TRANSPORT_SELF = 1,
  CLI_TRANSPORT_MPI = 2,
  CLI_TRANSPORT_NCCL = 3
} cli_transport;

int cli_parse_backend(const char *text, bsd_backend *value, cli_error *error);
int cli_parse_kernel(const char *text, bsd_kernel *value, cli_error *error);
int cli_parse_transport(const char *text, cli_transport *value, cli_error *error);
int cli_parse_dtype(const char *text, bsd_dtype *value, cli_error *error);
int cli_parse_layout(const char *text, bsd_layout_spec *value, cli_error *error);
int cli_parse_block(const char *text, int64_t *value, cli_error *error);

/* Index of text in the NULL-ended names; the sentence lists them. */
int cli_parse_name(const char *option, const char *text, const char *const *names, int *value,
                   cli_error *error);

/* "f32", "bf16", "f16", and the size of one element. */
const char *cli_dtype_name(bsd_dtype dtype);
size_t cli_dtype_size(bsd_dtype dtype);
const char *cli_transport_name(cli_transport transport);

/* ---- shared options ---------------------------------------------------------------------- */

typedef struct cli_common {
  bsd_backend backend;
  bsd_kernel kernel;
  cli_transport transport;
  bsd_layout_spec layout;
  int64_t block; /* 64 by default */
  int allow_tf32, allow_atomics;
  double timeout; /* seconds, 300 by default */
  const bsd_cost_model *cost_model; /* no option: set by a program that has one; NULL: the library's */
} cli_common;

/* Values of the shared long options; a program's own begin at CLI_OWN_OPTIONS. */
enum {
  CLI_OPTION_BACKEND = 1000,
  CLI_OPTION_KERNEL,
  CLI_OPTION_TRANSPORT,
  CLI_OPTION_LAYOUT,
  CLI_OPTION_BLOCK,
  CLI_OPTION_TF32,
  CLI_OPTION_ATOMICS,
  CLI_OPTION_HELP,
  CLI_OPTION_VERSION,
  CLI_OWN_OPTIONS
};

/* Entries for a program's struct option table; its short options must hold "T:" as well. */
/* clang-format off */
#define CLI_COMMON_OPTIONS                                            \
  {"backend", required_argument, NULL, CLI_OPTION_BACKEND},           \
  {"kernel", required_argument, NULL, CLI_OPTION_KERNEL},             \
  {"transport", required_argument, NULL, CLI_OPTION_TRANSPORT},       \
  {"layout", required_argument, NULL, CLI_OPTION_LAYOUT},             \
  {"block", required_argument, NULL, CLI_OPTION_BLOCK},               \
  {"tf32", no_argument, NULL, CLI_OPTION_TF32},                       \
  {"atomics", no_argument, NULL, CLI_OPTION_ATOMICS},                 \
  {"timeout", required_argument, NULL, 'T'},                          \
  {"help", no_argument, NULL, CLI_OPTION_HELP},                       \
  {"version", no_argument, NULL, CLI_OPTION_VERSION}
/* clang-format on */

/* Their lines of a --help text. */
extern const char cli_common_help[];

void cli_common_defaults(cli_common *common);

/* Takes option (a value of getopt_long) if it is a shared one other than help and version: *taken
 * is set to 1 and the result is that of judging optarg; else *taken is 0. */
int cli_common_take(cli_common *common, int option, const char *argument, int *taken,
                    cli_error *error);

/* getopt_long from the beginning of an argv, silent: call before the loop. Use with short options
 * that begin with ':'. Not thread-safe, as getopt is not. */
void cli_options_begin(void);

/* The sentence for getopt's '?' and ':': unknown option, missing or unwanted value. */
int cli_usage_error(int argc, char **argv, int option, const struct option *options,
                    cli_error *error);

#endif
