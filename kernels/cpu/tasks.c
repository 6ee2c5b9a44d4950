/* tasks.c - numbers the tasks of a pass, list by list, and lays out the scratch of its threads. */
#include "tasks.h"

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num(void) {
  return 0;
}
#endif

#include "../../src/memory.h"

static int64_t stage_rows(const bsd_list *list, int stage) {
  return list->stage_first[stage + 1] - list->stage_first[stage];
}

static int64_t strips_per_row(const bsd_call *call) {
  return call->block / bsd_cpu_width(call);
}

static int64_t list_heads(const bsd_call *call, const bsd_list *list, bsd_cpu_side side) {
  return side == BSD_CPU_OWN_QUERIES ? list->nheads : call->kv_heads;
}

static int64_t list_tasks(const bsd_call *call, const bsd_list *list, int stage,
                          bsd_cpu_side side) {
  return call->batch * list_heads(call, list, side) * stage_rows(list, stage) *
         strips_per_row(call);
}

int64_t bsd_cpu_task_count(const bsd_call *call, const bsd_pass *pass, int stage,
                           bsd_cpu_side side) {
  int64_t count = 0;
  for (int64_t i = 0; i < pass->nlists; i++)
    count += list_tasks(call, &pass->lists[i], stage, side);
  return count;
}

static int list_serves_kv_head(const bsd_call *call, const bsd_list *list, int64_t kv_head) {
  const int64_t group = call->heads / call->kv_heads;
  for (int64_t i = 0; i < list->nheads; i++)
    if (list->heads[i] / group == kv_head)
      return 1;
  return 0;
}

/* Whether a token's heads lie side by side. Then the heads of a row follow one another, since they find
 * their blocks in the same pages (and, in a KV head's group, the same k and v); else the rows of a head
 * do, since neighbouring rows want nearly the same blocks. */
static int heads_share_pages(const bsd_call *call) {
  return call->k.local.head_stride < call->k.local.position_stride;
}

int bsd_cpu_task_at(const bsd_call *call, const bsd_pass *pass, int stage, bsd_cpu_side side,
                    int64_t index, bsd_cpu_task *task) {
  const bsd_list *list = pass->lists;
  for (;; list++) {
    const int64_t tasks = list_tasks(call, list, stage, side);
    if (index < tasks)
      break;
    index -= tasks;
  }
  const int64_t strips = strips_per_row(call), rows = stage_rows(list, stage);
  const int64_t heads = list_heads(call, list, side);
  int64_t head, row;
  task->list = list;
  task->strip = index % strips;
  index /= strips;
  if (heads_share_pages(call)) {
    head = index % heads;
    row = index / heads % rows;
  } else {
    row = index % rows;
    head = index / rows % heads;
  }
  task->batch = index / rows / heads;
  task->row = list->stage_first[stage] + row;
  task->head = side == BSD_CPU_OWN_QUERIES ? list->heads[head] : head;
  return side == BSD_CPU_OWN_QUERIES || list_serves_kv_head(call, list, head);
}

/* Takes `count` floats, rounded up to whole cache lines, from *offset on. */
static float *take(char *base, int64_t *offset, int64_t count) {
  float *taken = base ? (float *)(void *)(base + *offset) : NULL;
  *offset += bsd_ceil_div(count * (int64_t)sizeof(float), 64) * 64;
  return taken;
}

/* Lays the arrays out from base on (NULL: only counts); returns the bytes of one thread. */
static int64_t lay_out(const bsd_call *call, char *base, bsd_cpu_scratch *scratch) {
  const int64_t width = bsd_cpu_width(call), dim = call->head_dim;
  int64_t offset = 0;
  for (int i = 0; i < 2; i++) {
    scratch->own[i] = take(base, &offset, dim * width);
    scratch->rows[i] = take(base, &offset, BSD_CPU_MAX_ROWS * dim);
    scratch->part[i] = take(base, &offset, dim * width);
    scratch->total[i] = take(base, &offset, dim * width);
  }
  scratch->scores = take(base, &offset, BSD_CPU_MAX_ROWS * width);
  scratch->products = take(base, &offset, BSD_CPU_MAX_ROWS * width);
  scratch->line = take(base, &offset, dim);
  float **const vectors[] = {&scratch->maximum,       &scratch->sum,       &scratch->factor,
                             &scratch->total_maximum, &scratch->total_sum, &scratch->lse,
                             &scratch->delta};
  for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
    *vectors[i] = take(base, &offset, BSD_CPU_MAX_ROWS);
  return offset;
}

int64_t bsd_cpu_scratch_bytes(void *device, const bsd_call *call) {
  bsd_cpu_scratch scratch;
  return ((bsd_cpu_device *)device)->threads * lay_out(call, NULL, &scratch);
}

bsd_cpu_scratch bsd_cpu_scratch_here(const bsd_call *call) {
  bsd_cpu_scratch scratch;
  const int64_t bytes = lay_out(call, NULL, &scratch);
  lay_out(call, (char *)call->scratch + omp_get_thread_num() * bytes, &scratch);
  return scratch;
}
