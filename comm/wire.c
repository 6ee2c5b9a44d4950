/* wire.c - fills and judges message headers. Calls no communication library. */
#include "comm/wire.h"

#include <stddef.h>
#include <string.h>

#include "src/hash.h"

/* "BSD1": the wire format; another format gets another number. */
#define WIRE_MAGIC    0x31445342u
#define FLAG_CHECKSUM 1u

_Static_assert(sizeof(bsd_wire_header) == 64, "the header has no padding");

static uint64_t header_checksum(const bsd_wire_header *header) {
  return bsd_hash_buffer(header, offsetof(bsd_wire_header, header_checksum));
}

void bsd_wire_write(bsd_wire_header *header, const bsd_wire_message *message, const void *payload) {
  *header = (bsd_wire_header){
      .magic = WIRE_MAGIC,
      .flags = message->checksum ? FLAG_CHECKSUM : 0,
      .plan_hash = message->plan_hash,
      .sequence = message->sequence,
      .bytes = message->bytes,
      .payload_checksum = message->checksum ? bsd_hash_buffer(payload, (size_t)message->bytes) : 0,
      .step = message->step,
      .sender = message->sender,
  };
  memcpy(header->what, message->what, strnlen(message->what, sizeof header->what));
  header->header_checksum = header_checksum(header);
}

static bsd_status check_exchange(const bsd_wire_header *header, const bsd_wire_message *message,
                                 int rank, bsd_error *error) {
  if (strncmp(header->what, message->what, sizeof header->what) != 0)
    return bsd_fail(error, BSD_ERR_MISMATCH,
                    "rank %d is in %s step %d but rank %d is in %.*s: all ranks must call the same "
                    "functions in the same order",
                    rank, message->what, message->step, message->sender, (int)sizeof header->what,
                    header->what);
  if (header->plan_hash != message->plan_hash)
    return bsd_fail(error, BSD_ERR_MISMATCH,
                    "rank %d runs %s of plan %016llx but rank %d runs it of plan %016llx", rank,
                    message->what, (unsigned long long)message->plan_hash, message->sender,
                    (unsigned long long)header->plan_hash);
  if (header->sequence != message->sequence)
    return bsd_fail(error, BSD_ERR_MISMATCH,
                    "rank %d is in exchange %llu (%s) but rank %d sent a message of exchange %llu",
                    rank, (unsigned long long)message->sequence, message->what, message->sender,
                    (unsigned long long)header->sequence);
  return BSD_OK;
}

bsd_status bsd_wire_check(const bsd_wire_header *header, const bsd_wire_message *message, int rank,
                          bsd_error *error) {
  if (header->magic != WIRE_MAGIC || header->header_checksum != header_checksum(header))
    return bsd_fail(error, BSD_ERR_PEER,
                    "rank %d, %s step %d: the header of %lld bytes from rank %d is damaged", rank,
                    message->what, message->step, (long long)message->bytes, message->sender);
  BSD_TRY(check_exchange(header, message, rank, error));
  if (header->sender != message->sender || header->step != message->step)
    return bsd_fail(
        error, BSD_ERR_MISMATCH,
        "rank %d expects a message of rank %d in %s step %d but rank %d sent one of rank %d "
        "for step %d",
        rank, message->sender, message->what, message->step, message->sender, header->sender,
        header->step);
  if (header->bytes != message->bytes)
    return bsd_fail(error, BSD_ERR_MISMATCH,
                    "rank %d expects %lld bytes from rank %d in %s step %d but rank %d sent %lld",
                    rank, (long long)message->bytes, message->sender, message->what, message->step,
                    message->sender, (long long)header->bytes);
  if (header->flags != (message->checksum ? FLAG_CHECKSUM : 0))
    return bsd_fail(
        error, BSD_ERR_MISMATCH,
        "BSD_CHECKSUM is %d on rank %d but %d on rank %d: it must be the same on all ranks",
        message->checksum, rank, !message->checksum, message->sender);
  return BSD_OK;
}

bsd_status bsd_wire_check_payload(const bsd_wire_header *header, const bsd_wire_message *message,
                                  int rank, const void *payload, bsd_error *error) {
  if (!message->checksum)
    return BSD_OK;
  if (bsd_hash_buffer(payload, (size_t)message->bytes) != header->payload_checksum)
    return bsd_fail(
        error, BSD_ERR_PEER,
        "rank %d, %s step %d: the checksum of %lld bytes from rank %d is wrong: they were "
        "damaged on the way",
        rank, message->what, message->step, (long long)message->bytes, message->sender);
  return BSD_OK;
}
