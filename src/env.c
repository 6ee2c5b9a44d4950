/* env.c - reads the library's environment variables: the only getenv. */
#include "env.h"

#include <stdlib.h>
#include <string.h>

typedef struct choice {
  const char *text;
  int value;
} choice;

static const choice debug_choices[] = {{"ERROR", BSD_LOG_ERROR},
                                       {"WARN", BSD_LOG_WARN},
                                       {"INFO", BSD_LOG_INFO},
                                       {"TRACE", BSD_LOG_TRACE},
                                       {NULL, 0}};
static const choice switch_choices[] = {{"0", 0}, {"1", 1}, {NULL, 0}};
static const choice stage_choices[] = {{"auto", 0}, {"1", 1}, {"2", 2}, {"3", 3}, {NULL, 0}};
static const choice cuda_aware_choices[] = {
    {"0", BSD_CUDA_AWARE_OFF}, {"1", BSD_CUDA_AWARE_ON}, {NULL, 0}};
static const choice isa_choices[] = {{"avx512", BSD_CPU_ISA_AVX512},
                                     {"avx2", BSD_CPU_ISA_AVX2},
                                     {"baseline", BSD_CPU_ISA_BASELINE},
                                     {NULL, 0}};

static const choice *find_choice(const choice *choices, const char *text) {
  for (; choices->text; choices++)
    if (strcmp(choices->text, text) == 0)
      return choices;
  return NULL;
}

/* *value is set to the variable's choice, or to `unset`. */
static bsd_status read_choice(const char *name, const choice *choices, const char *accepted,
                              int unset, int *value, bsd_error *error) {
  const char *text = getenv(name);
  if (!text) {
    *value = unset;
    return BSD_OK;
  }
  const choice *found = find_choice(choices, text);
  if (!found)
    return bsd_fail(error, BSD_ERR_ARG, "environment variable %s is '%.100s', expected %s", name,
                    text, accepted);
  bsd_log(BSD_LOG_INFO, -1, -1, "%s=%s overrides the default", name, text);
  *value = found->value;
  return BSD_OK;
}

bsd_log_severity bsd_env_debug_or_quiet(void) {
  const char *text = getenv("BSD_DEBUG");
  const choice *found = text ? find_choice(debug_choices, text) : NULL;
  return found ? (bsd_log_severity)found->value : BSD_LOG_QUIET;
}

bsd_status bsd_env_debug(bsd_log_severity *level, bsd_error *error) {
  int value;
  BSD_TRY(read_choice("BSD_DEBUG", debug_choices, "ERROR, WARN, INFO or TRACE", BSD_LOG_QUIET,
                      &value, error));
  *level = (bsd_log_severity)value;
  return BSD_OK;
}

bsd_status bsd_env_checksum(int *on, bsd_error *error) {
  return read_choice("BSD_CHECKSUM", switch_choices, "0 or 1", 0, on, error);
}

bsd_status bsd_env_serialize_exchange(int *on, bsd_error *error) {
  return read_choice("BSD_SERIALIZE_EXCHANGE", switch_choices, "0 or 1", 0, on, error);
}

bsd_status bsd_env_stages(int *stages, bsd_error *error) {
  return read_choice("BSD_STAGES", stage_choices, "auto, 1, 2 or 3", 0, stages, error);
}

bsd_status bsd_env_sm_margin(int *multiprocessors, bsd_error *error) {
  const char *text = getenv("BSD_SM_MARGIN");
  char *end = NULL;
  long value = text ? strtol(text, &end, 10) : 0;
  if (text && (text[0] < '0' || text[0] > '9' || *end != 0 || value > 64))
    return bsd_fail(error, BSD_ERR_ARG,
                    "environment variable BSD_SM_MARGIN is '%.100s', expected 0 to 64", text);
  if (text)
    bsd_log(BSD_LOG_INFO, -1, -1, "BSD_SM_MARGIN=%s overrides the default", text);
  *multiprocessors = (int)value;
  return BSD_OK;
}

bsd_status bsd_env_cuda_aware(bsd_cuda_aware *wanted, bsd_error *error) {
  int value;
  BSD_TRY(read_choice("BSD_CUDA_AWARE", cuda_aware_choices, "0 or 1", BSD_CUDA_AWARE_AUTO, &value,
                      error));
  *wanted = (bsd_cuda_aware)value;
  return BSD_OK;
}

bsd_status bsd_env_cpu_isa(bsd_cpu_isa *isa, bsd_error *error) {
  int value;
  BSD_TRY(read_choice("BSD_CPU_ISA", isa_choices, "avx512, avx2 or baseline", BSD_CPU_ISA_AUTO,
                      &value, error));
  *isa = (bsd_cpu_isa)value;
  return BSD_OK;
}

bsd_status bsd_env_flight_file(const char **path, bsd_error *error) {
  const char *text = getenv("BSD_FLIGHT_FILE");
  if (text && text[0] == 0)
    return bsd_fail(error, BSD_ERR_ARG,
                    "environment variable BSD_FLIGHT_FILE is '', expected the path of a file");
  if (text)
    bsd_log(BSD_LOG_INFO, -1, -1, "BSD_FLIGHT_FILE=%s overrides the default", text);
  *path = text;
  return BSD_OK;
}

/* A count in decimal, or 0. */
static int64_t read_count(const char *name) {
  const char *text = getenv(name);
  if (!text)
    return 0;
  char *end;
  long long value = strtoll(text, &end, 10);
  return end != text && *end == 0 && value > 0 ? value : 0;
}

void bsd_env_launched_processes(int64_t *processes, const char **variable) {
  static const char *const per_process[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"};
  for (size_t i = 0; i < sizeof per_process / sizeof per_process[0]; i++) {
    *variable = per_process[i];
    *processes = read_count(*variable);
    if (*processes > 0)
      return;
  }
  /* Slurm sets SLURM_NTASKS for a whole job, also around an mpirun or a lone program in a batch script:
   * it counts this run's processes only in a step of srun's own, and no launcher above was named. */
  *processes = getenv("SLURM_STEP_ID") ? read_count("SLURM_NTASKS") : 0;
  *variable = *processes > 0 ? "SLURM_NTASKS" : NULL;
}

bsd_status bsd_env_check(bsd_error *error) {
  bsd_log_severity level;
  int checksum, serialize, stages, margin;
  const char *path;
  bsd_cpu_isa isa;
  bsd_cuda_aware wanted;
  BSD_TRY(bsd_env_debug(&level, error));
  BSD_TRY(bsd_env_checksum(&checksum, error));
  BSD_TRY(bsd_env_serialize_exchange(&serialize, error));
  BSD_TRY(bsd_env_stages(&stages, error));
  BSD_TRY(bsd_env_sm_margin(&margin, error));
  BSD_TRY(bsd_env_flight_file(&path, error));
  BSD_TRY(bsd_env_cpu_isa(&isa, error));
  BSD_TRY(bsd_env_cuda_aware(&wanted, error));
  return BSD_OK;
}
