/* log.h - lines on stderr for whoever debugs a run: quiet unless BSD_DEBUG asks.
 *
 * No state is kept: the level is read from the environment at each call, so a loop that may log
 * often asks bsd_log_level() once before it. */
#ifndef BSD_LOG_H
#define BSD_LOG_H

typedef enum bsd_log_severity {
  BSD_LOG_QUIET = 0, /* the level of a process without BSD_DEBUG: nothing is written */
  BSD_LOG_ERROR = 1,
  BSD_LOG_WARN = 2,
  BSD_LOG_INFO = 3,
  BSD_LOG_TRACE = 4
} bsd_log_severity;

/* The most verbose severity that is written. */
bsd_log_severity bsd_log_level(void);

/* Writes one line "bsdattn INFO rank 3 step 1: ..." if the level admits it. rank and step are -1
 * where there is none. */
void bsd_log(bsd_log_severity severity, int rank, int step, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
