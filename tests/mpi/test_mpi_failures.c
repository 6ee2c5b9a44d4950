/* test_mpi_failures.c - what transport mpi says when ranks disagree, stay silent, or give up. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "test_mpi.h"

#define PROMPT_SECONDS 1.0 /* a failure that is told, not waited for */

static void pause_for(double seconds) {
  struct timespec pause = {(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))};
  nanosleep(&pause, NULL);
}

/* How a rank's part of a ring exchange of 1000 bytes in step 1 differs from the others'. */
typedef struct ring_part {
  uint64_t plan_hash;
  const char *what;
  int step;
  int64_t bytes;
  int sends;
} ring_part;

static const ring_part usual = {
    .plan_hash = 11, .what = "forward", .step = 1, .bytes = 1000, .sends = 1};

/* Runs one step of the ring; the buffers stay, as a failed exchange may still hold them. */
static bsd_status run_part(bsd_comm *comm, const ring_part *part, bsd_error *error) {
  static char in[100000], out[100000];
  const bsd_exchange exchange = {.plan_hash = part->plan_hash, .what = part->what};
  const bsd_transport *transport = comm->transport;
  error->message[0] = 0;
  ck_assert_int_eq(transport->begin(comm, &exchange, error), BSD_OK);
  ck_assert_int_eq(transport->recv(comm, part->step, source_of(comm, 1), in, part->bytes, error),
                   BSD_OK);
  if (part->sends)
    ck_assert_int_eq(transport->send(comm, part->step, target_of(comm, 1), out, part->bytes, error),
                     BSD_OK);
  ck_assert_int_eq(transport->end(comm, error), BSD_OK);
  return bsd_comm_wait(comm, INT_MAX, error);
}

/* Runs the ring until it fails: a rank whose neighbours are well learns of the failure only afterwards. */
static bsd_status run_until_failure(bsd_comm *comm, const ring_part *part, bsd_error *error) {
  bsd_status status;
  do
    status = run_part(comm, part, error);
  while (status == BSD_OK);
  return status;
}

static void check_refuses_everything(bsd_comm *comm) {
  const bsd_transport *transport = comm->transport;
  const bsd_exchange forward = {.what = "forward"};
  char byte = 0;
  int done;
  bsd_error error;
  ck_assert_int_eq(comm->failed, 1);
  ck_assert_int_eq(transport->begin(comm, &forward, &error), BSD_ERR_STATE);
  ck_assert_int_eq(transport->send(comm, 0, 0, &byte, 1, &error), BSD_ERR_STATE);
  ck_assert_int_eq(transport->recv(comm, 0, 0, &byte, 1, &error), BSD_ERR_STATE);
  ck_assert_int_eq(transport->end(comm, &error), BSD_ERR_STATE);
  ck_assert_int_eq(transport->test(comm, 0, &done, &error), BSD_ERR_STATE);
  ck_assert_int_eq(transport->allgather(comm, &byte, 1, &byte, &error), BSD_ERR_STATE);
  transport->abort(comm);
}

/* The last rank differs: every rank is told so at once, and the sentence names both values. */
static void check_disagreement(ring_part odd, const char *value, const char *odd_value) {
  bsd_comm *comm = make_comm(MPI_COMM_WORLD);
  bsd_error error;
  int is_odd = comm->rank == comm->size - 1;
  double began = MPI_Wtime();
  bsd_status status = run_until_failure(comm, is_odd ? &odd : &usual, &error);
  ck_assert_msg(status == BSD_ERR_MISMATCH, "status %d: %s", status, error.message);
  ck_assert_double_lt(MPI_Wtime() - began, PROMPT_SECONDS);
  ck_assert_msg(strstr(error.message, value) && strstr(error.message, odd_value),
                "'%s' does not name %s and %s", error.message, value, odd_value);
  check_refuses_everything(comm);
  MPI_Barrier(MPI_COMM_WORLD);
  bsd_comm_destroy(comm);
}

START_TEST(ranks_that_disagree_are_told_so) {
  if (world_size < 2)
    return;
  ring_part odd = usual;
  odd.plan_hash = 12;
  check_disagreement(odd, "plan 000000000000000b", "plan 000000000000000c");
  odd = usual;
  odd.what = "backward";
  check_disagreement(odd, "in forward", "in backward");
  odd = usual;
  odd.step = 2;
  check_disagreement(odd, "step 1", "step 2");
  odd = usual;
  odd.bytes = 99;
  check_disagreement(odd, "1000", "99");
  odd.bytes = 100000;
  check_disagreement(odd, "1000", "100000");
}
END_TEST

START_TEST(rank_in_another_function_is_told) {
  if (world_size < 2)
    return;
  bsd_comm *comm = make_comm(MPI_COMM_WORLD);
  bsd_error error;
  static char in[1000], out[1000 * 64];
  bsd_status status = comm->rank == 0 ? comm->transport->allgather(comm, in, sizeof in, out, &error)
                                      : run_until_failure(comm, &usual, &error);
  ck_assert_msg(status == BSD_ERR_MISMATCH, "status %d: %s", status, error.message);
  ck_assert(strstr(error.message, "allgathe") && strstr(error.message, "forward"));
  MPI_Barrier(MPI_COMM_WORLD);
  bsd_comm_destroy(comm);
}
END_TEST

START_TEST(allgather_of_other_sizes_is_told) {
  if (world_size < 2)
    return;
  bsd_comm *comm = make_comm(MPI_COMM_WORLD);
  bsd_error error;
  static char in[16], out[16 * 64];
  int64_t bytes = comm->rank == 0 ? 16 : 8;
  ck_assert_int_eq(comm->transport->allgather(comm, in, bytes, out, &error), BSD_ERR_MISMATCH);
  ck_assert_msg(strstr(error.message, "16") && strstr(error.message, "8"), "%s", error.message);
  MPI_Barrier(MPI_COMM_WORLD);
  bsd_comm_destroy(comm);
}
END_TEST

START_TEST(checksums_on_one_rank_only_are_told) {
  if (world_size < 2)
    return;
  const char *checksum = getenv("BSD_CHECKSUM");
  char *old_checksum = checksum ? strdup(checksum) : NULL;
  setenv("BSD_CHECKSUM", world_rank == 0 ? "1" : "0", 1);
  bsd_comm *comm = make_comm(MPI_COMM_WORLD);
  bsd_error error;
  ck_assert_int_eq(run_until_failure(comm, &usual, &error), BSD_ERR_MISMATCH);
  ck_assert_msg(strstr(error.message, "BSD_CHECKSUM"), "%s", error.message);
  MPI_Barrier(MPI_COMM_WORLD);
  bsd_comm_destroy(comm);
  if (old_checksum)
    setenv("BSD_CHECKSUM", old_checksum, 1);
  else
    unsetenv("BSD_CHECKSUM");
  free(old_checksum);
}
END_TEST

/* Reads a whole file of text; the caller frees it. */
static char *read_text(const char *path) {
  size_t capacity = (size_t)1 << 20;
  char *text = calloc(1, capacity);
  FILE *file = fopen(path, "r");
  ck_assert_ptr_nonnull(file);
  size_t length = fread(text, 1, capacity - 1, file);
  fclose(file);
  ck_assert_int_gt((int)length, 0);
  return text;
}

/* The last rank receives and never sends: its neighbour names it, in the error and in the dump. */
START_TEST(message_that_never_comes_is_a_timeout) {
  if (world_size < 2)
    return;
  char path[64], culprit[64];
  snprintf(path, sizeof path, "/tmp/bsd-test-flight-%d-%d", (int)getpid(), world_rank);
  setenv("BSD_FLIGHT_FILE", path, 1);
  bsd_comm *comm = make_comm(MPI_COMM_WORLD);
  ring_part silent = usual;
  silent.sends = 0;
  silent.step = 1;
  comm->timeout = 0.3;
  bsd_error error;
  double began = MPI_Wtime();
  bsd_status status = run_part(comm, comm->rank == comm->size - 1 ? &silent : &usual, &error);
  double waited = MPI_Wtime() - began;
  if (comm->rank == 0) {
    ck_assert_int_eq(status, BSD_ERR_TIMEOUT);
    snprintf(culprit, sizeof culprit, "1000 bytes from rank %d", comm->size - 1);
    ck_assert_msg(strstr(error.message, "rank 0, forward step 1") && strstr(error.message, culprit),
                  "%s", error.message);
    ck_assert_double_gt(waited, 0.29);
    ck_assert_double_lt(waited, comm->timeout + 2);
    check_refuses_everything(comm);
    char *dump = read_text(path);
    ck_assert_msg(strstr(dump, culprit) && strstr(dump, " failed\n"), "%s", dump);
    free(dump);
    unlink(path);
  } else {
    ck_assert_msg(status == BSD_OK, "%s", error.message);
  }
  unsetenv("BSD_FLIGHT_FILE");
  MPI_Barrier(MPI_COMM_WORLD);
  bsd_comm_destroy(comm);
}
END_TEST

/* A rank that computes, or is stopped, past its deadline takes what has arrived meanwhile. */
START_TEST(rank_that_was_away_takes_what_is_there) {
  bsd_comm *comm = make_comm(MPI_COMM_WORLD);
  const bsd_exchange forward = {.what = "forward"};
  static char in[1000], out[1000];
  memset(out, 'x', sizeof out);
  comm->timeout = 0.2;
  ck_assert_int_eq(comm->transport->begin(comm, &forward, NULL), BSD_OK);
  ck_assert_int_eq(comm->transport->recv(comm, 1, source_of(comm, 1), in, 1000, NULL), BSD_OK);
  ck_assert_int_eq(comm->transport->send(comm, 1, target_of(comm, 1), out, 1000, NULL), BSD_OK);
  ck_assert_int_eq(comm->transport->end(comm, NULL), BSD_OK);
  pause_for(0.5);
  wait_for(comm, INT_MAX);
  ck_assert_mem_eq(in, out, sizeof in);
  MPI_Barrier(MPI_COMM_WORLD);
  bsd_comm_destroy(comm);
}
END_TEST

/* Rank 0 gives up for a reason of its own: the others learn it long before their deadline. */
START_TEST(rank_that_gives_up_tells_the_others) {
  if (world_size < 2)
    return;
  bsd_comm *comm = make_comm(MPI_COMM_WORLD);
  bsd_error error;
  char byte = 0, all[64];
  if (comm->rank == 0) {
    comm->transport->abort(comm);
    comm->transport->abort(comm);
  } else {
    double began = MPI_Wtime();
    ck_assert_int_eq(comm->transport->allgather(comm, &byte, 1, all, &error), BSD_ERR_PEER);
    ck_assert_double_lt(MPI_Wtime() - began, PROMPT_SECONDS);
    ck_assert_msg(strstr(error.message, "rank 0 has failed"), "%s", error.message);
  }
  check_refuses_everything(comm);
  MPI_Barrier(MPI_COMM_WORLD);
  bsd_comm_destroy(comm);
}
END_TEST

START_TEST(destroy_works_in_mid_exchange) {
  bsd_comm *comm = make_comm(MPI_COMM_WORLD);
  const bsd_exchange forward = {.what = "forward"};
  static char in[1000];
  ck_assert_int_eq(comm->transport->begin(comm, &forward, NULL), BSD_OK);
  ck_assert_int_eq(comm->transport->recv(comm, 1, source_of(comm, 1), in, 1000, NULL), BSD_OK);
  bsd_comm_destroy(comm);
  comm = make_comm(MPI_COMM_WORLD);
  run_random(comm, 3);
  bsd_comm_destroy(comm);
}
END_TEST

void add_failure_tests(TCase *tests) {
  tcase_add_test(tests, ranks_that_disagree_are_told_so);
  tcase_add_test(tests, rank_in_another_function_is_told);
  tcase_add_test(tests, allgather_of_other_sizes_is_told);
  tcase_add_test(tests, checksums_on_one_rank_only_are_told);
  tcase_add_test(tests, message_that_never_comes_is_a_timeout);
  tcase_add_test(tests, rank_that_was_away_takes_what_is_there);
  tcase_add_test(tests, rank_that_gives_up_tells_the_others);
  tcase_add_test(tests, destroy_works_in_mid_exchange);
}
