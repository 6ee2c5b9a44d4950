/* flight.h - the flight recorder: the last events of a communicator, to explain a hang afterwards.
 *
 * Plain memory inside a transport's state: recording neither allocates nor fails. */
#ifndef BSD_FLIGHT_H
#define BSD_FLIGHT_H

#include <stdint.h>

#define BSD_FLIGHT_EVENTS     256
#define BSD_FLIGHT_WHAT_BYTES 12

typedef enum bsd_flight_state {
  BSD_FLIGHT_POSTED = 0,
  BSD_FLIGHT_COMPLETE = 1,
  BSD_FLIGHT_FAILED = 2
} bsd_flight_state;

typedef struct bsd_flight_event {
  double time;       /* bsd_now() */
  uint64_t sequence; /* of the exchange on its communicator */
  int64_t bytes;
  int step, peer;
  int is_send;
  bsd_flight_state state;
  char what[BSD_FLIGHT_WHAT_BYTES]; /* the exchange's kind, cut to fit */
} bsd_flight_event;

typedef struct bsd_flight {
  uint64_t recorded; /* events ever; the last BSD_FLIGHT_EVENTS of them are kept */
  bsd_flight_event events[BSD_FLIGHT_EVENTS];
} bsd_flight;

/* Records *event at the present time. */
void bsd_flight_record(bsd_flight *flight, const bsd_flight_event *event);

/* Appends `reason` and the kept events, oldest first, to the file of BSD_FLIGHT_FILE, else to stderr.
 * The ranks of a run may share that file: the text is written at once. */
void bsd_flight_dump(const bsd_flight *flight, int rank, int size, const char *reason);

#endif
