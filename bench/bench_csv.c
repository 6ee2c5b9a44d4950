/* bench_csv.c - the results as CSV: a line of names, then a line per configuration. */
#include "bench/bench_csv.h"

#include <math.h>

#include "bench/cli.h"

void bench_csv_header(FILE *file) {
  fputs("n,batch,heads,kv_heads,dim,dtype,causal,pattern,block,density,active_blocks,active_pairs,"
        "ranks,backend,kernel,transport,layout,hash,stages,"
        "fwd_ms,fwd_tflops,fwd_ms_p5,fwd_ms_p95,bwd_ms,bwd_tflops,bwd_ms_p5,bwd_ms_p95,"
        "baseline_status,baseline_fwd_ms,baseline_bwd_ms,baseline_bytes,speedup_fwd,speedup_bwd,"
        "memory_tensors,memory_workspace,memory_peak,"
        "fwd_bytes_moved,fwd_bytes_lower_bound,fwd_bytes_allgather,fwd_exposed_ms,fwd_overlap,"
        "bwd_bytes_moved,bwd_bytes_lower_bound,bwd_bytes_allgather,bwd_exposed_ms,bwd_overlap,"
        "imbalance,plan_ms,host_us_fwd,host_us_bwd,host_us_graph_fwd,host_us_graph_bwd,check_o,"
        "check_lse,check_dq,check_dk,check_dv,check_pass,"
        "scaling,scaling_efficiency_fwd,scaling_efficiency_bwd,"
        "predicted_fwd_ms,predicted_bwd_ms,predicted_efficiency\n",
        file);
}

static void real(FILE *file, double value) {
  if (isfinite(value))
    fprintf(file, ",%.9g", value);
  else
    fputc(',', file);
}

static void integer(FILE *file, int64_t value) {
  if (value >= 0)
    fprintf(file, ",%lld", (long long)value);
  else
    fputc(',', file);
}

/* A quoted field; quotes inside are doubled. */
static void quoted(FILE *file, const char *text) {
  fputs(",\"", file);
  for (; *text != '\0'; text++) {
    if (*text == '"')
      fputc('"', file);
    fputc(*text, file);
  }
  fputc('"', file);
}

static void timing(FILE *file, const bench_timing *t) {
  real(file, t->ms);
  real(file, t->tflops);
  real(file, t->ms_p5);
  real(file, t->ms_p95);
}

static void traffic(FILE *file, const bench_traffic *t) {
  integer(file, t->bytes_moved);
  integer(file, t->bytes_lower_bound);
  integer(file, t->bytes_allgather);
  real(file, t->exposed_ms);
  real(file, t->overlap);
}

static void shape(FILE *file, const bench_result *r) {
  fprintf(file, "%lld,%lld,%lld,%lld,%lld,%s,%d", (long long)r->n, (long long)r->batch,
          (long long)r->heads, (long long)r->kv_heads, (long long)r->dim, cli_dtype_name(r->dtype),
          r->causal);
  quoted(file, r->pattern);
  integer(file, r->block);
  real(file, r->density);
  integer(file, r->active_blocks);
  integer(file, r->active_pairs);
  fprintf(file, ",%d,%s,%s,%s,%s,", r->ranks, r->backend, r->kernel, r->transport, r->layout);
  if (r->has_hash)
    fprintf(file, "%016llx", (unsigned long long)r->hash);
  integer(file, r->stages);
}

void bench_csv_line(FILE *file, const bench_result *r) {
  const bench_baseline *b = &r->baseline;
  shape(file, r);
  timing(file, &r->forward);
  timing(file, &r->backward);
  fprintf(file, ",%s", bench_baseline_name(b->status));
  real(file, b->forward_ms);
  real(file, b->backward_ms);
  integer(file, b->bytes);
  real(file, bench_speedup(b->forward_ms, r->forward.ms));
  real(file, bench_speedup(b->backward_ms, r->backward.ms));
  integer(file, r->memory_tensors);
  integer(file, r->memory_workspace);
  integer(file, r->memory_peak);
  traffic(file, &r->traffic_forward);
  traffic(file, &r->traffic_backward);
  real(file, r->imbalance);
  real(file, r->plan_ms);
  real(file, r->host_forward.call);
  real(file, r->host_backward.call);
  real(file, r->host_forward.replay);
  real(file, r->host_backward.replay);
  real(file, r->check.o);
  real(file, r->check.lse);
  real(file, r->check.dq);
  real(file, r->check.dk);
  real(file, r->check.dv);
  integer(file, r->check.pass);
  fprintf(file, ",%s", r->scaling);
  real(file, r->efficiency_forward);
  real(file, r->efficiency_backward);
  real(file, r->predicted_forward_ms);
  real(file, r->predicted_backward_ms);
  real(file, r->predicted_efficiency);
  fputc('\n', file);
}
