/* context.c - makes and frees contexts; answers what a context has. See context.h. */
#include "context.h"

#include <math.h>

#include <string.h>

#include "comm/select.h"
#include "cost.h"
#include "env.h"
#include "memory.h"

static bsd_status check_options(const bsd_context_options *options, bsd_error *error) {
  if (options->struct_size != sizeof *options)
    return bsd_fail(error, BSD_ERR_ARG, "options: struct_size is %zu but this library expects %zu",
                    options->struct_size, sizeof *options);
  if (options->threads < 0)
    return bsd_fail(error, BSD_ERR_ARG, "threads is %d but must not be negative", options->threads);
  if (!(options->timeout_seconds >= 0) || isinf(options->timeout_seconds))
    return bsd_fail(error, BSD_ERR_ARG, "timeout_seconds is %g but must be finite and not negative",
                    options->timeout_seconds);
  if (options->cost_model != NULL)
    BSD_TRY(bsd_cost_check(options->cost_model, error));
  return bsd_env_check(error);
}

static bsd_status copy_cost_model(bsd_context *c, const bsd_cost_model *model, bsd_error *error) {
  bsd_cost_rate *rates;
  if (model == NULL)
    return BSD_OK;
  BSD_TRY(bsd_alloc(&c->cost_model, 1, sizeof *model, error));
  *c->cost_model = *model;
  c->cost_model->rates = NULL;
  BSD_TRY(bsd_alloc(&rates, model->nrates, sizeof *rates, error));
  if (model->nrates > 0)
    memcpy(rates, model->rates, (size_t)model->nrates * sizeof *rates);
  c->cost_model->rates = rates;
  return BSD_OK;
}

static bsd_status open_context(bsd_context *c, const bsd_context_options *options,
                               bsd_error *error) {
  BSD_TRY(bsd_backend_find(options->backend, options, &c->backend, error));
  BSD_TRY(c->backend->open(options, &c->device, c->device_text, sizeof c->device_text, error));
  BSD_TRY(copy_cost_model(c, options->cost_model, error));
  c->kernel = options->kernel;
  c->timeout = options->timeout_seconds > 0 ? options->timeout_seconds : 300;
  c->comm = options->comm;
  if (c->comm == NULL) {
    BSD_TRY(bsd_comm_create_self(&c->own_comm, error));
    c->comm = c->own_comm;
  }
  c->comm->timeout = c->timeout;
  return BSD_OK;
}

bsd_status bsd_context_create(const bsd_context_options *options, bsd_context **context,
                              bsd_error *error) {
  bsd_context_options defaults = {.struct_size = sizeof defaults};
  bsd_context *c;
  bsd_status status;
  if (context == NULL)
    return bsd_fail(error, BSD_ERR_ARG, "context is NULL but must be given");
  if (options == NULL)
    options = &defaults;
  BSD_TRY(check_options(options, error));
  BSD_TRY(bsd_alloc(&c, 1, sizeof *c, error));
  status = open_context(c, options, error);
  if (status == BSD_OK)
    *context = c;
  else
    bsd_context_destroy(c);
  return status;
}

void bsd_context_destroy(bsd_context *context) {
  if (context == NULL)
    return;
  bsd_comm_destroy(context->own_comm);
  if (context->device != NULL)
    context->backend->close(context->device);
  if (context->cost_model != NULL)
    bsd_free((void *)(uintptr_t)context->cost_model->rates);
  bsd_free(context->cost_model);
  bsd_free(context);
}

const char *bsd_last_error(const bsd_context *context) {
  return context == NULL ? "" : context->error.message;
}

bsd_status bsd_context_rank(const bsd_context *context, int *rank, int *size) {
  if (context == NULL)
    return BSD_ERR_ARG;
  if (rank != NULL)
    *rank = context->comm->rank;
  if (size != NULL)
    *size = context->comm->size;
  return BSD_OK;
}

const char *bsd_context_backend(const bsd_context *context) {
  return context->backend->name;
}

const char *bsd_context_device(const bsd_context *context) {
  return context->device_text;
}

const char *bsd_context_transport(const bsd_context *context) {
  return context->comm->transport->name;
}
