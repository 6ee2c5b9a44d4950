/* test_comm.c - the communication room without MPI: transport self, waiting, headers, recorder, launcher. */
#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/flight.h"
#include "comm/launcher.h"
#include "comm/select.h"
#include "comm/wire.h"

static const bsd_exchange forward = {.plan_hash = 7, .what = "forward"};

static bsd_comm *make_self(void) {
  bsd_comm *comm = NULL;
  bsd_error error;
  ck_assert_int_eq(bsd_comm_create_self(&comm, &error), BSD_OK);
  return comm;
}

/* ---- self -------------------------------------------------------------------------------- */

START_TEST(self_is_rank_0_of_1) {
  bsd_comm *comm = make_self();
  ck_assert_int_eq(comm->rank, 0);
  ck_assert_int_eq(comm->size, 1);
  ck_assert_int_eq(comm->failed, 0);
  ck_assert_double_eq(comm->timeout, 300);
  ck_assert_str_eq(comm->transport->name, "self");
  bsd_comm_destroy(comm);
  bsd_comm_destroy(NULL);
}
END_TEST

START_TEST(self_copies_each_send_to_the_receive_of_its_step) {
  bsd_comm *comm = make_self();
  const bsd_transport *transport = comm->transport;
  enum { STEPS = 20 };
  int64_t sent[STEPS], received[STEPS];
  for (int repeat = 0; repeat < 3; repeat++) {
    int done = 0;
    memset(received, 0, sizeof received);
    ck_assert_int_eq(transport->begin(comm, &forward, NULL), BSD_OK);
    for (int step = 0; step < STEPS; step++) {
      sent[step] = 1000 * repeat + step;
      ck_assert_int_eq(transport->send(comm, step, 0, &sent[step], 8, NULL), BSD_OK);
    }
    for (int step = STEPS - 1; step >= 0; step--)
      ck_assert_int_eq(transport->recv(comm, step, 0, &received[step], 8, NULL), BSD_OK);
    ck_assert_int_eq(transport->end(comm, NULL), BSD_OK);
    ck_assert_int_eq(transport->test(comm, 0, &done, NULL), BSD_OK);
    ck_assert_int_eq(done, 1);
    ck_assert_int_eq(bsd_comm_wait(comm, INT_MAX, NULL), BSD_OK);
    ck_assert_mem_eq(sent, received, sizeof sent);
  }
  bsd_comm_destroy(comm);
}
END_TEST

START_TEST(self_exchange_without_messages_is_done) {
  bsd_comm *comm = make_self();
  int done = 0;
  ck_assert_int_eq(comm->transport->begin(comm, &forward, NULL), BSD_OK);
  ck_assert_int_eq(comm->transport->end(comm, NULL), BSD_OK);
  ck_assert_int_eq(comm->transport->test(comm, INT_MAX, &done, NULL), BSD_OK);
  ck_assert_int_eq(done, 1);
  bsd_comm_destroy(comm);
}
END_TEST

START_TEST(self_allgather_is_a_copy) {
  bsd_comm *comm = make_self();
  int64_t in = 42, out = 0;
  ck_assert_int_eq(comm->transport->allgather(comm, &in, sizeof in, &out, NULL), BSD_OK);
  ck_assert_int_eq(out, 42);
  bsd_comm_destroy(comm);
}
END_TEST

START_TEST(self_refuses_calls_out_of_order_and_bad_arguments) {
  bsd_comm *comm = make_self();
  const bsd_transport *transport = comm->transport;
  const bsd_exchange on_device = {.what = "forward", .on_device = 1};
  char byte = 0;
  int done;
  bsd_error error;
  ck_assert_int_eq(transport->send(comm, 0, 0, &byte, 1, &error), BSD_ERR_STATE);
  ck_assert_int_eq(transport->recv(comm, 0, 0, &byte, 1, &error), BSD_ERR_STATE);
  ck_assert_int_eq(transport->end(comm, &error), BSD_ERR_STATE);
  ck_assert_int_eq(transport->begin(comm, &on_device, &error), BSD_OK);
  ck_assert_int_eq(transport->begin(comm, &forward, &error), BSD_ERR_STATE);
  ck_assert_int_eq(transport->test(comm, 0, &done, &error), BSD_ERR_STATE);
  ck_assert_int_eq(transport->send(comm, 0, 1, &byte, 1, &error), BSD_ERR_ARG);
  ck_assert_ptr_nonnull(strstr(error.message, "peer is 1"));
  ck_assert_int_eq(transport->recv(comm, 0, 0, &byte, 0, &error), BSD_ERR_ARG);
  ck_assert_ptr_nonnull(strstr(error.message, "bytes is 0"));
  ck_assert_int_eq(transport->send(comm, 0, 0, &byte, 1, &error), BSD_ERR_UNSUPPORTED);
  ck_assert_int_eq(transport->end(comm, &error), BSD_OK);
  ck_assert_int_eq(comm->failed, 0);
  bsd_comm_destroy(comm);
}
END_TEST

/* Sends and receives that do not pair fail the communicator, which then refuses every call. */
static void check_unpaired(int sends, int receives, int64_t received_bytes) {
  bsd_comm *comm = make_self();
  const bsd_transport *transport = comm->transport;
  char buffers[2][16] = {{0}};
  int done;
  bsd_error error;
  ck_assert_int_eq(transport->begin(comm, &forward, NULL), BSD_OK);
  if (sends)
    ck_assert_int_eq(transport->send(comm, 3, 0, buffers[0], 16, NULL), BSD_OK);
  if (receives)
    ck_assert_int_eq(transport->recv(comm, 3, 0, buffers[1], received_bytes, NULL), BSD_OK);
  ck_assert_int_eq(transport->end(comm, &error), BSD_ERR_MISMATCH);
  ck_assert_ptr_nonnull(strstr(error.message, "step 3"));
  ck_assert_int_eq(comm->failed, 1);
  ck_assert_int_eq(transport->begin(comm, &forward, &error), BSD_ERR_STATE);
  ck_assert_int_eq(transport->send(comm, 0, 0, buffers[0], 1, &error), BSD_ERR_STATE);
  ck_assert_int_eq(transport->recv(comm, 0, 0, buffers[0], 1, &error), BSD_ERR_STATE);
  ck_assert_int_eq(transport->end(comm, &error), BSD_ERR_STATE);
  ck_assert_int_eq(transport->test(comm, 0, &done, &error), BSD_ERR_STATE);
  ck_assert_int_eq(transport->allgather(comm, buffers[0], 1, buffers[1], &error), BSD_ERR_STATE);
  transport->abort(comm);
  bsd_comm_destroy(comm);
}

START_TEST(self_tells_of_messages_that_do_not_pair) {
  check_unpaired(1, 0, 0);
  check_unpaired(0, 1, 16);
  check_unpaired(1, 1, 15);
}
END_TEST

/* ---- selection --------------------------------------------------------------------------- */

START_TEST(names_of_the_build_are_those_of_the_table) {
  char names[64] = "";
  for (const bsd_transport *const *transport = bsd_transports(); *transport; transport++) {
    if (names[0])
      strcat(names, " ");
    strcat(names, (*transport)->name);
  }
  ck_assert_str_eq(bsd_build_transports(), names);
}
END_TEST

START_TEST(every_transport_fills_its_table) {
  for (const bsd_transport *const *entry = bsd_transports(); *entry; entry++) {
    const bsd_transport *transport = *entry;
    ck_assert(transport->begin && transport->send && transport->recv && transport->end);
    ck_assert(transport->test && transport->abort && transport->allgather && transport->destroy);
  }
}
END_TEST

/* ---- waiting ----------------------------------------------------------------------------- */

/* A transport that is done, or fails, at the polls-th test. */
typedef struct countdown {
  int polls, tests, fails, aborts, last_step;
} countdown;

static bsd_status countdown_test(bsd_comm *comm, int last_step, int *done, bsd_error *error) {
  countdown *state = comm->state;
  state->last_step = last_step;
  *done = ++state->tests >= state->polls && !state->fails;
  if (state->tests >= state->polls && state->fails)
    return bsd_fail(error, BSD_ERR_PEER, "rank 1 is gone");
  return BSD_OK;
}

static void countdown_abort(bsd_comm *comm) {
  countdown *state = comm->state;
  state->aborts++;
  comm->failed = 1;
}

static const bsd_transport countdown_transport = {
    .name = "countdown", .test = countdown_test, .abort = countdown_abort};

START_TEST(wait_polls_until_done) {
  countdown state = {.polls = 3000};
  bsd_comm comm = {.transport = &countdown_transport, .state = &state, .size = 2};
  ck_assert_int_eq(bsd_comm_wait(&comm, 5, NULL), BSD_OK);
  ck_assert_int_eq(state.tests, 3000);
  ck_assert_int_eq(state.last_step, 5);
  ck_assert_int_eq(state.aborts, 0);
}
END_TEST

START_TEST(wait_aborts_on_failure) {
  countdown state = {.polls = 3, .fails = 1};
  bsd_comm comm = {.transport = &countdown_transport, .state = &state, .size = 2};
  bsd_error error;
  ck_assert_int_eq(bsd_comm_wait(&comm, 0, &error), BSD_ERR_PEER);
  ck_assert_str_eq(error.message, "rank 1 is gone");
  ck_assert_int_eq(state.aborts, 1);
  ck_assert_int_eq(comm.failed, 1);
}
END_TEST

/* ---- message headers --------------------------------------------------------------------- */

static const char payload[] = "twenty bytes of data";
static const bsd_wire_message sample = {.plan_hash = 0x1234,
                                        .sequence = 9,
                                        .what = "backward",
                                        .sender = 2,
                                        .step = 3,
                                        .bytes = sizeof payload,
                                        .checksum = 1};

/* Status of a header of `sent` where rank 5 expects sample; the sentence goes to error. */
static bsd_status check_against_sample(bsd_wire_message sent, bsd_error *error) {
  bsd_wire_header header;
  bsd_wire_write(&header, &sent, payload);
  return bsd_wire_check(&header, &sample, 5, error);
}

static void check_mismatch(bsd_wire_message sent, const char *ours, const char *theirs) {
  bsd_error error;
  ck_assert_int_eq(check_against_sample(sent, &error), BSD_ERR_MISMATCH);
  ck_assert_msg(strstr(error.message, ours) && strstr(error.message, theirs),
                "'%s' does not name %s and %s", error.message, ours, theirs);
}

START_TEST(header_of_the_expected_message_is_accepted) {
  bsd_wire_header header;
  bsd_wire_write(&header, &sample, payload);
  ck_assert_int_eq(bsd_wire_check(&header, &sample, 5, NULL), BSD_OK);
  ck_assert_int_eq(bsd_wire_check_payload(&header, &sample, 5, payload, NULL), BSD_OK);
}
END_TEST

START_TEST(header_of_another_message_names_both_values) {
  bsd_wire_message sent = sample;
  sent.plan_hash = 0x5678;
  check_mismatch(sent, "plan 0000000000001234", "plan 0000000000005678");
  sent = sample;
  sent.what = "forward";
  check_mismatch(sent, "in backward", "in forward");
  sent = sample;
  sent.sequence = 8;
  check_mismatch(sent, "exchange 9", "exchange 8");
  sent = sample;
  sent.step = 4;
  check_mismatch(sent, "step 3", "step 4");
  sent = sample;
  sent.sender = 1;
  check_mismatch(sent, "rank 2", "rank 1");
  sent = sample;
  sent.bytes = 7;
  check_mismatch(sent, "21 bytes", "sent 7");
  sent = sample;
  sent.checksum = 0;
  check_mismatch(sent, "1 on rank 5", "0 on rank 2");
}
END_TEST

START_TEST(every_flipped_bit_of_a_header_is_seen) {
  bsd_wire_header header;
  for (size_t bit = 0; bit < 8 * sizeof header; bit++) {
    bsd_wire_write(&header, &sample, payload);
    ((unsigned char *)&header)[bit / 8] ^= (unsigned char)(1u << bit % 8);
    ck_assert_int_eq(bsd_wire_check(&header, &sample, 5, NULL), BSD_ERR_PEER);
  }
}
END_TEST

START_TEST(every_flipped_bit_of_a_payload_is_seen_with_checksums) {
  bsd_wire_header header;
  char damaged[sizeof payload];
  bsd_wire_message unchecked = sample;
  unchecked.checksum = 0;
  for (size_t bit = 0; bit < 8 * sizeof damaged; bit++) {
    bsd_error error;
    memcpy(damaged, payload, sizeof damaged);
    damaged[bit / 8] ^= (char)(1u << bit % 8);
    bsd_wire_write(&header, &sample, payload);
    ck_assert_int_eq(bsd_wire_check_payload(&header, &sample, 5, damaged, &error), BSD_ERR_PEER);
    ck_assert_ptr_nonnull(strstr(error.message, "21 bytes from rank 2"));
    bsd_wire_write(&header, &unchecked, payload);
    ck_assert_int_eq(bsd_wire_check_payload(&header, &unchecked, 5, damaged, NULL), BSD_OK);
  }
}
END_TEST

/* ---- flight recorder --------------------------------------------------------------------- */

/* The dump of a recorder after `events` events, as lines of text; the caller frees it. */
static char *dump_text(const bsd_flight *flight) {
  char path[] = "/tmp/bsd-test-flight-XXXXXX";
  int file = mkstemp(path);
  ck_assert_int_ge(file, 0);
  setenv("BSD_FLIGHT_FILE", path, 1);
  bsd_flight_dump(flight, 3, 4, "the reason");
  bsd_flight_dump(flight, 3, 4, "the second reason");
  unsetenv("BSD_FLIGHT_FILE");
  unlink(path);
  size_t capacity = (size_t)1 << 20;
  char *text = calloc(1, capacity);
  ck_assert_int_gt(read(file, text, capacity - 1), 0);
  close(file);
  return text;
}

static int count_lines_with(const char *text, const char *word) {
  int count = 0;
  for (const char *at = text; (at = strstr(at, word)); at += strlen(word))
    count++;
  return count;
}

START_TEST(recorder_keeps_and_appends_the_last_events) {
  static bsd_flight flight;
  const int events = BSD_FLIGHT_EVENTS + 10;
  memset(&flight, 0, sizeof flight);
  for (int i = 0; i < events; i++) {
    bsd_flight_event event = {.sequence = (uint64_t)i,
                              .step = 100000 + i,
                              .peer = i % 4,
                              .bytes = INT64_MAX,
                              .is_send = i % 2,
                              .state = i + 1 < events ? BSD_FLIGHT_POSTED : BSD_FLIGHT_FAILED,
                              .what = "backward"};
    bsd_flight_record(&flight, &event);
  }
  char *text = dump_text(&flight);
  ck_assert_int_eq(count_lines_with(text, "rank 3 of 4: the reason\n"), 1);
  ck_assert_int_eq(count_lines_with(text, "rank 3 of 4: the second reason\n"), 1);
  ck_assert_int_eq(count_lines_with(text, " 9223372036854775807 "), 2 * BSD_FLIGHT_EVENTS);
  ck_assert_int_eq(count_lines_with(text, " posted\n"), 2 * (BSD_FLIGHT_EVENTS - 1));
  ck_assert_int_eq(count_lines_with(text, " failed\n"), 2);
  ck_assert_int_eq(count_lines_with(text, " 100009 "), 0);
  ck_assert_int_eq(count_lines_with(text, " 100010 "), 2);
  ck_assert_ptr_nonnull(strstr(text, " 100265  send to    "));
  free(text);
}
END_TEST

START_TEST(recorder_without_events_still_gives_the_reason) {
  static bsd_flight flight;
  memset(&flight, 0, sizeof flight);
  char *text = dump_text(&flight);
  ck_assert_int_eq(count_lines_with(text, "\n"), 4);
  free(text);
}
END_TEST

/* ---- launcher ---------------------------------------------------------------------------- */

static void clear_launcher(void) {
  unsetenv("OMPI_COMM_WORLD_SIZE");
  unsetenv("PMI_SIZE");
  unsetenv("SLURM_NTASKS");
  unsetenv("SLURM_STEP_ID");
}

START_TEST(launcher_without_a_word_is_fine) {
  clear_launcher();
  ck_assert_int_eq(bsd_launcher_check(1, NULL), BSD_OK);
}
END_TEST

START_TEST(launcher_of_another_mpi_is_told) {
  static const char *const variables[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"};
  for (int i = 0; i < 3; i++) {
    bsd_error error;
    clear_launcher();
    setenv("SLURM_STEP_ID", "0", 1);
    setenv(variables[i], "4", 1);
    ck_assert_int_eq(bsd_launcher_check(1, &error), BSD_ERR_STATE);
    ck_assert_ptr_nonnull(strstr(error.message, variables[i]));
    ck_assert_ptr_nonnull(strstr(error.message, "4 processes"));
    ck_assert_ptr_nonnull(strstr(error.message, "MPI sees 1"));
    ck_assert_int_eq(bsd_launcher_check(4, NULL), BSD_OK);
    ck_assert_int_eq(bsd_launcher_check(8, NULL), BSD_OK);
  }
  clear_launcher();
}
END_TEST

/* mpirun in a Slurm job: the job's count is of nodes or of the whole job, the launcher's is right. */
START_TEST(launcher_counts_before_the_job) {
  clear_launcher();
  setenv("SLURM_STEP_ID", "0", 1);
  setenv("SLURM_NTASKS", "8", 1);
  setenv("PMI_SIZE", "2", 1);
  ck_assert_int_eq(bsd_launcher_check(2, NULL), BSD_OK);
  clear_launcher();
  setenv("SLURM_NTASKS", "8", 1); /* a lone program in a batch script */
  ck_assert_int_eq(bsd_launcher_check(1, NULL), BSD_OK);
  clear_launcher();
}
END_TEST

START_TEST(launcher_ignores_what_is_no_count) {
  clear_launcher();
  setenv("PMI_SIZE", "many", 1);
  setenv("OMPI_COMM_WORLD_SIZE", "", 1);
  ck_assert_int_eq(bsd_launcher_check(1, NULL), BSD_OK);
  clear_launcher();
}
END_TEST

int main(void) {
  Suite *suite = suite_create("comm");
  TCase *tests = tcase_create("comm");
  tcase_add_test(tests, self_is_rank_0_of_1);
  tcase_add_test(tests, self_copies_each_send_to_the_receive_of_its_step);
  tcase_add_test(tests, self_exchange_without_messages_is_done);
  tcase_add_test(tests, self_allgather_is_a_copy);
  tcase_add_test(tests, self_refuses_calls_out_of_order_and_bad_arguments);
  tcase_add_test(tests, self_tells_of_messages_that_do_not_pair);
  tcase_add_test(tests, names_of_the_build_are_those_of_the_table);
  tcase_add_test(tests, every_transport_fills_its_table);
  tcase_add_test(tests, wait_polls_until_done);
  tcase_add_test(tests, wait_aborts_on_failure);
  tcase_add_test(tests, header_of_the_expected_message_is_accepted);
  tcase_add_test(tests, header_of_another_message_names_both_values);
  tcase_add_test(tests, every_flipped_bit_of_a_header_is_seen);
  tcase_add_test(tests, every_flipped_bit_of_a_payload_is_seen_with_checksums);
  tcase_add_test(tests, recorder_keeps_and_appends_the_last_events);
  tcase_add_test(tests, recorder_without_events_still_gives_the_reason);
  tcase_add_test(tests, launcher_without_a_word_is_fine);
  tcase_add_test(tests, launcher_of_another_mpi_is_told);
  tcase_add_test(tests, launcher_counts_before_the_job);
  tcase_add_test(tests, launcher_ignores_what_is_no_count);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
