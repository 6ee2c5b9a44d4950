/* bench_table.c - the lines that a person reads: header, one line per configuration, footer. */
#include "bench/bench_table.h"

#include <math.h>
#include <string.h>

static const double mebi = 1048576;

/* ---- header ------------------------------------------------------------------------------ */

static const char *fact(const bench_environment *environment, const char *name) {
  for (int i = 0; i < environment->nfacts; i++)
    if (strcmp(environment->facts[i].name, name) == 0)
      return environment->facts[i].value;
  return "?";
}

/* Ranks first .. last-1 share host and device. */
static void rank_line(FILE *file, const bench_rank *rank, int first, int last) {
  if (last - first == 1)
    fprintf(file, "# rank %d on %s: %s\n", first, rank->host, rank->device);
  else
    fprintf(file, "# ranks %d-%d on %s: %s\n", first, last - 1, rank->host, rank->device);
}

static void rank_lines(FILE *file, const bench_environment *environment) {
  const bench_rank *ranks = environment->ranks;
  for (int first = 0; first < environment->nranks;) {
    int last = first + 1;
    while (last < environment->nranks && strcmp(ranks[first].host, ranks[last].host) == 0 &&
           strcmp(ranks[first].device, ranks[last].device) == 0)
      last++;
    rank_line(file, &ranks[first], first, last);
    first = last;
  }
}

static void column_names(const bench_table *table) {
  if (table->style == BENCH_STYLE_SEED)
    fputs("#\n# sequence length  implementation           time (ms)  memory (MB)   speedup\n",
          table->file);
  else if (table->style == BENCH_STYLE_SIMULATE)
    fprintf(table->file,
            "#\n#   length  ranks planned  density      fwd_MiB      bwd_MiB gather_MiB  worst_MiB "
            "imbal  plan_ms  plan_KiB  local_MiB stages   pred_fwd   pred_bwd   eff%s pattern\n",
            table->scaling ? " eff_f eff_b" : "");
  else
    fprintf(
        table->file,
        "#\n#   length batch heads   D  type ranks density     fwd_ms  TFLOP/s     bwd_ms  "
        "TFLOP/s  dense_fwd  dense_bwd fwd_x bwd_x    mem_MiB  moved_MiB imbal plan_ms%s    error "
        "check             hash   pred_fwd   pred_bwd pattern\n",
        table->scaling ? " eff_f eff_b" : "");
}

void bench_table_header(bench_table *table, const bench_environment *environment) {
  FILE *file = table->file;
  fprintf(file, "# bsd_bench %s  backend %s (built: %s)  transport %s (built: %s)\n",
          fact(environment, "version"), fact(environment, "backend"), fact(environment, "backends"),
          fact(environment, "transport"), fact(environment, "transports"));
  fprintf(file, "# %s, %s, %s, threads %s\n# dense baseline: %s\n", fact(environment, "processor"),
          fact(environment, "system"), fact(environment, "compiler"), fact(environment, "threads"),
          fact(environment, "dense"));
  rank_lines(file, environment);
  fprintf(file, "# inputs %s\n", fact(environment, "inputs"));
  column_names(table);
  fflush(file);
}

/* ---- lines ------------------------------------------------------------------------------- */

static void cell(FILE *file, int width, int decimals, double value) {
  if (isnan(value))
    fprintf(file, " %*s", width, "-");
  else
    fprintf(file, " %*.*f", width, decimals, value);
}

static double mebibytes(int64_t bytes) {
  return bytes < 0 ? NAN : (double)bytes / mebi;
}

/* a + b, where one of them may not have been measured. */
static double total(double a, double b) {
  return isnan(a) ? b : isnan(b) ? a : a + b;
}

static void announce(bench_table *table, const bench_result *r) {
  if (strcmp(table->kernel, r->kernel) == 0 && strcmp(table->layout, r->layout) == 0)
    return;
  fprintf(table->file, "# kernel %s, layout %s\n", r->kernel, r->layout);
  snprintf(table->kernel, sizeof table->kernel, "%s", r->kernel);
  snprintf(table->layout, sizeof table->layout, "%s", r->layout);
}

static void check_cells(FILE *file, const bench_result *r) {
  const bench_check *c = &r->check;
  double worst = fmax(fmax(c->o, c->dq), fmax(c->dk, c->dv)); /* fmax passes over NaN */
  if (c->pass < 0)
    fprintf(file, " %8s %5s", "-", "-");
  else
    fprintf(file, " %8.1e %5s", worst, c->pass ? "ok" : "FAIL");
  if (r->has_hash)
    fprintf(file, " %016llx", (unsigned long long)r->hash);
  else
    fprintf(file, " %16s", "-");
}

static void run_line(const bench_table *table, const bench_result *r) {
  FILE *file = table->file;
  const bench_baseline *b = &r->baseline;
  char heads[32];
  snprintf(heads, sizeof heads, r->heads == r->kv_heads ? "%lld" : "%lld/%lld", (long long)r->heads,
           (long long)r->kv_heads);
  fprintf(file, "%10lld %5lld %5s %3lld %5s %5d", (long long)r->n, (long long)r->batch, heads,
          (long long)r->dim, cli_dtype_name(r->dtype), r->ranks);
  cell(file, 7, 5, r->density);
  cell(file, 10, 3, r->forward.ms);
  cell(file, 8, 4, r->forward.tflops);
  cell(file, 10, 3, r->backward.ms);
  cell(file, 8, 4, r->backward.tflops);
  if (b->status == BENCH_BASELINE_OOM)
    fprintf(file, " %10s %10s", "OOM", "OOM");
  else {
    cell(file, 10, 3, b->forward_ms);
    cell(file, 10, 3, b->backward_ms);
  }
  cell(file, 5, 2, bench_speedup(b->forward_ms, r->forward.ms));
  cell(file, 5, 2, bench_speedup(b->backward_ms, r->backward.ms));
  cell(file, 10, 2, mebibytes(r->memory_peak));
  cell(
      file, 10, 3,
      total(mebibytes(r->traffic_forward.bytes_moved), mebibytes(r->traffic_backward.bytes_moved)));
  cell(file, 5, 2, r->imbalance);
  cell(file, 7, 2, r->plan_ms);
  if (table->scaling) {
    cell(file, 5, 2, r->efficiency_forward);
    cell(file, 5, 2, r->efficiency_backward);
  }
  check_cells(file, r);
  cell(file, 10, 3, r->predicted_forward_ms);
  cell(file, 10, 3, r->predicted_backward_ms);
  fprintf(file, " %s\n", r->pattern);
}

/* What the host is busy with a call, where it does not wait for it. */
static void host_line(FILE *file, const bench_result *r) {
  const struct {
    const char *name;
    double us;
  } figures[] = {{"forward", r->host_forward.call},
                 {"backward", r->host_backward.call},
                 {"replay of the forward", r->host_forward.replay},
                 {"replay of the backward", r->host_backward.replay}};
  const char *joint = "# host time of a call:";
  for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++)
    if (!isnan(figures[i].us)) {
      fprintf(file, "%s %s %.1f us", joint, figures[i].name, figures[i].us);
      joint = ",";
    }
  if (joint[0] == ',')
    fputc('\n', file);
}

/* How much a check compared, if not everything. */
static void sample_line(FILE *file, const bench_result *r) {
  const bench_check *c = &r->check;
  if (c->pass < 0 || c->rows == r->n)
    return;
  fprintf(file, "# checked: %lld query rows", (long long)c->rows);
  if (c->keys > 0)
    fprintf(file, " and %lld keys%s", (long long)c->keys,
            c->from_library ? " (from the library's own lse)" : "");
  fprintf(file, " of each of %lld KV heads\n", (long long)c->units);
}

/* ---- the seed report's columns ----------------------------------------------------------- */

static void seed_row(FILE *file, const bench_result *r, const char *implementation, double ms,
                     double megabytes, double speedup) {
  char length[40];
  snprintf(length, sizeof length, "%lld x%lld", (long long)r->n, (long long)r->batch);
  fprintf(file, "  %-15s  %-22s", length, implementation);
  cell(file, 11, 2, ms);
  cell(file, 12, 1, megabytes);
  cell(file, 9, 2, speedup);
}

/* Before the first sparse line of a size: the dense one. */
static void seed_dense(bench_table *table, const bench_result *r) {
  const bench_baseline *b = &r->baseline;
  if (b->status == BENCH_BASELINE_NONE ||
      (table->dense_n == r->n && table->dense_batch == r->batch))
    return;
  table->dense_n = r->n;
  table->dense_batch = r->batch;
  if (b->status == BENCH_BASELINE_OOM)
    seed_row(table->file, r, "dense: OOM", NAN, mebibytes(b->bytes), NAN);
  else
    seed_row(table->file, r, "dense", total(b->forward_ms, b->backward_ms), mebibytes(b->bytes), 1);
  fputc('\n', table->file);
}

static void seed_line(bench_table *table, const bench_result *r) {
  const bench_baseline *b = &r->baseline;
  double ms = total(r->forward.ms, r->backward.ms);
  char implementation[64];
  snprintf(implementation, sizeof implementation, "block-sparse %.1f %%", 100 * (1 - r->density));
  seed_dense(table, r);
  seed_row(table->file, r, implementation, ms, mebibytes(r->memory_peak),
           bench_speedup(total(b->forward_ms, b->backward_ms), ms));
  if (r->check.pass >= 0)
    fprintf(table->file, "  check %s", r->check.pass ? "ok" : "FAIL");
  if (r->has_hash)
    fprintf(table->file, "  %016llx", (unsigned long long)r->hash);
  fputc('\n', table->file);
}

/* ---- plans without runs ------------------------------------------------------------------ */

static void simulate_line(const bench_table *table, const bench_result *r) {
  FILE *file = table->file;
  fprintf(file, "%10lld %6d %7lld", (long long)r->n, r->ranks, (long long)r->planned_ranks);
  cell(file, 8, 5, r->density);
  cell(file, 12, 3, mebibytes(r->traffic_forward.bytes_lower_bound));
  cell(file, 12, 3, mebibytes(r->traffic_backward.bytes_lower_bound));
  cell(file, 10, 1, mebibytes(r->traffic_forward.bytes_allgather));
  cell(file, 10, 3, mebibytes(r->bytes_received_worst));
  cell(file, 5, 2, r->imbalance);
  cell(file, 8, 2, r->plan_ms);
  cell(file, 9, 1, (double)r->memory_plan / 1024);
  cell(file, 10, 2, mebibytes(r->memory_tensors + r->memory_workspace));
  fprintf(file, " %6d", r->stages);
  cell(file, 10, 3, r->predicted_forward_ms);
  cell(file, 10, 3, r->predicted_backward_ms);
  cell(file, 5, 3, r->predicted_efficiency);
  if (table->scaling) {
    cell(file, 5, 3, r->efficiency_forward);
    cell(file, 5, 3, r->efficiency_backward);
  }
  fprintf(file, " %s\n# simulated in %.2f s, memory of this process +%.1f MiB\n", r->pattern,
          r->simulation_seconds, mebibytes(r->simulation_bytes));
}

void bench_table_line(bench_table *table, const bench_result *result) {
  announce(table, result);
  if (table->style == BENCH_STYLE_SEED)
    seed_line(table, result);
  else if (table->style == BENCH_STYLE_SIMULATE)
    simulate_line(table, result);
  else
    run_line(table, result);
  host_line(table->file, result);
  sample_line(table->file, result);
  fflush(table->file);
}

void bench_table_footer(bench_table *table, int good) {
  fprintf(table->file, "%s\n", good ? "OK" : "FAILED");
  fflush(table->file);
}
