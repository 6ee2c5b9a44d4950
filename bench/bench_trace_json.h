/* bench_trace_json.h - traced runs as JSON in the trace event format, which Perfetto and Chrome show. */
#ifndef BENCH_TRACE_JSON_H
#define BENCH_TRACE_JSON_H

#include <jansson.h>

#include "bench/bench_environment.h"
#include "bench/bench_output.h"
#include "bench/bench_result.h"

/* A process for each rank, with a thread for each stream. NULL without memory. */
json_t *bench_trace_json_create(const bench_environment *environment);

/* Adds the slices of a result; 0 without memory. */
int bench_trace_json_add(json_t *document, const bench_result *result);

int bench_trace_json_write(const json_t *document, bench_output *output, cli_error *error);

#endif
