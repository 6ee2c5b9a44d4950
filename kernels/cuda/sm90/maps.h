/* maps.h - tensor maps: how the copy engine finds 64 tokens of one head in a tensor by strides. */
#ifndef BSD_SM90_MAPS_H
#define BSD_SM90_MAPS_H

#include <cuda.h>

#include "work.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Maps of one tensor, one per step. Coordinates: (column, row, residue, head, batch), token = row * step +
 * residue; a box is 64 columns of 64 rows, written with the 128-byte swizzle. */
typedef struct bsd_sm90_maps {
  CUtensorMap of_step[BSD_SM90_STEPS];
} bsd_sm90_maps;

/* Finds the driver's encoder; called by open. */
bsd_status bsd_sm90_maps_open(bsd_error *error);

enum { BSD_SM90_TENSORS = 4 };

/* The maps that a kernel took for a pass, and what they were made of: they are made anew only when a pointer,
 * a stride or the number of tokens changes. */
typedef struct bsd_sm90_map_cache {
  bsd_tensor tensors[BSD_SM90_TENSORS];
  int64_t batch, tokens;
  int filled;
  int usable; /* 0: the copy engine cannot address a tensor; its tokens are gathered */
  bsd_sm90_maps maps[BSD_SM90_TENSORS];
  const void *messages;
  int64_t messages_bytes;
  int has_messages;        /* whether there is a map of the messages' memory: */
  CUtensorMap of_messages; /* (column, row, 0, 0, 0) */
} bsd_sm90_map_cache;

/* Maps of `count` tensors with so many heads each, and one of all messages. Where a tensor's data is NULL there
 * is no map. *slot is where the pass keeps the cache's memory (NULL at first, freed by bsd_free). Errors: MEMORY. */
bsd_status bsd_sm90_maps_find(const bsd_call *call, const int32_t *steps, const bsd_tensor *tensors,
                              const int64_t *heads, int count, void **slot,
                              const bsd_sm90_map_cache **found, bsd_error *error);

#ifdef __cplusplus
}
#endif

#endif
