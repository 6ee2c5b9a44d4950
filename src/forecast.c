/* forecast.c - counts a rank's work by the message that it waits for, and times it. See forecast.h. */
#include "forecast.h"

#include <math.h>
#include <string.h>

#include "memory.h"

enum {
  DISTANCES = 8, /* neighbours of a row that are tried */
  SAMPLES = 32,  /* rows that are compared with each */
  COMPARED = 256 /* blocks of a row that are looked at */
};

/* Rows of one branch that wait for one message. */
typedef struct bucket {
  double rows, blocks, alone, bytes;
  int64_t longest;
} bucket;

typedef struct tally {
  const bsd_share *share;
  const bsd_arrivals *arrivals;
  int64_t branches, sources; /* npeers + 1 */
  bucket *side[2];           /* [branch][source] */
} tally;

int bsd_stage_options(int nranks, bsd_stages options[BSD_STAGE_OPTIONS]) {
  int n = 0, first;
  if (nranks == 1) {
    options[n++] = (bsd_stages){1, 0};
    return n;
  }
  options[n++] = (bsd_stages){2, 0}; /* the first of equals is taken */
  options[n++] = (bsd_stages){1, 0};
  for (first = 1; (first == 1 || first < nranks - 1) && n < BSD_STAGE_OPTIONS; first *= 2)
    options[n++] = (bsd_stages){3, first};
  return n;
}

/* ---- blocks that neighbours share -------------------------------------------------------- */

typedef struct run_walk { /* the members of a row's runs in order */
  const bsd_run *run, *end;
  int64_t j;
} run_walk;

static int next_key(run_walk *w, int64_t *key) {
  if (w->run == w->end)
    return 0;
  *key = w->run->first + w->j * w->run->step;
  if (++w->j == w->run->count) {
    w->run++;
    w->j = 0;
  }
  return 1;
}

static run_walk walk_row(const bsd_side *side, int64_t row) {
  run_walk w = {side->runs.run + side->run_ptr[row], side->runs.run + side->run_ptr[row + 1], 0};
  return w;
}

/* Of the first COMPARED blocks of row a, those that row b has too; *seen gets their number. */
static int64_t common(const bsd_side *side, int64_t a, int64_t b, int64_t *seen) {
  run_walk x = walk_row(side, a), y = walk_row(side, b);
  int64_t p = 0, q = 0, n = 0;
  int more = next_key(&y, &q);
  for (*seen = 0; *seen < COMPARED && next_key(&x, &p); ++*seen) {
    while (more && q < p)
      more = next_key(&y, &q);
    n += more && q == p;
  }
  return n;
}

/* The part of a list's blocks that no row at the best of the distances has too, by a sample of the rows. */
static double part_alone(const bsd_share_list *list, const bsd_side *side) {
  double best = 0;
  int64_t d, s;
  for (d = 1; d <= DISTANCES && d < list->nown; d++) {
    int64_t rows = list->nown - d, samples = bsd_min(SAMPLES, rows), seen = 0, found = 0;
    for (s = 0; s < samples; s++) {
      int64_t row = samples > 1 ? (rows - 1) * s / (samples - 1) : 0, n;
      found += common(side, row, row + d, &n);
      seen += n;
    }
    if (seen > 0)
      best = fmax(best, (double)found / (double)seen);
  }
  return 1 - best;
}

/* ---- counting ---------------------------------------------------------------------------- */

/* Bytes that merging a pass's result for one token and head reads and writes. */
static double merge_bytes(const bsd_task *task, int which) {
  double row = (double)task->head_dim * sizeof(float);
  if (which == BSD_ROWS)
    return bsd_task_merges_rows(task) ? 2 * row : 0;
  return bsd_task_merges_columns(task) ? 4 * row : 0;
}

static int64_t row_blocks(const bsd_side *side, int64_t row) {
  int64_t i, n = 0;
  for (i = side->run_ptr[row]; i < side->run_ptr[row + 1]; i++)
    n += side->runs.run[i].count;
  return n;
}

static int64_t row_tokens(const bsd_share_list *list, int64_t row) {
  const bsd_tile *tile = &list->own_tiles[row];
  int64_t f, n = 0;
  for (f = tile->fragment; f < tile->fragment + tile->nfragments; f++)
    n += list->own_fragments[f].count;
  return n;
}

static void count_list(const tally *t, int64_t index, int which) {
  const bsd_share_list *list = &t->share->lists[index];
  const bsd_side *side = &list->side[which];
  const bsd_task *task = t->share->task;
  int64_t c = list->head_class, i;
  double heads = (double)((task->head_class_ptr[c + 1] - task->head_class_ptr[c]) * task->batch);
  /* Query heads of one KV head have their blocks in common. */
  double alone = task->group > 1 && which == BSD_ROWS ? 0 : part_alone(list, side);
  double bytes = merge_bytes(task, which);
  for (i = 0; i < list->nown; i++) {
    bucket *b = &t->side[which][list->branch * t->sources +
                                bsd_arrivals_last(t->arrivals, which, index, i)];
    int64_t blocks = row_blocks(side, i);
    b->rows += heads;
    b->blocks += heads * (double)blocks;
    b->alone += heads * (double)blocks * alone;
    b->bytes += heads * (double)row_tokens(list, i) * bytes;
    b->longest = bsd_max(b->longest, blocks);
  }
}

/* Adds the rows of sources [from, to) of one side; the rows of a branch are a launch. */
static void add_sources(const tally *t, int which, int64_t from, int64_t to, bsd_work *work) {
  double passes = which == BSD_ROWS ? 1 : (double)t->share->task->group;
  int64_t b, s;
  for (b = 0; b < t->branches; b++) {
    int64_t longest = 0;
    double rows = 0;
    for (s = from; s < to; s++) {
      const bucket *x = &t->side[which][b * t->sources + s];
      rows += x->rows;
      work->blocks += x->blocks;
      work->alone += x->alone;
      work->bytes += x->bytes;
      longest = bsd_max(longest, x->longest);
    }
    work->rows += rows;
    work->launches += rows > 0 ? passes : 0;
    work->tail += passes * (double)longest;
  }
}

static bsd_work work_of(const tally *t, int pass, int64_t from, int64_t to) {
  bsd_work work = {0};
  add_sources(t, BSD_ROWS, from, to, &work);
  if (pass == BSD_BACKWARD)
    add_sources(t, BSD_COLUMNS, from, to, &work);
  return work;
}

/* Clearing, delta and rounding of accumulators: the same whatever the stages. */
static bsd_work fixed_work(const bsd_share *share, int pass) {
  const bsd_task *task = share->task;
  double tokens = (double)bsd_layout_local_length(share->layout, share->rank);
  double q = tokens * (double)(task->batch * task->heads * task->head_dim);
  double kv = tokens * (double)(task->batch * task->kv_heads * task->head_dim);
  double size = (double)bsd_dtype_bytes(task->dtype), single = sizeof(float);
  int rows = bsd_task_merges_rows(task), columns = bsd_task_merges_columns(task);
  bsd_work work = {0};
  if (pass == BSD_FORWARD) {
    work.launches = bsd_task_clears_rows(task) + rows;
    work.bytes = rows ? q * (2 * single + size) : bsd_task_clears_rows(task) ? q * size : 0;
    return work;
  }
  work.launches = 1 + bsd_task_clears_columns(task) + (rows || columns);
  work.bytes = 2 * q * size;
  work.bytes += rows ? q * (2 * single + size) : bsd_task_clears_columns(task) ? q * size : 0;
  work.bytes += 2 * (columns                         ? kv * (2 * single + size)
                     : bsd_task_clears_columns(task) ? kv * size
                                                     : 0);
  return work;
}

/* ---- the exchange ------------------------------------------------------------------------ */

static int link_to(const bsd_cost *cost, int64_t rank, int64_t peer) {
  if (cost->host_ranks == 0 || rank / cost->host_ranks == peer / cost->host_ranks)
    return BSD_LINK_HOST;
  return BSD_LINK_NETWORK;
}

/* Each link both ways at once; the links side by side. */
typedef struct traffic {
  double messages[BSD_LINKS][2], bytes[BSD_LINKS][2]; /* received, sent */
} traffic;

static void add_traffic(const bsd_cost *cost, const bsd_schedule *schedule, const bsd_step *step,
                        int pass, int received, traffic *t) {
  int peer = received ? step->receive_peer : step->send_peer;
  int64_t bytes = received ? step->receive_bytes[pass] : step->send_bytes[pass];
  int link;
  if (bytes == 0)
    return;
  link = link_to(cost, schedule->rank, peer);
  t->messages[link][!received]++;
  t->bytes[link][!received] += (double)bytes;
}

static double traffic_seconds(const bsd_cost *cost, const traffic *t) {
  double seconds = 0;
  int link, way;
  for (link = 0; link < BSD_LINKS; link++)
    for (way = 0; way < 2; way++)
      seconds = fmax(seconds, bsd_cost_exchange(&cost->link[link], t->messages[link][way],
                                                t->bytes[link][way]));
  return seconds;
}

/* From posting to the arrival of what `stage` uses; with `sends` also until all that is sent has gone. */
static double arrival(const bsd_cost *cost, const bsd_schedule *schedule, const bsd_stages *stages,
                      int stage, int sends, int pass) {
  traffic t = {{{0}}, {{0}}};
  int64_t i;
  for (i = 0; i < schedule->nsteps; i++) {
    const bsd_step *step = &schedule->steps[i];
    if (bsd_stages_of_step(stages, step->step) <= stage)
      add_traffic(cost, schedule, step, pass, 1, &t);
    if (sends)
      add_traffic(cost, schedule, step, pass, 0, &t);
  }
  return traffic_seconds(cost, &t);
}

/* Each part of a message is gathered by a launch of its own. */
static double packing(const bsd_cost *cost, const bsd_schedule *schedule, int pass) {
  bsd_work work = {0};
  int64_t i;
  for (i = 0; i < schedule->nsteps; i++) {
    if (schedule->steps[i].send_bytes[pass] == 0)
      continue;
    work.launches += pass == BSD_FORWARD ? 2 : 6;
    work.bytes += 2 * (double)schedule->steps[i].send_bytes[pass];
  }
  return bsd_cost_seconds(&cost->pass[pass], &work);
}

/* ---- all together ------------------------------------------------------------------------ */

/* One after the last source whose rows a stage runs. */
static int64_t end_of(const bsd_share *share, const bsd_stages *stages, int stage) {
  int64_t i;
  int nranks = share->layout->nranks;
  for (i = 0; i < share->npeers; i++) {
    int step = (share->rank - share->peers[i].rank + nranks) % nranks;
    if (bsd_stages_of_step(stages, step) > stage)
      break;
  }
  return i + 1;
}

static double run_seconds(const bsd_cost *cost, const tally *t, const bsd_schedule *schedule,
                          const bsd_stages *stages, int pass) {
  double now = packing(cost, schedule, pass), posted = now;
  int64_t from = 0;
  int stage;
  for (stage = 0; stage < stages->count; stage++) {
    int64_t end = end_of(t->share, stages, stage);
    bsd_work work = work_of(t, pass, from, end);
    if (stage > 0 || stages->count == 1)
      now = fmax(now, posted + arrival(cost, schedule, stages, stage, 0, pass));
    now += bsd_cost_seconds(&cost->pass[pass], &work);
    from = end;
  }
  return fmax(now, posted + arrival(cost, schedule, stages, stages->count - 1, 1, pass));
}

static void time_options(const bsd_cost *cost, const tally *t, const bsd_schedule *schedule,
                         bsd_forecast *out) {
  bsd_stages options[BSD_STAGE_OPTIONS];
  int n = bsd_stage_options(t->share->layout->nranks, options), pass, o;
  for (pass = BSD_FORWARD; pass <= BSD_BACKWARD; pass++) {
    bsd_work fixed = fixed_work(t->share, pass), rows = work_of(t, pass, 0, t->sources);
    double around = bsd_cost_seconds(&cost->pass[pass], &fixed);
    out->compute[pass] = around + bsd_cost_seconds(&cost->pass[pass], &rows);
    for (o = 0; o < n; o++)
      out->seconds[o][pass] = around + run_seconds(cost, t, schedule, &options[o], pass);
  }
}

static bsd_status count(const bsd_share *share, const bsd_arrivals *arrivals, tally *t,
                        bsd_error *error) {
  int which;
  int64_t i;
  *t = (tally){.share = share,
               .arrivals = arrivals,
               .branches = share->task->pattern->nbranches,
               .sources = share->npeers + 1};
  for (which = BSD_ROWS; which <= BSD_COLUMNS; which++) {
    BSD_TRY(bsd_alloc(&t->side[which], t->branches * t->sources, sizeof(bucket), error));
    for (i = 0; i < share->nlists; i++)
      count_list(t, i, which);
  }
  return BSD_OK;
}

static void free_tally(tally *t) {
  bsd_free(t->side[BSD_ROWS]);
  bsd_free(t->side[BSD_COLUMNS]);
}

bsd_status bsd_work_of_rank(const bsd_share *share, const bsd_arrivals *arrivals, bsd_work work[2],
                            bsd_error *error) {
  tally t;
  bsd_status status = count(share, arrivals, &t, error);
  int pass;
  for (pass = BSD_FORWARD; pass <= BSD_BACKWARD && status == BSD_OK; pass++) {
    bsd_work fixed = fixed_work(share, pass);
    work[pass] = work_of(&t, pass, 0, t.sources);
    work[pass].launches += fixed.launches;
    work[pass].bytes += fixed.bytes;
  }
  free_tally(&t);
  return status;
}

bsd_status bsd_forecast_rank(const bsd_cost *cost, const bsd_share *share,
                             const bsd_schedule *schedule, const bsd_arrivals *arrivals,
                             bsd_forecast *forecast, bsd_error *error) {
  tally t;
  bsd_status status = count(share, arrivals, &t, error);
  if (status == BSD_OK) {
    memset(forecast, 0, sizeof *forecast);
    time_options(cost, &t, schedule, forecast);
  }
  free_tally(&t);
  return status;
}
