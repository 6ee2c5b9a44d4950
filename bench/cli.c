/* cli.c - judges numbers, names and the shared options of the programs' command lines. */
#include "bench/cli.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_LIMIT = 65536 };

int cli_fail(cli_error *error, int code, const char *format, ...) {
  if (error->text[0] != '\0')
    return code;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(error->text, sizeof error->text, format, arguments);
  va_end(arguments);
  return code;
}

int cli_exit_code(bsd_status status) {
  switch (status) {
  case BSD_OK:
    return CLI_GOOD;
  case BSD_ERR_ARG:
  case BSD_ERR_PATTERN:
  case BSD_ERR_UNSUPPORTED:
  case BSD_ERR_MISMATCH:
  case BSD_ERR_IO:
    return CLI_UNUSABLE;
  case BSD_ERR_MEMORY:
  case BSD_ERR_STATE:
  case BSD_ERR_PEER:
  case BSD_ERR_TIMEOUT:
  case BSD_ERR_BACKEND:
    return CLI_FAILED;
  }
  return CLI_FAILED;
}

int cli_fail_status(cli_error *error, bsd_status status, const char *sentence) {
  if (sentence == NULL || sentence[0] == '\0')
    sentence = bsd_status_string(status);
  return cli_fail(error, cli_exit_code(status), "%s", sentence);
}

/* ---- numbers ----------------------------------------------------------------------------- */

static int is_digit(char c) {
  return c >= '0' && c <= '9';
}

/* Reads digits and a suffix from *text and moves it on; 0 if there are none or they do not fit. */
static int read_size(const char **text, int64_t *value) {
  const char *p = *text;
  if (!is_digit(*p))
    return 0;
  int64_t number = 0;
  for (; is_digit(*p); p++)
    if (__builtin_mul_overflow(number, 10, &number) ||
        __builtin_add_overflow(number, *p - '0', &number))
      return 0;
  int shift = *p == 'K' ? 10 : *p == 'M' ? 20 : *p == 'G' ? 30 : 0;
  if (shift != 0)
    p++;
  if (number > INT64_MAX >> shift)
    return 0;
  *value = number << shift;
  *text = p;
  return 1;
}

static int check_range(const char *option, int64_t value, int64_t min, int64_t max,
                       cli_error *error) {
  if (value >= min && value <= max)
    return CLI_GOOD;
  if (max == INT64_MAX)
    return cli_fail(error, CLI_UNUSABLE, "%s is %lld, expected at least %lld", option,
                    (long long)value, (long long)min);
  return cli_fail(error, CLI_UNUSABLE, "%s is %lld, expected %lld .. %lld", option,
                  (long long)value, (long long)min, (long long)max);
}

int cli_parse_size(const char *option, const char *text, int64_t min, int64_t max, int64_t *value,
                   cli_error *error) {
  const char *p = text;
  int64_t number = 0;
  if (!read_size(&p, &number) || *p != '\0')
    return cli_fail(error, CLI_UNUSABLE,
                    "%s is '%s', expected a whole number below 2^63 of digits and at most one "
                    "suffix K, M or G",
                    option, text);
  int code = check_range(option, number, min, max, error);
  if (code == CLI_GOOD)
    *value = number;
  return code;
}

int cli_parse_seed(const char *option, const char *text, uint64_t *value, cli_error *error) {
  uint64_t number = 0;
  const char *p = text;
  for (; is_digit(*p); p++)
    if (__builtin_mul_overflow(number, 10, &number) ||
        __builtin_add_overflow(number, (uint64_t)(*p - '0'), &number))
      break;
  if (p == text || *p != '\0')
    return cli_fail(error, CLI_UNUSABLE, "%s is '%s', expected a whole number 0 .. 2^64-1", option,
                    text);
  *value = number;
  return CLI_GOOD;
}

int cli_parse_double(const char *option, const char *text, double min, int above, double *value,
                     cli_error *error) {
  char *end = NULL;
  double number = strtod(text, &end);
  int readable = text[0] != '\0' && strspn(text, "0123456789+-.eE") == strlen(text) &&
                 *end == '\0' && isfinite(number);
  if (!readable)
    return cli_fail(error, CLI_UNUSABLE, "%s is '%s', expected a finite decimal number", option,
                    text);
  if (number < min || (above && number <= min))
    return cli_fail(error, CLI_UNUSABLE, "%s is %s, expected %s %g", option, text,
                    above ? "more than" : "at least", min);
  *value = number;
  return CLI_GOOD;
}

/* ---- lists of sizes ---------------------------------------------------------------------- */

static int append_size(const char *option, int64_t value, int64_t min, int64_t max,
                       cli_size_list *list, cli_error *error) {
  int code = check_range(option, value, min, max, error);
  if (code != CLI_GOOD)
    return code;
  if (list->count == LIST_LIMIT)
    return cli_fail(error, CLI_UNUSABLE, "%s has more than %d values", option, LIST_LIMIT);
  if ((list->count & (list->count - 1)) == 0) { /* full at each power of two */
    size_t capacity = list->count == 0 ? 1 : 2 * (size_t)list->count;
    int64_t *grown = realloc(list->values, capacity * sizeof *grown);
    if (grown == NULL)
      return cli_fail(error, CLI_FAILED, "%s: no memory for its list", option);
    list->values = grown;
  }
  list->values[list->count++] = value;
  return CLI_GOOD;
}

/* Appends first, then first * step or first + step while it is at most last. */
static int append_range(const char *option, int64_t first, int64_t last, int multiply, int64_t step,
                        int64_t min, int64_t max, cli_size_list *list, cli_error *error) {
  for (int64_t value = first; value <= last;) {
    int code = append_size(option, value, min, max, list, error);
    if (code != CLI_GOOD)
      return code;
    if (multiply ? __builtin_mul_overflow(value, step, &value)
                 : __builtin_add_overflow(value, step, &value))
      break;
  }
  return CLI_GOOD;
}

static int bad_list(const char *option, const char *text, cli_error *error) {
  return cli_fail(
      error, CLI_UNUSABLE,
      "%s is '%s', expected sizes joined by commas, each a number (with K, M or G) or a "
      "range as 2K:1M:x2 or 1K:8K:+1K",
      option, text);
}

/* Appends the item at *p and moves *p behind it. */
static int append_item(const char *option, const char *text, const char **p, int64_t min,
                       int64_t max, cli_size_list *list, cli_error *error) {
  int64_t first, last, step;
  if (!read_size(p, &first))
    return bad_list(option, text, error);
  if (**p != ':')
    return append_size(option, first, min, max, list, error);
  ++*p;
  if (!read_size(p, &last) || **p != ':')
    return bad_list(option, text, error);
  ++*p;
  char kind = **p;
  if (kind != 'x' && kind != '+')
    return bad_list(option, text, error);
  ++*p;
  if (!read_size(p, &step))
    return bad_list(option, text, error);
  if (last < first)
    return cli_fail(error, CLI_UNUSABLE, "%s is '%s', whose range ends before it begins", option,
                    text);
  if (kind == 'x' ? step < 2 || first < 1 : step < 1)
    return cli_fail(error, CLI_UNUSABLE, "%s is '%s', whose range never gets anywhere", option,
                    text);
  return append_range(option, first, last, kind == 'x', step, min, max, list, error);
}

int cli_parse_size_list(const char *option, const char *text, int64_t min, int64_t max,
                        cli_size_list *list, cli_error *error) {
  cli_size_list read = {0};
  const char *p = text;
  for (;;) {
    int code = append_item(option, text, &p, min, max, &read, error);
    if (code == CLI_GOOD && *p != ',' && *p != '\0')
      code = bad_list(option, text, error);
    if (code != CLI_GOOD) {
      cli_size_list_free(&read);
      return code;
    }
    if (*p++ == '\0')
      break;
  }
  cli_size_list_free(list);
  *list = read;
  return CLI_GOOD;
}

void cli_size_list_free(cli_size_list *list) {
  free(list->values);
  *list = (cli_size_list){0};
}

/* ---- names ------------------------------------------------------------------------------- */

static const char *const backend_names[] = {"auto", "cpu", "cuda", NULL};
static const char *const kernel_names[] = {"auto", "simt", "sm80", "sm90", NULL};
static const char *const transport_names[] = {"auto", "self", "mpi", "nccl", NULL};
static const char *const dtype_names[] = {"f32", "bf16", "f16", NULL};

int cli_parse_name(const char *option, const char *text, const char *const *names, int *value,
                   cli_error *error) {
  char choices[256] = "";
  for (int i = 0; names[i] != NULL; i++) {
    if (strcmp(text, names[i]) == 0) {
      *value = i;
      return CLI_GOOD;
    }
    size_t used = strlen(choices);
    const char *joint = i == 0 ? "" : names[i + 1] == NULL ? " or " : ", ";
    snprintf(choices + used, sizeof choices - used, "%s%s", joint, names[i]);
  }
  return cli_fail(error, CLI_UNUSABLE, "%s is '%s', expected %s", option, text, choices);
}

int cli_parse_backend(const char *text, bsd_backend *value, cli_error *error) {
  int index = 0;
  int code = cli_parse_name("--backend", text, backend_names, &index, error);
  if (code == CLI_GOOD)
    *value = (bsd_backend)index;
  return code;
}

int cli_parse_kernel(const char *text, bsd_kernel *value, cli_error *error) {
  int index = 0;
  int code = cli_parse_name("--kernel", text, kernel_names, &index, error);
  if (code == CLI_GOOD)
    *value = (bsd_kernel)index;
  return code;
}

int cli_parse_transport(const char *text, cli_transport *value, cli_error *error) {
  int index = 0;
  int code = cli_parse_name("--transport", text, transport_names, &index, error);
  if (code == CLI_GOOD)
    *value = (cli_transport)index;
  return code;
}

int cli_parse_dtype(const char *text, bsd_dtype *value, cli_error *error) {
  int index = 0;
  int code = cli_parse_name("--dtype", text, dtype_names, &index, error);
  if (code == CLI_GOOD)
    *value = (bsd_dtype)index;
  return code;
}

int cli_parse_layout(const char *text, bsd_layout_spec *value, cli_error *error) {
  static const struct {
    const char *name;
    bsd_layout_kind kind;
  } plain[] = {{"auto", BSD_LAYOUT_AUTO},
               {"contiguous", BSD_LAYOUT_CONTIGUOUS},
               {"zigzag", BSD_LAYOUT_ZIGZAG}};
  bsd_layout_spec spec = {0};
  for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
    if (strcmp(text, plain[i].name) == 0) {
      spec.kind = plain[i].kind;
      *value = spec;
      return CLI_GOOD;
    }
  static const char prefix[] = "dilated:";
  const char *p = text + sizeof prefix - 1;
  spec.kind = BSD_LAYOUT_DILATED;
  if (strncmp(text, prefix, sizeof prefix - 1) != 0 || !read_size(&p, &spec.group) || *p++ != ':' ||
      !read_size(&p, &spec.unit) || *p != '\0' || spec.group < 1 || spec.unit < 1)
    return cli_fail(error, CLI_UNUSABLE,
                    "--layout is '%s', expected auto, contiguous, zigzag or dilated:G:U with whole "
                    "numbers G and U of at least 1",
                    text);
  *value = spec;
  return CLI_GOOD;
}

int cli_parse_block(const char *text, int64_t *value, cli_error *error) {
  int64_t block = 0;
  int code = cli_parse_size("--block", text, 0, INT64_MAX, &block, error);
  if (code != CLI_GOOD)
    return code;
  if (block < 16 || block > 256 || (block & (block - 1)) != 0)
    return cli_fail(error, CLI_UNUSABLE, "--block is %lld, expected 16, 32, 64, 128 or 256",
                    (long long)block);
  *value = block;
  return CLI_GOOD;
}

const char *cli_dtype_name(bsd_dtype dtype) {
  return dtype_names[dtype];
}

size_t cli_dtype_size(bsd_dtype dtype) {
  return dtype == BSD_F32 ? 4 : 2;
}

const char *cli_transport_name(cli_transport transport) {
  return transport_names[transport];
}

/* ---- shared options ---------------------------------------------------------------------- */

const char cli_common_help[] =
    "      --backend auto|cpu|cuda\n"
    "      --kernel auto|simt|sm80|sm90\n"
    "      --transport auto|self|mpi|nccl\n"
    "      --layout auto|contiguous|zigzag|dilated:G:U   which rank holds which tokens\n"
    "      --block N              tokens in a block: 16, 32, 64, 128 or 256 (default 64)\n"
    "      --tf32                 allow f32 products to be rounded to TF32\n"
    "      --atomics              allow a faster backward that does not repeat bit for bit\n"
    "  -T, --timeout S            deadline of an exchange in seconds (default 300)\n"
    "      --help                 print this text and exit\n"
    "      --version              print the version and exit\n";

void cli_common_defaults(cli_common *common) {
  *common = (cli_common){.block = 64, .timeout = 300};
}

int cli_common_take(cli_common *common, int option, const char *argument, int *taken,
                    cli_error *error) {
  *taken = 1;
  switch (option) {
  case CLI_OPTION_BACKEND:
    return cli_parse_backend(argument, &common->backend, error);
  case CLI_OPTION_KERNEL:
    return cli_parse_kernel(argument, &common->kernel, error);
  case CLI_OPTION_TRANSPORT:
    return cli_parse_transport(argument, &common->transport, error);
  case CLI_OPTION_LAYOUT:
    return cli_parse_layout(argument, &common->layout, error);
  case CLI_OPTION_BLOCK:
    return cli_parse_block(argument, &common->block, error);
  case CLI_OPTION_TF32:
    common->allow_tf32 = 1;
    return CLI_GOOD;
  case CLI_OPTION_ATOMICS:
    common->allow_atomics = 1;
    return CLI_GOOD;
  case 'T':
    return cli_parse_double("--timeout", argument, 0, 1, &common->timeout, error);
  default:
    *taken = 0;
    return CLI_GOOD;
  }
}

void cli_options_begin(void) {
  optind = 0; /* GNU: a full restart */
  opterr = 0;
}

/* The long name of an option value, or NULL. */
static const char *option_name(int value, const struct option *options) {
  for (; options->name != NULL; options++)
    if (options->val == value)
      return options->name;
  return NULL;
}

int cli_usage_error(int argc, char **argv, int option, const struct option *options,
                    cli_error *error) {
  const char *name = optopt != 0 ? option_name(optopt, options) : NULL;
  const char *word = optind > 0 && optind <= argc ? argv[optind - 1] : "";
  if (option == ':' && name != NULL)
    return cli_fail(error, CLI_UNUSABLE, "option --%s needs a value", name);
  if (option == ':')
    return cli_fail(error, CLI_UNUSABLE, "option -%c needs a value", optopt);
  if (name != NULL)
    return cli_fail(error, CLI_UNUSABLE, "option --%s takes no value, but '%s' gives it one", name,
                    word);
  if (optopt != 0)
    return cli_fail(error, CLI_UNUSABLE, "there is no option -%c (see --help)", optopt);
  return cli_fail(error, CLI_UNUSABLE, "there is no option '%s', or it is ambiguous (see --help)",
                  word);
}
