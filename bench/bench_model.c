/* bench_model.c - the cost model that a session plans with. See bench_model.h. */
#include "bench/bench_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- --link ------------------------------------------------------------------------------ */

static int bad_link(const char *text, cli_error *error) {
  return cli_fail(error, CLI_UNUSABLE,
                  "--link is '%s', expected GB/s,us as 200,5, or for hosts of so many ranks "
                  "GB/s,us/GB/s,us@RANKS as 200,5/25,10@8",
                  text);
}

/* Reads one link at *p and moves *p behind it; 0 if there is none. */
static int read_link(const char **p, bsd_cost_link *link) {
  char *end;
  double gigabytes = strtod(*p, &end), microseconds;
  if (end == *p || *end != ',' || !(gigabytes > 0) || isinf(gigabytes))
    return 0;
  *p = end + 1;
  microseconds = strtod(*p, &end);
  if (end == *p || !(microseconds >= 0) || isinf(microseconds))
    return 0;
  *p = end;
  *link = (bsd_cost_link){1e-6 * microseconds, 0, 1e9 * gigabytes};
  return 1;
}

int bench_link_parse(const char *text, bench_link *link, cli_error *error) {
  bench_link read = {.given = 1};
  const char *p = text;
  if (!read_link(&p, &read.host))
    return bad_link(text, error);
  read.network = read.host;
  if (*p == '/') {
    char *end;
    p++;
    if (!read_link(&p, &read.network) || *p != '@')
      return bad_link(text, error);
    long ranks = strtol(p + 1, &end, 10);
    if (end == p + 1 || ranks < 1 || ranks > INT32_MAX)
      return bad_link(text, error);
    read.host_ranks = (int)ranks;
    p = end;
  }
  if (*p != '\0')
    return bad_link(text, error);
  *link = read;
  return CLI_GOOD;
}

/* ---- --rate ------------------------------------------------------------------------------ */

/* The same rate for every kernel, in operations of active blocks: four D forward and ten D backward. */
static int add_flat_rates(double flops_per_second, bench_cost_model *model, cli_error *error) {
  static const char *const kernels[] = {"cpu", "simt", "sm80", "sm90"};
  int code = CLI_GOOD;
  model->model.nrates = 0;
  for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++)
    for (int backward = 0; backward <= 1 && code == CLI_GOOD; backward++) {
      bsd_cost_rate rate = {.backward = backward, .head_dim = 1, .block = 1};
      /* The backward counts each block in rows (dq) and in columns (dk, dv). */
      rate.block_seconds = (backward ? 5 : 4) / flops_per_second;
      snprintf(rate.kernel, sizeof rate.kernel, "%s", kernels[k]);
      code = bench_cost_model_add(model, &rate, NAN, error);
    }
  return code;
}

/* ---- files of other machines -------------------------------------------------------------- */

static int has_kernel(const bench_cost_model *model, const char *kernel) {
  for (int64_t i = 0; i < model->model.nrates; i++)
    if (strcmp(model->rates[i].kernel, kernel) == 0)
      return 1;
  return 0;
}

/* A simulation runs nothing: on a machine without the file's device its rates stand for those of the CPU. */
static int lend_rates(bench_cost_model *model, cli_error *error) {
  int64_t n = model->model.nrates;
  int code = CLI_GOOD;
  for (int64_t i = 0; i < n && code == CLI_GOOD; i++) {
    bsd_cost_rate rate = model->rates[i];
    snprintf(rate.kernel, sizeof rate.kernel, "cpu");
    code = bench_cost_model_add(model, &rate, NAN, error);
  }
  return code;
}

/* ---- together ---------------------------------------------------------------------------- */

static int make_model(const bench_options *o, bench_cost_model *model, cli_error *error) {
  int code = CLI_GOOD;
  if (o->cost_model_file != NULL)
    code = bench_cost_file_read(o->cost_model_file, model, error);
  if (code == CLI_GOOD && o->simulate.count > 0 && !has_kernel(model, "cpu"))
    code = lend_rates(model, error);
  if (code == CLI_GOOD && o->link.given) {
    model->model.host = o->link.host;
    model->model.network = o->link.network;
    model->model.host_ranks = o->link.host_ranks;
  }
  if (code == CLI_GOOD && o->rate > 0)
    code = add_flat_rates(1e12 * o->rate, model, error);
  return code;
}

int bench_model_create(const bench_options *o, cli_world *world, bench_cost_model *model,
                       int *given, cli_error *error) {
  *model = (bench_cost_model){.model = {.struct_size = sizeof model->model}};
  *given = o->cost_model_file != NULL || o->link.given || o->rate > 0;
  int code = world->rank == 0 ? make_model(o, model, error) : CLI_GOOD;
  code = cli_agree(world, code, error);
  if (code != CLI_GOOD)
    bench_cost_model_free(model);
  return code;
}
