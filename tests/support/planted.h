/* planted.h - a backend with an error planted into its kernels, for tests of the tests.
 *
 * The table in front of the context's own alters lists and calls on their way to the real kernels. Only the
 * first chance in a plan is taken: a small error must be enough. */
#ifndef TESTS_PLANTED_H
#define TESTS_PLANTED_H

#include "bsdattn.h"

typedef enum plant {
  PLANT_NOTHING,
  PLANT_DROPPED_QUERY_BLOCK, /* a query row loses one key block */
  PLANT_DROPPED_KEY_BLOCK,   /* a key row loses one query block: dk, dv alone */
  PLANT_SWAPPED_PAIR,        /* two query rows take each other's key blocks */
  PLANT_SCALE,               /* scores scaled by 1.001 too much */
  PLANT_BACKWARD_SCALE,      /* the same in the backward alone */
  PLANT_MASK,                /* causal lets one key of the future in */
  PLANT_WINDOW,              /* a window is one key too wide on the left */
  PLANT_NO_MERGE,            /* the second branch is left out */
  PLANT_NO_DELTA,            /* the backward takes delta as 0 */
  PLANT_COUNT
} plant;

extern const char *const plant_names[PLANT_COUNT];

/* Puts the planted table in front of a context that has no plans. One context at a time. */
void plant_into(bsd_context *context, plant what);

/* How often the error was planted since plant_into. */
int plant_count(void);

#endif
