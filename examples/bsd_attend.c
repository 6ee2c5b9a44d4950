/* bsd_attend.c - attention over a user's own tensors in .npy files, on any number of ranks.
 *
 * Options, files, plan and outputs are judged in that order, and the ranks agree after each stage,
 * so that all of them leave with the same exit status and nothing is touched on bad input. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bench/world.h"
#include "examples/attend_inputs.h"
#include "examples/attend_options.h"
#include "examples/attend_outputs.h"
#include "examples/attend_rows.h"
#include "examples/attend_stats.h"

/* All that a run holds, zeroed at first; release() frees what is there. */
typedef struct attend_run {
  cli_world *world;
  const attend_options *options;
  bsd_pattern *pattern;
  attend_inputs inputs;
  bsd_context *context;
  bsd_plan *plan;
  attend_rows rows;
  attend_outputs outputs;
  void *in[ATTEND_INPUTS], *out[ATTEND_OUTPUTS]; /* this rank's rows, in host memory */
  /* The same on the context's device; on the CPU they are the same. */
  void *device_in[ATTEND_INPUTS], *device_out[ATTEND_OUTPUTS];
  int64_t in_bytes[ATTEND_INPUTS], out_bytes[ATTEND_OUTPUTS];
} attend_run;

static int open_inputs(attend_run *run, cli_error *error) {
  bsd_error failure = {0};
  bsd_status status = bsd_pattern_parse(run->options->pattern, &run->pattern, &failure);
  int code = CLI_GOOD;
  if (status != BSD_OK)
    code = cli_fail(error, cli_exit_code(status), "--pattern: %s", failure.message);
  if (code == CLI_GOOD)
    code = attend_inputs_open(run->options, &run->inputs, error);
  return cli_agree(run->world, code, error);
}

static int make_plan(attend_run *run, cli_error *error) {
  int code = cli_context_create(&run->options->common, run->world, &run->context, error);
  if (code != CLI_GOOD)
    return code;
  bsd_status status = bsd_plan_create(run->context, run->pattern, &run->inputs.problem, &run->plan);
  if (status != BSD_OK)
    code = cli_library_failed(run->world, run->context, status, error);
  else
    code = attend_rows_create(run->plan, run->inputs.problem.length, &run->rows, error);
  return cli_agree(run->world, code, error);
}

/* ---- tensors ----------------------------------------------------------------------------- */

/* How rows of a file with this header are laid out; lse has a plane for each head. */
static attend_tensor describe(const attend_run *run, const char *path, int file,
                              const npy_header *header, int is_lse) {
  const bsd_problem *problem = &run->inputs.problem;
  const int64_t *shape = header->shape + run->inputs.batched;
  return (attend_tensor){.path = path,
                         .file = file,
                         .data_offset = header->data_offset,
                         .planes = problem->batch * (is_lse ? problem->heads : 1),
                         .row_elements = is_lse ? 1 : shape[1] * shape[2],
                         .file_size = npy_type_size(header->type),
                         .narrow = !is_lse && problem->dtype == BSD_BF16};
}

static attend_tensor input_tensor(const attend_run *run, int index) {
  const attend_file *file = &run->inputs.files[index];
  return describe(run, file->path, file->file, &file->header, 0);
}

static attend_tensor output_tensor(const attend_run *run, int index) {
  const attend_output *file = &run->outputs.files[index];
  return describe(run, file->path, file->file, &file->header, index == ATTEND_LSE);
}

/* Memory for this rank's rows on the host and on the device; NULL if it has none. */
static int allocate(const attend_run *run, const attend_tensor *tensor, void **memory,
                    void **device_memory, int64_t *bytes, cli_error *error) {
  const cli_device *device = &run->world->device;
  int code = attend_local_bytes(&run->rows, tensor, bytes, error);
  if (code != CLI_GOOD || *bytes == 0)
    return code;
  if (posix_memalign(memory, 64, (size_t)*bytes) != 0) {
    *memory = NULL;
    return cli_fail(error, CLI_FAILED, "%s: no memory for this rank's %lld bytes of it",
                    tensor->path, (long long)*bytes);
  }
  if (device->on_gpu)
    return cli_device_alloc(device, *bytes, device_memory, error);
  *device_memory = *memory;
  return CLI_GOOD;
}

static int read_inputs(attend_run *run, cli_error *error) {
  int code = CLI_GOOD;
  for (int i = 0; i < ATTEND_INPUTS && code == CLI_GOOD; i++) {
    if (run->inputs.files[i].file < 0)
      continue;
    attend_tensor tensor = input_tensor(run, i);
    code = allocate(run, &tensor, &run->in[i], &run->device_in[i], &run->in_bytes[i], error);
    if (code == CLI_GOOD)
      code = attend_read(&run->rows, &tensor, run->in[i], error);
    if (code == CLI_GOOD && run->world->device.on_gpu)
      code = cli_device_write(&run->world->device, run->device_in[i], run->in[i], run->in_bytes[i],
                              error);
  }
  for (int i = 0; i < run->outputs.count && code == CLI_GOOD; i++) {
    attend_tensor tensor = output_tensor(run, i);
    code = allocate(run, &tensor, &run->out[i], &run->device_out[i], &run->out_bytes[i], error);
  }
  return cli_agree(run->world, code, error);
}

static int write_outputs(attend_run *run, cli_error *error) {
  int code = CLI_GOOD;
  for (int i = 0; i < run->outputs.count && code == CLI_GOOD; i++) {
    attend_tensor tensor = output_tensor(run, i);
    if (run->world->device.on_gpu)
      code = cli_device_read(&run->world->device, run->out[i], run->device_out[i],
                             run->out_bytes[i], error);
    if (code == CLI_GOOD)
      code = attend_write(&run->rows, &tensor, run->out[i], error);
  }
  code = cli_agree(run->world, code, error);
  return code == CLI_GOOD ? attend_outputs_commit(run->world, &run->outputs, error) : code;
}

/* ---- the work ---------------------------------------------------------------------------- */

static bsd_tensor packed(void *data) {
  return (bsd_tensor){.data = data};
}

static bsd_status compute(attend_run *run) {
  void *stream = run->world->device.stream;
  bsd_tensor q = packed(run->device_in[ATTEND_Q]), k = packed(run->device_in[ATTEND_K]),
             v = packed(run->device_in[ATTEND_V]), o = packed(run->device_out[ATTEND_O]);
  float *lse = run->device_out[ATTEND_LSE];
  bsd_status status = bsd_forward(run->plan, &q, &k, &v, &o, lse, stream);
  if (status == BSD_OK)
    status = bsd_plan_wait(run->plan, 0);
  if (status != BSD_OK || run->options->gradient == NULL)
    return status;
  bsd_tensor d_o = packed(run->device_in[ATTEND_DO]), dq = packed(run->device_out[ATTEND_DQ]),
             dk = packed(run->device_out[ATTEND_DK]), dv = packed(run->device_out[ATTEND_DV]);
  status = bsd_backward(run->plan, &q, &k, &v, &o, lse, &d_o, NULL, &dq, &dk, &dv, stream);
  return status == BSD_OK ? bsd_plan_wait(run->plan, 0) : status;
}

static double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* How much longer than this rank's `seconds` the rank with the most work may need. */
static double longest_wait(const attend_run *run, double seconds) {
  bsd_plan_statistics stats = {.struct_size = sizeof stats};
  if (bsd_plan_stats(run->plan, &stats) != BSD_OK || stats.active_pairs == 0)
    return 0;
  double most = (double)stats.active_pairs / stats.nranks * stats.imbalance;
  if (stats.active_pairs_here > 0)
    return seconds * fmax(most / (double)stats.active_pairs_here - 1, 0);
  /* Nothing to measure by: a slow core. */
  double operations = stats.flops_forward + stats.flops_backward;
  return operations * most / (double)stats.active_pairs / 1e9;
}

static int run_kernels(attend_run *run, cli_error *error) {
  double begin = seconds_now();
  bsd_status status = compute(run);
  double wait = longest_wait(run, seconds_now() - begin);
  int code = CLI_GOOD;
  if (status != BSD_OK) {
    /* An exchange that failed here is one that the others wait for: the job cannot go on. */
    run->world->broken = run->world->size > 1;
    cli_library_failed(run->world, run->context, status, error);
    code = CLI_FAILED;
  }
  run->world->deadline += wait;
  code = cli_agree(run->world, code, error);
  run->world->deadline -= wait;
  return code;
}

static int attend(attend_run *run, cli_error *error) {
  int code = open_inputs(run, error);
  if (code == CLI_GOOD)
    code = make_plan(run, error);
  if (code == CLI_GOOD)
    code = attend_outputs_create(run->world, run->options, &run->inputs, &run->outputs, error);
  if (code == CLI_GOOD)
    code = read_inputs(run, error);
  if (code == CLI_GOOD)
    code = run_kernels(run, error);
  if (code == CLI_GOOD)
    code = write_outputs(run, error);
  if (code == CLI_GOOD && run->options->stats)
    code = attend_print_stats(run->world, run->pattern, &run->inputs.problem, run->plan, error);
  return code;
}

static void release_memory(const attend_run *run, void **host, void **device, int count) {
  for (int i = 0; i < count; i++) {
    if (device[i] != host[i])
      cli_device_free(&run->world->device, device[i]);
    free(host[i]);
  }
}

static void release(attend_run *run) {
  release_memory(run, run->in, run->device_in, ATTEND_INPUTS);
  release_memory(run, run->out, run->device_out, ATTEND_OUTPUTS);
  attend_outputs_discard(&run->outputs);
  attend_rows_free(&run->rows);
  bsd_plan_destroy(run->plan);
  cli_context_destroy(run->world, run->context);
  attend_inputs_close(&run->inputs);
  bsd_pattern_destroy(run->pattern);
}

/* --help and --version on rank 0; else the run. */
static int serve(cli_world *world, const attend_options *options, cli_error *error) {
  if (options->help || options->version) {
    if (world->rank == 0 && options->help)
      printf("%s%s", attend_help, cli_common_help);
    else if (world->rank == 0)
      printf("bsd_attend (libbsdattn) %s\nbackends: %s\ntransports: %s\n", bsd_version(),
             bsd_build_backends(), bsd_build_transports());
    return CLI_GOOD;
  }
  world->deadline = options->common.timeout;
  attend_run run = {.world = world, .options = options};
  int code = attend(&run, error);
  release(&run);
  return code;
}

int main(int argc, char **argv) {
  cli_world world;
  cli_error error = {0};
  attend_options options;
  int code = cli_start(&argc, &argv, "bsd_attend", &world, &error);
  if (code == CLI_GOOD)
    code = attend_options_parse(argc, argv, &options, &error);
  if (code == CLI_GOOD)
    code = serve(&world, &options, &error);
  return cli_finish(&world, code, &error);
}
