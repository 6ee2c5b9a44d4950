/* bench_hash.h - one digest of the outputs in global order, equal for any number of ranks. */
#ifndef BENCH_HASH_H
#define BENCH_HASH_H

#include "bench/bench_session.h"
#include "bench/bench_tensors.h"

/* XXH3-64 over the bytes of o [B][n][H][D], lse [B][H][n] and, if `backward`, dq, dk, dv, in that order,
 * packed, in global order. Collective; the digest is rank 0's (0 elsewhere). */
int bench_hash(const bench_session *session, bsd_plan *plan, const bsd_problem *problem,
               const bench_tensors *tensors, int backward, uint64_t *digest, cli_error *error);

#endif
