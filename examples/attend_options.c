/* attend_options.c - the options of bsd_attend. */
#include "examples/attend_options.h"

#include <float.h>
#include <math.h>
#include <string.h>

const char attend_help[] =
    "Usage: [mpirun -np N] bsd_attend --pattern SPEC [options] q.npy k.npy v.npy -o OUT\n"
    "\n"
    "Exact block-sparse attention over tensors in NumPy .npy files: little-endian f4 or f2, C "
    "order,\n"
    "shape [n][H][D] or [B][n][H][D]. Writes OUT.o.npy and OUT.lse.npy in the original token "
    "order.\n"
    "\n"
    "      --pattern SPEC         which pairs attend, e.g. 'w=2048;w=16384,r=4' or 'blocks=full'\n"
    "  -o, --output OUT           names of the outputs: OUT.o.npy, OUT.lse.npy, ...\n"
    "      --grad do.npy          also write OUT.dq.npy, OUT.dk.npy, OUT.dv.npy\n"
    "      --causal               no query sees a later key\n"
    "      --cu-seqlens FILE.npy  packed documents: i4 or i8 offsets, the first 0, the last n\n"
    "      --scale X              factor of the scores (default 1/sqrt(D))\n"
    "      --dtype bf16           compute in bf16 from f4 files; outputs are f4 holding bf16 "
    "values\n"
    "      --stats                print the plan as one line of JSON\n";

enum {
  OPTION_PATTERN = CLI_OWN_OPTIONS,
  OPTION_GRADIENT,
  OPTION_CAUSAL,
  OPTION_CU_SEQLENS,
  OPTION_SCALE,
  OPTION_DTYPE,
  OPTION_STATS
};

static const struct option option_table[] = {
    {"pattern", required_argument, NULL, OPTION_PATTERN},
    {"output", required_argument, NULL, 'o'},
    {"grad", required_argument, NULL, OPTION_GRADIENT},
    {"causal", no_argument, NULL, OPTION_CAUSAL},
    {"cu-seqlens", required_argument, NULL, OPTION_CU_SEQLENS},
    {"scale", required_argument, NULL, OPTION_SCALE},
    {"dtype", required_argument, NULL, OPTION_DTYPE},
    {"stats", no_argument, NULL, OPTION_STATS},
    CLI_COMMON_OPTIONS,
    {NULL, 0, NULL, 0}};

static int parse_scale(const char *text, double *scale, cli_error *error) {
  int code = cli_parse_double("--scale", text, -DBL_MAX, 0, scale, error);
  if (code == CLI_GOOD && *scale == 0)
    code = cli_fail(error, CLI_UNUSABLE, "--scale is %s, expected a number other than 0", text);
  if (code == CLI_GOOD && fabs(*scale) > FLT_MAX)
    code = cli_fail(error, CLI_UNUSABLE, "--scale is %s, which is beyond fp32", text);
  return code;
}

/* Takes one of the program's own options. */
static int take_option(attend_options *options, int option, cli_error *error) {
  switch (option) {
  case OPTION_PATTERN:
    options->pattern = optarg;
    return CLI_GOOD;
  case 'o':
    options->output = optarg;
    return CLI_GOOD;
  case OPTION_GRADIENT:
    options->gradient = optarg;
    return CLI_GOOD;
  case OPTION_CAUSAL:
    options->causal = 1;
    return CLI_GOOD;
  case OPTION_CU_SEQLENS:
    options->cu_seqlens = optarg;
    return CLI_GOOD;
  case OPTION_SCALE:
    return parse_scale(optarg, &options->scale, error);
  case OPTION_DTYPE:
    options->has_dtype = 1;
    return cli_parse_dtype(optarg, &options->dtype, error);
  case OPTION_STATS:
    options->stats = 1;
    return CLI_GOOD;
  case CLI_OPTION_HELP:
    options->help = 1;
    return CLI_GOOD;
  case CLI_OPTION_VERSION:
    options->version = 1;
    return CLI_GOOD;
  }
  return cli_fail(error, CLI_UNUSABLE, "an option of no meaning: %d", option);
}

/* What must be there, and the three files. */
static int judge(attend_options *options, int files, char **names, cli_error *error) {
  if (options->pattern == NULL)
    return cli_fail(error, CLI_UNUSABLE,
                    "--pattern is missing: expected a pattern, e.g. --pattern "
                    "'blocks=full' (see --help)");
  if (options->output == NULL)
    return cli_fail(error, CLI_UNUSABLE,
                    "-o is missing: expected the first part of the outputs' "
                    "names (see --help)");
  size_t length = strlen(options->output);
  if (length == 0 || options->output[length - 1] == '/')
    return cli_fail(error, CLI_UNUSABLE,
                    "-o is '%s', expected the first part of file names, not of a directory's",
                    options->output);
  if (files != 3)
    return cli_fail(error, CLI_UNUSABLE, "found %d input file%s, expected three: q.npy k.npy v.npy",
                    files, files == 1 ? "" : "s");
  options->q = names[0];
  options->k = names[1];
  options->v = names[2];
  return CLI_GOOD;
}

int attend_options_parse(int argc, char **argv, attend_options *options, cli_error *error) {
  *options = (attend_options){0};
  cli_common_defaults(&options->common);
  cli_options_begin();
  int option;
  while ((option = getopt_long(argc, argv, ":o:T:", option_table, NULL)) != -1) {
    if (option == '?' || option == ':')
      return cli_usage_error(argc, argv, option, option_table, error);
    int taken = 0;
    int code = cli_common_take(&options->common, option, optarg, &taken, error);
    if (code == CLI_GOOD && !taken)
      code = take_option(options, option, error);
    if (code != CLI_GOOD)
      return code;
    if (options->help || options->version)
      return CLI_GOOD;
  }
  return judge(options, argc - optind, argv + optind, error);
}
