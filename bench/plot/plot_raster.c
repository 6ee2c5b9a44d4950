/* plot_raster.c - the active pairs of a configuration's head 0, spread over a raster of cells. */
#include "bench/plot/plot_raster.h"

#include <stdio.h>
#include <string.h>

#include "bench/bench_cases.h"
#include "src/layout.h"
#include "src/memory.h"
#include "src/rows.h"

enum { LONGNET_TEXT = 2048, LONGNET_SHOWN = 8192 };
static const int64_t longest_shown = 65536;

/* A span of gathered tokens by the cells that they lie in, in order. */
typedef struct span {
  int cell[256];
  int64_t tokens[256], first[256]; /* number and first position */
  int count;
} span;

/* ---- filling ----------------------------------------------------------------------------- */

/* The cells of block `index` of a segment. */
static void block_span(const bsd_task *task, const bsd_segment *segment, int64_t index,
                       int64_t cell_tokens, span *s) {
  int64_t begin = index * task->block, end = begin + task->block;
  s->count = 0;
  for (int64_t t = begin; t < end && t < segment->tokens; t++) {
    int64_t position = segment->first + t * segment->step;
    int cell = (int)(position / cell_tokens);
    if (s->count == 0 || s->cell[s->count - 1] != cell) {
      s->cell[s->count] = cell;
      s->tokens[s->count] = 0;
      s->first[s->count++] = position;
    }
    s->tokens[s->count - 1]++;
  }
}

static void fill_block(const bsd_layout *layout, const span *queries, const span *keys,
                       plot_raster *r) {
  for (int i = 0; i < queries->count; i++)
    for (int k = 0; k < keys->count; k++) {
      int row = queries->cell[i], column = keys->cell[k];
      if (r->holder[row][column] < 0)
        r->holder[row][column] = bsd_layout_owner(layout, keys->first[k], NULL, NULL);
      r->pairs[row][column] += (double)queries->tokens[i] * (double)keys->tokens[k];
    }
}

static bsd_status fill_segment(const bsd_task *task, const bsd_layout *layout, int64_t branch,
                               const bsd_segment *segment, bsd_runs *columns, plot_raster *r,
                               bsd_error *error) {
  span queries, keys;
  for (int64_t row = 0; row < segment->blocks; row++) {
    columns->count = 0;
    BSD_TRY(bsd_rows_row(task, branch, 0, segment, row, columns, error));
    block_span(task, segment, row, r->tokens, &queries);
    for (int64_t k = 0; k < columns->count; k++)
      for (int64_t x = 0; x < columns->run[k].count; x++) {
        block_span(task, segment, columns->run[k].first + x * columns->run[k].step, r->tokens,
                   &keys);
        fill_block(layout, &queries, &keys, r);
      }
  }
  return BSD_OK;
}

static bsd_status fill(const bsd_task *task, const bsd_layout *layout, plot_raster *r,
                       bsd_error *error) {
  bsd_runs columns = {0};
  bsd_status status = BSD_OK;
  for (int64_t b = 0; b < task->pattern->nbranches && status == BSD_OK; b++) {
    if (!bsd_task_serves(task, b, 0))
      continue;
    int64_t offset = bsd_task_offset(task, b, 0);
    for (int64_t d = 0; d < task->documents; d++)
      for (int64_t s = 0; s < bsd_task_segments(task, b, d) && status == BSD_OK; s++) {
        bsd_segment segment = bsd_task_segment(task, b, offset, d, s);
        status = fill_segment(task, layout, b, &segment, &columns, r, error);
      }
  }
  bsd_runs_free(&columns);
  return status;
}

static void clear(int64_t length, int64_t block, const bsd_layout *layout, plot_raster *r) {
  r->length = length;
  r->tokens = bsd_ceil_div(bsd_ceil_div(length, PLOT_CELLS), block) * block;
  r->cells = (int)bsd_ceil_div(length, r->tokens);
  for (int row = 0; row < r->cells; row++) {
    r->computes[row] = bsd_layout_owner(layout, row * r->tokens, NULL, NULL);
    for (int column = 0; column < r->cells; column++) {
      r->pairs[row][column] = 0;
      r->holder[row][column] = -1;
    }
  }
}

/* ---- from an item ------------------------------------------------------------------------ */

/* 128 blocks a side, more where a segment is longer; packed documents as they are. */
static int64_t shown_length(const plot_item *item, const bsd_pattern *pattern) {
  const bench_result *r = item->result;
  int64_t length = r->block * PLOT_CELLS;
  if (item->run->cu_seqlens != NULL)
    return r->n;
  for (int64_t b = 0; b < pattern->nbranches; b++)
    length = bsd_max(length, bsd_min(pattern->branches[b].segment, longest_shown));
  return bsd_min(length, r->n);
}

/* The pattern of the length that is shown: LongNet's own text depends on it. */
static bsd_status pattern_of(const plot_item *item, bsd_pattern **pattern, int64_t *length,
                             bsd_error *error) {
  const bench_result *r = item->result;
  char longnet[LONGNET_TEXT];
  bench_longnet(r->n, longnet, sizeof longnet);
  if (strcmp(longnet, r->pattern) == 0) {
    *length = bsd_min(r->n, LONGNET_SHOWN);
    bench_longnet(*length, longnet, sizeof longnet);
    return bsd_pattern_parse(longnet, pattern, error);
  }
  BSD_TRY(bsd_pattern_parse(r->pattern, pattern, error));
  *length = shown_length(item, *pattern);
  return BSD_OK;
}

static bsd_status layout_of(const plot_item *item, const bsd_task *task, bsd_layout *layout,
                            bsd_error *error) {
  bsd_layout_spec spec = {0};
  cli_error unused = {""};
  if (cli_parse_layout(item->result->layout, &spec, &unused) != CLI_GOOD ||
      spec.kind == BSD_LAYOUT_AUTO)
    return bsd_fail(error, BSD_ERR_ARG, "its layout '%s' is not known", item->result->layout);
  return bsd_layout_create(&spec, task->length, item->result->ranks,
                           bsd_task_smallest_segment(task), task->block, layout, error);
}

bsd_status plot_raster_create(const plot_item *item, plot_raster *r, bsd_error *error) {
  const bench_result *result = item->result;
  int64_t length = 0;
  bsd_pattern *pattern = NULL;
  bsd_task *task = NULL;
  bsd_layout layout = {0};
  BSD_TRY(pattern_of(item, &pattern, &length, error));
  bsd_problem problem = {.struct_size = sizeof problem,
                         .length = length,
                         .heads = result->heads,
                         .kv_heads = result->kv_heads,
                         .head_dim = result->dim,
                         .causal = result->causal,
                         .block = result->block,
                         .cu_seqlens = item->run->cu_seqlens,
                         .documents = item->run->documents};
  bsd_status status = bsd_task_create(pattern, &problem, &task, error);
  if (status == BSD_OK)
    status = layout_of(item, task, &layout, error);
  if (status == BSD_OK) {
    clear(length, task->block, &layout, r);
    status = fill(task, &layout, r, error);
  }
  bsd_layout_free(&layout);
  bsd_task_destroy(task);
  bsd_pattern_destroy(pattern);
  return status;
}
