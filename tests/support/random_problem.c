/* random_problem.c - see random_problem.h. */
#include "support/random_problem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/device.h"

static int64_t pick(dice *d, const int64_t *values, int64_t count) {
  return values[dice_range(d, 0, count - 1)];
}

#define PICK(d, ...)                                                                               \
  pick(d, (const int64_t[]){__VA_ARGS__},                                                          \
       (int64_t)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))

/* ---- patterns ---- */

/* A csr term whose matrix serves segments of up to `blocks` block rows. */
static void roll_csr(random_problem *problem, dice *d, oracle_term *term, int64_t blocks) {
  const oracle_problem *p = &problem->p;
  int64_t total = p->heads_total ? p->heads_total : p->heads;
  term->csr_rows = blocks + dice_range(d, 0, 2);
  term->csr_heads = dice_chance(d, 50) ? 1 : total;
  int64_t rows = term->csr_rows * term->csr_heads, *ptr = oracle_alloc(rows + 1, sizeof *ptr);
  int64_t *columns = oracle_alloc(rows * term->csr_rows, sizeof *columns), count = 0;
  int percent = (int)PICK(d, 0, 15, 40, 100);
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t J = 0; J < term->csr_rows; J++)
      if (dice_chance(d, percent))
        columns[count++] = J;
    ptr[row + 1] = count;
  }
  term->csr_ptr = problem->csr_arrays[problem->ncsr++] = ptr;
  term->csr_columns = problem->csr_arrays[problem->ncsr++] = columns;
}

static void roll_steps(dice *d, oracle_term *term) {
  term->nsteps = dice_range(d, 1, 3);
  for (int64_t x = 0; x < term->nsteps; x++)
    term->steps[x] = dice_range(d, 1, dice_chance(d, 80) ? 5 : 40);
}

static void roll_term(random_problem *problem, dice *d, oracle_term *term, int64_t blocks) {
  memset(term, 0, sizeof *term);
  term->kind =
      (oracle_kind)PICK(d, ORACLE_FULL, ORACLE_LOCAL, ORACLE_LOCAL, ORACLE_DILATED, ORACLE_STRIDED,
                        ORACLE_STRIDED, ORACLE_GLOBAL, ORACLE_RANDOM, ORACLE_RANDOM, ORACLE_CSR);
  switch (term->kind) {
  case ORACLE_LOCAL:
    term->left = dice_range(d, -1, 3);
    term->right = dice_range(d, -1, 3);
    break;
  case ORACLE_DILATED:
    roll_steps(d, term);
    break;
  case ORACLE_STRIDED:
    roll_steps(d, term);
    if (dice_chance(d, 50))
      term->rows = dice_range(d, 1, 5);
    else
      term->billionths =
          PICK(d, 1, 20000000, 100000000, 250000000, 333333333, 500000000, 1000000000);
    break;
  case ORACLE_GLOBAL:
    term->count = dice_range(d, 0, 2);
    break;
  case ORACLE_RANDOM:
    term->count = dice_range(d, 1, 4);
    term->seed = dice_chance(d, 50) ? dice_bits(d) : (uint64_t)dice_range(d, 0, 9);
    break;
  case ORACLE_CSR:
    roll_csr(problem, d, term, blocks);
    break;
  default:
    break;
  }
}

static void roll_branch(random_problem *problem, dice *d, oracle_branch *branch) {
  const oracle_problem *p = &problem->p;
  memset(branch, 0, sizeof *branch);
  branch->w = dice_chance(d, 30) ? 0 : dice_range(d, 1, dice_chance(d, 80) ? p->n + p->n / 3 : 40);
  branch->r = dice_chance(d, 45) ? 1 : PICK(d, 2, 2, 3, 4, 5, 8, 16);
  branch->offset = (oracle_offset)dice_range(d, 0, 2);
  branch->has_window = dice_chance(d, 30);
  branch->left = branch->has_window ? PICK(d, -1, 0, 1, 7, 17, 40, 100) : 0;
  branch->right = branch->has_window ? PICK(d, -1, 0, 1, 5, 33, 64) : 0;
  branch->nterms = dice_chance(d, 60) ? 1 : dice_range(d, 2, 3);
  for (int64_t x = 0; x < branch->nterms; x++)
    roll_term(problem, d, &branch->terms[x], (p->n + p->block - 1) / p->block);
}

/* ---- shapes ---- */

static int64_t roll_length(dice *d, int64_t largest) {
  if (dice_chance(d, 4))
    return 1;
  if (dice_chance(d, 12))
    return dice_range(d, 2, 20);
  int64_t n = dice_chance(d, 30) ? PICK(d, 63, 64, 65, 100, 127, 128, 129, 192, 200, 255, 256, 257)
                                 : dice_range(d, 21, largest);
  return n < largest ? n : largest;
}

static void roll_heads(oracle_problem *p, dice *d) {
  p->kv_heads = PICK(d, 1, 1, 1, 2, 2, 3, 4);
  int64_t group = PICK(d, 1, 1, 2, 2, 3, 4);
  while (p->kv_heads * group > 8)
    group--;
  p->heads = p->kv_heads * group;
  if (dice_chance(d, 15)) {
    p->head_first = group * dice_range(d, 0, 3);
    p->heads_total = p->head_first + p->heads + group * dice_range(d, 0, 2);
  }
}

static void roll_documents(random_problem *problem, dice *d) {
  oracle_problem *p = &problem->p;
  p->batch = 1;
  p->documents = dice_range(d, 1, 5);
  problem->cu_seqlens = oracle_alloc(p->documents + 1, sizeof(int64_t));
  p->cu_seqlens = problem->cu_seqlens;
  problem->cu_seqlens[p->documents] = p->n;
  for (int64_t x = 1; x < p->documents; x++) { /* insertion keeps them ascending; equal: empty */
    int64_t cut = dice_chance(d, 20) ? problem->cu_seqlens[x - 1] : dice_range(d, 0, p->n), y = x;
    for (; y > 1 && problem->cu_seqlens[y - 1] > cut; y--)
      problem->cu_seqlens[y] = problem->cu_seqlens[y - 1];
    problem->cu_seqlens[y] = cut;
  }
}

static void roll_shape(random_problem *problem, dice *d, random_limits limits) {
  oracle_problem *p = &problem->p;
  roll_heads(p, d);
  p->n = roll_length(d, limits.largest_n);
  p->batch = dice_chance(d, 75) ? 1 : 2;
  p->dim = PICK(d, 1, 8, 8, 16, 16, 40, 64, 64, 128);
  p->block = PICK(d, 16, 16, 16, 32, 32, 64, 64, 128, 256);
  p->causal = dice_chance(d, 50);
  if (dice_chance(d, 25))
    p->scale = (double)PICK(d, 1, 3, 5) / 4 / (double)p->dim;
  if (dice_chance(d, 30))
    roll_documents(problem, d);
  while (limits.work && p->dim > 8 && p->batch * p->heads * p->n * p->n * p->dim > limits.work)
    p->dim /= 2;
  p->dim = device_head_dim(p->dim);
}

/* ---- text ---- */

static void append(char *text, const char *piece) {
  size_t used = strlen(text);
  snprintf(text + used, sizeof((random_problem *)0)->text - used, "%s", piece);
}

static void append_number(char *text, const char *before, int64_t value) {
  char piece[64];
  snprintf(piece, sizeof piece, "%s%" PRId64, before, value);
  append(text, piece);
}

static void append_steps(char *text, const oracle_term *term) {
  for (int64_t x = 0; x < term->nsteps; x++)
    append_number(text, x ? ":" : "(", term->steps[x]);
}

/* The term's text; false for csr, which has none. */
static int append_term(char *text, const oracle_term *term) {
  char piece[64];
  switch (term->kind) {
  case ORACLE_FULL:
    append(text, "full");
    return 1;
  case ORACLE_LOCAL:
    append_number(text, "local(", term->left);
    append_number(text, ",", term->right);
    break;
  case ORACLE_DILATED:
    append(text, "dilated");
    append_steps(text, term);
    break;
  case ORACLE_STRIDED:
    append(text, "strided");
    append_steps(text, term);
    if (term->rows)
      append_number(text, ",rows=", term->rows);
    else if (term->billionths == 1000000000)
      append(text, ",density=1");
    else {
      snprintf(piece, sizeof piece, ",density=0.%09" PRId64, term->billionths);
      append(text, piece);
    }
    break;
  case ORACLE_GLOBAL:
    append_number(text, "global(", term->count);
    break;
  case ORACLE_RANDOM:
    append_number(text, "random(", term->count);
    snprintf(piece, sizeof piece, ",%" PRIu64, term->seed);
    append(text, piece);
    break;
  default:
    return 0;
  }
  append(text, ")");
  return 1;
}

static int append_branch(char *text, const oracle_branch *branch) {
  static const char *const offsets[] = {"mod", "group", "kv"};
  append_number(text, "w=", branch->w);
  append_number(text, ", r=", branch->r);
  append(text, ",offset=");
  append(text, offsets[branch->offset]);
  if (branch->has_window) {
    append_number(text, ",window=", branch->left);
    append_number(text, ":", branch->right);
  }
  for (int64_t x = 0; x < branch->nterms; x++) {
    append(text, x ? " + " : ",blocks=");
    if (!append_term(text, &branch->terms[x]))
      return 0;
  }
  return 1;
}

static void write_text(random_problem *problem) {
  const oracle_pattern *pattern = &problem->p.pattern;
  append(problem->text, pattern->combine_heads ? "combine=heads| " : "");
  for (int64_t x = 0; x < pattern->nbranches; x++) {
    append(problem->text, x ? "; " : "");
    if (!append_branch(problem->text, &pattern->branches[x])) {
      problem->text[0] = 0;
      return;
    }
  }
}

/* ---- the problem ---- */

random_problem *random_problem_create(uint64_t seed, random_limits limits) {
  random_problem *problem = oracle_alloc(1, sizeof *problem);
  dice d = {oracle_mix(seed)};
  problem->seed = seed;
  roll_shape(problem, &d, limits);
  oracle_pattern *pattern = &problem->p.pattern;
  pattern->combine_heads = dice_chance(&d, 25);
  pattern->nbranches = PICK(&d, 1, 1, 1, 2, 2, 3);
  int64_t total = problem->p.heads_total ? problem->p.heads_total : problem->p.heads;
  if (pattern->combine_heads && pattern->nbranches > total)
    pattern->nbranches = total;
  for (int64_t x = 0; x < pattern->nbranches; x++)
    roll_branch(problem, &d, &pattern->branches[x]);
  problem->dtype = (bsd_dtype)PICK(&d, BSD_F32, BSD_F32, BSD_BF16, BSD_F16);
  problem->order = (memory_order)dice_range(&d, 0, 3);
  problem->with_dlse = dice_chance(&d, 40);
  problem->with_lse = problem->with_dlse || dice_chance(&d, 90);
  write_text(problem);
  return problem;
}

void random_problem_free(random_problem *problem) {
  for (int x = 0; x < problem->ncsr; x++)
    free(problem->csr_arrays[x]);
  free(problem->cu_seqlens);
  free(problem);
}

const char *random_problem_describe(const random_problem *problem, char *buffer, size_t size) {
  const oracle_problem *p = &problem->p;
  snprintf(buffer, size,
           "seed %" PRIu64 ": B %" PRId64 " n %" PRId64 " H %" PRId64 "/%" PRId64 " of %" PRId64
           " from %" PRId64 " D %" PRId64 " block %" PRId64 " causal %d documents %" PRId64
           " dtype %d order %d pattern '%s'",
           problem->seed, p->batch, p->n, p->heads, p->kv_heads, p->heads_total, p->head_first,
           p->dim, p->block, p->causal, p->cu_seqlens ? p->documents : 0, problem->dtype,
           problem->order, problem->text[0] ? problem->text : "(csr)");
  return buffer;
}

/* ---- layouts ---- */

random_layout random_layout_create(const oracle_problem *p, bsd_layout_kind kind, int nranks,
                                   uint64_t seed) {
  dice d = {oracle_mix(seed ^ 0x6C61796F7574)};
  random_layout layout = {.spec = {.kind = kind}};
  layout.oracle.kind = kind == BSD_LAYOUT_ZIGZAG    ? ORACLE_ZIGZAG
                       : kind == BSD_LAYOUT_DILATED ? ORACLE_INTERLEAVED
                       : kind == BSD_LAYOUT_CUSTOM  ? ORACLE_CUSTOM
                                                    : ORACLE_CONTIGUOUS;
  if (kind == BSD_LAYOUT_DILATED) {
    layout.spec.group = layout.oracle.group = dice_range(&d, 1, 3);
    layout.spec.unit = layout.oracle.unit = PICK(&d, 1, 2, 5, 7, p->block, p->block, 2 * p->block);
  }
  if (kind == BSD_LAYOUT_CUSTOM) {
    layout.spec.nunits = (p->n + p->block - 1) / p->block;
    layout.unit_ranks = oracle_alloc(layout.spec.nunits, sizeof(int32_t));
    int64_t ranks =
        dice_chance(&d, 20) && nranks > 1 ? nranks - 1 : nranks; /* one may be left out */
    for (int64_t x = 0; x < layout.spec.nunits; x++)
      layout.unit_ranks[x] = (int32_t)dice_range(&d, 0, ranks - 1);
    layout.spec.unit_ranks = layout.oracle.unit_ranks = layout.unit_ranks;
  }
  return layout;
}

void random_layout_free(random_layout *layout) {
  free(layout->unit_ranks);
}
