/* plan_transpose.c - the ranks send one another the rows of which columns are made (share_transpose.c).
 *
 *  1. each rank writes records for every other, of all its shares one after the other
 *  2. it tells every other rank how many words it has for it
 *  3. records go where there are some, and the shares are finished
 * What a rank alone can fail in is agreed on before each exchange, so that none waits for it in vain. */
#include <inttypes.h>

#include "agree.h"
#include "memory.h"
#include "plan.h"

typedef struct message {
  void *data;
  int64_t bytes;
} message;

typedef struct row_exchange { /* [P]: by rank */
  bsd_context *context;
  uint64_t hash; /* of the pattern: says what the exchange is about */
  bsd_share **shares;
  int64_t nshares;
  bsd_row_records *out, *in;     /* [P] */
  int64_t *out_words, *in_words; /* [P][nshares]: of each share's records */
  message *sends, *receives;     /* [P] of the exchange under way */
} row_exchange;

/* ---- an exchange with all ranks ---------------------------------------------------------- */

static bsd_status post(const row_exchange *x, bsd_error *error) {
  bsd_comm *comm = x->context->comm;
  int step;
  for (step = 1; step < comm->size; step++) {
    int to = (comm->rank + step) % comm->size, from = (comm->rank - step + comm->size) % comm->size;
    if (x->receives[from].bytes > 0)
      BSD_TRY(comm->transport->recv(comm, step, from, x->receives[from].data,
                                    x->receives[from].bytes, error));
    if (x->sends[to].bytes > 0)
      BSD_TRY(comm->transport->send(comm, step, to, x->sends[to].data, x->sends[to].bytes, error));
  }
  return BSD_OK;
}

/* A failure ends the communicator: others are in the exchange already. */
static bsd_status exchange(const row_exchange *x, bsd_error *error) {
  bsd_comm *comm = x->context->comm;
  const bsd_exchange what = {.plan_hash = x->hash, .what = "plan"};
  bsd_status status;
  if (comm->size == 1)
    return BSD_OK;
  status = comm->transport->begin(comm, &what, error);
  if (status == BSD_OK)
    status = post(x, error);
  if (status == BSD_OK)
    status = comm->transport->end(comm, error);
  if (status == BSD_OK)
    status = bsd_comm_wait(comm, comm->size, error);
  if (status != BSD_OK)
    comm->transport->abort(comm);
  return status;
}

/* ---- counts ------------------------------------------------------------------------------ */

static bsd_status take_memory(row_exchange *x, bsd_error *error) {
  int64_t ranks = x->context->comm->size, r;
  BSD_TRY(bsd_alloc(&x->out, ranks, sizeof *x->out, error));
  BSD_TRY(bsd_alloc(&x->in, ranks, sizeof *x->in, error));
  BSD_TRY(bsd_alloc(&x->out_words, ranks, x->nshares * (int64_t)sizeof(int64_t), error));
  BSD_TRY(bsd_alloc(&x->in_words, ranks, x->nshares * (int64_t)sizeof(int64_t), error));
  BSD_TRY(bsd_alloc(&x->sends, ranks, sizeof *x->sends, error));
  BSD_TRY(bsd_alloc(&x->receives, ranks, sizeof *x->receives, error));
  for (r = 0; r < ranks; r++)
    x->out[r].from = x->in[r].from = (int)r;
  return BSD_OK;
}

static bsd_status pack(row_exchange *x, bsd_error *error) {
  int64_t ranks = x->context->comm->size, r, s;
  BSD_TRY(take_memory(x, error));
  for (s = 0; s < x->nshares; s++) {
    for (r = 0; r < ranks; r++)
      x->out_words[r * x->nshares + s] = -x->out[r].count;
    BSD_TRY(bsd_share_pack_rows(x->shares[s], x->out, error));
    for (r = 0; r < ranks; r++)
      x->out_words[r * x->nshares + s] += x->out[r].count;
  }
  return BSD_OK;
}

static bsd_status exchange_counts(const row_exchange *x, bsd_error *error) {
  int64_t ranks = x->context->comm->size, bytes = x->nshares * (int64_t)sizeof(int64_t), r;
  for (r = 0; r < ranks; r++) {
    x->sends[r] = (message){x->out_words + r * x->nshares, bytes};
    x->receives[r] = (message){x->in_words + r * x->nshares, bytes};
  }
  return exchange(x, error);
}

/* ---- records ----------------------------------------------------------------------------- */

/* Room for what rank r announced. */
static bsd_status make_room(row_exchange *x, int64_t r, bsd_error *error) {
  bsd_row_records *in = &x->in[r];
  int64_t s;
  for (s = 0; s < x->nshares; s++) {
    int64_t words = x->in_words[r * x->nshares + s];
    if (words < 0 || !bsd_add(in->count, words, &in->count))
      return bsd_fail(error, BSD_ERR_PEER,
                      "bsd_plan_create: rank %" PRId64 " announces %" PRId64
                      " words of rows, expected 0 or more, below 2^63 in all",
                      r, words);
  }
  x->sends[r] = (message){x->out[r].word, x->out[r].count * (int64_t)sizeof(int64_t)};
  BSD_TRY(bsd_alloc(&in->word, in->count, sizeof *in->word, error));
  x->receives[r] = (message){in->word, in->count * (int64_t)sizeof(int64_t)};
  return BSD_OK;
}

/* This rank's own records stay where they are. */
static bsd_status make_all_room(row_exchange *x, bsd_error *error) {
  int64_t ranks = x->context->comm->size, r, me = x->context->comm->rank, s;
  for (r = 0; r < ranks; r++)
    if (r != me)
      BSD_TRY(make_room(x, r, error));
  x->in[me] = x->out[me];
  x->out[me] = (bsd_row_records){0};
  for (s = 0; s < x->nshares; s++)
    x->in_words[me * x->nshares + s] = x->out_words[me * x->nshares + s];
  return BSD_OK;
}

/* Each share takes its part of every rank's records. */
static bsd_status finish(row_exchange *x, bsd_error *error) {
  int64_t ranks = x->context->comm->size, r, s;
  bsd_row_records *part;
  bsd_status status = BSD_OK;
  BSD_TRY(bsd_alloc(&part, ranks, sizeof *part, error));
  for (r = 0; r < ranks; r++)
    part[r] = (bsd_row_records){.word = x->in[r].word, .from = (int)r};
  for (s = 0; s < x->nshares && status == BSD_OK; s++) {
    for (r = 0; r < ranks; r++)
      part[r].count = x->in_words[r * x->nshares + s];
    status = bsd_share_finish(x->shares[s], part, ranks, error);
    for (r = 0; r < ranks; r++)
      part[r].word += part[r].count;
  }
  bsd_free(part);
  return status;
}

/* ---- all together ------------------------------------------------------------------------ */

static bsd_status agree(const row_exchange *x, bsd_status status, bsd_error *error) {
  return bsd_agree(x->context, "bsd_plan_create", status, NULL, 0, error);
}

static bsd_status run(row_exchange *x, bsd_status status, bsd_error *error) {
  if (status == BSD_OK)
    status = pack(x, error);
  BSD_TRY(agree(x, status, error));
  BSD_TRY(exchange_counts(x, error));
  BSD_TRY(agree(x, make_all_room(x, error), error));
  BSD_TRY(exchange(x, error));
  return finish(x, error);
}

/* After a failed exchange the transport may still read and write the messages: they are left to it. */
static void clean(row_exchange *x, bsd_status status) {
  int abandoned = status != BSD_OK && x->context->comm->failed;
  int64_t r;
  for (r = 0; r < x->context->comm->size && !abandoned; r++) {
    if (x->out != NULL)
      bsd_free(x->out[r].word);
    if (x->in != NULL)
      bsd_free(x->in[r].word);
  }
  if (!abandoned) {
    bsd_free(x->out_words);
    bsd_free(x->in_words);
  }
  bsd_free(x->out);
  bsd_free(x->in);
  bsd_free(x->sends);
  bsd_free(x->receives);
}

bsd_status bsd_plan_finish_shares(const bsd_plan *plan, bsd_share **shares, int64_t nshares,
                                  bsd_status status, bsd_error *error) {
  row_exchange x = {.context = plan->context,
                    .hash = bsd_pattern_content_hash(plan->task->pattern),
                    .shares = shares,
                    .nshares = nshares};
  status = run(&x, status, error);
  clean(&x, status);
  return status;
}
