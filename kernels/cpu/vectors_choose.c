/* vectors_choose.c - which instruction set this process runs: asked of the processor, once per device. */
#include "../../src/env.h"
#include "vectors.h"

#if defined(__x86_64__) || defined(__i386__)

static int processor_has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static int processor_has_avx512(void) {
  return processor_has_avx2() && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

#else

static int processor_has_avx2(void) {
  return 0;
}

static int processor_has_avx512(void) {
  return 0;
}

#endif

static const bsd_cpu_vectors *usable_avx512(void) {
  return processor_has_avx512() ? bsd_cpu_vectors_avx512() : NULL;
}

static const bsd_cpu_vectors *usable_avx2(void) {
  return processor_has_avx2() ? bsd_cpu_vectors_avx2() : NULL;
}

static const bsd_cpu_vectors *best(void) {
  const bsd_cpu_vectors *vectors = usable_avx512();
  if (!vectors)
    vectors = usable_avx2();
  return vectors ? vectors : bsd_cpu_vectors_baseline();
}

bsd_status bsd_cpu_vectors_choose(const bsd_cpu_vectors **vectors, bsd_error *error) {
  bsd_cpu_isa isa;
  BSD_TRY(bsd_env_cpu_isa(&isa, error));
  const bsd_cpu_vectors *chosen = NULL;
  switch (isa) {
  case BSD_CPU_ISA_AUTO:
    chosen = best();
    break;
  case BSD_CPU_ISA_AVX512:
    chosen = usable_avx512();
    break;
  case BSD_CPU_ISA_AVX2:
    chosen = usable_avx2();
    break;
  case BSD_CPU_ISA_BASELINE:
    chosen = bsd_cpu_vectors_baseline();
    break;
  }
  if (!chosen)
    return bsd_fail(
        error, BSD_ERR_UNSUPPORTED,
        "environment variable BSD_CPU_ISA asks for %s, which this processor or this build "
        "does not have",
        isa == BSD_CPU_ISA_AVX512 ? "avx512" : "avx2");
  *vectors = chosen;
  return BSD_OK;
}
