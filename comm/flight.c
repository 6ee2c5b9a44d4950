/* flight.c - keeps the last events of a communicator and writes them out when it fails. */
#include "comm/flight.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "src/clock.h"
#include "src/env.h"
#include "src/log.h"
#include "src/memory.h"

#define LINE_BYTES    160 /* the longest event line is shorter */
#define HEADING_BYTES 800 /* a bsd_error's sentence and the column titles */

void bsd_flight_record(bsd_flight *flight, const bsd_flight_event *event) {
  bsd_flight_event *slot = &flight->events[flight->recorded % BSD_FLIGHT_EVENTS];
  *slot = *event;
  slot->time = bsd_now();
  flight->recorded++;
}

static const char *state_name(bsd_flight_state state) {
  switch (state) {
  case BSD_FLIGHT_POSTED:
    return "posted";
  case BSD_FLIGHT_COMPLETE:
    return "complete";
  case BSD_FLIGHT_FAILED:
    return "failed";
  }
  return "unknown";
}

/* Writes the whole dump to text; returns its length. Times are seconds before now. */
static size_t format_dump(const bsd_flight *flight, int rank, int size, const char *reason,
                          char *text, size_t capacity) {
  uint64_t first = flight->recorded > BSD_FLIGHT_EVENTS ? flight->recorded - BSD_FLIGHT_EVENTS : 0;
  double now = bsd_now();
  int used = snprintf(text, capacity,
                      "bsdattn flight recorder, rank %d of %d: %s\n"
                      "# seconds ago, exchange, what, step, direction, peer, bytes, state\n",
                      rank, size, reason);
  size_t length = (size_t)used;
  for (uint64_t i = first; i < flight->recorded; i++) {
    const bsd_flight_event *event = &flight->events[i % BSD_FLIGHT_EVENTS];
    used = snprintf(text + length, capacity - length,
                    "rank %d  %10.6f  %8llu  %-10.*s  %6d  %s  %6d  %14lld  %s\n", rank,
                    now - event->time, (unsigned long long)event->sequence, BSD_FLIGHT_WHAT_BYTES,
                    event->what, event->step, event->is_send ? "send to  " : "recv from",
                    event->peer, (long long)event->bytes, state_name(event->state));
    length += (size_t)used;
  }
  return length;
}

static void write_all(int file, const char *text, size_t length) {
  while (length > 0) {
    ssize_t written = write(file, text, length);
    if (written <= 0)
      return;
    text += written;
    length -= (size_t)written;
  }
}

void bsd_flight_dump(const bsd_flight *flight, int rank, int size, const char *reason) {
  size_t capacity = HEADING_BYTES + BSD_FLIGHT_EVENTS * LINE_BYTES;
  char *text;
  if (bsd_alloc(&text, (int64_t)capacity, 1, NULL) != BSD_OK)
    return; /* the error itself still reaches the caller */
  size_t length = format_dump(flight, rank, size, reason, text, capacity);

  const char *path = NULL;
  int file = -1;
  if (bsd_env_flight_file(&path, NULL) == BSD_OK && path) {
    file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (file < 0)
      bsd_log(BSD_LOG_ERROR, rank, -1, "BSD_FLIGHT_FILE %s cannot be opened, using stderr", path);
  }
  write_all(file >= 0 ? file : STDERR_FILENO, text, length);
  if (file >= 0)
    close(file);
  bsd_free(text);
}
