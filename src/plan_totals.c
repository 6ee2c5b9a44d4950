/* plan_totals.c - what ranks know of themselves, as sums and maxima over all of them or a sample. */
#include <math.h>

#include "memory.h"
#include "plan.h"

enum { SAMPLE = 64 }; /* ranks of an offline plan that are looked at */

bsd_status bsd_rank_figures_of(const bsd_cost *cost, const bsd_share *share,
                               const bsd_schedule *schedule, const bsd_arrivals *arrivals,
                               bsd_rank_figures *figures, bsd_error *error) {
  bsd_rank_figures f = {.pairs = share->pairs, .active_blocks = share->active_blocks};
  int pass;
  for (pass = BSD_FORWARD; pass <= BSD_BACKWARD; pass++)
    f.received[pass] = bsd_schedule_received(schedule, pass);
  BSD_TRY(bsd_forecast_rank(cost, share, schedule, arrivals, &f.forecast, error));
  *figures = f;
  return BSD_OK;
}

void bsd_totals_add_rank(bsd_totals *t, const bsd_rank_figures *f) {
  int pass, o;
  t->counted++;
  t->pairs += f->pairs;
  t->pairs_worst = bsd_max(t->pairs_worst, f->pairs);
  t->active_blocks += f->active_blocks;
  for (pass = BSD_FORWARD; pass <= BSD_BACKWARD; pass++) {
    t->received[pass] += f->received[pass];
    t->received_worst[pass] = bsd_max(t->received_worst[pass], f->received[pass]);
    t->compute[pass] += f->forecast.compute[pass];
    for (o = 0; o < BSD_STAGE_OPTIONS; o++)
      t->seconds_worst[o][pass] = fmax(t->seconds_worst[o][pass], f->forecast.seconds[o][pass]);
  }
}

static bsd_status add_offline(const bsd_task *task, const bsd_layout *layout, const bsd_cost *cost,
                              int rank, bsd_totals *totals, bsd_error *error) {
  bsd_share *share = NULL;
  bsd_schedule schedule = {0};
  bsd_arrivals arrivals = {{NULL, NULL}, 0};
  bsd_rank_figures figures;
  bsd_status status = bsd_share_create(task, layout, rank, &share, error);
  if (status == BSD_OK)
    status = bsd_schedule_create(share, &schedule, error);
  if (status == BSD_OK)
    status = bsd_arrivals_create(share, &arrivals, error);
  if (status == BSD_OK)
    status = bsd_rank_figures_of(cost, share, &schedule, &arrivals, &figures, error);
  if (status == BSD_OK)
    bsd_totals_add_rank(totals, &figures);
  bsd_arrivals_free(&arrivals);
  bsd_schedule_free(&schedule);
  bsd_share_destroy(share);
  return status;
}

bsd_status bsd_totals_offline(const bsd_task *task, const bsd_layout *layout, const bsd_cost *cost,
                              bsd_totals *totals, bsd_error *error) {
  bsd_totals sum = {0};
  int rank, stride = (int)bsd_ceil_div(layout->nranks, SAMPLE);
  for (rank = 0; rank < layout->nranks; rank++)
    if (rank % stride == 0 || rank == layout->nranks - 1)
      BSD_TRY(add_offline(task, layout, cost, rank, &sum, error));
  *totals = sum;
  return BSD_OK;
}

int64_t bsd_totals_scaled(const bsd_totals *t, int64_t sum, int nranks) {
  if (t->counted == nranks)
    return sum;
  return llround((double)sum * (double)nranks / (double)t->counted);
}

double bsd_totals_imbalance(const bsd_totals *t) {
  return t->pairs == 0 ? 1 : (double)t->pairs_worst * (double)t->counted / (double)t->pairs;
}

double bsd_totals_efficiency(const bsd_totals *t, int stage_option) {
  double worst =
      t->seconds_worst[stage_option][BSD_FORWARD] + t->seconds_worst[stage_option][BSD_BACKWARD];
  double compute = t->compute[BSD_FORWARD] + t->compute[BSD_BACKWARD];
  return worst > 0 ? compute / (double)t->counted / worst : 1;
}
