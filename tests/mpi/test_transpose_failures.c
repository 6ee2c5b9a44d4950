/* test_transpose_failures.c - planning that fails on one rank, in the exchange of rows or before it: all ranks
 * have an error in time, and a plan that is made is the right one; a workspace that cannot be taken. */
#include <check.h>
#include <inttypes.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault_suite.h"
#include "fault_transport.h"
#include "plan.h"
#include "src/bsdattn_mpi.h"
#include "support/failing_memory.h"
#include "support/library.h"
#include "support/same_share.h"

#define SCHEDULES 60
#define DEADLINE  0.2
#define PATIENCE  (DEADLINE + 2) /* the promise: an error within T + 2 s */

static int world_rank, world_size;
static bsd_pattern *pattern;
static bsd_problem problem;
static bsd_plan *alone; /* what this rank plans by itself */

/* ---- the world --------------------------------------------------------------------------- */

static bsd_context *make_context(bsd_comm **comm, double timeout) {
  bsd_context *context = NULL;
  bsd_error error = {.message = ""};
  ck_assert_msg(bsd_comm_create_mpi(MPI_COMM_WORLD, comm, &error) == BSD_OK, "%s", error.message);
  bsd_context_options options = {.struct_size = sizeof options,
                                 .backend = BSD_BACKEND_CPU,
                                 .threads = 1,
                                 .comm = *comm,
                                 .timeout_seconds = timeout};
  library_expect(bsd_context_create(&options, &context, &error), NULL, error.message);
  return context;
}

/* Fails the test on all ranks unless `good` is true on each: one that stopped alone would leave the others
 * waiting. */
static void expect(int good, int64_t k, const char *said) {
  int all = good;
  MPI_Allreduce(MPI_IN_PLACE, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  ck_assert_msg(all, "rank %d, allocation %d: %s", world_rank, (int)k, good ? "good here" : said);
}

/* Messages are short: Open MPI 4.1 writes beyond the end of a receive that a long one is swapped into. */
static void make_world(void) {
  bsd_context *own = library_context(1);
  pattern = library_pattern_text("w=128,blocks=random(3,1)+local(1,0);blocks=random(2,9)");
  problem = (bsd_problem){
      .struct_size = sizeof problem, .length = 500, .heads = 2, .head_dim = 8, .block = 16};
  library_expect(bsd_plan_create_offline(own, pattern, &problem, world_rank, world_size, &alone),
                 own, "bsd_plan_create_offline");
}

/* ---- out of memory ----------------------------------------------------------------------- */

/* The last rank's allocation k fails: it says so, the others name it. True once it has fewer allocations. */
static int fail_allocation(int64_t k, int64_t counts[2]) {
  bsd_comm *comm;
  bsd_context *context = make_context(&comm, 20);
  bsd_plan *plan = NULL;
  char named[32];
  int victim = world_size - 1, failed;
  if (world_rank == victim)
    memory_fail_at(k, 0);
  bsd_status status = bsd_plan_create(context, pattern, &problem, &plan);
  failed = memory_failed();
  memory_fail_at(0, 0);
  MPI_Bcast(&failed, 1, MPI_INT, victim, MPI_COMM_WORLD);
  snprintf(named, sizeof named, "rank %d ", victim);
  const char *said = bsd_last_error(context);
  if (!failed)
    expect(status == BSD_OK && same_share(plan->share, alone->share, NULL), k, said);
  else
    expect(world_rank == victim ? status == BSD_ERR_MEMORY
                                : status == BSD_ERR_PEER && strstr(said, named) != NULL,
           k, said);
  counts[comm->failed]++;
  bsd_plan_destroy(plan);
  plan = NULL;
  if (failed && !comm->failed)
    library_expect(bsd_plan_create(context, pattern, &problem, &plan), context, "the next plan");
  bsd_plan_destroy(plan);
  fault_suite_barrier();
  bsd_context_destroy(context);
  bsd_comm_destroy(comm);
  return !failed;
}

START_TEST(memory_that_one_rank_lacks_is_an_error_on_all) {
  int64_t k = 1, counts[2] = {0, 0}; /* of communicators that could go on, and could not */
  while (!fail_allocation(k, counts))
    k++;
  ck_assert_int_gt(k, 200);
  ck_assert_int_gt(counts[0],
                   10 * counts[1]); /* only a transport that lacks memory ends its communicator */
}
END_TEST

enum { ROW = 2 * 8 }; /* elements of a token */

/* A forward of this rank's tokens; o is [local n][H][D]. */
static bsd_status run_forward(bsd_plan *plan, int64_t local, float *in, float *o) {
  bsd_tensor tensors[4];
  for (int t = 0; t < 4; t++)
    tensors[t] = (bsd_tensor){.data = t < 3 ? in + t * local * ROW : o};
  memset(o, 0, sizeof *o * (size_t)(local * ROW));
  return bsd_forward(plan, &tensors[0], &tensors[1], &tensors[2], &tensors[3], NULL, NULL);
}

/* Every allocation of bsd_plan_set_workspace fails in turn: the plan goes on with the workspace that it has. */
START_TEST(a_workspace_that_is_not_taken_changes_nothing) {
  bsd_comm *comm;
  bsd_context *context = make_context(&comm, 20);
  bsd_plan *plan = NULL;
  size_t bytes;
  library_expect(bsd_plan_create(context, pattern, &problem, &plan), context, "plan");
  library_expect(bsd_plan_workspace_bytes(plan, &bytes), context, "workspace");
  const int64_t local = library_stats(plan).local_length;
  float *in = calloc((size_t)(3 * local * ROW), sizeof *in),
        *expected = calloc((size_t)(local * ROW), sizeof *in),
        *o = calloc((size_t)(local * ROW), sizeof *in);
  for (int64_t e = 0; e < 3 * local * ROW; e++)
    in[e] = (float)((e * 37 + world_rank) % 101) / 50 - 1;
  library_expect(run_forward(plan, local, in, expected), context, "forward");
  void *workspace = aligned_alloc(256, (bytes + 255) / 256 * 256);
  int64_t k = 0;
  for (int any = 1; any;) {
    memory_fail_at(++k, 0);
    bsd_status status = bsd_plan_set_workspace(plan, workspace, bytes);
    int failed = memory_failed();
    memory_fail_at(0, 0);
    expect(status == (failed ? BSD_ERR_MEMORY : BSD_OK), k, bsd_last_error(context));
    expect(run_forward(plan, local, in, o) == BSD_OK, k, bsd_last_error(context));
    expect(memcmp(o, expected, sizeof *o * (size_t)(local * ROW)) == 0, k, "another o");
    MPI_Allreduce(&failed, &any, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  }
  ck_assert_int_gt(k, 5);
  bsd_plan_destroy(plan);
  free(workspace);
  free(o);
  free(expected);
  free(in);
  bsd_context_destroy(context);
  bsd_comm_destroy(comm);
}
END_TEST

/* ---- a network with faults --------------------------------------------------------------- */

typedef struct tally {
  int64_t statuses[BSD_ERR_BACKEND + 1];
  int64_t silent; /* OK of another plan */
  int64_t slow;
} tally;

static void run_schedule(uint64_t seed, tally *seen) {
  bsd_comm *comm;
  bsd_context *context = make_context(&comm, DEADLINE);
  bsd_plan *plan = NULL;
  fault_suite_barrier();
  double began = MPI_Wtime();
  faults_at_random(seed * 64 + (uint64_t)world_rank,
                   20 * (uint64_t)(world_size * (world_size - 1)));
  bsd_status status = bsd_plan_create(context, pattern, &problem, &plan);
  seen->slow += MPI_Wtime() - began > PATIENCE;
  seen->statuses[status]++;
  if (status == BSD_OK)
    seen->silent += !same_share(plan->share, alone->share, NULL);
  fault_suite_barrier();
  faults_stop();
  fault_suite_barrier();
  bsd_plan_destroy(plan);
  bsd_context_destroy(context);
  bsd_comm_destroy(comm);
}

START_TEST(no_schedule_of_faults_hangs_or_plans_wrong_in_silence) {
  tally seen = {.silent = 0};
  for (uint64_t seed = 0; seed < SCHEDULES; seed++)
    run_schedule(seed, &seen);
  MPI_Allreduce(MPI_IN_PLACE, &seen, sizeof seen / sizeof(int64_t), MPI_INT64_T, MPI_SUM,
                MPI_COMM_WORLD);
  const int64_t *statuses = seen.statuses;
  ck_assert_int_eq(seen.silent, 0);
  ck_assert_int_eq(seen.slow, 0);
  ck_assert_int_eq(statuses[BSD_OK] + statuses[BSD_ERR_TIMEOUT] + statuses[BSD_ERR_PEER] +
                       statuses[BSD_ERR_MISMATCH],
                   SCHEDULES * world_size);
  ck_assert_int_gt(statuses[BSD_OK], 0);
  ck_assert_int_gt(statuses[BSD_ERR_TIMEOUT], 0);
  ck_assert_int_gt(statuses[BSD_ERR_PEER], 0);
}
END_TEST

int main(int argc, char **argv) {
  fault_suite_start(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &world_rank);
  MPI_Comm_size(MPI_COMM_WORLD, &world_size);
  make_world();
  TCase *tests = tcase_create("transpose failures");
  tcase_add_test(tests, memory_that_one_rank_lacks_is_an_error_on_all);
  tcase_add_test(tests, a_workspace_that_is_not_taken_changes_nothing);
  tcase_add_test(tests, no_schedule_of_faults_hangs_or_plans_wrong_in_silence);
  int status = fault_suite_run("transpose failures", tests);
  bsd_plan_destroy(alone);
  bsd_pattern_destroy(pattern);
  return status;
}
