/* plan.h - one pattern for one problem on one rank: everything decided, nothing left to execution.
 *
 * plan.c creates it (the ranks agree, the layout is chosen), plan_lists.c turns the share into passes of
 * lists ordered by stage, plan_tables.c lays out messages and workspace, plan_report.c answers questions. */
#ifndef BSD_PLAN_H
#define BSD_PLAN_H

#include "context.h"
#include "layout.h"
#include "lists.h"
#include "schedule.h"
#include "share.h"
#include "task.h"

/* Sums and maxima over the ranks. */
typedef struct bsd_totals {
  int64_t pairs, pairs_worst;
  int64_t active_blocks;
  int64_t received[2], received_worst[2]; /* by pass */
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

/* What the last run of a pass moved and waited for, by the host's clock. */
typedef struct bsd_pass_record {
  int64_t bytes_received;
  double exposed_ms, exchange_ms;
} bsd_pass_record;

enum { BSD_EVENT_FORK, BSD_EVENT_JOIN, BSD_EVENT_LOCAL_DONE, BSD_EVENT_REJOINED, BSD_EVENTS };

struct bsd_plan {
  bsd_context *context;
  bsd_task *task;
  bsd_layout layout;
  bsd_share *share;
  bsd_schedule schedule;
  int rank, nranks;
  int offline; /* made without a communicator: cannot run */
  uint64_t hash;
  const bsd_kernels *kernels;
  bsd_plan_lists lists;
  bsd_lists *row_lists, *column_lists;     /* ready for the backend */
  int accumulate_rows, accumulate_columns; /* several passes add to one output */
  int clear;                               /* some tokens may be in no row of a pass */
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
  bsd_pass_record record[2]; /* by pass, of the last run */
  double posted_at;          /* host clock, seconds */
  int last_pass;             /* -1 before the first run */
};

/* plan_lists.c: passes from the share and schedule. */
bsd_status bsd_plan_lists_create(const bsd_share *share, const bsd_schedule *schedule,
                                 bsd_plan_lists *lists, bsd_error *error);
void bsd_plan_lists_free(bsd_plan_lists *lists, int64_t nshare_lists);
/* plan_validity.c: no row before what it needs arrives, and no token's row of a later pass in an earlier stage. */
int bsd_plan_lists_is_valid(const bsd_plan_lists *lists, const bsd_share *share,
                            const bsd_schedule *schedule);

/* plan_tables.c: where everything lies, and what a run needs beside the workspace. */
bsd_status bsd_plan_map_workspace(bsd_plan *plan, bsd_error *error);
bsd_status bsd_plan_build_tables(bsd_plan *plan, bsd_error *error);
void bsd_plan_free_tables(bsd_plan *plan);

/* The members of a kernel call that the plan alone decides. */
bsd_call bsd_plan_call(const bsd_plan *plan);

/* plan_report.c: sums over all ranks of an offline plan. */
bsd_status bsd_plan_offline_totals(const bsd_task *task, const bsd_layout *layout, int stride,
                                   bsd_totals *totals, bsd_error *error);
/* What one rank knows of itself: {pairs, active_blocks, received forward, received backward}. */
enum { BSD_RANK_TOTALS = 4 };
void bsd_totals_of_rank(const bsd_share *share, const bsd_schedule *schedule,
                        int64_t values[BSD_RANK_TOTALS]);
void bsd_totals_add_rank(bsd_totals *totals, const int64_t values[BSD_RANK_TOTALS]);

/* The worst rank's pairs over the mean, 1 without work; and the predicted seconds of a pass. */
double bsd_totals_imbalance(const bsd_totals *totals, int nranks);
double bsd_plan_predict(const bsd_plan *plan, const bsd_totals *totals, int pass);

/* An address in the workspace; NULL for an offset of -1, or without a workspace. */
void *bsd_plan_at(const bsd_plan *plan, int64_t offset);

#endif
