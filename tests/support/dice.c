/* dice.c - see dice.h. */
#include "support/dice.h"

#include "oracle.h"

uint64_t dice_bits(dice *d) {
  d->state = oracle_mix(d->state);
  return d->state;
}

int64_t dice_range(dice *d, int64_t low, int64_t high) {
  return low + (int64_t)(dice_bits(d) % (uint64_t)(high - low + 1));
}

int dice_chance(dice *d, int percent) {
  return dice_range(d, 1, 100) <= percent;
}
