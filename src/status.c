/* status.c - names of the status classes, and the one place where an error is put into words. */
#include "status.h"

#include <stdarg.h>
#include <stdio.h>

#include "log.h"

const char *bsd_status_string(bsd_status status) {
  switch (status) {
  case BSD_OK:
    return "success";
  case BSD_ERR_ARG:
    return "invalid argument";
  case BSD_ERR_PATTERN:
    return "invalid pattern";
  case BSD_ERR_UNSUPPORTED:
    return "unsupported combination";
  case BSD_ERR_MEMORY:
    return "out of memory";
  case BSD_ERR_STATE:
    return "invalid state";
  case BSD_ERR_PEER:
    return "another rank failed";
  case BSD_ERR_TIMEOUT:
    return "deadline passed";
  case BSD_ERR_MISMATCH:
    return "ranks disagree";
  case BSD_ERR_IO:
    return "input or output failed";
  case BSD_ERR_BACKEND:
    return "backend error";
  }
  return "unknown status";
}

static void fail_with(bsd_error *error, bsd_status status, int column, const char *format,
                      va_list arguments) {
  bsd_error local;
  bsd_error *filled = error ? error : &local;
  /* The arguments may point into *error itself (an error put into another's words). */
  char message[sizeof filled->message];
  vsnprintf(message, sizeof message, format, arguments);
  filled->status = status;
  filled->column = column;
  snprintf(filled->message, sizeof filled->message, "%s", message);
  bsd_log(BSD_LOG_ERROR, -1, -1, "%s: %s", bsd_status_string(status), filled->message);
}

bsd_status bsd_fail(bsd_error *error, bsd_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fail_with(error, status, 0, format, arguments);
  va_end(arguments);
  return status;
}

bsd_status bsd_fail_at(bsd_error *error, bsd_status status, int column, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fail_with(error, status, column, format, arguments);
  va_end(arguments);
  return status;
}
