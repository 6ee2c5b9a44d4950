/* floats.h - float to and from bfloat16 and IEEE half, rounded to nearest even, NaN kept. */
#ifndef BSD_FLOATS_H
#define BSD_FLOATS_H

#include <stdint.h>

uint16_t float_to_bfloat(float value);
float bfloat_to_float(uint16_t bits);
uint16_t float_to_half(float value);
float half_to_float(uint16_t bits);

#endif
