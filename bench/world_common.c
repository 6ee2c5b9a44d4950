/* world_common.c - what both kinds of world share: a program's end, the library's errors. */
#include "bench/world.h"

#include <stdio.h>
#include <string.h>

#include "bench/world_kind.h"

int cli_finish(cli_world *world, int code, const cli_error *error) {
  if (code != CLI_GOOD && (world->rank == 0 || world->broken)) {
    if (world->broken && world->size > 1)
      fprintf(stderr, "%s: rank %d: %s\n", world->program, world->rank, error->text);
    else
      fprintf(stderr, "%s: %s\n", world->program, error->text);
  }
  if (fflush(stdout) != 0 || ferror(stdout)) {
    fprintf(stderr, "%s: standard output could not be written\n", world->program);
    code = code == CLI_GOOD ? CLI_FAILED : code;
  }
  cli_world_end(world, code);
  return code;
}

int cli_library_failed(cli_world *world, const bsd_context *context, bsd_status status,
                       cli_error *error) {
  if (world->size > 1 && (status == BSD_ERR_PEER || status == BSD_ERR_TIMEOUT))
    world->broken = 1;
  return cli_fail_status(error, status, bsd_last_error(context));
}

/* 1 if `word` is one of the space separated words of `list`. */
static int has_word(const char *list, const char *word) {
  size_t length = strlen(word);
  for (const char *p = list; (p = strstr(p, word)) != NULL; p += length)
    if ((p == list || p[-1] == ' ') && (p[length] == ' ' || p[length] == '\0'))
      return 1;
  return 0;
}

/* Refuses a transport that this build or this number of ranks cannot have. */
static int judge_transport(cli_transport transport, const cli_world *world, cli_error *error) {
  const char *name = cli_transport_name(transport);
  if (transport != CLI_TRANSPORT_AUTO && !has_word(bsd_build_transports(), name))
    return cli_fail(error, CLI_UNUSABLE, "--transport is %s, but this build has only: %s", name,
                    bsd_build_transports());
  if (transport == CLI_TRANSPORT_SELF && world->size > 1)
    return cli_fail(error, CLI_UNUSABLE,
                    "--transport is self, which is for one rank, but there are %d", world->size);
  return CLI_GOOD;
}

/* ---- contexts ---------------------------------------------------------------------------- */

/* Backend and transport once auto is settled. */
typedef struct choice {
  bsd_backend backend;
  cli_transport transport;
  int device; /* CUDA device number */
} choice;

/* The same on all ranks. */
static int choose(const cli_common *common, cli_world *world, choice *chosen, cli_error *error) {
  int devices = has_word(bsd_build_backends(), "cuda") ? cli_device_count() : 0;
  double lacks[] = {devices == 0, devices < world->local_size}; /* true if true on some rank */
  int code = cli_max(world, lacks, 2, error);
  if (code != CLI_GOOD)
    return code;
  *chosen = (choice){common->backend, common->transport, 0};
  if (chosen->backend == BSD_BACKEND_AUTO)
    chosen->backend = lacks[0] != 0 ? BSD_BACKEND_CPU : BSD_BACKEND_CUDA;
  if (chosen->backend == BSD_BACKEND_CUDA && devices > 0)
    chosen->device = world->local_rank % devices;
  if (chosen->transport == CLI_TRANSPORT_AUTO) {
    int nccl = chosen->backend == BSD_BACKEND_CUDA && lacks[1] == 0 &&
               has_word(bsd_build_transports(), "nccl");
    chosen->transport = world->size == 1 ? CLI_TRANSPORT_SELF
                        : nccl           ? CLI_TRANSPORT_NCCL
                                         : CLI_TRANSPORT_MPI;
  }
  if (chosen->transport == CLI_TRANSPORT_NCCL && chosen->backend != BSD_BACKEND_CUDA)
    return cli_fail(error, CLI_UNUSABLE,
                    "--transport is nccl, which moves a GPU's memory, but the backend is cpu");
  return CLI_GOOD;
}

static int open_context(const cli_common *common, const choice *chosen, cli_world *world,
                        bsd_context **context, cli_error *error) {
  bsd_context_options options = {.struct_size = sizeof options,
                                 .backend = chosen->backend,
                                 .kernel = common->kernel,
                                 .device = chosen->device,
                                 .comm = world->comm,
                                 .timeout_seconds = common->timeout,
                                 .cost_model = common->cost_model};
  bsd_error failure = {0};
  bsd_status status = bsd_context_create(&options, context, &failure);
  if (status == BSD_OK)
    return CLI_GOOD;
  if (world->size > 1 && (status == BSD_ERR_PEER || status == BSD_ERR_TIMEOUT))
    world->broken = 1;
  return cli_fail_status(error, status, failure.message);
}

static int create_context(const cli_common *common, cli_world *world, bsd_context **context,
                          cli_error *error) {
  choice chosen = {BSD_BACKEND_CPU, CLI_TRANSPORT_SELF, 0};
  int code = cli_agree(world, judge_transport(common->transport, world, error), error);
  if (code == CLI_GOOD)
    code = cli_agree(world, choose(common, world, &chosen, error), error);
  if (code != CLI_GOOD)
    return code;
  int on_gpu = chosen.backend == BSD_BACKEND_CUDA && cli_device_count() > 0;
  if (on_gpu)
    code = cli_device_use(chosen.device, error);
  if (code == CLI_GOOD)
    code = cli_device_open(on_gpu, chosen.device, &world->device, error);
  code = cli_agree(world, code, error);
  if (code == CLI_GOOD)
    code = cli_world_comm(chosen.transport, world, error);
  return code == CLI_GOOD ? open_context(common, &chosen, world, context, error) : code;
}

int cli_context_create(const cli_common *common, cli_world *world, bsd_context **context,
                       cli_error *error) {
  bsd_context *made = NULL;
  int code = cli_agree(world, create_context(common, world, &made, error), error);
  if (code != CLI_GOOD) {
    cli_context_destroy(world, made);
    return code;
  }
  *context = made;
  return CLI_GOOD;
}

void cli_context_destroy(cli_world *world, bsd_context *context) {
  bsd_context_destroy(context);
  bsd_comm_destroy(world->comm);
  world->comm = NULL;
  cli_device_close(&world->device);
}
