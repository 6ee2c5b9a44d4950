/* bench_tensors.c - the tensors of one run on this rank: random inputs, poisoned outputs. */
#include "bench/bench_tensors.h"

#include <stdlib.h>

#include "bench/bench_random.h"

/* Elements that are made on the host at a time, on their way to a device. */
enum { PIECE = 1 << 23 };

/* Adds an allocation of `bytes` to *tensors; an empty one is NULL. */
static int take(bench_tensors *tensors, int64_t bytes, void *out, cli_error *error) {
  tensors->bytes += bytes;
  return cli_device_alloc(tensors->device, bytes, out, error);
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

/* What filling needs beside the tensor. */
typedef struct filler {
  const bsd_problem *problem;
  uint64_t seed;
  const bsd_position_run *runs;
  int64_t nruns;
  void *piece; /* NULL: the tensors are host memory, filled in place */
} filler;

/* Elements first .. first+count-1 of a global tensor, at `to`. */
static int fill_elements(const filler *f, const cli_device *device, bench_tensor_id id,
                         int64_t first, int64_t count, char *to, cli_error *error) {
  bsd_dtype dtype = f->problem->dtype;
  int64_t width = (int64_t)cli_dtype_size(dtype);
  int code = CLI_GOOD;
  if (f->piece == NULL)
    bench_random_fill(f->seed, id, dtype, first, count, to);
  for (int64_t at = 0; f->piece != NULL && at < count && code == CLI_GOOD; at += PIECE) {
    int64_t now = count - at < PIECE ? count - at : PIECE;
    bench_random_fill(f->seed, id, dtype, first + at, now, f->piece);
    code = cli_device_write(device, to + at * width, f->piece, now * width, error);
  }
  return code;
}

/* Fills one tensor, run of positions by run, batch entry by batch entry. */
static int fill(const filler *f, const bench_tensors *x, bench_tensor_id id, int64_t heads,
                void *data, cli_error *error) {
  const bsd_problem *problem = f->problem;
  int64_t row = heads * problem->head_dim, width = (int64_t)cli_dtype_size(problem->dtype);
  int code = CLI_GOOD;
  for (int64_t b = 0; b < problem->batch; b++) {
    int64_t at = b * x->local;
    for (int64_t r = 0; r < f->nruns && code == CLI_GOOD; r++) {
      code = fill_elements(f, x->device, id, (b * problem->length + f->runs[r].first) * row,
                           f->runs[r].count * row, (char *)data + at * row * width, error);
      at += f->runs[r].count;
    }
  }
  return code;
}

static int fill_all(const filler *f, const bench_tensors *x, cli_error *error) {
  int64_t heads = f->problem->heads, kv_heads = f->problem->kv_heads;
  int code = fill(f, x, BENCH_Q, heads, x->q.data, error);
  if (code == CLI_GOOD)
    code = fill(f, x, BENCH_K, kv_heads, x->k.data, error);
  if (code == CLI_GOOD)
    code = fill(f, x, BENCH_V, kv_heads, x->v.data, error);
  if (code == CLI_GOOD && x->d_o.data != NULL)
    code = fill(f, x, BENCH_DO, heads, x->d_o.data, error);
  return code;
}

static int fill_inputs(const bsd_plan *plan, const bsd_problem *problem, uint64_t seed,
                       bench_tensors *x, cli_error *error) {
  int64_t count = 0;
  bsd_plan_position_runs(plan, NULL, 0, &count);
  bsd_position_run *runs = malloc((size_t)(count > 0 ? count : 1) * sizeof *runs);
  void *piece = x->device->on_gpu ? malloc(PIECE * cli_dtype_size(problem->dtype)) : NULL;
  int code = CLI_GOOD;
  if (runs == NULL || (x->device->on_gpu && piece == NULL))
    code = cli_fail(error, CLI_FAILED, "no memory for %lld runs of positions", (long long)count);
  if (code == CLI_GOOD) {
    filler f = {problem, seed, runs, count, piece};
    bsd_plan_position_runs(plan, runs, count, &count);
    code = fill_all(&f, x, error);
  }
  free(piece);
  free(runs);
  return code;
}

int bench_tensors_create(const cli_device *device, const bsd_plan *plan, const bsd_problem *problem,
                         uint64_t seed, int backward, bench_tensors *tensors, cli_error *error) {
  int64_t width = (int64_t)cli_dtype_size(problem->dtype);
  *tensors = (bench_tensors){.device = device};
  bsd_plan_local_length(plan, &tensors->local);
  int64_t rows = problem->batch * tensors->local; /* n, heads and D are within the plan's limits */
  tensors->q_bytes = rows * problem->heads * problem->head_dim * width;
  tensors->kv_bytes = rows * problem->kv_heads * problem->head_dim * width;
  tensors->lse_bytes = rows * problem->heads * (int64_t)sizeof(float);
  int code = allocate(tensors, backward, error);
  if (code == CLI_GOOD)
    code = fill_inputs(plan, problem, seed, tensors, error);
  if (code == CLI_GOOD)
    code = bench_tensors_poison(tensors, error);
  if (code != CLI_GOOD)
    bench_tensors_free(tensors);
  return code;
}

int bench_tensors_add_sets(const bsd_plan *plan, const bsd_problem *problem, uint64_t seed,
                           int backward, bench_tensors *x, cli_error *error) {
  int64_t forward_bytes = 2 * (x->q_bytes + x->kv_bytes), code = CLI_GOOD;
  int64_t wanted = 2 * cli_device_cache_bytes(x->device) / (forward_bytes > 0 ? forward_bytes : 1);
  wanted = wanted > 0 ? wanted : 1; /* beside the first set */
  x->others = calloc((size_t)wanted, sizeof *x->others);
  if (x->others == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for %lld sets of tensors", (long long)wanted);
  for (; x->nothers < wanted && code == CLI_GOOD; x->nothers += code == CLI_GOOD)
    code = bench_tensors_create(x->device, plan, problem, seed + 1 + (uint64_t)x->nothers, backward,
                                &x->others[x->nothers], error);
  return (int)code;
}

bench_tensors *bench_tensors_of_call(bench_tensors *x, int64_t call) {
  int64_t set = call % (x->nothers + 1);
  return set == 0 ? x : &x->others[set - 1];
}

void bench_tensors_free(bench_tensors *x) {
  for (int64_t i = 0; i < x->nothers; i++)
    bench_tensors_free(&x->others[i]);
  free(x->others);
  void *all[] = {x->q.data,   x->k.data,  x->v.data,  x->o.data, x->lse,
                 x->d_o.data, x->dq.data, x->dk.data, x->dv.data};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
    if (all[i] != NULL)
      cli_device_free(x->device, all[i]);
  *x = (bench_tensors){0};
}

int bench_tensors_poison(bench_tensors *x, cli_error *error) {
  const struct {
    void *data;
    int64_t bytes;
  } outputs[] = {{x->o.data, x->q_bytes},
                 {x->lse, x->lse_bytes},
                 {x->dq.data, x->q_bytes},
                 {x->dk.data, x->kv_bytes},
                 {x->dv.data, x->kv_bytes}};
  enum { NAN_BYTE = 0xFF }; /* in every type */
  int code = CLI_GOOD;
  for (size_t i = 0; i < sizeof outputs / sizeof outputs[0] && code == CLI_GOOD; i++)
    if (outputs[i].data != NULL)
      code = cli_device_fill(x->device, outputs[i].data, NAN_BYTE, outputs[i].bytes, error);
  return code;
}
