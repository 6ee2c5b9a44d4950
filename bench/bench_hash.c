/* bench_hash.c - one digest of the outputs in global order, gathered in chunks to rank 0.
 *
 * A chunk is gathered for all batch entries at once (that is what bsd_gather does), so with B > 1 each
 * batch entry makes its own round and takes its part of each chunk. */
#include "bench/bench_hash.h"

#include <stdlib.h>
#include <xxhash.h>

static const int64_t chunk_bytes = (int64_t)64 << 20;

/* One tensor that is hashed: `planes` planes of n rows, a row of `row_bytes`; [B][n][row] has B planes
 * and lse [B][H][n] has B*H. A gathered chunk is [planes][count][row]. */
typedef struct hashed {
  bsd_tensor_kind kind;
  const void *local;
  int64_t planes, row_bytes;
} hashed;

static int hash_tensor(const bench_session *session, bsd_plan *plan, int64_t n, const hashed *x,
                       XXH3_state_t *state, cli_error *error) {
  int root = session->world->rank == 0;
  int64_t rows = chunk_bytes / (x->planes * x->row_bytes);
  rows = rows < 1 ? 1 : rows < n ? rows : n;
  char *chunk = root ? malloc((size_t)(rows * x->planes * x->row_bytes)) : NULL;
  int code = root && chunk == NULL ? cli_fail(error, CLI_FAILED, "no memory to gather the outputs")
                                   : CLI_GOOD;
  code = cli_agree(session->world, code, error);
  for (int64_t plane = 0; plane < x->planes && code == CLI_GOOD; plane++)
    for (int64_t first = 0; first < n && code == CLI_GOOD; first += rows) {
      int64_t count = first + rows < n ? rows : n - first;
      bsd_status status = BSD_OK;
      if (plane == 0 || rows < n) /* one chunk holds all: it is still there */
        status =
            bsd_gather(plan, x->kind, x->local, root ? first : 0, root ? count : 0, chunk, NULL);
      if (status != BSD_OK)
        code = cli_library_failed(session->world, session->context, status, error);
      else if (root)
        XXH3_64bits_update(state, chunk + plane * count * x->row_bytes,
                           (size_t)(count * x->row_bytes));
    }
  free(chunk);
  return code;
}

int bench_hash(const bench_session *session, bsd_plan *plan, const bsd_problem *problem,
               const bench_tensors *tensors, int backward, uint64_t *digest, cli_error *error) {
  int64_t row = problem->head_dim * (int64_t)cli_dtype_size(problem->dtype);
  int64_t B = problem->batch, H = problem->heads, Hkv = problem->kv_heads;
  const hashed outputs[] = {{BSD_TENSOR_Q, tensors->o.data, B, H * row},
                            {BSD_TENSOR_LSE, tensors->lse, B * H, sizeof(float)},
                            {BSD_TENSOR_Q, tensors->dq.data, B, H * row},
                            {BSD_TENSOR_KV, tensors->dk.data, B, Hkv * row},
                            {BSD_TENSOR_KV, tensors->dv.data, B, Hkv * row}};
  XXH3_state_t *state = XXH3_createState();
  int code = state != NULL ? CLI_GOOD : cli_fail(error, CLI_FAILED, "no memory for a digest");
  code = cli_agree(session->world, code, error);
  if (code == CLI_GOOD)
    XXH3_64bits_reset(state);
  for (int i = 0; i < (backward ? 5 : 2) && code == CLI_GOOD; i++)
    code = hash_tensor(session, plan, problem->length, &outputs[i], state, error);
  *digest = 0;
  if (code == CLI_GOOD && session->world->rank == 0)
    *digest = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  return cli_agree(session->world, code, error);
}
