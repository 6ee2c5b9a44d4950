/* test_known_failures.c - shapes and accidents that broke other libraries, by name, and the small shapes
 * where such accidents live. On any number of ranks; rank 0 judges. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "oracle.h"
#include "support/attention.h"
#include "support/device.h"
#include "support/library.h"
#include "support/suite.h"
#include "support/tensors.h"
#include "support/world.h"

static bsd_context *context;

static void start(void) {
  context = world_context(1);
}

static void finish(void) {
  bsd_context_destroy(context);
}

/* Runs a case, whose inputs it frees, and compares it with the oracle; the result is the caller's. */
static attention_result judge_case(const attention_case *c, attention_inputs inputs) {
  attention_result result = attention_run(context, c, &inputs);
  char why[500] = "";
  int good = world_rank() != 0 || attention_matches(c, c->p, &inputs, &result, why, sizeof why);
  suite_expect(good, why);
  attention_inputs_free(&inputs);
  return result;
}

static attention_result run_and_judge(const oracle_problem *p, bsd_dtype dtype, memory_order order,
                                      uint64_t seed) {
  attention_case c = {.p = p, .dtype = dtype, .order = order};
  return judge_case(&c, attention_inputs_create(p, dtype, 1, seed));
}

static void expect_oracle(const oracle_problem *p, bsd_dtype dtype, uint64_t seed) {
  attention_result result = run_and_judge(p, dtype, ORDER_PADDED, seed);
  attention_result_free(&result);
}

/* ---- small and ragged shapes ---- */

START_TEST(one_token) {
  static const char *const texts[] = {"blocks=full", "w=64;w=4096,r=4",
                                      "blocks=strided(1:2,density=0.1)",
                                      "blocks=random(3,1)+global(1),window=5:5"};
  oracle_problem p = attention_shape(texts[_i / 2], 1, 4, 2, 16, 64, _i % 2);
  expect_oracle(&p, BSD_F32, 41);
}
END_TEST

/* n is no multiple of block, w or r; fewer heads than r; heads no multiple of r; shared KV heads. */
START_TEST(ragged_shapes) {
  static const struct {
    const char *text;
    int64_t n, heads, kv_heads, dim, block;
  } shapes[] = {{"w=50,r=3", 149, 4, 4, 16, 16},
                {"r=8", 101, 2, 2, 16, 16},
                {"r=3,offset=group", 100, 5, 5, 8, 32},
                {"r=4,offset=group", 97, 6, 3, 8, 16},
                {"w=77,r=5,offset=kv", 203, 8, 2, 40, 16},
                {"w=3,r=7", 64, 8, 4, 8, 16},
                {"w=1", 37, 2, 1, 1, 256},
                {"w=64;w=128,r=2;w=256,r=4", 255, 8, 1, 64, 64}};
  oracle_problem p =
      attention_shape(shapes[_i / 2].text, shapes[_i / 2].n, shapes[_i / 2].heads,
                      shapes[_i / 2].kv_heads, shapes[_i / 2].dim, shapes[_i / 2].block, _i % 2);
  expect_oracle(&p, BSD_F32, 43);
}
END_TEST

/* ---- gradients ---- */

/* <do, o> + <dlse, lse> of the library's own forward, on rank 0. */
static double loss(const attention_case *c, const attention_inputs *inputs) {
  attention_case forward = *c;
  forward.forward_only = 1;
  attention_result result = attention_run(context, &forward, inputs);
  double sum = 0;
  for (int64_t e = 0; result.o && e < attention_query_elements(c->p); e++)
    sum += (double)inputs->d_o[e] * ((float *)result.o)[e];
  for (int64_t e = 0; result.lse && e < c->p->n * c->p->heads; e++)
    sum += isinf(result.lse[e]) ? 0 : (double)inputs->dlse[e] * result.lse[e];
  attention_result_free(&result);
  return sum;
}

static void check_differences(const attention_case *c, const attention_inputs *inputs, float *x,
                              const float *gradient, int64_t count) {
  for (int64_t e = 3; e < count; e += count / 6) {
    float kept = x[e];
    x[e] = kept + 0x1p-7f;
    double up = loss(c, inputs);
    x[e] = kept - 0x1p-7f;
    double down = loss(c, inputs);
    x[e] = kept;
    double slope = (up - down) / 0x1p-6;
    suite_expect(!gradient || fabs(slope - gradient[e]) < 3e-3 * (1 + fabs(slope)),
                 "a finite difference is not the gradient");
  }
}

/* Through the branches' weights too: they overlap. */
START_TEST(finite_differences) {
  oracle_problem p = attention_shape("w=16;w=32,r=2;blocks=strided(2,rows=2)", 45, 2, 1, 8, 16, _i);
  attention_inputs inputs = attention_inputs_create(&p, BSD_F32, 1, 47);
  attention_case c = {.p = &p, .dtype = BSD_F32};
  attention_result result = attention_run(context, &c, &inputs);
  check_differences(&c, &inputs, inputs.q, result.dq, attention_query_elements(&p));
  check_differences(&c, &inputs, inputs.k, result.dk, attention_key_elements(&p));
  check_differences(&c, &inputs, inputs.v, result.dv, attention_key_elements(&p));
  attention_result_free(&result);
  attention_inputs_free(&inputs);
}
END_TEST

/* Wrong block-sparse gradients at D = 64 while the forward is exact (flash-attention 2623). */
START_TEST(block_sparse_gradients_at_64) {
  static const char *const texts[] = {"blocks=strided(1:2,density=0.1)", "blocks=dilated(1:2:4)",
                                      "blocks=local(1,1)+random(2,3)"};
  static const bsd_dtype dtypes[] = {BSD_F32, BSD_BF16, BSD_F16};
  oracle_problem p = attention_shape(texts[_i % 3], 300, 2, 2, 64, 16, _i % 2);
  expect_oracle(&p, dtypes[_i / 3], 53);
}
END_TEST

/* Padding that enters the backward (FastVideo 925): one token beyond a block, gaps full of NaN. */
START_TEST(padding_reaches_no_gradient) {
  oracle_problem p = attention_shape("blocks=full", 65, 2, 1, 16, 64, 0);
  attention_result result = run_and_judge(&p, BSD_F32, (memory_order)_i, 59);
  attention_result_free(&result);
}
END_TEST

/* Gradients of a loss that was scaled for f16: dP alone is beyond the type, P dP and all results are not. */
START_TEST(scaled_losses_stay_finite_in_f16) {
  oracle_problem p = attention_shape("blocks=full", 700, 2, 1, 64 << _i % 2, 64, _i / 2);
  attention_inputs inputs = attention_inputs_create(&p, BSD_F16, 0, 89);
  for (int64_t e = 0; e < attention_query_elements(&p); e++)
    inputs.d_o[e] *= 4096;
  attention_case c = {.p = &p, .dtype = BSD_F16, .order = ORDER_PADDED};
  attention_result result = judge_case(&c, inputs);
  attention_result_free(&result);
}
END_TEST

/* ---- empty rows ---- */

/* Empty rows that give NaN or hang (cudnn-frontend 676, flashinfer 4401). */
START_TEST(empty_rows) {
  static const int64_t ptr[] = {0, 0, 2, 2, 3, 3, 5}, columns[] = {1, 4, 0, 2, 5};
  oracle_problem p = attention_shape("blocks=full", 90, 2, 1, 16, 16, _i);
  p.pattern.branches[0].terms[0] = (oracle_term){
      .kind = ORACLE_CSR, .csr_rows = 6, .csr_heads = 1, .csr_ptr = ptr, .csr_columns = columns};
  attention_result result = run_and_judge(&p, BSD_F32, ORDER_HEAD_MAJOR, 61);
  int good = 1;
  for (int64_t e = 0; result.o && e < 16 * p.heads * p.dim; e++)
    good &= ((float *)result.o)[e] == 0 && ((float *)result.dq)[e] == 0;
  for (int64_t i = 0; result.o && i < 16; i++)
    good &= result.lse[i] == -INFINITY && result.lse[p.n + i] == -INFINITY;
  suite_expect(good, "an empty row is not o = 0, lse = -inf, dq = 0");
  attention_result_free(&result);
}
END_TEST

/* No pair at all, on any rank. */
START_TEST(nothing_is_active) {
  oracle_problem p = attention_shape("blocks=global(0)", 100, 2, 2, 16, 16, 0);
  expect_oracle(&p, BSD_F32, 67);
}
END_TEST

/* ---- several ranks ---- */

/* This rank's tensors of one forward and one backward, packed, f32. */
typedef struct local_set {
  bsd_tensor q, k, v, d_o, o, dq, dk, dv;
  float *lse;
  size_t query_bytes, key_bytes;
} local_set;

/* The memory's copy on the device takes its place. */
static void *on_device(void *host, int64_t bytes) {
  void *pushed = device_push(host, bytes);
  if (pushed != host)
    free(host);
  return pushed;
}

static void free_on_device(void *memory) {
  if (device_backend() == BSD_BACKEND_CPU)
    free(memory);
  else
    device_drop(NULL, memory);
}

static int equal_on_device(const void *a, const void *b, size_t bytes) {
  void *host[2] = {oracle_alloc((int64_t)bytes, 1), oracle_alloc((int64_t)bytes, 1)};
  device_pull(host[0], a, (int64_t)bytes);
  device_pull(host[1], b, (int64_t)bytes);
  int equal = memcmp(host[0], host[1], bytes) == 0;
  free(host[0]);
  free(host[1]);
  return equal;
}

static local_set local_set_create(const oracle_problem *p, int64_t tokens, uint64_t seed) {
  int64_t queries = tokens * p->heads * p->dim, keys = tokens * p->kv_heads * p->dim;
  int64_t query_bytes = queries * (int64_t)sizeof(float), key_bytes = keys * (int64_t)sizeof(float);
  int64_t row_bytes = tokens * p->heads * (int64_t)sizeof(float);
  return (local_set){.q.data = on_device(tensor_normal(queries, seed, BSD_F32), query_bytes),
                     .k.data = on_device(tensor_normal(keys, seed + 1, BSD_F32), key_bytes),
                     .v.data = on_device(tensor_normal(keys, seed + 2, BSD_F32), key_bytes),
                     .d_o.data = on_device(tensor_normal(queries, seed + 3, BSD_F32), query_bytes),
                     .o.data = on_device(oracle_alloc(query_bytes, 1), query_bytes),
                     .dq.data = on_device(oracle_alloc(query_bytes, 1), query_bytes),
                     .dk.data = on_device(oracle_alloc(key_bytes, 1), key_bytes),
                     .dv.data = on_device(oracle_alloc(key_bytes, 1), key_bytes),
                     .lse = on_device(oracle_alloc(row_bytes, 1), row_bytes),
                     .query_bytes = (size_t)query_bytes,
                     .key_bytes = (size_t)key_bytes};
}

static void local_set_free(local_set *set) {
  bsd_tensor *all[] = {&set->q, &set->k, &set->v, &set->d_o, &set->o, &set->dq, &set->dk, &set->dv};
  for (size_t x = 0; x < sizeof all / sizeof *all; x++)
    free_on_device(all[x]->data);
  free_on_device(set->lse);
}

static void run_forward(bsd_plan *plan, local_set *set) {
  library_expect(bsd_forward(plan, &set->q, &set->k, &set->v, &set->o, set->lse, NULL), context,
                 "bsd_forward");
}

static void run_backward(bsd_plan *plan, local_set *set) {
  library_expect(bsd_backward(plan, &set->q, &set->k, &set->v, &set->o, set->lse, &set->d_o, NULL,
                              &set->dq, &set->dk, &set->dv, NULL),
                 context, "bsd_backward");
}

static bsd_plan *zigzag_plan(const oracle_problem *p) {
  bsd_problem problem = library_problem(p, BSD_F32, (bsd_layout_spec){.kind = BSD_LAYOUT_ZIGZAG});
  bsd_pattern *pattern = library_pattern(&p->pattern);
  bsd_plan *plan = NULL;
  library_expect(device_plan_create(context, pattern, &problem, &plan), context, "bsd_plan_create");
  bsd_pattern_destroy(pattern);
  return plan;
}

/* Stale or transposed K, V in a ring backward (diffusers 14265, 14338): another forward in between, with
 * other tensors of the same plan, must not matter. */
START_TEST(backward_uses_its_own_keys) {
  oracle_problem p = attention_shape("w=64;blocks=strided(2,rows=3)", 160, 4, 2, 16, 16, 1);
  bsd_plan *plan = zigzag_plan(&p);
  int64_t tokens = 0;
  library_expect(bsd_plan_local_length(plan, &tokens), context, "bsd_plan_local_length");
  uint64_t seed = 71 + 10 * (uint64_t)world_rank();
  local_set alone = local_set_create(&p, tokens, seed),
            disturbed = local_set_create(&p, tokens, seed);
  local_set other = local_set_create(&p, tokens, seed + 5);
  run_forward(plan, &alone);
  run_backward(plan, &alone);
  run_forward(plan, &disturbed);
  run_forward(plan, &other);
  run_backward(plan, &disturbed);
  int good = equal_on_device(alone.dq.data, disturbed.dq.data, alone.query_bytes) &&
             equal_on_device(alone.dk.data, disturbed.dk.data, alone.key_bytes) &&
             equal_on_device(alone.dv.data, disturbed.dv.data, alone.key_bytes);
  suite_expect(good, "a forward in between changed the backward");
  local_set_free(&alone);
  local_set_free(&disturbed);
  local_set_free(&other);
  bsd_plan_destroy(plan);
}
END_TEST

/* A length that the ranks do not divide, silently cut (TransformerEngine 1930): a prime, each layout. */
START_TEST(no_token_is_cut_off) {
  oracle_problem p = attention_shape("w=30;blocks=local(1,1)", 211, 2, 1, 8, 16, 1);
  attention_case c = {
      .p = &p, .dtype = BSD_F32, .layout = {.kind = (bsd_layout_kind)_i, .group = 1, .unit = 7}};
  attention_result result = judge_case(&c, attention_inputs_create(&p, BSD_F32, 0, 73));
  suite_expect(world_sum(result.nlocal) == p.n, "the ranks together do not hold all tokens");
  attention_result_free(&result);
}
END_TEST

/* An error that grows with the ring (ring-flash-attention 42): in bf16, the bound of one rank. */
START_TEST(the_error_does_not_grow_with_the_ranks) {
  oracle_problem p = attention_shape("blocks=full", 320, 2, 1, 64, 16, 1);
  expect_oracle(&p, BSD_BF16, 79);
}
END_TEST

/* ---- sizes ---- */

typedef struct huge { /* two batch entries more than 2^31 elements apart */
  bsd_tensor tensor;
  void *host;
  size_t bytes;
} huge;

static const int64_t huge_stride = ((int64_t)1 << 31) + 4096;

/* Reserved address space, of which only the touched pages exist; false if it is not to be had. */
static int huge_create(huge *h, const float *values, int64_t row, int64_t heads, int64_t dim) {
  h->bytes = (size_t)(huge_stride + row) * sizeof(uint16_t);
  void *memory = mmap(NULL, h->bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    return 0;
  h->tensor = (bsd_tensor){memory, huge_stride, heads * dim, dim};
  for (int64_t e = 0; values && e < 2 * row; e++)
    tensor_store(memory, e / row * huge_stride + e % row, values[e], BSD_BF16);
  h->host = memory;
  h->tensor.data = device_push(memory, (int64_t)h->bytes);
  return 1;
}

static void huge_free(huge *h) {
  device_drop(h->host, h->tensor.data);
  munmap(h->host, h->bytes);
}

static int huge_equal(const huge *h, const void *packed, int64_t row) {
  const uint16_t *x = h->tensor.data;
  uint16_t *host = oracle_alloc(2 * row, sizeof *host);
  device_pull(host, x, row * (int64_t)sizeof *x);
  device_pull(host + row, x + huge_stride, row * (int64_t)sizeof *x);
  int equal = memcmp(host, packed, (size_t)(2 * row) * sizeof *x) == 0;
  free(host);
  return equal;
}

/* q, k, v, do, o, dq, dk, dv in tensors so far apart, against the same in packed ones. */
static void check_huge(const oracle_problem *p, const attention_inputs *inputs, huge *h,
                       int64_t row) {
  bsd_context *alone = library_context(1);
  attention_case c = {.p = p, .dtype = BSD_BF16};
  attention_result packed = attention_run(alone, &c, inputs);
  bsd_problem problem = library_problem(p, BSD_BF16, (bsd_layout_spec){0});
  bsd_pattern *pattern = library_pattern(&p->pattern);
  bsd_plan *plan = NULL;
  int64_t rows = 2 * p->heads * p->n;
  float *lse = on_device(oracle_alloc(rows, sizeof *lse), rows * (int64_t)sizeof *lse);
  library_expect(device_plan_create(alone, pattern, &problem, &plan), alone, "bsd_plan_create");
  library_expect(
      bsd_forward(plan, &h[0].tensor, &h[1].tensor, &h[2].tensor, &h[4].tensor, lse, NULL), alone,
      "bsd_forward");
  library_expect(bsd_backward(plan, &h[0].tensor, &h[1].tensor, &h[2].tensor, &h[4].tensor, lse,
                              &h[3].tensor, NULL, &h[5].tensor, &h[6].tensor, &h[7].tensor, NULL),
                 alone, "bsd_backward");
  ck_assert(huge_equal(&h[4], packed.o, row) && huge_equal(&h[5], packed.dq, row));
  ck_assert(huge_equal(&h[6], packed.dk, row) && huge_equal(&h[7], packed.dv, row));
  free_on_device(lse);
  bsd_plan_destroy(plan);
  bsd_pattern_destroy(pattern);
  attention_result_free(&packed);
  bsd_context_destroy(alone);
}

/* int32 overflow of element indices (flash-attention 407, fla 1080). On one rank, and where the address
 * space is to be had. */
START_TEST(indices_pass_2_to_the_31) {
  oracle_problem p = attention_shape("w=32;blocks=local(1,1)", 70, 2, 2, 8, 16, 1);
  p.batch = 2;
  int64_t row = p.n * p.heads * p.dim;
  attention_inputs inputs = attention_inputs_create(&p, BSD_BF16, 0, 83);
  const float *values[] = {inputs.q, inputs.k, inputs.v, inputs.d_o, NULL, NULL, NULL, NULL};
  huge h[8];
  int made = 0;
  while (world_size() == 1 && made < 8 && huge_create(&h[made], values[made], row, p.heads, p.dim))
    made++;
  if (made == 8)
    check_huge(&p, &inputs, h, row);
  while (made > 0)
    huge_free(&h[--made]);
  attention_inputs_free(&inputs);
}
END_TEST

int main(int argc, char **argv) {
  TCase *tests = tcase_create("known failures");
  tcase_set_timeout(tests, 120);
  tcase_add_checked_fixture(tests, start, finish);
  tcase_add_loop_test(tests, one_token, 0, 8);
  tcase_add_loop_test(tests, ragged_shapes, 0, 16);
  tcase_add_loop_test(tests, finite_differences, 0, 2);
  tcase_add_loop_test(tests, block_sparse_gradients_at_64, 0, 9);
  tcase_add_loop_test(tests, padding_reaches_no_gradient, 0, 4);
  tcase_add_loop_test(tests, scaled_losses_stay_finite_in_f16, 0, 4);
  tcase_add_loop_test(tests, empty_rows, 0, 2);
  tcase_add_test(tests, nothing_is_active);
  tcase_add_test(tests, backward_uses_its_own_keys);
  tcase_add_loop_test(tests, no_token_is_cut_off, 0, 4);
  tcase_add_test(tests, the_error_does_not_grow_with_the_ranks);
  tcase_add_test(tests, indices_pass_2_to_the_31);
  return suite_run("known failures", tests, &argc, &argv);
}
