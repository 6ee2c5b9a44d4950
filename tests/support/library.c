/* library.c - see library.h. */
#include "support/library.h"

#include <stdio.h>
#include <stdlib.h>

#include "support/device.h"

void library_expect(bsd_status status, const bsd_context *context, const char *what) {
  if (status == BSD_OK)
    return;
  fprintf(stderr, "%s: %s: %s\n", what, bsd_status_string(status),
          context ? bsd_last_error(context) : "");
  fflush(stdout);
  exit(1);
}

static void expect(bsd_status status, const bsd_error *error, const char *what) {
  if (status != BSD_OK)
    fprintf(stderr, "%s: column %d: %s\n", what, error->column, error->message);
  library_expect(status, NULL, what);
}

static bsd_term library_term(const oracle_term *term) {
  static const bsd_term_kind kinds[] = {
      [ORACLE_FULL] = BSD_TERM_FULL,       [ORACLE_LOCAL] = BSD_TERM_LOCAL,
      [ORACLE_DILATED] = BSD_TERM_DILATED, [ORACLE_STRIDED] = BSD_TERM_STRIDED,
      [ORACLE_GLOBAL] = BSD_TERM_GLOBAL,   [ORACLE_RANDOM] = BSD_TERM_RANDOM,
      [ORACLE_CSR] = BSD_TERM_CSR};
  return (bsd_term){.kind = kinds[term->kind],
                    .left = term->left,
                    .right = term->right,
                    .count = term->count,
                    .seed = term->seed,
                    .steps = term->steps,
                    .nsteps = term->nsteps,
                    .rows = term->rows,
                    .density = term->billionths,
                    .csr_rows = term->csr_rows,
                    .csr_heads = term->csr_heads,
                    .csr_ptr = term->csr_ptr,
                    .csr_columns = term->csr_columns};
}

bsd_pattern *library_pattern(const oracle_pattern *pattern) {
  static const bsd_offset offsets[] = {[ORACLE_MOD] = BSD_OFFSET_MOD,
                                       [ORACLE_GROUP] = BSD_OFFSET_GROUP,
                                       [ORACLE_KV] = BSD_OFFSET_KV};
  bsd_pattern *made = NULL;
  bsd_error error = {0};
  expect(bsd_pattern_create(pattern->combine_heads ? BSD_COMBINE_HEADS : BSD_COMBINE_SUM, &made),
         &error, "bsd_pattern_create");
  for (int64_t x = 0; x < pattern->nbranches; x++) {
    const oracle_branch *from = &pattern->branches[x];
    bsd_term terms[ORACLE_MAX_TERMS];
    for (int64_t y = 0; y < from->nterms; y++)
      terms[y] = library_term(&from->terms[y]);
    bsd_branch branch = {.segment = from->w,
                         .dilation = from->r,
                         .offset = offsets[from->offset],
                         .has_window = from->has_window,
                         .window_left = from->left,
                         .window_right = from->right,
                         .terms = terms,
                         .nterms = from->nterms};
    expect(bsd_pattern_add_branch(made, &branch, &error), &error, "bsd_pattern_add_branch");
  }
  return made;
}

bsd_pattern *library_pattern_text(const char *text) {
  bsd_pattern *made = NULL;
  bsd_error error = {0};
  expect(bsd_pattern_parse(text, &made, &error), &error, text);
  return made;
}

bsd_problem library_problem(const oracle_problem *p, bsd_dtype dtype, bsd_layout_spec layout) {
  return (bsd_problem){.struct_size = sizeof(bsd_problem),
                       .batch = p->batch,
                       .length = p->n,
                       .heads = p->heads,
                       .kv_heads = p->kv_heads,
                       .head_dim = p->dim,
                       .dtype = dtype,
                       .causal = p->causal,
                       .scale = p->scale,
                       .block = p->block,
                       .cu_seqlens = p->cu_seqlens,
                       .documents = p->documents,
                       .head_first = p->head_first,
                       .heads_total = p->heads_total,
                       .layout = layout};
}

bsd_context *library_context(int threads) {
  bsd_context_options options = {.struct_size = sizeof options,
                                 .backend = device_backend(),
                                 .kernel = device_kernel(),
                                 .threads = threads};
  bsd_context *context = NULL;
  bsd_error error = {0};
  expect(bsd_context_create(&options, &context, &error), &error, "bsd_context_create");
  return context;
}

bsd_plan_statistics library_stats(const bsd_plan *plan) {
  bsd_plan_statistics stats = {.struct_size = sizeof stats};
  library_expect(bsd_plan_stats(plan, &stats), NULL, "bsd_plan_stats");
  return stats;
}
