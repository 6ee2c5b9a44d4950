/* rows.c - active blocks of a block row or column, and the pairs in them. See rows.h. */
#include "rows.h"

#include "memory.h"

static bsd_block_grid grid_of(const bsd_task *task, int64_t head, const bsd_segment *segment) {
  bsd_block_grid grid = {task->head_first + head, segment->number, segment->blocks, task->causal};
  return grid;
}

/* Keeps of runs[from..] the members in [low, high]. */
static void clip(bsd_runs *runs, int64_t from, int64_t low, int64_t high) {
  int64_t i, out = from;
  for (i = from; i < runs->count; i++) {
    bsd_run run = runs->run[i];
    int64_t last = run.first + (run.count - 1) * run.step;
    if (last < low || run.first > high)
      continue;
    if (run.first < low) {
      int64_t skip = bsd_ceil_div(low - run.first, run.step);
      run.first += skip * run.step;
      run.count -= skip;
    }
    if (run.count > 0 && last > high)
      run.count = run.first > high ? 0 : (high - run.first) / run.step + 1;
    if (run.count > 0)
      runs->run[out++] = run;
  }
  runs->count = out;
}

static int64_t last_token(const bsd_task *task, const bsd_segment *segment, int64_t block) {
  return bsd_min((block + 1) * task->block, segment->tokens) - 1;
}

/* Saturating sum: a window may be as large as 2^63 - 1. */
static int64_t sum(int64_t a, int64_t b) {
  return a > INT64_MAX - b ? INT64_MAX : a + b;
}

bsd_status bsd_rows_row(const bsd_task *task, int64_t branch, int64_t head,
                        const bsd_segment *segment, int64_t row, bsd_runs *columns,
                        bsd_error *error) {
  const bsd_pattern_branch *b = &task->pattern->branches[branch];
  bsd_block_grid grid = grid_of(task, head, segment);
  int64_t from = columns->count, low = 0, high = segment->blocks - 1;
  BSD_TRY(bsd_branch_row(b, &grid, row, columns, error));
  if (b->left < 0 && b->right < 0)
    return BSD_OK;
  if (b->left >= 0 && row * task->block > b->left)
    low = (row * task->block - b->left) / task->block;
  if (b->right >= 0)
    high = bsd_min(high, sum(last_token(task, segment, row), b->right) / task->block);
  clip(columns, from, low, high);
  return BSD_OK;
}

bsd_status bsd_rows_column(const bsd_task *task, int64_t branch, int64_t head,
                           const bsd_segment *segment, int64_t column, bsd_runs *rows,
                           bsd_error *error) {
  const bsd_pattern_branch *b = &task->pattern->branches[branch];
  bsd_block_grid grid = grid_of(task, head, segment);
  int64_t from = rows->count, low = 0, high = segment->blocks - 1;
  BSD_TRY(bsd_branch_column(b, &grid, column, rows, error));
  if (b->left < 0 && b->right < 0)
    return BSD_OK;
  if (b->right >= 0 && column * task->block > b->right)
    low = (column * task->block - b->right) / task->block;
  if (b->left >= 0)
    high = bsd_min(high, sum(last_token(task, segment, column), b->left) / task->block);
  clip(rows, from, low, high);
  return BSD_OK;
}

/* ---- pairs ------------------------------------------------------------------------------- */

typedef struct tile_queries { /* queries t0 .. t_last and what they may see */
  int64_t t0, count, t_last;
  int64_t left, right; /* -1 unlimited; causal is right = 0 */
} tile_queries;

/* Keys of [u0, u1] that the queries see, query by query. */
static int64_t masked_pairs(const tile_queries *q, int64_t u0, int64_t u1) {
  int64_t pairs = 0, i;
  for (i = 0; i < q->count; i++) {
    int64_t t = q->t0 + i, low = u0, high = u1;
    if (q->left >= 0 && t > q->left)
      low = bsd_max(low, t - q->left);
    if (q->right >= 0)
      high = bsd_min(high, sum(t, q->right));
    pairs += bsd_max(0, high - low + 1);
  }
  return pairs;
}

static int64_t block_pairs(const bsd_task *task, const bsd_segment *segment, const tile_queries *q,
                           int64_t column) {
  int64_t u0 = column * task->block, u1 = last_token(task, segment, column);
  int whole = (q->left < 0 || q->t_last <= q->left || u0 >= q->t_last - q->left) &&
              (q->right < 0 || u1 <= sum(q->t0, q->right));
  return whole ? q->count * (u1 - u0 + 1) : masked_pairs(q, u0, u1);
}

/* Columns of [first, last] of a run whose full blocks are seen whole by all queries: bounds inclusive. */
static void whole_columns(const bsd_task *task, const bsd_segment *segment, const tile_queries *q,
                          int64_t *low, int64_t *high) {
  *low = 0;
  *high = segment->blocks - 2; /* the last block may be ragged */
  if (q->left >= 0 && q->t_last > q->left)
    *low = bsd_ceil_div(q->t_last - q->left, task->block);
  if (q->right >= 0) {
    int64_t limit = sum(q->t0, q->right);
    *high = bsd_min(*high, limit == INT64_MAX ? *high : (limit + 1) / task->block - 1);
  }
}

int64_t bsd_rows_pairs(const bsd_task *task, int64_t branch, const bsd_segment *segment,
                       int64_t base, int64_t t0, int64_t count, const bsd_run *columns,
                       int64_t nruns) {
  const bsd_pattern_branch *b = &task->pattern->branches[branch];
  tile_queries q = {t0, count, t0 + count - 1, b->left, b->right};
  int64_t pairs = 0, low, high, i, j;
  if (task->causal)
    q.right = 0;
  whole_columns(task, segment, &q, &low, &high);
  for (i = 0; i < nruns; i++) {
    bsd_run run = columns[i];
    for (j = 0; j < run.count; j++) {
      int64_t column = run.first - base + j * run.step;
      if (column >= low && column <= high) { /* all further ones up to high at once */
        int64_t bulk = bsd_min(run.count - j, (high - column) / run.step + 1);
        pairs += q.count * task->block * bulk;
        j += bulk - 1;
      } else {
        pairs += block_pairs(task, segment, &q, column);
      }
    }
  }
  return pairs;
}
