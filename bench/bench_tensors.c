/* bench_tensors.c - the tensors of one run on this rank: random inputs, poisoned outputs. */
#include "bench/bench_tensors.h"

#include <stdlib.h>
#include <string.h>

#include "bench/bench_random.h"

enum { ALIGNMENT = 64 };

/* Adds an allocation of `bytes` to *tensors; an empty one is NULL. */
static int take(bench_tensors *tensors, int64_t bytes, void *out, cli_error *error) {
  void *memory = NULL;
  if (bytes > 0 && posix_memalign(&memory, ALIGNMENT, (size_t)bytes) != 0)
    return cli_fail(error, CLI_FAILED, "no memory for a tensor of %lld bytes", (long long)bytes);
  memcpy(out, &memory, sizeof memory);
  tensors->bytes += bytes;
  return CLI_GOOD;
}

static int allocate(bench_tensors *x, int backward, cli_error *error) {
  int code = take(x, x->q_bytes, &x->q.data, error);
  if (code == CLI_GOOD)
    code = take(x, x->kv_bytes, &x->k.data, error);
  if (code == CLI_GOOD)
    code = take(x, x->kv_bytes, &x->v.data, error);
  if (code == CLI_GOOD)
    code = take(x, x->q_bytes, &x->o.data, error);
  if (code == CLI_GOOD)
    code = take(x, x->lse_bytes, &x->lse, error);
  if (code == CLI_GOOD && backward)
    code = take(x, x->q_bytes, &x->d_o.data, error);
  if (code == CLI_GOOD && backward)
    code = take(x, x->q_bytes, &x->dq.data, error);
  if (code == CLI_GOOD && backward)
    code = take(x, x->kv_bytes, &x->dk.data, error);
  if (code == CLI_GOOD && backward)
    code = take(x, x->kv_bytes, &x->dv.data, error);
  return code;
}

/* Fills one tensor, run of positions by run, batch entry by batch entry. */
static void fill(const bsd_problem *problem, uint64_t seed, bench_tensor_id id, int64_t heads,
                 const bsd_position_run *runs, int64_t nruns, int64_t local, void *data) {
  int64_t row = heads * problem->head_dim, width = (int64_t)cli_dtype_size(problem->dtype);
  for (int64_t b = 0; b < problem->batch; b++) {
    int64_t at = b * local;
    for (int64_t r = 0; r < nruns; r++) {
      bench_random_fill(seed, id, problem->dtype, (b * problem->length + runs[r].first) * row,
                        runs[r].count * row, (char *)data + at * row * width);
      at += runs[r].count;
    }
  }
}

static int fill_inputs(const bsd_plan *plan, const bsd_problem *problem, uint64_t seed,
                       bench_tensors *x, cli_error *error) {
  int64_t count = 0;
  bsd_plan_position_runs(plan, NULL, 0, &count);
  bsd_position_run *runs = malloc((size_t)(count > 0 ? count : 1) * sizeof *runs);
  if (runs == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for %lld runs of positions", (long long)count);
  bsd_plan_position_runs(plan, runs, count, &count);
  fill(problem, seed, BENCH_Q, problem->heads, runs, count, x->local, x->q.data);
  fill(problem, seed, BENCH_K, problem->kv_heads, runs, count, x->local, x->k.data);
  fill(problem, seed, BENCH_V, problem->kv_heads, runs, count, x->local, x->v.data);
  if (x->d_o.data != NULL)
    fill(problem, seed, BENCH_DO, problem->heads, runs, count, x->local, x->d_o.data);
  free(runs);
  return CLI_GOOD;
}

int bench_tensors_create(const bsd_plan *plan, const bsd_problem *problem, uint64_t seed,
                         int backward, bench_tensors *tensors, cli_error *error) {
  int64_t width = (int64_t)cli_dtype_size(problem->dtype);
  *tensors = (bench_tensors){0};
  bsd_plan_local_length(plan, &tensors->local);
  int64_t rows = problem->batch * tensors->local; /* n, heads and D are within the plan's limits */
  tensors->q_bytes = rows * problem->heads * problem->head_dim * width;
  tensors->kv_bytes = rows * problem->kv_heads * problem->head_dim * width;
  tensors->lse_bytes = rows * problem->heads * (int64_t)sizeof(float);
  int code = allocate(tensors, backward, error);
  if (code == CLI_GOOD)
    code = fill_inputs(plan, problem, seed, tensors, error);
  if (code == CLI_GOOD)
    bench_tensors_poison(tensors);
  else
    bench_tensors_free(tensors);
  return code;
}

void bench_tensors_free(bench_tensors *x) {
  void *all[] = {x->q.data,   x->k.data,  x->v.data,  x->o.data, x->lse,
                 x->d_o.data, x->dq.data, x->dk.data, x->dv.data};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
    free(all[i]);
  *x = (bench_tensors){0};
}

static void poison(void *data, int64_t bytes) {
  if (data != NULL)
    memset(data, 0xFF, (size_t)bytes); /* a NaN in every type */
}

void bench_tensors_poison(bench_tensors *x) {
  poison(x->o.data, x->q_bytes);
  poison(x->lse, x->lse_bytes);
  poison(x->dq.data, x->q_bytes);
  poison(x->dk.data, x->kv_bytes);
  poison(x->dv.data, x->kv_bytes);
}
