/* plan_choose.c - the layout and the stages of a plan: every candidate's time is predicted on each rank, the
 * worst rank decides, and all ranks see the same figures. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agree.h"
#include "env.h"
#include "memory.h"
#include "plan.h"

enum {
  MAX_CANDIDATES = 3,
  STRIPS = 8 /* of a rank, where they are dealt out */
};

typedef struct candidate { /* a layout and this rank's share under it */
  bsd_layout layout;
  bsd_share *share;
  bsd_schedule schedule;
  bsd_arrivals arrivals;
  bsd_rank_figures figures;
  bsd_totals totals;
} candidate;

static void free_candidate(candidate *c) {
  bsd_arrivals_free(&c->arrivals);
  bsd_schedule_free(&c->schedule);
  bsd_share_destroy(c->share);
  bsd_layout_free(&c->layout);
  memset(c, 0, sizeof *c);
}

/* ---- candidates -------------------------------------------------------------------------- */

/* A dilated layout can pay only where blocks far apart want one another: one branch of lattices. */
static int dilated_may_pay(const bsd_task *task) {
  const bsd_pattern_branch *b = &task->pattern->branches[0];
  int64_t i;
  if (task->pattern->nbranches != 1 || b->segment != 0 || b->dilation != 1 || task->documents != 1)
    return 0;
  for (i = 0; i < b->nterms; i++)
    if (b->terms[i].kind != BSD_TERM_DILATED && b->terms[i].kind != BSD_TERM_STRIDED)
      return 0;
  return 1;
}

/* Of packed documents some may have far more work a token than others: strips dealt to the ranks in turn spread
 * them. A strip is a whole number of blocks. */
static bsd_layout_spec dealt_strips(const bsd_task *task, int nranks) {
  int64_t tokens = bsd_ceil_div(task->length, (int64_t)nranks * STRIPS);
  bsd_layout_spec spec = {.kind = BSD_LAYOUT_DILATED, .group = 1};
  spec.unit = bsd_ceil_div(tokens, task->block) * task->block;
  return spec;
}

static int candidate_specs(const bsd_task *task, const bsd_layout_spec *asked, int nranks,
                           bsd_layout_spec *specs) {
  int n = 0;
  if (asked->kind != BSD_LAYOUT_AUTO) {
    specs[n++] = *asked;
    return n;
  }
  specs[n++] = (bsd_layout_spec){.kind = BSD_LAYOUT_CONTIGUOUS};
  if (nranks == 1)
    return n;
  specs[n++] = (bsd_layout_spec){.kind = BSD_LAYOUT_ZIGZAG};
  if (dilated_may_pay(task))
    specs[n++] = (bsd_layout_spec){.kind = BSD_LAYOUT_DILATED, .group = 1, .unit = task->block};
  else if (task->documents > 1)
    specs[n++] = dealt_strips(task, nranks);
  return n;
}

/* Whether the ranks make columns of one another's rows. */
static int exchanges_rows(const bsd_plan *plan) {
  return !plan->offline && bsd_share_needs_rows(plan->task);
}

static bsd_status begin_candidate(const bsd_plan *plan, const bsd_layout_spec *spec, candidate *c,
                                  bsd_error *error) {
  const bsd_task *task = plan->task;
  BSD_TRY(bsd_layout_create(spec, task->length, plan->nranks, bsd_task_smallest_segment(task),
                            task->block, &c->layout, error));
  if (exchanges_rows(plan))
    return bsd_share_begin(task, &c->layout, plan->rank, &c->share, error);
  return bsd_share_create(task, &c->layout, plan->rank, &c->share, error);
}

static bsd_status finish_shares(const bsd_plan *plan, const candidate *candidates, int n,
                                bsd_status status, bsd_error *error) {
  bsd_share *shares[MAX_CANDIDATES];
  int c;
  for (c = 0; c < n; c++)
    shares[c] = candidates[c].share;
  return bsd_plan_finish_shares(plan, shares, n, status, error);
}

static bsd_status judge_candidate(const bsd_plan *plan, candidate *c, bsd_error *error) {
  BSD_TRY(bsd_schedule_create(c->share, &c->schedule, error));
  BSD_TRY(bsd_arrivals_create(c->share, &c->arrivals, error));
  return bsd_rank_figures_of(&plan->cost, c->share, &c->schedule, &c->arrivals, &c->figures, error);
}

/* ---- over the ranks ---------------------------------------------------------------------- */

static bsd_status gather_totals(bsd_context *context, candidate *candidates, int n,
                                bsd_error *error) {
  bsd_rank_figures mine[MAX_CANDIDATES], *all;
  int c, r;
  for (c = 0; c < n; c++)
    mine[c] = candidates[c].figures;
  BSD_TRY(bsd_gather_records(context, mine, n * (int64_t)sizeof mine[0], &all, error));
  for (r = 0; r < context->comm->size; r++)
    for (c = 0; c < n; c++)
      bsd_totals_add_rank(&candidates[c].totals, &all[r * n + c]);
  bsd_free(all);
  return BSD_OK;
}

/* Sums over the ranks, or for an offline plan under auto over a sample of them. */
static bsd_status find_totals(bsd_plan *plan, candidate *candidates, int n, bsd_status status,
                              bsd_error *error) {
  int c;
  if (!plan->offline) {
    BSD_TRY(bsd_agree(plan->context, "bsd_plan_create", status, NULL, 0, error));
    plan->have_totals = 1;
    return gather_totals(plan->context, candidates, n, error);
  }
  BSD_TRY(status);
  for (c = 0; c < n && n > 1; c++)
    BSD_TRY(bsd_totals_offline(plan->task, &candidates[c].layout, &plan->cost,
                               &candidates[c].totals, error));
  plan->have_totals = n > 1;
  return BSD_OK;
}

/* ---- choosing ---------------------------------------------------------------------------- */

/* The way of cutting that is predicted to take least, of those that BSD_STAGES leaves; the first of equals. */
static bsd_status best_stages(const bsd_plan *plan, const bsd_totals *t, int *best, double *seconds,
                              bsd_error *error) {
  bsd_stages options[BSD_STAGE_OPTIONS];
  int n = bsd_stage_options(plan->nranks, options), forced, o;
  BSD_TRY(bsd_env_stages(&forced, error));
  if (plan->nranks == 1)
    forced = 0;
  *best = -1;
  for (o = 0; o < n; o++) {
    double time = t->seconds_worst[o][BSD_FORWARD] + t->seconds_worst[o][BSD_BACKWARD];
    if (forced != 0 && options[o].count != forced)
      continue;
    if (*best < 0 || time < *seconds) {
      *best = o;
      *seconds = time;
    }
  }
  return BSD_OK;
}

static void give_reason(bsd_plan *plan, const candidate *c, int option, double seconds) {
  char *text = plan->layout_reason;
  size_t size = sizeof plan->layout_reason, used = strlen(text);
  bsd_stages options[BSD_STAGE_OPTIONS];
  char name[64];
  bsd_stage_options(plan->nranks, options);
  bsd_layout_format(&c->layout, name, sizeof name);
  snprintf(text + used, size - used,
           "%s%s: worst rank receives %" PRId64 " + %" PRId64
           " bytes, imbalance %.3f, predicted %.4g ms in %d stage(s)",
           used > 0 ? "; " : "", name, c->totals.received_worst[BSD_FORWARD],
           c->totals.received_worst[BSD_BACKWARD], bsd_totals_imbalance(&c->totals), 1e3 * seconds,
           options[option].count);
}

static void adopt(bsd_plan *plan, candidate *c, int option) {
  bsd_stages options[BSD_STAGE_OPTIONS];
  bsd_stage_options(plan->nranks, options);
  plan->layout = c->layout;
  plan->share = c->share;
  plan->share->layout = &plan->layout;
  plan->schedule = c->schedule;
  plan->arrivals = c->arrivals;
  plan->totals = c->totals;
  plan->stages = options[option];
  plan->stage_option = option;
  bsd_schedule_cut(&plan->schedule, &plan->stages);
  memset(c, 0, sizeof *c);
  plan->local_length = bsd_layout_local_length(&plan->layout, plan->rank);
  bsd_layout_format(&plan->layout, plan->layout_text, sizeof plan->layout_text);
}

/* Adopts the candidate with the smallest predicted forward and backward; the earlier one of equals. */
static bsd_status choose(bsd_plan *plan, candidate *candidates, int n, bsd_error *error) {
  int c, best = 0, best_option = 0;
  double best_seconds = INFINITY;
  for (c = 0; c < n; c++) {
    int option;
    double seconds = 0;
    BSD_TRY(best_stages(plan, &candidates[c].totals, &option, &seconds, error));
    if (plan->have_totals)
      give_reason(plan, &candidates[c], option, seconds);
    if (c == 0 || seconds < best_seconds) {
      best = c;
      best_option = option;
      best_seconds = seconds;
    }
  }
  adopt(plan, &candidates[best], best_option);
  return BSD_OK;
}

bsd_status bsd_plan_choose(bsd_plan *plan, const bsd_layout_spec *asked, bsd_error *error) {
  bsd_layout_spec specs[MAX_CANDIDATES];
  candidate candidates[MAX_CANDIDATES];
  int n = candidate_specs(plan->task, asked, plan->nranks, specs), c;
  bsd_status status = BSD_OK;
  memset(candidates, 0, sizeof candidates);
  for (c = 0; c < n && status == BSD_OK; c++)
    status = begin_candidate(plan, &specs[c], &candidates[c], error);
  if (exchanges_rows(plan))
    status = finish_shares(plan, candidates, n, status, error);
  for (c = 0; c < n && status == BSD_OK; c++)
    status = judge_candidate(plan, &candidates[c], error);
  status = find_totals(plan, candidates, n, status, error);
  if (status == BSD_OK)
    status = choose(plan, candidates, n, error);
  for (c = 0; c < n; c++)
    free_candidate(&candidates[c]);
  return status;
}
