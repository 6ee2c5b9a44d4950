/* world_kind.h - what world_mpi.c and world_self.c each give to world_common.c. */
#ifndef BSD_CLI_WORLD_KIND_H
#define BSD_CLI_WORLD_KIND_H

#include "bench/world.h"

/* Ends MPI, or the whole job with `code` if the world is broken. */
void cli_world_end(cli_world *world, int code);

/* Sets world->comm as transport (not auto) asks, which this build has; NULL stays for self. */
int cli_world_comm(cli_transport transport, cli_world *world, cli_error *error);

#endif
