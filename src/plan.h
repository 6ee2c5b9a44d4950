/* plan.h - one pattern for one problem on one rank: everything decided, nothing left to execution.
 *
 * plan.c creates it (the ranks agree), plan_choose.c chooses layout and stages by predicted times,
 * plan_transpose.c sends rows to the ranks that make columns of them,
 * plan_totals.c sums over ranks, plan_lists.c turns the share into passes of lists ordered by stage,
 * plan_tables.c lays out messages and workspace, plan_report.c answers questions. */
#ifndef BSD_PLAN_H
#define BSD_PLAN_H

#include "arrivals.h"
#include "context.h"
#include "cost.h"
#include "forecast.h"
#include "layout.h"
#include "lists.h"
#include "schedule.h"
#include "share.h"
#include "task.h"
#include "trace.h"

/* What one rank knows of itself. */
typedef struct bsd_rank_figures {
  int64_t pairs, active_blocks;
  int64_t received[2]; /* by pass */
  bsd_forecast forecast;
} bsd_rank_figures;

/* Sums and maxima over the ranks. */
typedef struct bsd_totals {
  int64_t counted; /* ranks */
  int64_t pairs, pairs_worst;
  int64_t active_blocks;
  int64_t received[2], received_worst[2];     /* by pass */
  double seconds_worst[BSD_STAGE_OPTIONS][2]; /* by way of cutting the exchange, and pass */
  double compute[2];                          /* sum */
} bsd_totals;

/* Storage of lists whose rows were reordered by stage. */
typedef struct bsd_ordered_list {
  bsd_tile *rows;
  int64_t *row_ptr;
  bsd_entry *entries;
  int64_t stage_first[BSD_MAX_STAGES + 1];
} bsd_ordered_list;

typedef struct bsd_plan_lists {
  bsd_pass *rows;    /* forward and dq: one pass per branch */
  bsd_pass *columns; /* dk, dv: one per (query head of the group, branch), branch innermost */
  int64_t nrow_passes, ncolumn_passes;
  bsd_list *storage;            /* of both */
  bsd_ordered_list *ordered[2]; /* by side, one per share list; all NULL inside with one stage */
  int32_t *heads;               /* of the column passes' lists */
} bsd_plan_lists;

/* What lies in device memory beside the workspace: tables that kernels read, rebuilt with it. */
typedef struct bsd_plan_tables {
  void *device;                 /* one allocation */
  bsd_pack *kv_pack, *q_pack;   /* [npeers], host structs with device pointers inside */
  bsd_received *received[2][6]; /* by pass and bsd_message_part, device pointers to [npeers] */
} bsd_plan_tables;

typedef enum bsd_message_part {
  BSD_PART_K,
  BSD_PART_V,
  BSD_PART_Q,
  BSD_PART_DO,
  BSD_PART_LSE,
  BSD_PART_DELTA
} bsd_message_part;

/* Byte offsets into the workspace; -1: not there. */
typedef struct bsd_workspace_map {
  int64_t *receive[2], *send[2];          /* by pass, [npeers] */
  int64_t messages_first, messages_bytes; /* where the messages of either pass lie */
  int64_t acc_o, acc_lse;                 /* forward */
  int64_t delta, acc_dq, acc_dk, acc_dv;  /* backward */
  int64_t scratch;
  int64_t bytes;
} bsd_workspace_map;

/* JOIN + s: what stage s uses has arrived. */
enum { BSD_EVENT_FORK, BSD_EVENT_JOIN, BSD_EVENTS = BSD_EVENT_JOIN + BSD_MAX_STAGES };

struct bsd_plan {
  bsd_context *context;
  bsd_task *task;
  bsd_layout layout;
  bsd_share *share;
  bsd_schedule schedule;
  bsd_arrivals arrivals;
  bsd_cost cost; /* rank 0's */
  bsd_stages stages;
  int stage_option; /* index of stages among the options */
  int rank, nranks;
  int offline; /* made without a communicator: cannot run */
  uint64_t hash;
  const bsd_kernels *kernels;
  bsd_plan_lists lists;
  bsd_lists *row_lists, *column_lists;     /* ready for the backend */
  int accumulate_rows, accumulate_columns; /* several passes add to one output */
  int clear[2];                            /* [pass] outputs are cleared before their kernels */
  bsd_plan_tables tables;
  bsd_workspace_map map;
  void *workspace, *own_workspace;
  void *staging; /* host copy of the messages, where the transport cannot take the device's */
  int serialize; /* BSD_SERIALIZE_EXCHANGE: an exchange is over before any kernel of the run starts */
  void *exchange_stream; /* the exchange's own, forked from the caller's and rejoined by events */
  void *event[BSD_EVENTS];
  void *last_stream; /* of the last run: bsd_plan_wait asks it */
  bsd_totals totals;
  int have_totals; /* an offline plan works them out when they are asked for */
  int64_t local_length;
  double plan_ms;
  char layout_text[64], layout_reason[512];
  bsd_trace *trace;         /* of the last run; NULL: not asked for */
  int64_t last_received[2]; /* bytes, by pass, of its last run */
  int64_t steps_seen; /* of the last run: leading steps of the schedule known to be complete */
  int last_pass;      /* -1 before the first run */
};

/* plan_lists.c: passes from the share and schedule. */
bsd_status bsd_plan_lists_create(const bsd_share *share, const bsd_schedule *schedule,
                                 const bsd_arrivals *arrivals, bsd_plan_lists *lists,
                                 bsd_error *error);
void bsd_plan_lists_free(bsd_plan_lists *lists, int64_t nshare_lists);
/* plan_validity.c: no row before what it needs arrives, and no token's row of a later pass in an earlier stage. */
int bsd_plan_lists_is_valid(const bsd_plan_lists *lists, const bsd_share *share,
                            const bsd_schedule *schedule);

/* plan_tables.c: where everything lies, and what a run needs beside the workspace. */
bsd_status bsd_plan_map_workspace(bsd_plan *plan, bsd_error *error);
/* Makes the tables for a workspace and takes both; if that fails the plan keeps those that it has. */
bsd_status bsd_plan_use_workspace(bsd_plan *plan, void *workspace, bsd_error *error);
void bsd_plan_free_tables(bsd_plan *plan);

/* The members of a kernel call that the plan alone decides. */
bsd_call bsd_plan_call(const bsd_plan *plan);

/* plan_choose.c: layout, share, schedule and stages, for the kernels and costs that the plan has. Collective
 * unless the plan is offline: then a named layout takes two stages, and auto is decided by a sample of ranks. */
bsd_status bsd_plan_choose(bsd_plan *plan, const bsd_layout_spec *asked, bsd_error *error);

/* plan_transpose.c: finishes shares that were begun, with the rows of all ranks; `status` is that of beginning
 * them. Collective. Errors: this rank's own; PEER naming the rank that failed; those of an exchange. */
bsd_status bsd_plan_finish_shares(const bsd_plan *plan, bsd_share **shares, int64_t nshares,
                                  bsd_status status, bsd_error *error);

/* plan_totals.c */
bsd_status bsd_rank_figures_of(const bsd_cost *cost, const bsd_share *share,
                               const bsd_schedule *schedule, const bsd_arrivals *arrivals,
                               bsd_rank_figures *figures, bsd_error *error);
void bsd_totals_add_rank(bsd_totals *totals, const bsd_rank_figures *figures);

/* Of every rank, or of more than 64 about 64 at equal distances, made here one after the other. */
bsd_status bsd_totals_offline(const bsd_task *task, const bsd_layout *layout, const bsd_cost *cost,
                              bsd_totals *totals, bsd_error *error);

/* A sum over the counted ranks as one over all. */
int64_t bsd_totals_scaled(const bsd_totals *totals, int64_t sum, int nranks);

/* The worst rank's pairs over the mean, 1 without work. */
double bsd_totals_imbalance(const bsd_totals *totals);

/* Compute of the mean rank over the worst rank's predicted time, both passes; 1 without work. */
double bsd_totals_efficiency(const bsd_totals *totals, int stage_option);

/* An address in the workspace; NULL for an offset of -1, or without a workspace. */
void *bsd_plan_at(const bsd_plan *plan, int64_t offset);

#endif
