/* env.h - the environment variables that the library reads: one typed accessor each.
 *
 *   BSD_DEBUG=ERROR|WARN|INFO|TRACE   log to stderr (default: quiet)
 *   BSD_CHECKSUM=0|1                  a checksum on each message (default 0)
 *   BSD_FLIGHT_FILE=path              where a failed exchange writes its last events (default stderr)
 *   BSD_CPU_ISA=avx512|avx2|baseline  kernels of the CPU backend (default: the best the CPU has)
 *   BSD_SERIALIZE_EXCHANGE=0|1        the host waits for an exchange before it launches kernels (default 0):
 *                                     for ranks that share a GPU, whose kernels could starve each other
 *   BSD_STAGES=auto|1|2|3             stages of an exchange (default auto: by predicted time)
 *   BSD_SM_MARGIN=0..64               multiprocessors of a GPU that persistent kernels leave to others, so that
 *                                     an exchange can begin beside them (default 0)
 *   BSD_CUDA_AWARE=0|1                whether MPI is given device memory (default: if it says that it takes it);
 *                                     1 is refused where MPI does not say so
 *
 * An accessor gives the default where the variable is unset, logs an override at INFO, and refuses
 * any other value with ARG and a sentence that names the variable, the value and what is accepted.
 * The environment is read at each call and never kept. */
#ifndef BSD_ENV_H
#define BSD_ENV_H

#include <stdint.h>

#include "log.h"
#include "status.h"

typedef enum bsd_cpu_isa {
  BSD_CPU_ISA_AUTO = 0,
  BSD_CPU_ISA_BASELINE = 1,
  BSD_CPU_ISA_AVX2 = 2,
  BSD_CPU_ISA_AVX512 = 3
} bsd_cpu_isa;

typedef enum bsd_cuda_aware {
  BSD_CUDA_AWARE_AUTO = 0,
  BSD_CUDA_AWARE_OFF = 1,
  BSD_CUDA_AWARE_ON = 2
} bsd_cuda_aware;

bsd_status bsd_env_debug(bsd_log_severity *level, bsd_error *error);
bsd_status bsd_env_checksum(int *on, bsd_error *error);
bsd_status bsd_env_serialize_exchange(int *on, bsd_error *error);
bsd_status bsd_env_cuda_aware(bsd_cuda_aware *wanted, bsd_error *error);

bsd_status bsd_env_stages(int *stages, bsd_error *error); /* 0: auto */
bsd_status bsd_env_sm_margin(int *multiprocessors, bsd_error *error);

/* *path is NULL without BSD_FLIGHT_FILE; it points into the environment. */
bsd_status bsd_env_flight_file(const char **path, bsd_error *error);
bsd_status bsd_env_cpu_isa(bsd_cpu_isa *isa, bsd_error *error);

/* Calls every accessor: a context is refused if any variable holds a bad value. */
bsd_status bsd_env_check(bsd_error *error);

/* How many processes the launcher of this run says that it started (Open MPI's mpirun, a PMI
 * launcher, srun), and the variable that says so; 0 and NULL where none did. Never fails: the
 * values are not ours. */
void bsd_env_launched_processes(int64_t *processes, const char **variable);

/* For the log itself: BSD_DEBUG's level, quiet where it is unset or bad. Neither fails nor logs. */
bsd_log_severity bsd_env_debug_or_quiet(void);

#endif
