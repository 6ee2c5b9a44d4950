/* status.h - errors in words: filled once where they are found, propagated by BSD_TRY. */
#ifndef BSD_STATUS_H
#define BSD_STATUS_H

#include "bsdattn.h"

/* Propagates a failure; the callee has filled the error. */
#define BSD_TRY(call)                          \
  do {                                         \
    bsd_status bsd_try_status = (call);        \
    if (bsd_try_status != BSD_OK)              \
      return bsd_try_status;                   \
  } while (0)

/* Fills *error (may be NULL) with status and a printf-formatted sentence, logs it at ERROR level, and
 * returns status. */
bsd_status bsd_fail(bsd_error *error, bsd_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with the 1-based column of a pattern text. */
bsd_status bsd_fail_at(bsd_error *error, bsd_status status, int column, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
