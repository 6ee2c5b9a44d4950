/* test_groups.c - the exchange of a transport that works on a stream: one group of messages for each stage.
 *
 * The transport is MPI's, made to look asynchronous: the end of a group is where its messages are waited for. A
 * group that two ranks fill differently is never complete, and one that a rank forgets breaks the next. */
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "support/attention.h"
#include "support/library.h"
#include "support/random_problem.h"
#include "support/scale.h"
#include "support/suite.h"
#include "support/world.h"

static const random_limits limits = {.largest_n = 330, .work = 6000000};
static const bsd_transport *inner;
static int groups; /* of this rank, in forward and backward */

static bsd_status begin_and_count(bsd_comm *comm, const bsd_exchange *exchange, bsd_error *error) {
  groups += strcmp(exchange->what, "forward") == 0 || strcmp(exchange->what, "backward") == 0;
  return inner->begin(comm, exchange, error);
}

static bsd_status end_and_wait(bsd_comm *comm, bsd_error *error) {
  bsd_status status = inner->end(comm, error);
  return status == BSD_OK ? bsd_comm_wait(comm, comm->size, error) : status;
}

static bsd_context *asynchronous_context(bsd_transport *transport) {
  bsd_context *context = world_context(1);
  inner = context->comm->transport;
  *transport = *inner;
  transport->asynchronous = 1;
  transport->begin = begin_and_count;
  transport->end = end_and_wait;
  return context;
}

/* A forward and a backward over the ranks with the transport, the bits of one rank, so many groups. */
static void check(bsd_context *context, const bsd_transport *transport, bsd_context *alone,
                  const random_problem *problem, int wanted) {
  random_layout layout = random_layout_create(&problem->p, (bsd_layout_kind)(1 + problem->seed % 4),
                                              world_size(), problem->seed);
  attention_inputs inputs =
      attention_inputs_create(&problem->p, problem->dtype, problem->with_dlse, problem->seed);
  attention_case c = {.p = &problem->p,
                      .text = problem->text,
                      .dtype = problem->dtype,
                      .order = problem->order,
                      .layout = layout.spec};
  attention_result reference = {0};
  if (world_rank() == 0) {
    c.layout = (bsd_layout_spec){.kind = BSD_LAYOUT_CONTIGUOUS};
    reference = attention_run(alone, &c, &inputs);
    c.layout = layout.spec;
  }
  context->comm->transport = transport;
  groups = 0;
  attention_result result = attention_run(context, &c, &inputs);
  context->comm->transport = inner;
  const char *what = "";
  suite_expect(world_rank() != 0 || attention_equal(&c, &reference, &result, &what), what);
  suite_expect(world_size() == 1 || groups == 2 * wanted, "another number of groups");
  attention_result_free(&reference);
  attention_result_free(&result);
  attention_inputs_free(&inputs);
  random_layout_free(&layout);
}

START_TEST(each_stage_is_a_group) {
  static const char *const counts[] = {"1", "2", "3"};
  bsd_transport transport;
  bsd_context *context = asynchronous_context(&transport), *alone = library_context(1);
  for (int64_t x = 0; x < test_count(30); x++) {
    random_problem *problem = random_problem_create((uint64_t)(70000 + x), limits);
    setenv("BSD_STAGES", counts[x % 3], 1);
    check(context, &transport, alone, problem, x % 3 == 2 ? 2 : 1);
    random_problem_free(problem);
  }
  unsetenv("BSD_STAGES");
  bsd_context_destroy(context);
  bsd_context_destroy(alone);
}
END_TEST

int main(int argc, char **argv) {
  TCase *tests = tcase_create("groups");
  tcase_set_timeout(tests, 120);
  tcase_add_test(tests, each_stage_is_a_group);
  return suite_run("groups", tests, &argc, &argv);
}
