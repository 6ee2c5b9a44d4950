/* dice.h - streams of random numbers, the same on every machine. */
#ifndef TESTS_DICE_H
#define TESTS_DICE_H

#include <stdint.h>

/* A stream; any state begins one. */
typedef struct dice {
  uint64_t state;
} dice;

uint64_t dice_bits(dice *d);
int64_t dice_range(dice *d, int64_t low, int64_t high); /* both included */
int dice_chance(dice *d, int percent);

#endif
