/* test_mpi.c - transport mpi on any number of ranks: what arrives, and what is said when it cannot.
 *
 * Every rank runs the same tests in the same order; each makes communicators of its own. */
#include <check.h>
#include <limits.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "comm/flight.h"
#include "comm/transport.h"
#include "src/bsdattn_mpi.h"

#define PROMPT_SECONDS 1.0 /* a failure that is told, not waited for */

static int world_rank, world_size;

static bsd_comm *make_comm(MPI_Comm mpi_comm) {
  bsd_comm *comm = NULL;
  bsd_error error = {.message = ""};
  ck_assert_msg(bsd_comm_create_mpi(mpi_comm, &comm, &error) == BSD_OK, "%s", error.message);
  comm->timeout = 30;
  return comm;
}

/* The step's partners in ring order; step 0 is the rank itself. */
static int target_of(const bsd_comm *comm, int step) {
  return (comm->rank + step) % comm->size;
}
static int source_of(const bsd_comm *comm, int step) {
  return (comm->rank + comm->size - step) % comm->size;
}

static void pause_for(double seconds) {
  struct timespec pause = {(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))};
  nanosleep(&pause, NULL);
}

/* A number that depends on all its arguments (splitmix64). */
static uint64_t mix(uint64_t seed, uint64_t a, uint64_t b) {
  uint64_t x = seed * 0x9e3779b97f4a7c15u + a * 0xbf58476d1ce4e5b9u + b * 0x94d049bb133111ebu;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

/* ---- random exchanges: any pair may be empty, sizes from 1 byte to beyond MPI's eager limits ---- */

static int64_t bytes_between(uint64_t seed, int sender, int receiver) {
  uint64_t draw = mix(seed, (uint64_t)sender, (uint64_t)receiver);
  if (draw % 4 == 0)
    return 0;
  return 1 + (int64_t)(draw / 8 % (draw % 4 == 1 ? 100 : 200000));
}

static unsigned char content(uint64_t seed, int sender, int receiver, int64_t at) {
  return (unsigned char)mix(seed + 1, (uint64_t)(sender * 1000 + receiver), (uint64_t)(at / 64));
}

typedef struct random_exchange {
  uint64_t seed;
  unsigned char **sent, **received; /* one per step */
} random_exchange;

static void post_random(bsd_comm *comm, random_exchange *ring) {
  const bsd_transport *transport = comm->transport;
  const bsd_exchange forward = {.plan_hash = ring->seed, .what = "forward"};
  ck_assert_int_eq(transport->begin(comm, &forward, NULL), BSD_OK);
  for (int step = 0; step < comm->size; step++) {
    int target = target_of(comm, step), source = source_of(comm, step);
    int64_t out = bytes_between(ring->seed, comm->rank, target);
    int64_t in = bytes_between(ring->seed, source, comm->rank);
    ring->sent[step] = malloc((size_t)out + 1);
    ring->received[step] = calloc(1, (size_t)in + 1);
    for (int64_t i = 0; i < out; i++)
      ring->sent[step][i] = content(ring->seed, comm->rank, target, i);
    if (in > 0)
      ck_assert_int_eq(transport->recv(comm, step, source, ring->received[step], in, NULL), BSD_OK);
    if (out > 0)
      ck_assert_int_eq(transport->send(comm, step, target, ring->sent[step], out, NULL), BSD_OK);
  }
  ck_assert_int_eq(transport->end(comm, NULL), BSD_OK);
}

static void check_step(const bsd_comm *comm, const random_exchange *ring, int step) {
  int source = source_of(comm, step);
  int64_t in = bytes_between(ring->seed, source, comm->rank), wrong = 0;
  for (int64_t i = 0; i < in; i++)
    wrong += ring->received[step][i] != content(ring->seed, source, comm->rank, i);
  ck_assert_int_eq(wrong, 0);
  ck_assert_int_eq(ring->received[step][in], 0);
}

static void wait_for(bsd_comm *comm, int last_step) {
  bsd_error error = {.message = ""};
  ck_assert_msg(bsd_comm_wait(comm, last_step, &error) == BSD_OK, "%s", error.message);
}

static random_exchange make_exchange(const bsd_comm *comm, uint64_t seed) {
  random_exchange ring = {.seed = seed,
                          .sent = calloc((size_t)comm->size, sizeof(unsigned char *)),
                          .received = calloc((size_t)comm->size, sizeof(unsigned char *))};
  return ring;
}

static void free_exchange(const bsd_comm *comm, random_exchange *ring) {
  for (int step = 0; step < comm->size; step++) {
    free(ring->sent[step]);
    free(ring->received[step]);
  }
  free(ring->sent);
  free(ring->received);
}

static void run_random(bsd_comm *comm, uint64_t seed) {
  random_exchange ring = make_exchange(comm, seed);
  post_random(comm, &ring);
  wait_for(comm, INT_MAX);
  for (int step = 0; step < comm->size; step++)
    check_step(comm, &ring, step);
  free_exchange(comm, &ring);
}

START_TEST(communicator_has_the_ranks_of_mpi) {
  bsd_comm *comm = make_comm(MPI_COMM_WORLD);
  ck_assert_int_eq(comm->rank, world_rank);
  ck_assert_int_eq(comm->size, world_size);
  ck_assert_str_eq(comm->transport->name, "mpi");
  ck_assert_int_eq(comm->failed, 0);
  bsd_comm_destroy(comm);
}
END_TEST

START_TEST(default_deadline_is_300_seconds) {
  bsd_comm *comm = NULL;
  ck_assert_int_eq(bsd_comm_create_mpi(MPI_COMM_WORLD, &comm, NULL), BSD_OK);
  ck_assert_double_eq(comm->timeout, 300);
  bsd_comm_destroy(comm);
}
END_TEST

START_TEST(random_exchanges_arrive) {
  bsd_comm *comm = make_comm(MPI_COMM_WORLD);
  for (uint64_t seed = 0; seed < 60; seed++)
    run_random(comm, seed);
  bsd_comm_destroy(comm);
}
END_TEST

START_TEST(early_steps_can_be_waited_for_alone) {
  bsd_comm *comm = make_comm(MPI_COMM_WORLD);
  for (uint64_t seed = 100; seed < 110; seed++) {
    random_exchange ring = make_exchange(comm, seed);
    post_random(comm, &ring);
    for (int step = 0; step < comm->size; step++) {
      wait_for(comm, step);
      check_step(comm, &ring, step);
    }
    wait_for(comm, INT_MAX);
    free_exchange(comm, &ring);
  }
  bsd_comm_destroy(comm);
}
END_TEST

START_TEST(exchange_without_messages_is_done) {
  bsd_comm *comm = make_comm(MPI_COMM_WORLD);
  const bsd_exchange forward = {.what = "forward"};
  int done = 0;
  ck_assert_int_eq(comm->transport->begin(comm, &forward, NULL), BSD_OK);
  ck_assert_int_eq(comm->transport->end(comm, NULL), BSD_OK);
  ck_assert_int_eq(comm->transport->test(comm, INT_MAX, &done, NULL), BSD_OK);
  ck_assert_int_eq(done, 1);
  bsd_comm_destroy(comm);
}
END_TEST

START_TEST(allgather_is_in_rank_order) {
  bsd_comm *comm = make_comm(MPI_COMM_WORLD);
  static const int64_t sizes[] = {1, 8, 1000, 300000};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    int64_t bytes = sizes[i], wrong = 0;
    unsigned char *in = malloc((size_t)bytes), *out = malloc((size_t)(bytes * comm->size));
    memset(in, comm->rank + 1, (size_t)bytes);
    ck_assert_int_eq(comm->transport->allgather(comm, in, bytes, out, NULL), BSD_OK);
    for (int64_t at = 0; at < bytes * comm->size; at++)
      wrong += out[at] != at / bytes + 1;
    ck_assert_int_eq(wrong, 0);
    free(in);
    free(out);
  }
  bsd_comm_destroy(comm);
}
END_TEST

START_TEST(communicators_do_not_mix) {
  MPI_Comm reversed, half;
  MPI_Comm_split(MPI_COMM_WORLD, 0, -world_rank, &reversed);
  MPI_Comm_split(MPI_COMM_WORLD, world_rank % 2, 0, &half);
  bsd_comm *comms[] = {make_comm(MPI_COMM_WORLD), make_comm(reversed), make_comm(half)};
  MPI_Comm_free(&reversed); /* the library has its own */
  MPI_Comm_free(&half);
  ck_assert_int_eq(comms[1]->rank, world_size - 1 - world_rank);
  ck_assert_int_eq(comms[2]->rank, world_rank / 2);
  for (uint64_t repeat = 0; repeat < 5; repeat++) {
    random_exchange rings[3];
    for (uint64_t i = 0; i < 3; i++) {
      rings[i] = make_exchange(comms[i], 10 * repeat + i);
      post_random(comms[i], &rings[i]);
    }
    for (int i = 2; i >= 0; i--) {
      wait_for(comms[i], INT_MAX);
      for (int step = 0; step < comms[i]->size; step++)
        check_step(comms[i], &rings[i], step);
      free_exchange(comms[i], &rings[i]);
    }
  }
  for (int i = 0; i < 3; i++)
    bsd_comm_destroy(comms[i]);
}
END_TEST

/* Two chunks, the second small, and more than an int counts: with BSD_TEST_LARGE=1, on 1 or 2 ranks. */
START_TEST(messages_beyond_2_GiB_arrive) {
  const char *large = getenv("BSD_TEST_LARGE");
  if (world_size > 2 || !large || strcmp(large, "1") != 0)
    return;
  bsd_comm *comm = make_comm(MPI_COMM_WORLD);
  const bsd_exchange forward = {.what = "forward"};
  int64_t bytes = ((int64_t)1 << 31) + 4099, wrong = 0;
  unsigned char *in = malloc((size_t)bytes), *out = malloc((size_t)bytes);
  int source = source_of(comm, 1), target = target_of(comm, 1);
  for (int64_t i = 0; i < bytes; i++)
    out[i] = (unsigned char)((i >> 20) + i + comm->rank);
  ck_assert_int_eq(comm->transport->begin(comm, &forward, NULL), BSD_OK);
  ck_assert_int_eq(comm->transport->recv(comm, 1, source, in, bytes, NULL), BSD_OK);
  ck_assert_int_eq(comm->transport->send(comm, 1, target, out, bytes, NULL), BSD_OK);
  ck_assert_int_eq(comm->transport->end(comm, NULL), BSD_OK);
  wait_for(comm, INT_MAX);
  for (int64_t i = 0; i < bytes; i++)
    wrong += in[i] != (unsigned char)((i >> 20) + i + source);
  ck_assert_int_eq(wrong, 0);
  free(in);
  free(out);
  bsd_comm_destroy(comm);
}
END_TEST

/* ---- refusals ---------------------------------------------------------------------------- */

START_TEST(calls_out_of_order_and_bad_arguments_are_refused) {
  bsd_comm *comm = make_comm(MPI_COMM_WORLD);
  const bsd_transport *transport = comm->transport;
  const bsd_exchange forward = {.what = "forward"};
  const bsd_exchange on_device = {.what = "forward", .on_device = 1};
  char byte = 0;
  int done = 0;
  bsd_error error;
  ck_assert_int_eq(transport->send(comm, 1, 0, &byte, 1, &error), BSD_ERR_STATE);
  ck_assert_int_eq(transport->end(comm, &error), BSD_ERR_STATE);
  ck_assert_int_eq(transport->begin(comm, &on_device, &error), BSD_ERR_UNSUPPORTED);
  ck_assert_ptr_nonnull(strstr(error.message, "transport mpi"));
  ck_assert_int_eq(transport->begin(comm, &forward, &error), BSD_OK);
  ck_assert_int_eq(transport->begin(comm, &forward, &error), BSD_ERR_STATE);
  ck_assert_int_eq(transport->test(comm, 0, &done, &error), BSD_ERR_STATE);
  ck_assert_int_eq(transport->recv(comm, 1, comm->size, &byte, 1, &error), BSD_ERR_ARG);
  ck_assert_int_eq(transport->recv(comm, 1, -1, &byte, 1, &error), BSD_ERR_ARG);
  ck_assert_int_eq(transport->send(comm, 1, 0, &byte, 0, &error), BSD_ERR_ARG);
  ck_assert_int_eq(transport->end(comm, &error), BSD_OK);
  ck_assert_int_eq(transport->allgather(comm, &byte, 0, &byte, &error), BSD_ERR_ARG);
  ck_assert_int_eq(comm->failed, 0);
  run_random(comm, 7);
  bsd_comm_destroy(comm);
}
END_TEST

START_TEST(creation_tells_of_a_bad_environment) {
  bsd_comm *comm = NULL;
  bsd_error error;
  char wrong_size[16];
  const char *launched = getenv("OMPI_COMM_WORLD_SIZE"), *checksum = getenv("BSD_CHECKSUM");
  char *old_launched = launched ? strdup(launched) : NULL;
  char *old_checksum = checksum ? strdup(checksum) : NULL;

  snprintf(wrong_size, sizeof wrong_size, "%d", world_size + 1);
  setenv("OMPI_COMM_WORLD_SIZE", wrong_size, 1);
  ck_assert_int_eq(bsd_comm_create_mpi(MPI_COMM_WORLD, &comm, &error), BSD_ERR_STATE);
  ck_assert_ptr_nonnull(strstr(error.message, "OMPI_COMM_WORLD_SIZE"));
  if (old_launched)
    setenv("OMPI_COMM_WORLD_SIZE", old_launched, 1);
  else
    unsetenv("OMPI_COMM_WORLD_SIZE");

  setenv("BSD_CHECKSUM", "perhaps", 1);
  ck_assert_int_eq(bsd_comm_create_mpi(MPI_COMM_WORLD, &comm, &error), BSD_ERR_ARG);
  ck_assert_ptr_nonnull(strstr(error.message, "BSD_CHECKSUM"));
  if (old_checksum)
    setenv("BSD_CHECKSUM", old_checksum, 1);
  else
    unsetenv("BSD_CHECKSUM");

  ck_assert_int_eq(bsd_comm_create_mpi(MPI_COMM_NULL, &comm, &error), BSD_ERR_ARG);
  ck_assert_ptr_null(comm);
  free(old_launched);
  free(old_checksum);
}
END_TEST

/* ---- failures ---------------------------------------------------------------------------- */

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

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &world_rank);
  MPI_Comm_size(MPI_COMM_WORLD, &world_size);
  Suite *suite = suite_create("mpi");
  TCase *tests = tcase_create("mpi");
  tcase_add_test(tests, communicator_has_the_ranks_of_mpi);
  tcase_add_test(tests, default_deadline_is_300_seconds);
  tcase_add_test(tests, random_exchanges_arrive);
  tcase_add_test(tests, early_steps_can_be_waited_for_alone);
  tcase_add_test(tests, exchange_without_messages_is_done);
  tcase_add_test(tests, allgather_is_in_rank_order);
  tcase_add_test(tests, communicators_do_not_mix);
  tcase_add_test(tests, messages_beyond_2_GiB_arrive);
  tcase_add_test(tests, calls_out_of_order_and_bad_arguments_are_refused);
  tcase_add_test(tests, creation_tells_of_a_bad_environment);
  tcase_add_test(tests, ranks_that_disagree_are_told_so);
  tcase_add_test(tests, rank_in_another_function_is_told);
  tcase_add_test(tests, allgather_of_other_sizes_is_told);
  tcase_add_test(tests, checksums_on_one_rank_only_are_told);
  tcase_add_test(tests, message_that_never_comes_is_a_timeout);
  tcase_add_test(tests, rank_that_was_away_takes_what_is_there);
  tcase_add_test(tests, rank_that_gives_up_tells_the_others);
  tcase_add_test(tests, destroy_works_in_mid_exchange);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_set_fork_status(runner, CK_NOFORK);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  MPI_Finalize();
  return failed != 0;
}
