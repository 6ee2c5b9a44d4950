/* attention.c - see attention.h. */
#include "support/attention.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "support/compare.h"
#include "support/device.h"
#include "support/library.h"
#include "support/local_tensor.h"
#include "support/tensors.h"

oracle_problem attention_shape(const char *text, int64_t n, int64_t heads, int64_t kv_heads,
                               int64_t dim, int64_t block, int causal) {
  oracle_problem p = {.batch = 1,
                      .n = n,
                      .heads = heads,
                      .kv_heads = kv_heads,
                      .dim = device_head_dim(dim),
                      .block = block,
                      .causal = causal};
  if (!oracle_parse(text, &p.pattern)) {
    fprintf(stderr, "attention_shape: cannot read \"%s\"\n", text);
    exit(1);
  }
  return p;
}

int64_t attention_query_elements(const oracle_problem *p) {
  return p->batch * p->n * p->heads * p->dim;
}

int64_t attention_key_elements(const oracle_problem *p) {
  return p->batch * p->n * p->kv_heads * p->dim;
}

attention_inputs attention_inputs_create(const oracle_problem *p, bsd_dtype dtype, int with_dlse,
                                         uint64_t seed) {
  int64_t queries = attention_query_elements(p), keys = attention_key_elements(p);
  attention_inputs inputs = {
      tensor_normal(queries, 5 * seed, dtype), tensor_normal(keys, 5 * seed + 1, dtype),
      tensor_normal(keys, 5 * seed + 2, dtype), tensor_normal(queries, 5 * seed + 3, dtype), NULL};
  if (with_dlse)
    inputs.dlse = tensor_normal(queries / p->dim, 5 * seed + 4, BSD_F32);
  return inputs;
}

void attention_inputs_free(attention_inputs *inputs) {
  free(inputs->q);
  free(inputs->k);
  free(inputs->v);
  free(inputs->d_o);
  free(inputs->dlse);
}

oracle_inputs attention_oracle_inputs(const attention_inputs *inputs) {
  return (oracle_inputs){inputs->q, inputs->k, inputs->v, inputs->d_o, inputs->dlse};
}

/* ---- one run ---- */

typedef struct run { /* this rank's side of it */
  bsd_context *context;
  bsd_plan *plan;
  const attention_case *c;
  int64_t local, *positions;
  int rank;
} run;

/* [B][H][local n] from [B][H][n]; NULL gives NULL. */
static float *local_scalars(const run *r, const float *global) {
  const oracle_problem *p = r->c->p;
  int64_t rows = p->batch * p->heads;
  float *local = global ? oracle_alloc(rows * r->local, sizeof *local) : NULL;
  for (int64_t row = 0; local && row < rows; row++)
    for (int64_t x = 0; x < r->local; x++)
      local[row * r->local + x] = global[row * p->n + r->positions[x]];
  return local;
}

static int64_t statistic_bytes(const run *r) {
  return r->c->p->batch * r->c->p->heads * r->local * (int64_t)sizeof(float);
}

/* Packs a local tensor and gathers it on rank 0; then the memory around it must be untouched. */
static void *gathered(const run *r, local_tensor *tensor, bsd_tensor_kind kind) {
  const oracle_problem *p = r->c->p;
  int64_t heads = kind == BSD_TENSOR_Q ? p->heads : p->kv_heads;
  int64_t bytes = p->batch * r->local * heads * p->dim * (int64_t)tensor_element_size(r->c->dtype);
  void *packed = local_tensor_pack(tensor), *pushed = device_push(packed, bytes);
  void *global = r->rank == 0 ? oracle_alloc(p->batch * p->n * heads * p->dim,
                                             tensor_element_size(r->c->dtype))
                              : NULL;
  library_expect(
      bsd_gather(r->plan, kind, r->local ? pushed : NULL, 0, r->rank == 0 ? p->n : 0, global, NULL),
      r->context, "bsd_gather");
  device_drop(packed, pushed);
  free(packed);
  return global;
}

static float *gathered_lse(const run *r, const float *lse) {
  const oracle_problem *p = r->c->p;
  float *global = r->rank == 0 ? oracle_alloc(p->batch * p->n * p->heads, sizeof *global) : NULL;
  library_expect(bsd_gather(r->plan, BSD_TENSOR_LSE, lse, 0, r->rank == 0 ? p->n : 0, global, NULL),
                 r->context, "bsd_gather of lse");
  return global;
}

static void run_backward(const run *r, const attention_inputs *in, local_tensor *inputs,
                         local_tensor *o, const float *lse, attention_result *result) {
  const oracle_problem *p = r->c->p;
  local_tensor d_o =
      local_tensor_create(p->batch, r->local, p->heads, p->dim, r->c->dtype, ORDER_PACKED);
  local_tensor_fill(&d_o, in->d_o, r->positions, p->n);
  local_tensor_keep(&d_o);
  float *dlse = local_scalars(r, in->dlse);
  float *pushed_dlse = device_push(dlse, statistic_bytes(r));
  local_tensor grads[3];
  local_tensors_create(p, r->local, r->c->dtype, r->c->order, grads);
  local_tensors_push(&d_o, 1);
  local_tensors_push(grads, 3);
  library_expect(bsd_backward(r->plan, &inputs[0].tensor, &inputs[1].tensor, &inputs[2].tensor,
                              &o->tensor, lse, &d_o.tensor, pushed_dlse, &grads[0].tensor,
                              &grads[1].tensor, &grads[2].tensor, NULL),
                 r->context, "bsd_backward");
  library_expect(bsd_plan_wait(r->plan, 0), r->context, "bsd_plan_wait after backward");
  local_tensors_pull(&d_o, 1);
  local_tensors_pull(grads, 3);
  result->dq = gathered(r, &grads[0], BSD_TENSOR_Q);
  result->dk = gathered(r, &grads[1], BSD_TENSOR_KV);
  result->dv = gathered(r, &grads[2], BSD_TENSOR_KV);
  local_tensors_expect_untouched(grads, 3, "beside dq, dk, dv");
  local_tensors_free(grads);
  local_tensor_expect_same(&d_o, "do");
  local_tensor_free(&d_o);
  device_drop(dlse, pushed_dlse);
  free(dlse);
}

static void run_both(const run *r, const attention_inputs *in, attention_result *result) {
  const oracle_problem *p = r->c->p;
  local_tensor inputs[3];
  local_tensors_create(p, r->local, r->c->dtype, r->c->order, inputs);
  local_tensor_fill(&inputs[0], in->q, r->positions, p->n);
  local_tensor_fill(&inputs[1], in->k, r->positions, p->n);
  local_tensor_fill(&inputs[2], in->v, r->positions, p->n);
  for (int x = 0; x < 3; x++)
    local_tensor_keep(&inputs[x]);
  memory_order alone = r->c->order == ORDER_FUSED ? ORDER_PADDED : r->c->order;
  local_tensor o = local_tensor_create(p->batch, r->local, p->heads, p->dim, r->c->dtype, alone);
  float *lse = r->local ? oracle_alloc(p->batch * p->heads * r->local, sizeof *lse) : NULL;
  if (lse)
    memset(lse, 0xFF, (size_t)statistic_bytes(r));
  float *pushed_lse = device_push(lse, statistic_bytes(r));
  local_tensors_push(inputs, 3);
  local_tensors_push(&o, 1);
  library_expect(bsd_forward(r->plan, &inputs[0].tensor, &inputs[1].tensor, &inputs[2].tensor,
                             &o.tensor, pushed_lse, NULL),
                 r->context, "bsd_forward");
  library_expect(bsd_plan_wait(r->plan, 0), r->context, "bsd_plan_wait after forward");
  local_tensors_pull(&o, 1);
  local_tensor_keep(&o);
  if (!r->c->forward_only)
    run_backward(r, in, inputs, &o, pushed_lse, result);
  local_tensors_pull(&o, 1);
  local_tensors_pull(inputs, 3);
  local_tensor_expect_same(&o, "o in backward");
  result->o = gathered(r, &o, BSD_TENSOR_Q);
  result->lse = gathered_lse(r, pushed_lse);
  local_tensors_expect_untouched(&o, 1, "beside o");
  for (int x = 0; x < 3; x++)
    local_tensor_expect_same(&inputs[x], "an input");
  device_drop(lse, pushed_lse);
  free(lse);
  local_tensor_free(&o);
  local_tensors_free(inputs);
}

enum { WORKSPACE_GUARD = 256 };

static size_t workspace_bytes(const run *r) {
  size_t bytes = 0;
  library_expect(bsd_plan_workspace_bytes(r->plan, &bytes), r->context, "bsd_plan_workspace_bytes");
  return bytes;
}

/* The workspace and a guard behind it, all NaN bytes. */
static unsigned char *bring_workspace(const run *r, unsigned char **pushed) {
  size_t bytes = workspace_bytes(r), rounded = (bytes + WORKSPACE_GUARD + 255) / 256 * 256;
  unsigned char *workspace = aligned_alloc(256, rounded);
  if (!workspace)
    exit(2);
  memset(workspace, 0xFF, rounded);
  *pushed = device_push(workspace, (int64_t)rounded);
  library_expect(bsd_plan_set_workspace(r->plan, *pushed, bytes), r->context,
                 "bsd_plan_set_workspace");
  return workspace;
}

static void expect_guard(const run *r, unsigned char *workspace, const unsigned char *pushed) {
  size_t bytes = workspace_bytes(r);
  device_pull(workspace + bytes, pushed + bytes, WORKSPACE_GUARD);
  for (size_t byte = bytes; byte < bytes + WORKSPACE_GUARD; byte++)
    if (workspace[byte] != 0xFF) {
      fprintf(stderr, "attention: something was written behind the workspace\n");
      exit(1);
    }
}

static void note_statistics(const run *r, attention_result *result) {
  bsd_plan_statistics stats = library_stats(r->plan);
  bsd_run_statistics moved = {.struct_size = sizeof moved};
  library_expect(bsd_plan_run_stats(r->plan, &moved), r->context, "bsd_plan_run_stats");
  snprintf(result->layout, sizeof result->layout, "%s", stats.layout);
  result->forward_bound = stats.forward.bytes_lower_bound;
  result->backward_bound = stats.backward.bytes_lower_bound;
  result->forward_received = moved.forward_bytes_received;
  result->backward_received = moved.backward_bytes_received;
  result->active_blocks = stats.active_blocks;
  result->active_pairs = stats.active_pairs;
  result->rounded = strcmp(stats.kernel, "cpu") != 0 && strcmp(stats.kernel, "simt") != 0;
}

attention_result attention_run(bsd_context *context, const attention_case *c,
                               const attention_inputs *inputs) {
  attention_result result = {0};
  run r = {.context = context, .c = c};
  bsd_pattern *pattern =
      c->text && c->text[0] ? library_pattern_text(c->text) : library_pattern(&c->p->pattern);
  bsd_problem problem = library_problem(c->p, c->dtype, c->layout);
  library_expect(bsd_context_rank(context, &r.rank, NULL), context, "bsd_context_rank");
  library_expect(device_plan_create(context, pattern, &problem, &r.plan), context,
                 "bsd_plan_create");
  bsd_pattern_destroy(pattern);
  library_expect(bsd_plan_local_length(r.plan, &r.local), context, "bsd_plan_local_length");
  r.positions = oracle_alloc(r.local, sizeof *r.positions);
  library_expect(bsd_plan_local_positions(r.plan, r.positions), context,
                 "bsd_plan_local_positions");
  unsigned char *pushed = NULL, *workspace = c->own_workspace ? bring_workspace(&r, &pushed) : NULL;
  run_both(&r, inputs, &result);
  if (workspace)
    expect_guard(&r, workspace, pushed);
  note_statistics(&r, &result);
  bsd_plan_destroy(r.plan);
  if (workspace)
    device_drop(workspace, pushed);
  free(workspace);
  result.positions = r.positions;
  result.nlocal = r.local;
  return result;
}

void attention_result_free(attention_result *result) {
  free(result->o);
  free(result->lse);
  free(result->dq);
  free(result->dk);
  free(result->dv);
  free(result->positions);
}

/* ---- judging ---- */

typedef struct part {
  const char *name;
  const void *a, *b;
  size_t bytes;
} part;

static int parts_of(const attention_case *c, const attention_result *a, const attention_result *b,
                    part *parts) {
  size_t size = tensor_element_size(c->dtype);
  size_t queries = (size_t)attention_query_elements(c->p) * size;
  size_t keys = (size_t)attention_key_elements(c->p) * size;
  size_t rows = (size_t)(c->p->batch * c->p->heads * c->p->n) * sizeof(float);
  const part all[] = {{"o", a->o, b->o, queries},
                      {"lse", a->lse, b->lse, rows},
                      {"dq", a->dq, b->dq, queries},
                      {"dk", a->dk, b->dk, keys},
                      {"dv", a->dv, b->dv, keys}};
  memcpy(parts, all, sizeof all);
  return c->forward_only ? 2 : 5;
}

int attention_equal(const attention_case *c, const attention_result *a, const attention_result *b,
                    const char **what) {
  part parts[5];
  int count = parts_of(c, a, b, parts);
  for (int x = 0; x < count; x++)
    if (memcmp(parts[x].a, parts[x].b, parts[x].bytes) != 0) {
      *what = parts[x].name;
      return 0;
    }
  return 1;
}

uint64_t attention_digest(const attention_case *c, const attention_result *result, uint64_t seed) {
  part parts[5];
  int count = parts_of(c, result, result, parts);
  for (int x = 0; x < count; x++)
    seed = XXH3_64bits_withSeed(parts[x].a, parts[x].bytes, seed);
  return seed;
}

float *attention_floats(const void *tensor, int64_t count, bsd_dtype dtype) {
  float *x = oracle_alloc(count, sizeof *x);
  for (int64_t e = 0; e < count; e++)
    x[e] = tensor_load(tensor, e, dtype);
  return x;
}

static int judge(const char *name, compare_report report, char *why, size_t size) {
  if (!report.pass)
    snprintf(why, size,
             "%s: error %.3g is %.3g of what it may be; worst element %lld: %.9g, expected %.9g, "
             "%.3g of "
             "what it may be off",
             name, report.error, report.tensor_ratio, (long long)report.element, report.found,
             report.expected, report.element_ratio);
  return report.pass;
}

static int judge_tensor(const char *name, const attention_case *c, compare_kind kind, int rounded,
                        const void *found, const double *ref, int64_t count, const double *floors,
                        char *why, size_t size) {
  compare_bounds bounds = {
      .dtype = c->dtype, .kind = kind, .rounded_probabilities = rounded, .keys = c->p->n};
  float *x = attention_floats(found, count, c->dtype);
  compare_report report = compare_tensor(bounds, x, ref, count / c->p->dim, c->p->dim, floors);
  free(x);
  return judge(name, report, why, size);
}

/* sqrt(sum P^2) of each row, from the floors of dq or dk; NULL where rows are long enough to have a size of
 * their own. A row of a few elements may cancel as a whole, o and dv too. */
static double *size_floors(const oracle_problem *p, const double *floors, int64_t rows) {
  if (p->dim >= 8)
    return NULL;
  double scale = p->scale != 0 ? p->scale : 1 / sqrt((double)p->dim);
  double *sizes = oracle_alloc(rows, sizeof *sizes);
  for (int64_t x = 0; x < rows; x++)
    sizes[x] = floors[x] / (scale * sqrt((double)p->dim));
  return sizes;
}

static int judge_forward(const attention_case *c, const attention_result *found,
                         const oracle_outputs *want, char *why, size_t size) {
  int64_t count = attention_query_elements(c->p), rows = count / c->p->dim;
  double *floors = size_floors(c->p, want->dq_floor, rows);
  int good = judge("lse", compare_lse(c->dtype, found->lse, want->lse, rows), why, size) &&
             judge_tensor("o", c, COMPARE_OUTPUT, found->rounded, found->o, want->o, count, floors,
                          why, size);
  free(floors);
  return good;
}

static int judge_backward(const attention_case *c, const attention_result *found,
                          const oracle_outputs *want, char *why, size_t size) {
  int64_t queries = attention_query_elements(c->p), keys = attention_key_elements(c->p);
  double *floors = size_floors(c->p, want->dk_floor, keys / c->p->dim);
  int good = judge_tensor("dq", c, COMPARE_GRADIENT, found->rounded, found->dq, want->dq, queries,
                          want->dq_floor, why, size) &&
             judge_tensor("dk", c, COMPARE_GRADIENT, found->rounded, found->dk, want->dk, keys,
                          want->dk_floor, why, size) &&
             judge_tensor("dv", c, COMPARE_GRADIENT, found->rounded, found->dv, want->dv, keys,
                          floors, why, size);
  free(floors);
  return good;
}

int attention_matches(const attention_case *c, const oracle_problem *described,
                      const attention_inputs *inputs, const attention_result *result, char *why,
                      size_t size) {
  int64_t queries = attention_query_elements(c->p), keys = attention_key_elements(c->p);
  int64_t rows = queries / c->p->dim, key_rows = keys / c->p->dim;
  double *memory = oracle_alloc(2 * queries + 2 * keys + 2 * rows + key_rows, sizeof *memory);
  oracle_outputs want = {.o = memory, .lse = memory + queries, .dq_floor = memory + queries + rows};
  oracle_inputs in = attention_oracle_inputs(inputs);
  if (c->forward_only) {
    in.d_o = NULL;
  } else {
    want.dq = want.dq_floor + rows;
    want.dk = want.dq + queries;
    want.dv = want.dk + keys;
    want.dk_floor = want.dv + keys;
  }
  oracle_attention(described, &in, &want);
  int good = judge_forward(c, result, &want, why, size) &&
             (c->forward_only || judge_backward(c, result, &want, why, size));
  free(memory);
  return good;
}
