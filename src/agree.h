/* agree.h - ranks compare what they were given and tell one another of failures, while planning. */
#ifndef BSD_AGREE_H
#define BSD_AGREE_H

#include "context.h"

/* A field that must be the same on all ranks. */
typedef struct bsd_agree_field {
  const char *name; /* "pattern", "length", ... */
  uint64_t value;
} bsd_agree_field;

enum { BSD_AGREE_FIELDS = 12 };

/* Collective. *all gets every rank's `bytes` bytes, in rank order; the caller frees it. A rank that lacks the
 * memory gives up the communicator, so that the others need not wait for it. */
bsd_status bsd_gather_records(bsd_context *context, const void *mine, int64_t bytes, void *all,
                              bsd_error *error);

/* Collective. Compares fields (at most BSD_AGREE_FIELDS) and shares `status` with its message in *error.
 * Returns this rank's own failure if it has one; MISMATCH naming the first rank that differs from rank 0
 * and the field; PEER naming the first rank that failed, with its words; else BSD_OK. */
bsd_status bsd_agree(bsd_context *context, const char *doing, bsd_status status,
                     const bsd_agree_field *fields, int nfields, bsd_error *error);

#endif
