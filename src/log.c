/* log.c - formats one line of debugging output and writes it to stderr in one call. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>

#include "env.h"

enum { LINE_BYTES = 1024 };

static const char *const severity_names[] = {
    [BSD_LOG_QUIET] = "QUIET", [BSD_LOG_ERROR] = "ERROR", [BSD_LOG_WARN] = "WARN",
    [BSD_LOG_INFO] = "INFO",   [BSD_LOG_TRACE] = "TRACE",
};

bsd_log_severity bsd_log_level(void) {
  return bsd_env_debug_or_quiet();
}

void bsd_log(bsd_log_severity severity, int rank, int step, const char *format, ...) {
  if (severity == BSD_LOG_QUIET || severity > bsd_log_level())
    return;
  char where[64] = "";
  if (rank >= 0 && step >= 0)
    snprintf(where, sizeof where, " rank %d step %d", rank, step);
  else if (rank >= 0)
    snprintf(where, sizeof where, " rank %d", rank);
  else if (step >= 0)
    snprintf(where, sizeof where, " step %d", step);
  char text[LINE_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  /* One call per line: lines of several threads and ranks do not mix. */
  fprintf(stderr, "bsdattn %s%s: %s\n", severity_names[severity], where, text);
}
