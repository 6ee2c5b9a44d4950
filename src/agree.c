/* agree.c - ranks compare what they were given. See agree.h. */
#include "agree.h"

#include <stdio.h>
#include <string.h>

#include "memory.h"

typedef struct record {
  int64_t status;
  uint64_t value[BSD_AGREE_FIELDS];
  char message[192];
} record;

static bsd_status judge(const record *all, int nranks, const char *doing,
                        const bsd_agree_field *fields, int nfields, bsd_error *error) {
  int r, f;
  for (f = 0; f < nfields; f++)
    for (r = 1; r < nranks; r++)
      if (all[r].value[f] != all[0].value[f] && all[r].status == BSD_OK && all[0].status == BSD_OK)
        return bsd_fail(error, BSD_ERR_MISMATCH,
                        "%s: rank %d was given another %s than rank 0; it must be the same on all "
                        "ranks",
                        doing, r, fields[f].name);
  for (r = 0; r < nranks; r++)
    if (all[r].status != BSD_OK)
      return bsd_fail(error, BSD_ERR_PEER, "%s: rank %d failed: %s (%s)", doing, r,
                      all[r].message[0] ? all[r].message : "no message",
                      bsd_status_string((bsd_status)all[r].status));
  return BSD_OK;
}

bsd_status bsd_gather_records(bsd_context *context, const void *mine, int64_t bytes, void *all,
                              bsd_error *error) {
  bsd_comm *comm = context->comm;
  void *records;
  bsd_status status = bsd_alloc(&records, comm->size, bytes, error);
  if (status != BSD_OK) {
    comm->transport->abort(comm);
    return status;
  }
  status = comm->transport->allgather(comm, mine, bytes, records, error);
  if (status == BSD_OK)
    *(void **)all = records;
  else if (!comm->failed) /* else the transport may still write to them: they are left to it */
    bsd_free(records);
  return status;
}

bsd_status bsd_agree(bsd_context *context, const char *doing, bsd_status status,
                     const bsd_agree_field *fields, int nfields, bsd_error *error) {
  bsd_comm *comm = context->comm;
  record mine, *all;
  bsd_status exchanged;
  int f;
  if (comm->size == 1 || (comm->failed && status != BSD_OK)) /* the failure is what to tell */
    return status;
  memset(&mine, 0, sizeof mine);
  mine.status = status;
  for (f = 0; f < nfields; f++)
    mine.value[f] = fields[f].value;
  if (status != BSD_OK && error != NULL)
    snprintf(mine.message, sizeof mine.message, "%.*s", (int)sizeof mine.message - 1,
             error->message);
  exchanged =
      bsd_gather_records(context, &mine, sizeof mine, &all, status == BSD_OK ? error : NULL);
  if (exchanged != BSD_OK)
    return status != BSD_OK ? status : exchanged;
  if (status == BSD_OK)
    status = judge(all, comm->size, doing, fields, nfields, error);
  bsd_free(all);
  return status;
}
