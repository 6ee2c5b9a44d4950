/* pattern_csr.h - explicit block patterns: their invariant, their transpose, and their text file.
 *
 * csr_heads matrices of M = csr_rows block rows; row I of head h is entries csr_ptr[h*M + I] up to
 * csr_ptr[h*M + I + 1] of csr_columns, ascending and unique within 0 .. M-1. */
#ifndef BSD_PATTERN_CSR_H
#define BSD_PATTERN_CSR_H

#include "pattern.h"

/* Errors: PATTERN with the first entry that breaks the invariant above; MEMORY for sizes that do
 * not fit 64 bits. Reads csr_rows, csr_heads, csr_ptr and csr_columns. */
bsd_status bsd_csr_check(const bsd_pattern_term *term, bsd_error *error);

/* Derives the transpose and the hash of a term that bsd_csr_check accepts. */
bsd_status bsd_csr_finish(bsd_pattern_term *term, bsd_error *error);

/* Reads rows and columns of a one-head matrix from a text file: a line of ascending columns for
 * each block row, an empty line for an empty row. Errors: IO, PATTERN (the message has the line),
 * MEMORY. */
bsd_status bsd_csr_read(bsd_pattern_term *term, const char *path, bsd_error *error);

#endif
