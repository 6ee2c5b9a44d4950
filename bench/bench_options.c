/* bench_options.c - the command line of bsd_bench, judged as a whole before anything runs. */
#include "bench/bench_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_documents.h"
#include "bench/bench_model.h"

const char bench_options_help[] =
    "usage: [mpirun -np N] bsd_bench [options]\n"
    "Times block-sparse dilated attention, forward and backward, on the ranks it is started on.\n"
    "SIZES are lists and ranges: 2048,4096 or 2K:1M:x2.\n"
    "\n"
    "  -l, --length SIZES         sequence lengths (default 8192)\n"
    "      --heads H              query heads (default 8)\n"
    "      --kv-heads H           key and value heads (default: as many as query heads)\n"
    "      --dim D                head dimension (default 64)\n"
    "      --batch B              batch entries (default 1)\n"
    "      --pattern SPEC         pattern text; may be repeated\n"
    "      --density LIST         shorthand for strided(1:2,density=x); default 0.1\n"
    "      --causal               a query sees no later key\n"
    "      --dtype f32|bf16|f16   default f32 on the CPU, bf16 on CUDA\n"
    "      --pass fwd|bwd|both    what is timed (default both)\n"
    "      --seed N               of the random inputs: the same whatever the number of ranks\n"
    "      --hash                 print a digest of the outputs in global order\n"
    "      --baseline none|dense|auto   time dense attention with materialised scores beside it\n"
    "  -n, --iters N              timed runs (default 20)\n"
    "  -w, --warmup N             runs before them (default 5)\n"
    "      --graph                replay as a CUDA graph\n"
    "      --cold                 other tensors in each call: more than twice the GPU's L2 in "
    "turn\n"
    "  -c, --check                compare with the fp64 oracle\n"
    "      --preset seed|longnet  the seed report's table; LongNet's pattern\n"
    "      --scaling strong|weak  run on 1, 2, 4, ... of the ranks and print the efficiency\n"
    "      --simulate P,P,...     plan for that many ranks on this machine; nothing is run\n"
    "                             (with --scaling also the efficiency)\n"
    "      --link GB/s,us[/GB/s,us@RANKS]   predict with this link; with a second one between "
    "hosts\n"
    "                             of so many ranks\n"
    "      --rate TFLOP/s|measured  predict with this rate of every kernel, or with those of this "
    "machine\n"
    "      --cost-model FILE      predict with the constants of a file\n"
    "      --calibrate FILE       measure them on this machine and write the file; nothing else is "
    "run\n"
    "      --cu-seqlens FILE.npy  packed documents\n"
    "      --dump-lists FILE      write the active blocks of each row\n"
    "      --json FILE  --csv FILE   write the results; '-' is standard output\n"
    "      --trace FILE           write when the parts of a run ran, for Perfetto; '-' likewise\n"
    "      --plot DIR             draw the results: SVG figures and report.html, by gnuplot\n"
    "      --from FILE            with --plot: draw what --json wrote, run nothing; may be "
    "repeated\n";

enum {
  OPTION_HEADS = CLI_OWN_OPTIONS,
  OPTION_KV_HEADS,
  OPTION_DIM,
  OPTION_BATCH,
  OPTION_PATTERN,
  OPTION_DENSITY,
  OPTION_CAUSAL,
  OPTION_DTYPE,
  OPTION_PASS,
  OPTION_SEED,
  OPTION_HASH,
  OPTION_BASELINE,
  OPTION_GRAPH,
  OPTION_COLD,
  OPTION_PRESET,
  OPTION_SCALING,
  OPTION_SIMULATE,
  OPTION_CU_SEQLENS,
  OPTION_DUMP_LISTS,
  OPTION_JSON,
  OPTION_CSV,
  OPTION_TRACE,
  OPTION_PLOT,
  OPTION_FROM,
  OPTION_LINK,
  OPTION_RATE,
  OPTION_CALIBRATE,
  OPTION_COST_MODEL
};

static const struct option long_options[] = {
    CLI_COMMON_OPTIONS,
    {"length", required_argument, NULL, 'l'},
    {"heads", required_argument, NULL, OPTION_HEADS},
    {"kv-heads", required_argument, NULL, OPTION_KV_HEADS},
    {"dim", required_argument, NULL, OPTION_DIM},
    {"batch", required_argument, NULL, OPTION_BATCH},
    {"pattern", required_argument, NULL, OPTION_PATTERN},
    {"density", required_argument, NULL, OPTION_DENSITY},
    {"causal", no_argument, NULL, OPTION_CAUSAL},
    {"dtype", required_argument, NULL, OPTION_DTYPE},
    {"pass", required_argument, NULL, OPTION_PASS},
    {"seed", required_argument, NULL, OPTION_SEED},
    {"hash", no_argument, NULL, OPTION_HASH},
    {"baseline", required_argument, NULL, OPTION_BASELINE},
    {"iters", required_argument, NULL, 'n'},
    {"warmup", required_argument, NULL, 'w'},
    {"graph", no_argument, NULL, OPTION_GRAPH},
    {"cold", no_argument, NULL, OPTION_COLD},
    {"check", no_argument, NULL, 'c'},
    {"preset", required_argument, NULL, OPTION_PRESET},
    {"scaling", required_argument, NULL, OPTION_SCALING},
    {"simulate", required_argument, NULL, OPTION_SIMULATE},
    {"cu-seqlens", required_argument, NULL, OPTION_CU_SEQLENS},
    {"dump-lists", required_argument, NULL, OPTION_DUMP_LISTS},
    {"json", required_argument, NULL, OPTION_JSON},
    {"csv", required_argument, NULL, OPTION_CSV},
    {"link", required_argument, NULL, OPTION_LINK},
    {"rate", required_argument, NULL, OPTION_RATE},
    {"calibrate", required_argument, NULL, OPTION_CALIBRATE},
    {"cost-model", required_argument, NULL, OPTION_COST_MODEL},
    {"plot", required_argument, NULL, OPTION_PLOT},
    {"from", required_argument, NULL, OPTION_FROM},
    {"trace", required_argument, NULL, OPTION_TRACE},
    {NULL, 0, NULL, 0}};

static const char *long_name(int option) {
  const struct option *entry = long_options;
  while (entry->name != NULL && entry->val != option)
    entry++;
  return entry->name;
}

/* ---- lists of patterns ------------------------------------------------------------------- */

static int add_pattern(char ***list, int64_t *count, const char *format, const char *text,
                       int length, cli_error *error) {
  char **grown = realloc(*list, ((size_t)*count + 1) * sizeof *grown);
  if (grown != NULL)
    *list = grown;
  size_t size = strlen(format) + (size_t)length + 1;
  char *copy = grown != NULL ? malloc(size) : NULL;
  if (copy == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for the patterns");
  snprintf(copy, size, format, length, text);
  (*list)[(*count)++] = copy;
  return CLI_GOOD;
}

/* Takes --density's list apart; each item is judged where all patterns are, by the pattern parser. */
static int add_densities(char ***list, int64_t *count, const char *text, cli_error *error) {
  for (const char *p = text;; p++) {
    int length = (int)strcspn(p, ",");
    if (length == 0 || (int)strspn(p, "0123456789.") < length)
      return cli_fail(error, CLI_UNUSABLE,
                      "--density is '%s', expected numbers above 0 and up to 1 joined by commas",
                      text);
    int code = add_pattern(list, count, "blocks=strided(1:2,density=%.*s)", p, length, error);
    if (code != CLI_GOOD)
      return code;
    p += length;
    if (*p == '\0')
      return CLI_GOOD;
  }
}

static int add_file(const char ***list, int64_t *count, const char *file, cli_error *error) {
  const char **grown = realloc(*list, ((size_t)*count + 1) * sizeof *grown);
  if (grown == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for the names of --from");
  *list = grown;
  (*list)[(*count)++] = file;
  return CLI_GOOD;
}

/* ---- single options ---------------------------------------------------------------------- */

static int take_name(int option, const char *argument, const char *const *names, int *value,
                     cli_error *error) {
  char name[64];
  snprintf(name, sizeof name, "--%s", long_name(option));
  return cli_parse_name(name, argument, names, value, error);
}

static int take_size(int option, const char *argument, int64_t min, int64_t max, int64_t *value,
                     cli_error *error) {
  char name[64];
  snprintf(name, sizeof name, "--%s", long_name(option));
  return cli_parse_size(name, argument, min, max, value, error);
}

static int take_pass(const char *argument, int *pass, cli_error *error) {
  static const char *const names[] = {"fwd", "bwd", "both", NULL};
  int index = 0;
  int code = take_name(OPTION_PASS, argument, names, &index, error);
  if (code == CLI_GOOD)
    *pass = index + 1;
  return code;
}

/* Which options were given, where that cannot be told from their values. */
typedef struct given {
  int pass, baseline;
  const char *other; /* the first option that is neither --plot nor --from, or NULL */
} given;

static int take_choice(bench_options *options, int option, const char *argument, given *seen,
                       cli_error *error) {
  static const char *const presets[] = {"none", "seed", "longnet", NULL};
  static const char *const scalings[] = {"none", "strong", "weak", NULL};
  static const char *const dense[] = {"none", "dense", "auto", NULL};
  static const char *const dtypes[] = {"f32", "bf16", "f16", NULL};
  int value = 0, code = CLI_GOOD;
  switch (option) {
  case OPTION_PRESET:
    code = take_name(option, argument, presets + 1, &value, error);
    options->preset = (bench_preset)(value + 1);
    return code;
  case OPTION_SCALING:
    code = take_name(option, argument, scalings + 1, &value, error);
    options->scaling = (bench_scaling)(value + 1);
    return code;
  case OPTION_BASELINE:
    code = take_name(option, argument, dense, &value, error);
    options->baseline = (bench_dense)value;
    seen->baseline = 1;
    return code;
  case OPTION_DTYPE:
    return take_name(option, argument, dtypes, &options->dtype, error);
  default:
    seen->pass = 1;
    return take_pass(argument, &options->pass, error);
  }
}

static int take_number(bench_options *options, int option, const char *argument, cli_error *error) {
  switch (option) {
  case 'l':
    return cli_parse_size_list("--length", argument, 1, INT64_MAX / 65536, &options->lengths,
                               error);
  case OPTION_SIMULATE:
    return cli_parse_size_list("--simulate", argument, 1, INT32_MAX, &options->simulate, error);
  case OPTION_HEADS:
    return take_size(option, argument, 1, 1 << 20, &options->heads, error);
  case OPTION_KV_HEADS:
    return take_size(option, argument, 1, 1 << 20, &options->kv_heads, error);
  case OPTION_DIM:
    return take_size(option, argument, 1, 256, &options->dim, error);
  case OPTION_BATCH:
    return take_size(option, argument, 1, 1 << 20, &options->batch, error);
  case 'n':
    return take_size(option, argument, 1, 1 << 20, &options->iterations, error);
  case 'w':
    return take_size(option, argument, 0, 1 << 20, &options->warmup, error);
  default:
    return cli_parse_seed("--seed", argument, &options->seed, error);
  }
}

static int take_model(bench_options *options, int option, const char *argument, cli_error *error) {
  switch (option) {
  case OPTION_LINK:
    return bench_link_parse(argument, &options->link, error);
  case OPTION_CALIBRATE:
    options->calibrate_file = argument;
    return CLI_GOOD;
  case OPTION_COST_MODEL:
    options->cost_model_file = argument;
    return CLI_GOOD;
  default:
    options->rate = 0;
    options->rate_measured = strcmp(argument, "measured") == 0;
    if (options->rate_measured)
      return CLI_GOOD;
    return cli_parse_double("--rate", argument, 0, 1, &options->rate, error);
  }
}

static int take_own(bench_options *options, int option, const char *argument, given *seen,
                    cli_error *error) {
  switch (option) {
  case OPTION_PRESET:
  case OPTION_SCALING:
  case OPTION_BASELINE:
  case OPTION_DTYPE:
  case OPTION_PASS:
    return take_choice(options, option, argument, seen, error);
  case OPTION_LINK:
  case OPTION_RATE:
  case OPTION_CALIBRATE:
  case OPTION_COST_MODEL:
    return take_model(options, option, argument, error);
  case OPTION_CAUSAL:
    options->causal = 1;
    return CLI_GOOD;
  case OPTION_HASH:
    options->hash = 1;
    return CLI_GOOD;
  case OPTION_GRAPH:
    options->graph = 1;
    return CLI_GOOD;
  case OPTION_COLD:
    options->cold = 1;
    return CLI_GOOD;
  case 'c':
    options->check = 1;
    return CLI_GOOD;
  case OPTION_CU_SEQLENS:
    options->cu_seqlens_file = argument;
    return CLI_GOOD;
  case OPTION_DUMP_LISTS:
    options->dump_file = argument;
    return CLI_GOOD;
  case OPTION_JSON:
    options->json_file = argument;
    return CLI_GOOD;
  case OPTION_CSV:
    options->csv_file = argument;
    return CLI_GOOD;
  case OPTION_TRACE:
    options->trace_file = argument;
    return CLI_GOOD;
  case OPTION_PLOT:
    options->plot_directory = argument;
    return CLI_GOOD;
  case OPTION_FROM:
    return add_file(&options->from, &options->nfrom, argument, error);
  default:
    return take_number(options, option, argument, error);
  }
}

/* ---- the whole --------------------------------------------------------------------------- */

/* What a preset sets where the option was not given. */
static void apply_preset(bench_options *options, const given *seen) {
  if (options->preset != BENCH_PRESET_SEED)
    return;
  if (options->dtype < 0)
    options->dtype = BSD_F32;
  if (!seen->pass)
    options->pass = BENCH_FORWARD;
  if (!seen->baseline && options->simulate.count == 0)
    options->baseline = BENCH_DENSE_AUTO;
}

static int judge_from(const bench_options *options, const given *seen, cli_error *error) {
  if (options->nfrom > 0 && options->plot_directory == NULL)
    return cli_fail(error, CLI_UNUSABLE, "--from needs --plot, the directory to draw into");
  if (options->nfrom > 0 && seen->other != NULL)
    return cli_fail(error, CLI_UNUSABLE,
                    "--from draws saved results and runs nothing, so --%s cannot be had with it",
                    seen->other);
  return CLI_GOOD;
}

/* Options that have nothing to act on where no configuration is run. */
static int judge_idle(const bench_options *o, cli_error *error) {
  const char *run = o->check                          ? "--check"
                    : o->hash                         ? "--hash"
                    : o->baseline != BENCH_DENSE_NONE ? "--baseline"
                    : o->cold                         ? "--cold"
                    : o->trace_file != NULL           ? "--trace"
                                                      : NULL;
  const char *simulated = run != NULL ? run : o->graph ? "--graph" : NULL;
  const char *calibrated = run != NULL                        ? run
                           : o->simulate.count > 0            ? "--simulate"
                           : o->scaling != BENCH_SCALING_NONE ? "--scaling"
                           : o->cost_model_file != NULL       ? "--cost-model"
                                                              : NULL;
  if (o->simulate.count > 0 && simulated != NULL)
    return cli_fail(error, CLI_UNUSABLE, "--simulate runs nothing, so %s cannot be had with it",
                    simulated);
  if (o->calibrate_file != NULL && calibrated != NULL)
    return cli_fail(error, CLI_UNUSABLE,
                    "--calibrate times configurations of its own, so %s cannot be had with it",
                    calibrated);
  return CLI_GOOD;
}

/* Each output has a place of its own. */
static int judge_outputs(const bench_options *o, cli_error *error) {
  const char *const names[] = {o->json_file, o->csv_file, o->trace_file, o->dump_file};
  const char *const options[] = {"--json", "--csv", "--trace", "--dump-lists"};
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < i; j++) {
      if (names[i] == NULL || names[j] == NULL || strcmp(names[i], names[j]) != 0)
        continue;
      if (strcmp(names[i], "-") == 0)
        return cli_fail(error, CLI_UNUSABLE,
                        "only one of --json, --csv, --trace and --dump-lists can be '-'");
      return cli_fail(error, CLI_UNUSABLE, "%s and %s name the same file, %s", options[j],
                      options[i], names[i]);
    }
  return CLI_GOOD;
}

/* Options that contradict each other. */
static int judge_together(const bench_options *options, cli_error *error) {
  int code = judge_idle(options, error);
  if (code != CLI_GOOD)
    return code;
  if (options->heads % options->kv_heads != 0)
    return cli_fail(error, CLI_UNUSABLE, "--kv-heads is %lld, which does not divide --heads %lld",
                    (long long)options->kv_heads, (long long)options->heads);
  return judge_outputs(options, error);
}

static int read_documents(bench_options *options, cli_error *error) {
  if (options->cu_seqlens_file == NULL)
    return CLI_GOOD;
  if (options->batch > 1)
    return cli_fail(error, CLI_UNUSABLE,
                    "--batch is %lld, but packed documents (--cu-seqlens) need 1",
                    (long long)options->batch);
  int code = bench_documents_read(options->cu_seqlens_file, &options->cu_seqlens,
                                  &options->documents, error);
  if (code != CLI_GOOD)
    return code;
  int64_t last = options->cu_seqlens[options->documents];
  for (int64_t i = 0; i < options->lengths.count; i++)
    if (options->lengths.values[i] != last)
      return cli_fail(error, CLI_UNUSABLE, "--length is %lld, but the documents of %s end at %lld",
                      (long long)options->lengths.values[i], options->cu_seqlens_file,
                      (long long)last);
  if (options->scaling == BENCH_SCALING_WEAK)
    return cli_fail(error, CLI_UNUSABLE,
                    "--scaling weak needs lengths that grow, --cu-seqlens fixes one");
  return CLI_GOOD;
}

/* Takes every option of argv; densities are put behind the patterns. */
static int take_all(bench_options *options, int argc, char **argv, given *seen, cli_error *error) {
  char **densities = NULL;
  int64_t ndensities = 0;
  int code = CLI_GOOD;
  cli_options_begin();
  while (code == CLI_GOOD) {
    int option = getopt_long(argc, argv, ":l:n:w:cT:", long_options, NULL), taken = 0;
    if (option == -1)
      break;
    if (seen->other == NULL && option != OPTION_PLOT && option != OPTION_FROM)
      seen->other = long_name(option);
    if (option == '?' || option == ':')
      code = cli_usage_error(argc, argv, option, long_options, error);
    else if (option == CLI_OPTION_HELP || option == CLI_OPTION_VERSION)
      *(option == CLI_OPTION_HELP ? &options->help : &options->version) = 1;
    else if (option == OPTION_PATTERN)
      code = add_pattern(&options->patterns, &options->npatterns, "%.*s", optarg,
                         (int)strlen(optarg), error);
    else if (option == OPTION_DENSITY)
      code = add_densities(&densities, &ndensities, optarg, error);
    else {
      code = cli_common_take(&options->common, option, optarg, &taken, error);
      if (!taken)
        code = take_own(options, option, optarg, seen, error);
    }
  }
  for (int64_t i = 0; i < ndensities; i++) {
    if (code == CLI_GOOD)
      code = add_pattern(&options->patterns, &options->npatterns, "%.*s", densities[i],
                         (int)strlen(densities[i]), error);
    free(densities[i]);
  }
  free(densities);
  if (code == CLI_GOOD && optind < argc && !options->help && !options->version)
    code = cli_fail(error, CLI_UNUSABLE, "'%s' is not an option (see --help)", argv[optind]);
  return code;
}

int bench_options_read(bench_options *options, int argc, char **argv, cli_error *error) {
  given seen = {0};
  *options = (bench_options){.heads = 8,
                             .dtype = -1,
                             .pass = BENCH_FORWARD | BENCH_BACKWARD,
                             .iterations = 20,
                             .warmup = 5};
  cli_common_defaults(&options->common);
  int64_t block = options->common.block;
  options->common.block = 0;
  int code = take_all(options, argc, argv, &seen, error);
  if (code != CLI_GOOD || options->help || options->version)
    return code;
  options->dim_given = options->dim != 0;
  options->block_given = options->common.block != 0;
  if (!options->dim_given)
    options->dim = 64;
  if (!options->block_given)
    options->common.block = block;
  if (options->kv_heads == 0)
    options->kv_heads = options->heads;
  apply_preset(options, &seen);
  code = judge_from(options, &seen, error);
  if (code == CLI_GOOD)
    code = judge_together(options, error);
  return code == CLI_GOOD ? read_documents(options, error) : code;
}

void bench_options_free(bench_options *options) {
  for (int64_t i = 0; i < options->npatterns; i++)
    free(options->patterns[i]);
  free(options->patterns);
  free(options->from);
  free(options->cu_seqlens);
  cli_size_list_free(&options->lengths);
  cli_size_list_free(&options->simulate);
}
