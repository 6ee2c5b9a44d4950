/* survive_attention.c - rounds of forward and backward in which the victim suffers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/clock.h"
#include "support/device.h"
#include "survive.h"

#define LENGTH 2048
#define HEADS  4
#define DIM    32

typedef enum tensor_name { Q, K, V, O, DO, DQ, DK, DV, TENSORS } tensor_name;

typedef struct attention {
  bsd_context *context;
  bsd_plan *plan;
  size_t elements;             /* of each tensor */
  bsd_tensor tensors[TENSORS]; /* of the backend's memory */
  float *lse, *host;           /* host: for one tensor */
  double deadline;             /* of this round */
  uint64_t digest;             /* of the first round's results */
} attention;

static bsd_status make_attention(bsd_comm *comm, attention *made, bsd_error *error) {
  bsd_pattern *pattern;
  int64_t local;
  bsd_context_options options = {.struct_size = sizeof options,
                                 .backend = device_backend(),
                                 .comm = comm,
                                 .threads = 1,
                                 .timeout_seconds = FIRST_DEADLINE};
  bsd_problem problem = {.struct_size = sizeof problem,
                         .length = LENGTH,
                         .heads = HEADS,
                         .head_dim = DIM,
                         .causal = 1};
  BSD_TRY(bsd_context_create(&options, &made->context, error));
  BSD_TRY(bsd_pattern_parse("w=256;w=2048,r=4", &pattern, error));
  bsd_status status = bsd_plan_create(made->context, pattern, &problem, &made->plan);
  bsd_pattern_destroy(pattern);
  if (status != BSD_OK)
    return bsd_fail(error, status, "%s", bsd_last_error(made->context));
  BSD_TRY(bsd_plan_local_length(made->plan, &local));
  made->elements = (size_t)local * HEADS * DIM;
  for (int name = 0; name < TENSORS; name++) {
    float *data = calloc(made->elements, sizeof *data);
    for (size_t i = 0; i < made->elements; i++)
      data[i] = (float)((i * 7919 + (size_t)(name * 104729 + comm->rank * 31)) % 1000) / 1000;
    made->tensors[name].data = device_push(data, (int64_t)(made->elements * sizeof *data));
  }
  made->lse = calloc((size_t)local * HEADS, sizeof *made->lse);
  made->lse = device_push(made->lse, local * HEADS * (int64_t)sizeof *made->lse);
  made->host = calloc(made->elements, sizeof *made->host);
  return BSD_OK;
}

/* FNV-1a over the results: the same bits give the same number. */
static uint64_t digest_results(const attention *attention) {
  static const tensor_name results[] = {O, DQ, DK, DV};
  uint64_t digest = 14695981039346656037u;
  for (size_t r = 0; r < sizeof results / sizeof results[0]; r++) {
    const unsigned char *bytes = (const unsigned char *)attention->host;
    size_t size = attention->elements * sizeof(float);
    device_pull(attention->host, attention->tensors[results[r]].data, (int64_t)size);
    for (size_t i = 0; i < size; i++)
      digest = (digest ^ bytes[i]) * 1099511628211u;
  }
  return digest;
}

static bsd_status run_pass(attention *attention, int backward) {
  const bsd_tensor *t = attention->tensors;
  if (!backward)
    return bsd_forward(attention->plan, &t[Q], &t[K], &t[V], &t[O], attention->lse, NULL);
  return bsd_backward(attention->plan, &t[Q], &t[K], &t[V], &t[O], attention->lse, &t[DO], NULL,
                      &t[DQ], &t[DK], &t[DV], NULL);
}

/* One forward and backward, timing each. The signal comes in the middle of the chosen pass, as long as
 * passes take what they took in the round before. */
static bsd_status run_round(attention *attention, const scenario *scenario, int suffers,
                            double pass_seconds[2], double *seconds, bsd_error *error) {
  for (int backward = 0; backward < 2; backward++) {
    if (suffers && scenario->point == (backward ? IN_BACKWARD : IN_FORWARD))
      suffer_later(scenario, pass_seconds[backward] / 2);
    double began = bsd_now();
    bsd_status status = run_pass(attention, backward);
    if (status == BSD_OK)
      status = bsd_plan_wait(attention->plan, attention->deadline);
    *seconds = pass_seconds[backward] = bsd_now() - began;
    if (status != BSD_OK)
      return bsd_fail(error, status, "%s", bsd_last_error(attention->context));
  }
  uint64_t digest = digest_results(attention);
  if (attention->digest != 0 && attention->digest != digest)
    return bsd_fail(error, BSD_ERR_IO, "the results differ from those of the first round");
  attention->digest = digest;
  return BSD_OK;
}

bsd_status run_attention(bsd_comm *comm, const scenario *scenario, double *seconds,
                         bsd_error *error) {
  attention attention = {.context = NULL};
  double pass_seconds[2] = {0, 0};
  bsd_status status = make_attention(comm, &attention, error);
  /* On a busy machine the signal may come some rounds late. */
  int rounds = strcmp(scenario->signal, "pause") == 0 ? ROUNDS : 1000 * ROUNDS;
  for (int round = 0; round < rounds && status == BSD_OK; round++) {
    comm->timeout = attention.deadline = round == 0 ? FIRST_DEADLINE : scenario->deadline;
    int suffers = round == FATAL_ROUND && comm->rank == scenario->victim;
    status = run_round(&attention, scenario, suffers, pass_seconds, seconds, error);
  }
  /* The caller's tensors stay: a failed exchange may still hold them. */
  bsd_plan_destroy(attention.plan);
  bsd_context_destroy(attention.context);
  return status;
}
