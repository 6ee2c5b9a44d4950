/* bench_json.h - the results as JSON, schema version 1. Numbers that were not measured are null. */
#ifndef BENCH_JSON_H
#define BENCH_JSON_H

#include <jansson.h>

#include "bench/bench_environment.h"
#include "bench/bench_output.h"
#include "bench/bench_result.h"

/* The document without results. NULL if there is no memory. */
json_t *bench_json_create(int argc, char **argv, const bench_options *options,
                          const bench_environment *environment);

/* Appends one result. False if there is no memory. */
int bench_json_add(json_t *document, const bench_result *result);

int bench_json_write(const json_t *document, bench_output *output, cli_error *error);

#endif
