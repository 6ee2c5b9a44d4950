/* bench_options.h - the command line of bsd_bench, judged as a whole before anything runs. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "bench/cli.h"

typedef enum bench_preset {
  BENCH_PRESET_NONE,
  BENCH_PRESET_SEED,
  BENCH_PRESET_LONGNET
} bench_preset;
typedef enum bench_scaling {
  BENCH_SCALING_NONE,
  BENCH_SCALING_STRONG,
  BENCH_SCALING_WEAK
} bench_scaling;
typedef enum bench_dense { BENCH_DENSE_NONE, BENCH_DENSE_ALWAYS, BENCH_DENSE_AUTO } bench_dense;
enum { BENCH_FORWARD = 1, BENCH_BACKWARD = 2 }; /* bits of a pass */

/* --link: between ranks of one host, of two, and how many ranks share a host (0: all). */
typedef struct bench_link {
  int given, host_ranks;
  bsd_cost_link host, network;
} bench_link;

typedef struct bench_options {
  cli_common common;
  cli_size_list lengths; /* empty: by preset, --cu-seqlens or 8192 */
  int64_t heads, kv_heads, dim;
  int64_t batch;   /* 0: not given */
  char **patterns; /* pattern texts, then those of the densities; none: by preset or density 0.1 */
  int64_t npatterns;
  int causal;
  int dtype; /* a bsd_dtype, -1: by backend */
  int pass;  /* BENCH_FORWARD | BENCH_BACKWARD */
  uint64_t seed;
  int hash, graph, cold, check;
  bench_dense baseline;
  int64_t iterations, warmup;
  bench_preset preset;
  bench_scaling scaling;
  cli_size_list simulate; /* rank counts; empty: run */
  bench_link link;
  double rate;                /* TFLOP/s of every kernel; 0: not given */
  int rate_measured;          /* measured before anything is planned */
  int dim_given, block_given; /* --calibrate: for that one alone */
  int64_t *cu_seqlens;        /* documents + 1 offsets, or NULL */
  int64_t documents;
  const char *cu_seqlens_file, *dump_file, *json_file, *csv_file,
      *trace_file;            /* of argv, or NULL */
  const char *plot_directory; /* of argv, or NULL */
  const char **from;          /* result files to draw, names of argv */
  int64_t nfrom;
  const char *calibrate_file, *cost_model_file;
  int help, version;
} bench_options;

/* Fills *options from argv; on failure error holds the sentence. Free in either case. With help or
 * version set nothing else was judged. Reads the --cu-seqlens file. */
int bench_options_read(bench_options *options, int argc, char **argv, cli_error *error);
void bench_options_free(bench_options *options);

/* The text that --help prints. */
extern const char bench_options_help[];

#endif
