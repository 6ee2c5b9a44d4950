/* task.c - a pattern joined to a problem, checked and with defaults filled in. See task.h. */
#include "task.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "hash.h"
#include "memory.h"

int64_t bsd_dtype_bytes(bsd_dtype dtype) {
  return dtype == BSD_F32 ? 4 : 2;
}

const char *bsd_dtype_name(bsd_dtype dtype) {
  static const char *const names[] = {"f32", "bf16", "f16"};
  return names[dtype];
}

/* ---- checks ------------------------------------------------------------------------------ */

static bsd_status check_shape(const bsd_problem *p, bsd_error *error) {
  int64_t kv_heads = p->kv_heads ? p->kv_heads : p->heads;
  if (p->struct_size != sizeof(bsd_problem))
    return bsd_fail(error, BSD_ERR_ARG, "problem: struct_size is %zu but this library expects %zu",
                    p->struct_size, sizeof(bsd_problem));
  if (p->batch < 0)
    return bsd_fail(error, BSD_ERR_ARG, "batch is %" PRId64 " but must be at least 1", p->batch);
  if (p->length < 1)
    return bsd_fail(error, BSD_ERR_ARG, "length is %" PRId64 " but must be at least 1", p->length);
  if (p->heads < 1 || p->heads > INT32_MAX)
    return bsd_fail(error, BSD_ERR_ARG, "heads is %" PRId64 " but must be 1 .. 2^31-1", p->heads);
  if (kv_heads < 1 || p->heads % kv_heads != 0)
    return bsd_fail(error, BSD_ERR_ARG, "kv_heads is %" PRId64 " but must divide heads, %" PRId64,
                    kv_heads, p->heads);
  if (p->head_dim < 1 || p->head_dim > 256)
    return bsd_fail(error, BSD_ERR_UNSUPPORTED, "head_dim is %" PRId64 " but must be 1 .. 256",
                    p->head_dim);
  if (p->dtype != BSD_F32 && p->dtype != BSD_BF16 && p->dtype != BSD_F16)
    return bsd_fail(error, BSD_ERR_ARG, "dtype is %d but must be f32, bf16 or f16", (int)p->dtype);
  if (!isfinite((float)p->scale))
    return bsd_fail(error, BSD_ERR_ARG, "scale is %g but must be finite in fp32", p->scale);
  switch (p->block) {
  case 0:
  case 16:
  case 32:
  case 64:
  case 128:
  case 256:
    break;
  default:
    return bsd_fail(error, BSD_ERR_ARG, "block is %" PRId64 " but must be 16, 32, 64, 128 or 256",
                    p->block);
  }
  return BSD_OK;
}

static bsd_status check_model_heads(const bsd_problem *p, bsd_error *error) {
  int64_t kv_heads = p->kv_heads ? p->kv_heads : p->heads, group = p->heads / kv_heads;
  int64_t total = p->heads_total ? p->heads_total : p->heads;
  if (p->head_first < 0 || p->head_first % group != 0)
    return bsd_fail(error, BSD_ERR_ARG,
                    "head_first is %" PRId64 " but must be a multiple of heads/kv_heads, %" PRId64,
                    p->head_first, group);
  if (total < p->heads || p->head_first > total - p->heads)
    return bsd_fail(error, BSD_ERR_ARG,
                    "heads_total is %" PRId64 " but head_first + heads is %" PRId64, total,
                    p->head_first + p->heads);
  return BSD_OK;
}

static bsd_status check_documents(const bsd_problem *p, bsd_error *error) {
  int64_t i;
  if (p->cu_seqlens == NULL) {
    if (p->documents > 1)
      return bsd_fail(error, BSD_ERR_ARG, "documents is %" PRId64 " but cu_seqlens is NULL",
                      p->documents);
    return BSD_OK;
  }
  if (p->batch > 1)
    return bsd_fail(error, BSD_ERR_ARG, "batch is %" PRId64 " but must be 1 with cu_seqlens",
                    p->batch);
  if (p->documents < 1)
    return bsd_fail(error, BSD_ERR_ARG, "documents is %" PRId64 " but must be at least 1",
                    p->documents);
  if (p->cu_seqlens[0] != 0)
    return bsd_fail(error, BSD_ERR_ARG, "cu_seqlens[0] is %" PRId64 " but must be 0",
                    p->cu_seqlens[0]);
  for (i = 0; i < p->documents; i++)
    if (p->cu_seqlens[i + 1] < p->cu_seqlens[i])
      return bsd_fail(error, BSD_ERR_ARG,
                      "cu_seqlens[%" PRId64 "] is %" PRId64 " but the one before it is %" PRId64,
                      i + 1, p->cu_seqlens[i + 1], p->cu_seqlens[i]);
  if (p->cu_seqlens[p->documents] != p->length)
    return bsd_fail(error, BSD_ERR_ARG, "cu_seqlens ends with %" PRId64 " but length is %" PRId64,
                    p->cu_seqlens[p->documents], p->length);
  return BSD_OK;
}

static bsd_status check_sizes(const bsd_task *t, bsd_error *error) {
  /* Bytes of the largest packed tensor, of fp32, must be countable; so must all pairs' block numbers. */
  int64_t bytes;
  if (!bsd_mul(t->length, t->batch, &bytes) || !bsd_mul(bytes, t->heads, &bytes) ||
      !bsd_mul(bytes, t->head_dim, &bytes) || !bsd_mul(bytes, 64, &bytes))
    return bsd_fail(error, BSD_ERR_ARG,
                    "batch * length * heads * head_dim = %" PRId64 " * %" PRId64 " * %" PRId64
                    " * %" PRId64 " is too large for 64-bit byte counts",
                    t->batch, t->length, t->heads, t->head_dim);
  return BSD_OK;
}

static bsd_status check_csr(const bsd_task *t, const bsd_pattern_term *term, int64_t branch,
                            bsd_error *error) {
  int64_t longest = 0, d;
  const bsd_pattern_branch *b = &t->pattern->branches[branch];
  if (term->kind != BSD_TERM_CSR)
    return BSD_OK;
  if (term->csr_heads != 1 && term->csr_heads < t->heads_total)
    return bsd_fail(error, BSD_ERR_PATTERN,
                    "branch %" PRId64 ": csr has %" PRId64 " heads but the model has %" PRId64,
                    branch + 1, term->csr_heads, t->heads_total);
  for (d = 0; d < t->documents; d++) {
    int64_t length = t->cu_seqlens[d + 1] - t->cu_seqlens[d];
    if (b->segment > 0)
      length = bsd_min(length, b->segment);
    longest = bsd_max(longest, bsd_ceil_div(bsd_ceil_div(length, b->dilation), t->block));
  }
  if (longest > term->csr_rows)
    return bsd_fail(error, BSD_ERR_PATTERN,
                    "branch %" PRId64 ": csr has %" PRId64
                    " block rows but a segment of this problem has %" PRId64,
                    branch + 1, term->csr_rows, longest);
  return BSD_OK;
}

static bsd_status check_pattern(const bsd_task *t, bsd_error *error) {
  const bsd_pattern *p = t->pattern;
  int64_t b, i;
  if (p->nbranches < 1)
    return bsd_fail(error, BSD_ERR_PATTERN, "pattern has no branches but needs at least one");
  if (p->combine == BSD_COMBINE_HEADS && p->nbranches > t->heads_total)
    return bsd_fail(error, BSD_ERR_PATTERN,
                    "combine=heads: pattern has %" PRId64 " branches but there are %" PRId64
                    " heads",
                    p->nbranches, t->heads_total);
  for (b = 0; b < p->nbranches; b++)
    for (i = 0; i < p->branches[b].nterms; i++)
      BSD_TRY(check_csr(t, &p->branches[b].terms[i], b, error));
  return BSD_OK;
}

/* ---- heads and classes ------------------------------------------------------------------- */

int bsd_task_serves(const bsd_task *task, int64_t branch, int64_t head) {
  int64_t n = task->pattern->nbranches, h = task->head_first + head, per, larger, first;
  if (task->pattern->combine == BSD_COMBINE_SUM)
    return 1;
  per = task->heads_total / n;
  larger = task->heads_total % n; /* the first groups are one larger */
  first = branch * per + bsd_min(branch, larger);
  return h >= first && h < first + per + (branch < larger);
}

int64_t bsd_task_offset(const bsd_task *task, int64_t branch, int64_t head) {
  const bsd_pattern_branch *b = &task->pattern->branches[branch];
  int64_t r = b->dilation, h = task->head_first + head;
  switch (b->offset) {
  case BSD_OFFSET_GROUP:
    return h / bsd_ceil_div(task->heads_total, r);
  case BSD_OFFSET_KV:
    return (h / task->group) % r;
  default:
    return h % r;
  }
}

static int heads_agree(const bsd_task *t, int64_t a, int64_t b) {
  int64_t i;
  for (i = 0; i < t->pattern->nbranches; i++) {
    if (bsd_task_serves(t, i, a) != bsd_task_serves(t, i, b))
      return 0;
    if (!bsd_task_serves(t, i, a))
      continue;
    if (bsd_task_offset(t, i, a) != bsd_task_offset(t, i, b) ||
        !bsd_branch_heads_agree(&t->pattern->branches[i], t->head_first + a, t->head_first + b))
      return 0;
  }
  return 1;
}

static int kv_heads_agree(const bsd_task *t, int64_t a, int64_t b) {
  int64_t e;
  for (e = 0; e < t->group; e++)
    if (!heads_agree(t, a * t->group + e, b * t->group + e))
      return 0;
  return 1;
}

static void find_kv_classes(bsd_task *t, int32_t *first) {
  int64_t g, c;
  for (g = 0; g < t->kv_heads; g++) {
    for (c = 0; c < t->kv_classes && !kv_heads_agree(t, first[c], g); c++)
      ;
    if (c == t->kv_classes)
      first[t->kv_classes++] = (int32_t)g;
    t->kv_class[g] = (int32_t)c;
  }
}

static void find_head_classes(bsd_task *t) {
  int64_t h, c, n = 0;
  for (h = 0; h < t->heads; h++) {
    int32_t kv = t->kv_class[h / t->group];
    for (c = 0; c < t->head_classes; c++)
      if (t->head_class_kv[c] == kv && heads_agree(t, t->head_class_head[c], h))
        break;
    if (c == t->head_classes) {
      t->head_class_head[c] = (int32_t)h;
      t->head_class_kv[c] = kv;
      t->head_classes++;
    }
    t->head_class[h] = (int32_t)c;
  }
  for (c = 0; c < t->head_classes; c++) {
    t->head_class_ptr[c] = n;
    for (h = 0; h < t->heads; h++)
      if (t->head_class[h] == c)
        t->head_class_members[n++] = (int32_t)h;
  }
  t->head_class_ptr[t->head_classes] = n;
}

static bsd_status make_classes(bsd_task *t, bsd_error *error) {
  BSD_TRY(bsd_alloc(&t->kv_class, t->kv_heads, sizeof(int32_t), error));
  BSD_TRY(bsd_alloc(&t->head_class, t->heads, sizeof(int32_t), error));
  BSD_TRY(bsd_alloc(&t->head_class_head, t->heads, sizeof(int32_t), error));
  BSD_TRY(bsd_alloc(&t->head_class_kv, t->heads, sizeof(int32_t), error));
  BSD_TRY(bsd_alloc(&t->head_class_ptr, t->heads + 1, sizeof(int64_t), error));
  BSD_TRY(bsd_alloc(&t->head_class_members, t->heads, sizeof(int32_t), error));
  find_kv_classes(t, t->head_class_members); /* its memory serves as scratch until it is filled */
  find_head_classes(t);
  return BSD_OK;
}

/* ---- life -------------------------------------------------------------------------------- */

static bsd_status fill(bsd_task *t, const bsd_pattern *pattern, const bsd_problem *p,
                       bsd_error *error) {
  BSD_TRY(check_shape(p, error));
  BSD_TRY(check_model_heads(p, error));
  BSD_TRY(check_documents(p, error));
  t->batch = p->batch ? p->batch : 1;
  t->length = p->length;
  t->heads = p->heads;
  t->kv_heads = p->kv_heads ? p->kv_heads : p->heads;
  t->group = t->heads / t->kv_heads;
  t->head_dim = p->head_dim;
  t->block = p->block ? p->block : 64;
  t->dtype = p->dtype;
  t->causal = p->causal != 0;
  t->allow_atomics = p->allow_atomics != 0;
  t->allow_tf32 = p->allow_tf32 != 0;
  t->scale = (float)(p->scale != 0 ? p->scale : 1.0 / sqrt((double)p->head_dim));
  t->head_first = p->head_first;
  t->heads_total = p->heads_total ? p->heads_total : p->heads;
  t->documents = p->cu_seqlens ? p->documents : 1;
  BSD_TRY(check_sizes(t, error));
  BSD_TRY(bsd_alloc(&t->cu_seqlens, t->documents + 1, sizeof(int64_t), error));
  if (p->cu_seqlens)
    memcpy(t->cu_seqlens, p->cu_seqlens, sizeof(int64_t) * (size_t)(t->documents + 1));
  else
    t->cu_seqlens[1] = t->length;
  BSD_TRY(bsd_pattern_copy(pattern, &t->pattern, error));
  BSD_TRY(check_pattern(t, error));
  return make_classes(t, error);
}

bsd_status bsd_task_create(const bsd_pattern *pattern, const bsd_problem *problem, bsd_task **task,
                           bsd_error *error) {
  bsd_task *t;
  bsd_status status;
  if (pattern == NULL)
    return bsd_fail(error, BSD_ERR_ARG, "pattern is NULL but must be given");
  BSD_TRY(bsd_alloc(&t, 1, sizeof *t, error));
  status = fill(t, pattern, problem, error);
  if (status == BSD_OK)
    *task = t;
  else
    bsd_task_destroy(t);
  return status;
}

void bsd_task_destroy(bsd_task *task) {
  if (task == NULL)
    return;
  bsd_pattern_destroy(task->pattern);
  bsd_free(task->cu_seqlens);
  bsd_free(task->kv_class);
  bsd_free(task->head_class);
  bsd_free(task->head_class_head);
  bsd_free(task->head_class_kv);
  bsd_free(task->head_class_ptr);
  bsd_free(task->head_class_members);
  bsd_free(task);
}

/* ---- answers ----------------------------------------------------------------------------- */

uint64_t bsd_task_problem_hash(const bsd_task *t) {
  bsd_hash hash;
  bsd_hash_begin(&hash);
  bsd_hash_i64(&hash, t->batch);
  bsd_hash_i64(&hash, t->heads);
  bsd_hash_i64(&hash, t->kv_heads);
  bsd_hash_i64(&hash, t->head_dim);
  bsd_hash_i64(&hash, t->block);
  bsd_hash_i64(&hash, t->causal);
  bsd_hash_i64(&hash, t->allow_atomics);
  bsd_hash_i64(&hash, t->allow_tf32);
  bsd_hash_f64(&hash, t->scale);
  bsd_hash_i64(&hash, t->head_first);
  bsd_hash_i64(&hash, t->heads_total);
  return bsd_hash_value(&hash);
}

uint64_t bsd_task_documents_hash(const bsd_task *t) {
  bsd_hash hash;
  bsd_hash_begin(&hash);
  bsd_hash_i64(&hash, t->documents);
  bsd_hash_bytes(&hash, t->cu_seqlens, sizeof(int64_t) * (size_t)(t->documents + 1));
  return bsd_hash_value(&hash);
}

int bsd_task_merges_rows(const bsd_task *task) {
  return task->pattern->combine == BSD_COMBINE_SUM && task->pattern->nbranches > 1;
}

int bsd_task_merges_columns(const bsd_task *task) {
  return bsd_task_merges_rows(task) || task->group > 1;
}

int bsd_task_clears_rows(const bsd_task *task) {
  int64_t b;
  for (b = 0; b < task->pattern->nbranches; b++)
    if (task->pattern->branches[b].dilation != 1)
      return 1;
  return bsd_task_merges_rows(task);
}

int bsd_task_clears_columns(const bsd_task *task) {
  return bsd_task_clears_rows(task) || bsd_task_merges_columns(task);
}

int64_t bsd_task_smallest_segment(const bsd_task *task) {
  int64_t b, smallest = 0;
  for (b = 0; b < task->pattern->nbranches; b++) {
    int64_t w = task->pattern->branches[b].segment;
    if (w > 0 && (smallest == 0 || w < smallest))
      smallest = w;
  }
  return smallest;
}

int64_t bsd_task_document(const bsd_task *task, int64_t position) {
  int64_t low = 0, high = task->documents; /* cu[low] <= position < cu[high] */
  while (high - low > 1) {
    int64_t middle = low + (high - low) / 2;
    if (task->cu_seqlens[middle] <= position)
      low = middle;
    else
      high = middle;
  }
  return low;
}

int64_t bsd_task_segments(const bsd_task *task, int64_t branch, int64_t document) {
  int64_t w = task->pattern->branches[branch].segment;
  int64_t length = task->cu_seqlens[document + 1] - task->cu_seqlens[document];
  if (length == 0)
    return 0;
  return w == 0 || w >= length ? 1 : bsd_ceil_div(length, w);
}

bsd_segment bsd_task_segment(const bsd_task *task, int64_t branch, int64_t offset, int64_t document,
                             int64_t number) {
  const bsd_pattern_branch *b = &task->pattern->branches[branch];
  int64_t start = task->cu_seqlens[document], length = task->cu_seqlens[document + 1] - start;
  bsd_segment s = {document, number, 0, b->dilation, 0, 0};
  if (b->segment > 0 && b->segment < length) {
    start += number * b->segment;
    length = bsd_min(b->segment, length - number * b->segment);
  }
  s.first = offset < length ? start + offset : start;
  s.tokens = offset < length ? bsd_ceil_div(length - offset, b->dilation) : 0;
  s.blocks = bsd_ceil_div(s.tokens, task->block);
  return s;
}

double bsd_task_pairs_per_head(const bsd_task *task) {
  double pairs = 0;
  int64_t d;
  for (d = 0; d < task->documents; d++) {
    double n = (double)(task->cu_seqlens[d + 1] - task->cu_seqlens[d]);
    pairs += task->causal ? n * (n + 1) / 2 : n * n;
  }
  return pairs;
}
