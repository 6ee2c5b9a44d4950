/* wire.h - the header that goes before each message's payload, so that ranks which disagree are told so.
 *
 * 64 bytes in the machine's byte order: the ranks of one run share it. Counted apart from the payload. */
#ifndef BSD_WIRE_H
#define BSD_WIRE_H

#include <stdint.h>

#include "comm/transport.h"

#define BSD_WIRE_WHAT_BYTES 8

typedef struct bsd_wire_header {
  uint32_t magic;
  uint32_t flags;
  uint64_t plan_hash;
  uint64_t sequence;         /* of the exchange on its communicator */
  int64_t bytes;             /* of the payload */
  uint64_t payload_checksum; /* XXH3, 0 without checksums */
  int32_t step;
  int32_t sender;
  char what[BSD_WIRE_WHAT_BYTES]; /* the exchange's kind, cut to fit, padded with zeros */
  uint64_t header_checksum;       /* XXH3 of all that is before it; last */
} bsd_wire_header;

/* What both sides of a message agree on. */
typedef struct bsd_wire_message {
  uint64_t plan_hash, sequence;
  const char *what;
  int sender, step;
  int64_t bytes;
  int checksum; /* payloads carry checksums */
} bsd_wire_message;

/* The header of a message; payload is read only with checksums. */
void bsd_wire_write(bsd_wire_header *header, const bsd_wire_message *message, const void *payload);

/* Judges a header that `rank` received where it expected `message`: PEER if it is damaged, MISMATCH if it
 * is another's; the sentence names both sides' values. */
bsd_status bsd_wire_check(const bsd_wire_header *header, const bsd_wire_message *message, int rank,
                          bsd_error *error);

/* Judges the payload of a header that was checked: PEER if its checksum differs. */
bsd_status bsd_wire_check_payload(const bsd_wire_header *header, const bsd_wire_message *message,
                                  int rank, const void *payload, bsd_error *error);

#endif
