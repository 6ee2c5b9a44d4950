/* pattern.c - the pattern as an object: made, appended to, copied, hashed, checked, destroyed. */
#include "pattern.h"

#include <inttypes.h>
#include <string.h>

#include "hash.h"
#include "memory.h"
#include "pattern_build.h"
#include "pattern_csr.h"

#define BILLION INT64_C(1000000000)

/* The capacity that an array of `count` elements has: implied, so that the structs need no
 * field. */
static int64_t capacity_of(int64_t count) {
  if (count == 0)
    return 0;
  int64_t capacity = 8;
  while (capacity < count)
    capacity *= 2;
  return capacity;
}

static bsd_status grow_by_one(void *pointer, int64_t count, int64_t size, bsd_error *error) {
  int64_t capacity = capacity_of(count);
  return bsd_grow(pointer, &capacity, capacity_of(count + 1), size, error);
}

bsd_status bsd_pattern_create(bsd_combine combine, bsd_pattern **pattern) {
  if (!pattern)
    return bsd_fail(NULL, BSD_ERR_ARG, "pattern is NULL, expected where to put it");
  if (combine != BSD_COMBINE_SUM && combine != BSD_COMBINE_HEADS)
    return bsd_fail(NULL, BSD_ERR_ARG,
                    "combine is %d, expected BSD_COMBINE_SUM or BSD_COMBINE_HEADS", (int)combine);
  bsd_pattern *made;
  BSD_TRY(bsd_alloc(&made, 1, sizeof *made, NULL));
  made->combine = combine;
  *pattern = made;
  return BSD_OK;
}

static void free_branch(bsd_pattern_branch *branch) {
  for (int64_t i = 0; i < branch->nterms; i++) {
    bsd_pattern_term *term = &branch->terms[i];
    bsd_free(term->steps);
    bsd_free(term->csr_ptr);
    bsd_free(term->csr_columns);
    bsd_free(term->csr_column_ptr);
    bsd_free(term->csr_column_rows);
    bsd_free(term->csr_file);
  }
  bsd_free(branch->terms);
}

void bsd_pattern_destroy(bsd_pattern *pattern) {
  if (!pattern)
    return;
  for (int64_t i = 0; i < pattern->nbranches; i++)
    free_branch(&pattern->branches[i]);
  bsd_free(pattern->branches);
  bsd_free(pattern);
}

/* ---- growing ----------------------------------------------------------------------------- */

bsd_status bsd_pattern_new_branch(bsd_pattern *pattern, bsd_pattern_branch **branch,
                                  bsd_error *error) {
  BSD_TRY(grow_by_one(&pattern->branches, pattern->nbranches, sizeof **branch, error));
  *branch = &pattern->branches[pattern->nbranches++];
  **branch = (bsd_pattern_branch){.dilation = 1, .left = -1, .right = -1};
  return BSD_OK;
}

bsd_status bsd_pattern_new_term(bsd_pattern_branch *branch, bsd_term_kind kind,
                                bsd_pattern_term **term, bsd_error *error) {
  BSD_TRY(grow_by_one(&branch->terms, branch->nterms, sizeof **term, error));
  *term = &branch->terms[branch->nterms++];
  **term = (bsd_pattern_term){.kind = kind};
  return BSD_OK;
}

bsd_status bsd_pattern_new_step(bsd_pattern_term *term, int64_t step, bsd_error *error) {
  BSD_TRY(grow_by_one(&term->steps, term->nsteps, sizeof step, error));
  term->steps[term->nsteps++] = step;
  return BSD_OK;
}

/* ---- the ranges of a pattern's values ---------------------------------------------------- */

static bsd_status check_at_least(const char *name, int64_t value, int64_t least, bsd_error *error) {
  if (value >= least)
    return BSD_OK;
  return bsd_fail(error, BSD_ERR_PATTERN, "%s is %" PRId64 ", expected at least %" PRId64, name,
                  value, least);
}

static bsd_status check_steps(const bsd_pattern_term *term, bsd_error *error) {
  BSD_TRY(check_at_least("nsteps", term->nsteps, 1, error));
  if (!term->steps)
    return bsd_fail(error, BSD_ERR_PATTERN, "steps is NULL, expected %" PRId64 " steps",
                    term->nsteps);
  for (int64_t i = 0; i < term->nsteps; i++)
    BSD_TRY(check_at_least("a step", term->steps[i], 1, error));
  return BSD_OK;
}

static bsd_status check_strided(const bsd_pattern_term *term, bsd_error *error) {
  BSD_TRY(check_steps(term, error));
  BSD_TRY(check_at_least("rows", term->rows, 0, error));
  if (term->rows == 0 && (term->density < 1 || term->density > BILLION))
    return bsd_fail(error, BSD_ERR_PATTERN,
                    "density is %" PRId64 " billionths, expected 1 .. 1000000000", term->density);
  return BSD_OK;
}

static bsd_status check_term(const bsd_pattern_term *term, bsd_error *error) {
  switch (term->kind) {
  case BSD_TERM_FULL:
    return BSD_OK;
  case BSD_TERM_LOCAL:
    BSD_TRY(check_at_least("left", term->left, -1, error));
    return check_at_least("right", term->right, -1, error);
  case BSD_TERM_DILATED:
    return check_steps(term, error);
  case BSD_TERM_STRIDED:
    return check_strided(term, error);
  case BSD_TERM_GLOBAL:
    return check_at_least("count of global", term->count, 0, error);
  case BSD_TERM_RANDOM:
    return check_at_least("count of random", term->count, 1, error);
  case BSD_TERM_CSR:
    return bsd_csr_check(term, error);
  }
  return bsd_fail(error, BSD_ERR_PATTERN, "kind of a term is %d, expected a bsd_term_kind",
                  (int)term->kind);
}

static bsd_status check_branch(const bsd_pattern_branch *branch, bsd_error *error) {
  BSD_TRY(check_at_least("segment", branch->segment, 0, error));
  BSD_TRY(check_at_least("dilation", branch->dilation, 1, error));
  if (branch->offset != BSD_OFFSET_MOD && branch->offset != BSD_OFFSET_GROUP &&
      branch->offset != BSD_OFFSET_KV)
    return bsd_fail(error, BSD_ERR_PATTERN, "offset is %d, expected a bsd_offset",
                    (int)branch->offset);
  BSD_TRY(check_at_least("window_left", branch->left, -1, error));
  BSD_TRY(check_at_least("window_right", branch->right, -1, error));
  BSD_TRY(check_at_least("nterms", branch->nterms, 1, error));
  for (int64_t i = 0; i < branch->nterms; i++)
    BSD_TRY(check_term(&branch->terms[i], error));
  return BSD_OK;
}

int bsd_pattern_is_valid(const bsd_pattern *pattern) {
  bsd_error error;
  if (!pattern || (pattern->combine != BSD_COMBINE_SUM && pattern->combine != BSD_COMBINE_HEADS))
    return 0;
  for (int64_t i = 0; i < pattern->nbranches; i++) {
    const bsd_pattern_branch *branch = &pattern->branches[i];
    if (!branch->has_window && (branch->left != -1 || branch->right != -1))
      return 0;
    if (check_branch(branch, &error) != BSD_OK)
      return 0;
  }
  return 1;
}

/* ---- copying ----------------------------------------------------------------------------- */

static bsd_status copy_array(int64_t **copy, const int64_t *values, int64_t count, int64_t capacity,
                             bsd_error *error) {
  BSD_TRY(bsd_alloc(copy, capacity, sizeof **copy, error));
  if (count > 0)
    memcpy(*copy, values, (size_t)count * sizeof **copy);
  return BSD_OK;
}

/* Copies the arrays of `from`, a checked term whose pointers are another's, into *to. */
static bsd_status copy_arrays(bsd_pattern_term *to, const bsd_pattern_term *from,
                              bsd_error *error) {
  if (from->nsteps > 0) {
    BSD_TRY(copy_array(&to->steps, from->steps, from->nsteps, capacity_of(from->nsteps), error));
    to->nsteps = from->nsteps;
  }
  if (from->kind == BSD_TERM_CSR) {
    int64_t rows = from->csr_rows * from->csr_heads, entries = from->csr_ptr[rows];
    BSD_TRY(copy_array(&to->csr_ptr, from->csr_ptr, rows + 1, rows + 1, error));
    BSD_TRY(copy_array(&to->csr_columns, from->csr_columns, entries, entries, error));
    to->csr_rows = from->csr_rows;
    to->csr_heads = from->csr_heads;
    BSD_TRY(bsd_csr_finish(to, error));
  }
  if (from->csr_file) {
    int64_t bytes = (int64_t)strlen(from->csr_file) + 1;
    BSD_TRY(bsd_alloc(&to->csr_file, bytes, 1, error));
    memcpy(to->csr_file, from->csr_file, (size_t)bytes);
  }
  return BSD_OK;
}

static bsd_status append_term(bsd_pattern_branch *branch, const bsd_pattern_term *from,
                              bsd_error *error) {
  bsd_pattern_term *to;
  BSD_TRY(bsd_pattern_new_term(branch, from->kind, &to, error));
  to->left = from->left;
  to->right = from->right;
  to->count = from->count;
  to->seed = from->seed;
  to->rows = from->rows;
  to->density = from->density;
  return copy_arrays(to, from, error);
}

/* A caller's term with the fields that its kind does not use zeroed; the arrays are borrowed. */
static bsd_pattern_term borrow_term(const bsd_term *term) {
  bsd_pattern_term borrowed = {.kind = term->kind};
  switch (term->kind) {
  case BSD_TERM_FULL:
    break;
  case BSD_TERM_LOCAL:
    borrowed.left = term->left;
    borrowed.right = term->right;
    break;
  case BSD_TERM_STRIDED:
    borrowed.rows = term->rows;
    borrowed.density = term->rows == 0 ? term->density : 0;
    borrowed.steps = (int64_t *)term->steps;
    borrowed.nsteps = term->nsteps;
    break;
  case BSD_TERM_DILATED:
    borrowed.steps = (int64_t *)term->steps;
    borrowed.nsteps = term->nsteps;
    break;
  case BSD_TERM_GLOBAL:
    borrowed.count = term->count;
    break;
  case BSD_TERM_RANDOM:
    borrowed.count = term->count;
    borrowed.seed = term->seed;
    break;
  case BSD_TERM_CSR:
    borrowed.csr_rows = term->csr_rows;
    borrowed.csr_heads = term->csr_heads;
    borrowed.csr_ptr = (int64_t *)term->csr_ptr;
    borrowed.csr_columns = (int64_t *)term->csr_columns;
    break;
  }
  return borrowed;
}

static bsd_status fill_branch(bsd_pattern_branch *to, const bsd_branch *from, bsd_error *error) {
  to->segment = from->segment;
  to->dilation = from->dilation == 0 ? 1 : from->dilation;
  to->offset = from->offset;
  to->has_window = from->has_window != 0;
  if (to->has_window) {
    to->left = from->window_left;
    to->right = from->window_right;
  }
  if (from->nterms < 0 || (from->nterms > 0 && !from->terms))
    return bsd_fail(error, BSD_ERR_PATTERN,
                    "nterms is %" PRId64 " and terms is %s, expected as many terms as nterms",
                    from->nterms, from->terms ? "set" : "NULL");
  bsd_pattern_term *term;
  if (from->nterms == 0)
    BSD_TRY(bsd_pattern_new_term(to, BSD_TERM_FULL, &term, error));
  for (int64_t i = 0; i < from->nterms; i++) {
    bsd_pattern_term borrowed = borrow_term(&from->terms[i]);
    BSD_TRY(check_term(&borrowed, error));
    BSD_TRY(append_term(to, &borrowed, error));
  }
  return check_branch(to, error);
}

bsd_status bsd_pattern_add_branch(bsd_pattern *pattern, const bsd_branch *branch,
                                  bsd_error *error) {
  if (!pattern || !branch)
    return bsd_fail(error, BSD_ERR_ARG, "%s is NULL, expected one", pattern ? "branch" : "pattern");
  bsd_pattern_branch *added;
  BSD_TRY(bsd_pattern_new_branch(pattern, &added, error));
  bsd_status status = fill_branch(added, branch, error);
  if (status != BSD_OK) {
    free_branch(added);
    pattern->nbranches--;
  }
  return status;
}

static bsd_status copy_branches(bsd_pattern *to, const bsd_pattern *from, bsd_error *error) {
  for (int64_t i = 0; i < from->nbranches; i++) {
    bsd_pattern_branch *branch;
    BSD_TRY(bsd_pattern_new_branch(to, &branch, error));
    *branch = from->branches[i];
    branch->terms = NULL;
    branch->nterms = 0;
    for (int64_t j = 0; j < from->branches[i].nterms; j++)
      BSD_TRY(append_term(branch, &from->branches[i].terms[j], error));
  }
  return BSD_OK;
}

bsd_status bsd_pattern_copy(const bsd_pattern *pattern, bsd_pattern **copy, bsd_error *error) {
  bsd_pattern *made;
  BSD_TRY(bsd_alloc(&made, 1, sizeof *made, error));
  made->combine = pattern->combine;
  bsd_status status = copy_branches(made, pattern, error);
  if (status != BSD_OK) {
    bsd_pattern_destroy(made);
    return status;
  }
  *copy = made;
  return BSD_OK;
}

/* ---- hashing ----------------------------------------------------------------------------- */

/* Fields that a kind does not use are zero, so that all can be added for every kind. */
static void hash_term(bsd_hash *hash, const bsd_pattern_term *term) {
  bsd_hash_i64(hash, term->kind);
  bsd_hash_i64(hash, term->left);
  bsd_hash_i64(hash, term->right);
  bsd_hash_i64(hash, term->count);
  bsd_hash_u64(hash, term->seed);
  bsd_hash_i64(hash, term->rows);
  bsd_hash_i64(hash, term->density);
  bsd_hash_i64(hash, term->nsteps);
  bsd_hash_bytes(hash, term->steps, (size_t)term->nsteps * sizeof *term->steps);
  bsd_hash_u64(hash, term->csr_hash);
}

uint64_t bsd_pattern_content_hash(const bsd_pattern *pattern) {
  bsd_hash hash;
  bsd_hash_begin(&hash);
  bsd_hash_i64(&hash, pattern->combine);
  bsd_hash_i64(&hash, pattern->nbranches);
  for (int64_t i = 0; i < pattern->nbranches; i++) {
    const bsd_pattern_branch *branch = &pattern->branches[i];
    bsd_hash_i64(&hash, branch->segment);
    bsd_hash_i64(&hash, branch->dilation);
    bsd_hash_i64(&hash, branch->offset);
    bsd_hash_i64(&hash, branch->has_window);
    bsd_hash_i64(&hash, branch->left);
    bsd_hash_i64(&hash, branch->right);
    bsd_hash_i64(&hash, branch->nterms);
    for (int64_t j = 0; j < branch->nterms; j++)
      hash_term(&hash, &branch->terms[j]);
  }
  return bsd_hash_value(&hash);
}
