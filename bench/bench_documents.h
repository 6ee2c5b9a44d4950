/* bench_documents.h - the offsets of packed documents from a --cu-seqlens file. */
#ifndef BENCH_DOCUMENTS_H
#define BENCH_DOCUMENTS_H

#include "bench/cli.h"

/* Reads a .npy file of i4 or i8 with documents + 1 offsets: first 0, non-decreasing, last at least 1.
 * *offsets is malloc'ed. */
int bench_documents_read(const char *path, int64_t **offsets, int64_t *documents, cli_error *error);

#endif
