/* test_mpi.c - transport mpi on any number of ranks: what arrives, and what is said when it cannot.
 *
 * Every rank runs the same tests in the same order; each makes communicators of its own. */
#include <check.h>
#include <limits.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/bsdattn_mpi.h"
#include "test_mpi.h"

int world_rank, world_size;

bsd_comm *make_comm(MPI_Comm mpi_comm) {
  bsd_comm *comm = NULL;
  bsd_error error = {.message = ""};
  ck_assert_msg(bsd_comm_create_mpi(mpi_comm, &comm, &error) == BSD_OK, "%s", error.message);
  comm->timeout = 30;
  return comm;
}

int target_of(const bsd_comm *comm, int step) {
  return (comm->rank + step) % comm->size;
}
int source_of(const bsd_comm *comm, int step) {
  return (comm->rank + comm->size - step) % comm->size;
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

void wait_for(bsd_comm *comm, int last_step) {
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

void run_random(bsd_comm *comm, uint64_t seed) {
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

/* ---- memory of a GPU --------------------------------------------------------------------- */

/* Stands before MPI's own: what it says of itself. Host memory serves as a GPU's here. */
static int cuda_support;
int MPIX_Query_cuda_support(void);
int MPIX_Query_cuda_support(void) {
  return cuda_support;
}

#ifdef HAVE_MPIX_QUERY_CUDA_SUPPORT
enum { library_asks_mpi = 1 };
#else
enum { library_asks_mpi = 0 };
#endif

/* A communicator under two settings of the environment; NULL, and why in *error, if it is refused. */
static bsd_comm *create_under(const char *aware, const char *checksum, bsd_error *error) {
  bsd_comm *comm = NULL;
  const char *old = getenv("BSD_CHECKSUM");
  char *kept = old ? strdup(old) : NULL;
  setenv("BSD_CHECKSUM", checksum, 1);
  if (aware)
    setenv("BSD_CUDA_AWARE", aware, 1);
  bsd_status status = bsd_comm_create_mpi(MPI_COMM_WORLD, &comm, error);
  ck_assert_int_eq(status, comm ? BSD_OK : BSD_ERR_ARG);
  unsetenv("BSD_CUDA_AWARE");
  if (kept)
    setenv("BSD_CHECKSUM", kept, 1);
  else
    unsetenv("BSD_CHECKSUM");
  free(kept);
  return comm;
}

static void expect_refusal(const char *checksum, const char *why) {
  bsd_error error;
  ck_assert_ptr_null(create_under("1", checksum, &error));
  ck_assert_msg(strstr(error.message, "BSD_CUDA_AWARE is 1") && strstr(error.message, why), "%s",
                error.message);
}

/* What begin says of an exchange of device memory; the communicator is freed. */
static bsd_status begin_on_device(bsd_comm *comm) {
  const bsd_exchange on_device = {.what = "forward", .on_device = 1};
  bsd_error error;
  ck_assert_ptr_nonnull(comm);
  bsd_status status = comm->transport->begin(comm, &on_device, &error);
  if (status == BSD_OK)
    ck_assert_int_eq(comm->transport->end(comm, &error), BSD_OK);
  bsd_comm_destroy(comm);
  return status;
}

START_TEST(device_memory_is_taken_where_mpi_says_so) {
  bsd_error error;
  cuda_support = 0;
  ck_assert_int_eq(begin_on_device(create_under(NULL, "0", &error)), BSD_ERR_UNSUPPORTED);
  ck_assert_int_eq(begin_on_device(create_under("0", "0", &error)), BSD_ERR_UNSUPPORTED);
  expect_refusal("0", "MPIX_Query_cuda_support");
  if (!library_asks_mpi)
    return;
  cuda_support = 1;
  ck_assert_int_eq(begin_on_device(create_under(NULL, "0", &error)), BSD_OK);
  ck_assert_int_eq(begin_on_device(create_under("1", "0", &error)), BSD_OK);
  ck_assert_int_eq(begin_on_device(create_under("0", "0", &error)), BSD_ERR_UNSUPPORTED);
  ck_assert_int_eq(begin_on_device(create_under(NULL, "1", &error)), BSD_ERR_UNSUPPORTED);
  expect_refusal("1", "BSD_CHECKSUM");
  cuda_support = 0;
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
  tcase_add_test(tests, device_memory_is_taken_where_mpi_says_so);
  tcase_add_test(tests, calls_out_of_order_and_bad_arguments_are_refused);
  tcase_add_test(tests, creation_tells_of_a_bad_environment);
  add_failure_tests(tests);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_set_fork_status(runner, CK_NOFORK);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  MPI_Finalize();
  return failed != 0;
}
