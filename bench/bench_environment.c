/* bench_environment.c - on what a benchmark ran: versions, host, processor, and each rank's device. */
#include "bench/bench_environment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif

static int thread_count(void) {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

static const char *compiler(void) {
#if defined __clang__
  return "clang " __clang_version__;
#elif defined __GNUC__
  return "gcc " __VERSION__;
#else
  return "unknown";
#endif
}

/* The processor's name; "unknown" where /proc/cpuinfo does not give it. */
static void processor(char *text, size_t size) {
  snprintf(text, size, "unknown");
  FILE *file = fopen("/proc/cpuinfo", "r");
  char line[256];
  while (file != NULL && fgets(line, sizeof line, file) != NULL) {
    char *value = strchr(line, ':');
    if (strncmp(line, "model name", 10) != 0 || value == NULL)
      continue;
    value[strcspn(value, "\n")] = '\0';
    snprintf(text, size, "%s", value + strspn(value, ": \t"));
    break;
  }
  if (file != NULL)
    fclose(file);
}

static void add(bench_environment *environment, const char *name, const char *value) {
  bench_fact *fact = &environment->facts[environment->nfacts++];
  fact->name = name;
  snprintf(fact->value, sizeof fact->value, "%s", value);
}

static void add_facts(const bench_session *session, bench_environment *environment) {
  char text[256];
  struct utsname system;
  time_t now = time(NULL);
  struct tm utc;
  add(environment, "version", bsd_version());
  add(environment, "backends", bsd_build_backends());
  add(environment, "transports", bsd_build_transports());
  add(environment, "backend", bsd_context_backend(session->context));
  add(environment, "transport", bsd_context_transport(session->context));
  if (uname(&system) == 0) {
    add(environment, "host", system.nodename);
    snprintf(text, sizeof text, "%.80s %.80s %.80s", system.sysname, system.release,
             system.machine);
    add(environment, "system", text);
  }
  processor(text, sizeof text);
  add(environment, "processor", text);
  snprintf(text, sizeof text, "%d", thread_count());
  add(environment, "threads", text);
  add(environment, "compiler", compiler());
  add(environment, "dense", session->dense_text);
  add(environment, "inputs",
      session->options->cold ? "cold: sets of more than twice the L2 in turn"
                             : "hot: the same in each call");
  strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
  add(environment, "date", text);
}

int bench_environment_create(const bench_session *session, bench_environment *environment,
                             cli_error *error) {
  *environment = (bench_environment){.nranks = session->world->size};
  add_facts(session, environment);
  environment->ranks = calloc((size_t)environment->nranks, sizeof *environment->ranks);
  int code = environment->ranks != NULL
                 ? CLI_GOOD
                 : cli_fail(error, CLI_FAILED, "no memory for the ranks' names");
  code = cli_agree(session->world, code, error);
  if (code != CLI_GOOD)
    return code;
  bench_rank mine = {0};
  gethostname(mine.host, sizeof mine.host - 1);
  snprintf(mine.device, sizeof mine.device, "%s", bsd_context_device(session->context));
  return cli_allgather(session->world, &mine, sizeof mine, environment->ranks, error);
}

void bench_environment_free(bench_environment *environment) {
  free(environment->ranks);
  *environment = (bench_environment){0};
}
