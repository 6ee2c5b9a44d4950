/* cost.c - constants of kernels and links, resolved for a shape, and the times that follow. See cost.h. */
#include "cost.h"

#include <math.h>
#include <string.h>

/* Round figures of a server core, an NVIDIA H100 and its links, for callers without a model of their own
 * (bsd_bench --calibrate measures one). head_dim 64, block 64. */
static const bsd_cost_rate built_in[] = {
    {"cpu", 0, BSD_F32, 64, 64, 2e-6, 5e-6, 20e-6, 0, 0, 0.2e-9},
    {"cpu", 1, BSD_F32, 64, 64, 2e-6, 5e-6, 30e-6, 0, 0, 0.2e-9},
    {"simt", 0, BSD_F32, 64, 64, 3e-6, 20e-9, 40e-9, 0, 0, 0.5e-12},
    {"simt", 1, BSD_F32, 64, 64, 3e-6, 30e-9, 73e-9, 0, 0, 0.5e-12},
    {"sm80", 0, BSD_BF16, 64, 64, 3e-6, 10e-9, 6.5e-9, 0, 0, 0.5e-12},
    {"sm80", 1, BSD_BF16, 64, 64, 3e-6, 12e-9, 10e-9, 0, 0, 0.5e-12},
    {"sm90", 0, BSD_BF16, 64, 64, 3e-6, 8e-9, 1.6e-9, 0.5e-9, 0, 0.5e-12},
    {"sm90", 1, BSD_BF16, 64, 64, 3e-6, 11e-9, 2.6e-9, 0.8e-9, 0, 0.5e-12},
};
enum { BUILT_IN = sizeof built_in / sizeof built_in[0] };

static const bsd_cost_link built_in_links[BSD_LINKS] = {{5e-6, 1e-6, 100e9}, {10e-6, 2e-6, 25e9}};
/* Between ranks on CPUs: copies through shared memory, a network. */
static const bsd_cost_link cpu_links[BSD_LINKS] = {{10e-6, 2e-6, 5e9}, {20e-6, 5e-6, 5e9}};

/* ---- rates ------------------------------------------------------------------------------- */

/* How far a rate is from a shape; another type counts as much as a factor of 16. */
static double distance(const bsd_cost_rate *rate, const bsd_cost_shape *shape) {
  return fabs(log2((double)rate->head_dim / (double)shape->head_dim)) +
         fabs(log2((double)rate->block / (double)shape->block)) +
         (rate->dtype != shape->dtype ? 4 : 0);
}

/* The nearest of the rates that have the kernel and pass, the first of equals; NULL: none has. */
static const bsd_cost_rate *nearest(const bsd_cost_rate *rates, int64_t count,
                                    const bsd_cost_shape *shape, int backward) {
  const bsd_cost_rate *best = NULL;
  int64_t i;
  for (i = 0; i < count; i++) {
    if (strcmp(rates[i].kernel, shape->kernel[backward]) != 0 || rates[i].backward != backward)
      continue;
    if (best == NULL || distance(&rates[i], shape) < distance(best, shape))
      best = &rates[i];
  }
  return best;
}

static bsd_cost_terms terms_of(const bsd_cost_rate *rate, const bsd_cost_shape *shape) {
  double wider = (double)shape->head_dim / (double)rate->head_dim;
  double taller = (double)shape->block / (double)rate->block;
  double row = taller * wider, block = taller * row;
  bsd_cost_terms terms = {.launch = rate->launch_seconds,
                          .row = row * rate->row_seconds,
                          .block = block * rate->block_seconds,
                          .alone = block * rate->alone_seconds,
                          .tail = block * rate->tail_seconds,
                          .byte = rate->byte_seconds};
  return terms;
}

bsd_cost bsd_cost_resolve(const bsd_cost_model *model, const bsd_cost_shape *shape) {
  int on_cpu = strcmp(shape->kernel[0], "cpu") == 0, backward, link;
  const bsd_cost_link *given[BSD_LINKS] = {NULL, NULL};
  bsd_cost cost;
  memset(&cost, 0, sizeof cost);
  if (model != NULL) {
    given[BSD_LINK_HOST] = &model->host;
    given[BSD_LINK_NETWORK] = &model->network;
    cost.host_ranks = model->host_ranks;
  }
  for (link = 0; link < BSD_LINKS; link++)
    cost.link[link] = given[link] != NULL && given[link]->bytes_per_second > 0 ? *given[link]
                      : on_cpu                                                 ? cpu_links[link]
                               : built_in_links[link];
  for (backward = 0; backward <= 1; backward++) {
    const bsd_cost_rate *rate = NULL;
    if (model != NULL)
      rate = nearest(model->rates, model->nrates, shape, backward);
    if (rate == NULL)
      rate = nearest(built_in, BUILT_IN, shape, backward);
    if (rate == NULL) /* a family that this file does not know yet */
      rate = &built_in[backward];
    cost.pass[backward] = terms_of(rate, shape);
  }
  return cost;
}

/* ---- times ------------------------------------------------------------------------------- */

double bsd_cost_seconds(const bsd_cost_terms *t, const bsd_work *w) {
  return t->launch * w->launches + t->row * w->rows + t->block * w->blocks + t->alone * w->alone +
         t->tail * w->tail + t->byte * w->bytes;
}

double bsd_cost_exchange(const bsd_cost_link *link, double messages, double bytes) {
  if (messages <= 0)
    return 0;
  return link->latency_seconds + messages * link->message_seconds + bytes / link->bytes_per_second;
}

/* ---- judging ----------------------------------------------------------------------------- */

static bsd_status check_number(const char *where, const char *name, double value,
                               bsd_error *error) {
  if (isfinite(value) && value >= 0)
    return BSD_OK;
  return bsd_fail(error, BSD_ERR_ARG,
                  "cost_model: %s: %s is %g but must be finite and not negative", where, name,
                  value);
}

static bsd_status check_link(const char *where, const bsd_cost_link *link, bsd_error *error) {
  BSD_TRY(check_number(where, "latency_seconds", link->latency_seconds, error));
  BSD_TRY(check_number(where, "message_seconds", link->message_seconds, error));
  return check_number(where, "bytes_per_second", link->bytes_per_second, error);
}

static bsd_status check_rate(const bsd_cost_rate *rate, bsd_error *error) {
  const char *where = rate->kernel;
  if (memchr(rate->kernel, 0, sizeof rate->kernel) == NULL)
    return bsd_fail(error, BSD_ERR_ARG, "cost_model: a rate's kernel does not end within %zu bytes",
                    sizeof rate->kernel);
  if (rate->head_dim < 1 || rate->block < 1)
    return bsd_fail(error, BSD_ERR_ARG,
                    "cost_model: %s: head_dim %lld and block %lld must be at least 1", where,
                    (long long)rate->head_dim, (long long)rate->block);
  if (rate->backward != 0 && rate->backward != 1)
    return bsd_fail(error, BSD_ERR_ARG, "cost_model: %s: backward is %d but must be 0 or 1", where,
                    rate->backward);
  BSD_TRY(check_number(where, "launch_seconds", rate->launch_seconds, error));
  BSD_TRY(check_number(where, "row_seconds", rate->row_seconds, error));
  BSD_TRY(check_number(where, "block_seconds", rate->block_seconds, error));
  BSD_TRY(check_number(where, "alone_seconds", rate->alone_seconds, error));
  BSD_TRY(check_number(where, "tail_seconds", rate->tail_seconds, error));
  return check_number(where, "byte_seconds", rate->byte_seconds, error);
}

bsd_status bsd_cost_check(const bsd_cost_model *model, bsd_error *error) {
  int64_t i;
  if (model->struct_size != sizeof *model)
    return bsd_fail(error, BSD_ERR_ARG,
                    "cost_model: struct_size is %zu but this library expects %zu",
                    model->struct_size, sizeof *model);
  if (model->host_ranks < 0)
    return bsd_fail(error, BSD_ERR_ARG, "cost_model: host_ranks is %d but must not be negative",
                    model->host_ranks);
  if (model->nrates < 0 || (model->nrates > 0 && model->rates == NULL))
    return bsd_fail(error, BSD_ERR_ARG, "cost_model: nrates is %lld but rates is %s",
                    (long long)model->nrates, model->rates == NULL ? "NULL" : "given");
  BSD_TRY(check_link("host", &model->host, error));
  BSD_TRY(check_link("network", &model->network, error));
  for (i = 0; i < model->nrates; i++)
    BSD_TRY(check_rate(&model->rates[i], error));
  return BSD_OK;
}
