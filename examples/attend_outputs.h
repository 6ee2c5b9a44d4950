/* attend_outputs.h - the files that bsd_attend writes: whole under their names, or absent.
 *
 * They are created beside their final names with a random ending, take their full size on the disk
 * at once, and are renamed when every rank has written and synchronised its rows. */
#ifndef BSD_ATTEND_OUTPUTS_H
#define BSD_ATTEND_OUTPUTS_H

#include "bench/world.h"
#include "examples/attend_inputs.h"

enum { ATTEND_O, ATTEND_LSE, ATTEND_DQ, ATTEND_DK, ATTEND_DV, ATTEND_OUTPUTS };

typedef struct attend_output {
  char *path, *part_path; /* the final and the temporary name */
  int created;            /* part_path may have to be removed */
  int file;
  npy_header header;
} attend_output;

typedef struct attend_outputs {
  attend_output files[ATTEND_OUTPUTS];
  int count; /* 2, with gradients 5 */
} attend_outputs;

/* Creates the temporary files. Collective; the ranks agree on the result. In any case *outputs must
 * be committed or discarded. A signal that ends the program removes them. */
int attend_outputs_create(cli_world *world, const attend_options *options,
                          const attend_inputs *inputs, attend_outputs *outputs, cli_error *error);

/* Synchronises, waits until all ranks have, and renames. Collective; agreed on. */
int attend_outputs_commit(cli_world *world, attend_outputs *outputs, cli_error *error);

/* Closes and removes what has not been renamed. Local. */
void attend_outputs_discard(attend_outputs *outputs);

#endif
