/* test_faults.c - exchanges over a network with faults: none hangs, none is wrong in silence.
 *
 * BSD_TEST_FAULTS=N runs N seeded schedules instead of the few of `make check`. */
#include <check.h>
#include <inttypes.h>
#include <limits.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/transport.h"
#include "fault_suite.h"
#include "fault_transport.h"
#include "src/bsdattn_mpi.h"

#define SCHEDULES 150
#define DEADLINE  0.2
#define PATIENCE  (DEADLINE + 2) /* the promise: an error within T + 2 s */
#define UNTOUCHED 0xee

static int world_rank, world_size;
static const char *dump_path;

static bsd_comm *make_comm(double timeout) {
  bsd_comm *comm = NULL;
  bsd_error error = {.message = ""};
  ck_assert_msg(bsd_comm_create_mpi(MPI_COMM_WORLD, &comm, &error) == BSD_OK, "%s", error.message);
  comm->timeout = timeout;
  return comm;
}

/* Late messages have gone before the communicator does: MPI would take them for those of the next. */
static void destroy_comm(bsd_comm *comm) {
  fault_suite_barrier();
  faults_stop();
  fault_suite_barrier();
  bsd_comm_destroy(comm);
}

/* ---- one exchange with known contents ---------------------------------------------------- */

static unsigned char content(uint64_t seed, int sender, int receiver, int64_t at) {
  uint64_t x = seed * 0x9e3779b97f4a7c15u + (uint64_t)(sender * 64 + receiver);
  x = (x + (uint64_t)at) * 0xbf58476d1ce4e5b9u;
  return (unsigned char)(x >> 32);
}

/* Mostly small, sometimes beyond the size from which MPI asks the receiver first. */
static int64_t bytes_between(uint64_t seed, int sender, int receiver) {
  int draw = content(seed + 1, sender, receiver, 7);
  return draw % 8 == 0 ? 70000 + draw : 1 + 5 * draw;
}

typedef struct mailbox {
  unsigned char *sent[64], *received[64]; /* by step */
} mailbox;

/* A ring with all ranks. The status, or -1 where it says OK of wrong contents. */
static int run_exchange(bsd_comm *comm, uint64_t seed, const char *what, bsd_error *error) {
  const bsd_transport *transport = comm->transport;
  const bsd_exchange exchange = {.plan_hash = seed, .what = what};
  mailbox box;
  bsd_status status = transport->begin(comm, &exchange, error);
  for (int step = 1; step < comm->size; step++) {
    int target = (comm->rank + step) % comm->size;
    int source = (comm->rank + comm->size - step) % comm->size;
    int64_t in = bytes_between(seed, source, comm->rank);
    int64_t out = bytes_between(seed, comm->rank, target);
    box.sent[step] = malloc((size_t)out);
    box.received[step] = malloc((size_t)in);
    memset(box.received[step], UNTOUCHED, (size_t)in);
    for (int64_t i = 0; i < out; i++)
      box.sent[step][i] = content(seed, comm->rank, target, i);
    if (status == BSD_OK)
      status = transport->recv(comm, step, source, box.received[step], in, error);
    if (status == BSD_OK)
      status = transport->send(comm, step, target, box.sent[step], out, error);
  }
  if (status == BSD_OK)
    status = transport->end(comm, error);
  if (status == BSD_OK)
    status = bsd_comm_wait(comm, INT_MAX, error);
  if (status != BSD_OK)
    return status; /* MPI may still use the mailbox: it stays */
  int64_t wrong = 0;
  for (int step = 1; step < comm->size; step++) {
    int source = (comm->rank + comm->size - step) % comm->size;
    for (int64_t i = 0; i < bytes_between(seed, source, comm->rank); i++)
      wrong += box.received[step][i] != content(seed, source, comm->rank, i);
    free(box.sent[step]);
    free(box.received[step]);
  }
  return wrong ? -1 : (int)status;
}

/* All ranks' ranks, through the control plane. */
static int run_allgather(bsd_comm *comm, uint64_t seed, bsd_error *error) {
  uint64_t mine = seed * 64 + (uint64_t)comm->rank;
  uint64_t *all = calloc((size_t)comm->size, sizeof *all);
  bsd_status status = comm->transport->allgather(comm, &mine, sizeof mine, all, error);
  if (status != BSD_OK)
    return status;
  int wrong = 0;
  for (int rank = 0; rank < comm->size; rank++)
    wrong += all[rank] != seed * 64 + (uint64_t)rank;
  free(all);
  return wrong ? -1 : (int)status;
}

/* ---- seeded schedules -------------------------------------------------------------------- */

static int64_t schedules_wanted(void) {
  const char *text = getenv("BSD_TEST_FAULTS");
  return text ? strtoll(text, NULL, 10) : SCHEDULES;
}

/* What a rank has seen, summed over the ranks at the end: a test that stopped on one rank alone would leave
 * the others waiting. */
typedef struct tally {
  int64_t statuses[BSD_ERR_BACKEND + 1];
  int64_t silent;   /* OK of wrong contents */
  int64_t slow;     /* an exchange that took longer than the promise */
  int64_t unmarked; /* comm->failed does not say what the status says */
  int64_t faults[FAULT_KINDS];
} tally;

/* Three exchanges, each after the other went well. */
static void run_schedule(uint64_t seed, tally *seen) {
  bsd_error error;
  bsd_comm *comm = make_comm(DEADLINE);
  int status = BSD_OK;
  faults_at_random(seed * 64 + (uint64_t)world_rank, 6 * (uint64_t)(world_size * (world_size - 1)));
  for (int part = 0; part < 3 && status == BSD_OK; part++) {
    double began = MPI_Wtime();
    status = part == 0 ? run_allgather(comm, seed, &error)
                       : run_exchange(comm, seed, part == 1 ? "forward" : "backward", &error);
    seen->slow += MPI_Wtime() - began > PATIENCE;
  }
  if (status < 0)
    seen->silent++;
  else
    seen->statuses[status]++;
  seen->unmarked += comm->failed != (status > 0);
  destroy_comm(comm);
}

START_TEST(no_schedule_of_faults_hangs_or_is_wrong_in_silence) {
  if (world_size < 2)
    return;
  tally seen = {.silent = 0};
  for (int64_t i = 0; i < schedules_wanted(); i++)
    run_schedule((uint64_t)i, &seen);
  for (int kind = 0; kind < FAULT_KINDS; kind++)
    seen.faults[kind] = faults_done((fault_kind)kind);
  MPI_Allreduce(MPI_IN_PLACE, &seen, sizeof seen / sizeof(int64_t), MPI_INT64_T, MPI_SUM,
                MPI_COMM_WORLD);
  const int64_t *statuses = seen.statuses;
  if (world_rank == 0)
    printf("%" PRId64 " drops, %" PRId64 " delays, %" PRId64 " duplicates, %" PRId64
           " cuts, %" PRId64 " swaps, %" PRId64 " flips; ranks: %" PRId64 " good, %" PRId64
           " timeout, %" PRId64 " peer, %" PRId64 " mismatch\n",
           seen.faults[FAULT_DROP], seen.faults[FAULT_DELAY], seen.faults[FAULT_DUPLICATE],
           seen.faults[FAULT_CUT], seen.faults[FAULT_SWAP], seen.faults[FAULT_FLIP],
           statuses[BSD_OK], statuses[BSD_ERR_TIMEOUT], statuses[BSD_ERR_PEER],
           statuses[BSD_ERR_MISMATCH]);
  ck_assert_int_eq(seen.silent, 0);
  ck_assert_int_eq(seen.slow, 0);
  ck_assert_int_eq(seen.unmarked, 0);
  ck_assert_int_eq(statuses[BSD_OK] + statuses[BSD_ERR_TIMEOUT] + statuses[BSD_ERR_PEER] +
                       statuses[BSD_ERR_MISMATCH],
                   schedules_wanted() * world_size);
  ck_assert_int_gt(statuses[BSD_OK], 0);
  ck_assert_int_gt(statuses[BSD_ERR_TIMEOUT], 0);
  ck_assert_int_gt(statuses[BSD_ERR_PEER], 0);
  for (int kind = 0; kind < FAULT_KINDS; kind++)
    ck_assert_int_gt(seen.faults[kind], 0);
}
END_TEST

/* ---- one fault at a time ----------------------------------------------------------------- */

/* The nth message of the last rank suffers; message 0 is the header and 1 the payload of its step 1, to
 * rank 0. Returns rank 0's status on every rank. */
static int run_one_fault(fault_kind kind, int64_t nth, bsd_error *error) {
  bsd_comm *comm = make_comm(DEADLINE);
  error->message[0] = 0;
  fault_suite_barrier();
  if (world_rank == world_size - 1)
    faults_at(kind, nth);
  int status = run_exchange(comm, 5, "forward", error);
  destroy_comm(comm);
  MPI_Bcast(&status, 1, MPI_INT, 0, MPI_COMM_WORLD);
  return status;
}

/* The same, where rank 0's sentence names itself, the step and the peer. */
static int run_named_fault(fault_kind kind, int64_t nth) {
  bsd_error error;
  char peer[64];
  int status = run_one_fault(kind, nth, &error);
  snprintf(peer, sizeof peer, "from rank %d", world_size - 1);
  int named = strstr(error.message, "rank 0, forward step 1") && strstr(error.message, peer);
  MPI_Bcast(&named, 1, MPI_INT, 0, MPI_COMM_WORLD);
  ck_assert_msg(named, "%s: %s", fault_name(kind), world_rank == 0 ? error.message : "see rank 0");
  return status;
}

START_TEST(each_fault_has_its_error) {
  if (world_size < 2)
    return;
  bsd_error error;
  for (int64_t part = 0; part < 2; part++) {
    ck_assert_int_eq(run_named_fault(FAULT_DROP, part), BSD_ERR_TIMEOUT);
    ck_assert_int_eq(run_named_fault(FAULT_CUT, part), BSD_ERR_PEER);
    ck_assert_int_eq(run_named_fault(FAULT_FLIP, part), BSD_ERR_PEER);
    if (part == 0 || world_size > 2) /* else no message follows */
      ck_assert_int_eq(run_one_fault(FAULT_SWAP, part, &error), BSD_ERR_PEER);
    ck_assert_int_eq(run_one_fault(FAULT_DUPLICATE, part, &error), BSD_OK);
    fault_delay_seconds = DEADLINE / 4;
    ck_assert_int_eq(run_one_fault(FAULT_DELAY, part, &error), BSD_OK);
    fault_delay_seconds = 4 * DEADLINE;
    ck_assert_int_eq(run_named_fault(FAULT_DELAY, part), BSD_ERR_TIMEOUT);
  }
  fault_delay_seconds = 1.5 * DEADLINE;
}
END_TEST

/* Whether the file holds the text, near its beginning. */
static int file_begins_with(const char *path, const char *wanted) {
  char text[4096];
  FILE *file = fopen(path, "r");
  if (!file)
    return 0;
  size_t length = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  text[length] = 0;
  return strstr(text, wanted) != NULL;
}

/* Twenty hangs: the dump names the culprit each time. */
START_TEST(dump_of_a_hang_names_the_culprit) {
  if (world_size < 2)
    return;
  char path[64], culprit[64];
  snprintf(path, sizeof path, "/tmp/bsd-test-hang-%d-%d", (int)getpid(), world_rank);
  snprintf(culprit, sizeof culprit, "bytes from rank %d have not arrived", world_size - 1);
  setenv("BSD_FLIGHT_FILE", path, 1);
  int named = 0;
  for (int repeat = 0; repeat < 20; repeat++) {
    bsd_error error;
    unlink(path);
    int status = run_one_fault(FAULT_DROP, repeat % 2, &error);
    named += status == BSD_ERR_TIMEOUT && file_begins_with(path, culprit);
  }
  unlink(path);
  setenv("BSD_FLIGHT_FILE", dump_path, 1);
  MPI_Bcast(&named, 1, MPI_INT, 0, MPI_COMM_WORLD);
  ck_assert_int_eq(named, 20);
}
END_TEST

int main(int argc, char **argv) {
  dump_path = fault_suite_start(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &world_rank);
  MPI_Comm_size(MPI_COMM_WORLD, &world_size);
  TCase *tests = tcase_create("faults");
  tcase_add_test(tests, each_fault_has_its_error);
  tcase_add_test(tests, no_schedule_of_faults_hangs_or_is_wrong_in_silence);
  tcase_add_test(tests, dump_of_a_hang_names_the_culprit);
  return fault_suite_run("faults", tests);
}
