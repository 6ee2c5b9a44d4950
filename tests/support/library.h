/* library.h - the library's own objects for a problem that the oracle describes.
 *
 * Only public functions are used. A failure ends the program with the library's sentence. */
#ifndef TESTS_LIBRARY_H
#define TESTS_LIBRARY_H

#include "bsdattn.h"
#include "oracle.h"

/* Through bsd_pattern_add_branch. */
bsd_pattern *library_pattern(const oracle_pattern *pattern);

/* Through bsd_pattern_parse. */
bsd_pattern *library_pattern_text(const char *text);

bsd_problem library_problem(const oracle_problem *p, bsd_dtype dtype, bsd_layout_spec layout);

/* A context of one rank on the backend of device.h. threads 0: the library's choice. */
bsd_context *library_context(int threads);

bsd_plan_statistics library_stats(const bsd_plan *plan);

/* Ends the program unless status is BSD_OK; `what` was being done. context may be NULL. */
void library_expect(bsd_status status, const bsd_context *context, const char *what);

#endif
