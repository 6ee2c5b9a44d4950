/* npy.h - headers of NumPy .npy files: versions 1 and 2, little-endian f4 f2 i4 i8, C order.
 *
 * Reading judges everything before data is touched: magic, version, header length (at most 64 KiB),
 * the header's dict, and that the file's size is what the shape needs. Each refusal is one sentence
 * that names the file, what was found and what was expected. */
#ifndef BSD_NPY_H
#define BSD_NPY_H

#include <stddef.h>
#include <stdint.h>

#include "bench/cli.h"

enum { NPY_MAX_DIMENSIONS = 8, NPY_MAX_HEADER = 64 * 1024, NPY_FORMAT_BYTES = 512 };

typedef enum npy_type { NPY_F4 = 0, NPY_F2 = 1, NPY_I4 = 2, NPY_I8 = 3 } npy_type;

typedef struct npy_header {
  npy_type type;
  int dimensions;
  int64_t shape[NPY_MAX_DIMENSIONS];
  int64_t elements;    /* product of shape, 1 if there is no dimension */
  int64_t bytes;       /* elements times npy_type_size */
  int64_t data_offset; /* where the data begins in the file */
} npy_header;

int64_t npy_type_size(npy_type type);
const char *npy_type_name(npy_type type); /* "f4" */

/* "(16, 4, 64)" into text, cut if it does not fit. */
void npy_shape_text(const npy_header *header, char *text, size_t size);

/* Judges the first `count` bytes of a file (all of it, or at least NPY_MAX_HEADER + 12 of them). */
int npy_parse_header(const char *path, const unsigned char *bytes, size_t count, npy_header *header,
                     cli_error *error);

/* Opens a regular file for reading and judges its header and its size. */
int npy_open(const char *path, int *file, npy_header *header, cli_error *error);

/* Writes a version 1 header for type, dimensions and shape into text (NPY_FORMAT_BYTES bytes) and
 * fills the header's other fields. CLI_UNUSABLE if the sizes overflow. */
int npy_format_header(const char *path, npy_header *header, char *text, cli_error *error);

/* Reads a file of document offsets (cu_seqlens): i4 or i8, one dimension, at least two entries, the
 * first 0, none smaller than the one before. *offsets holds documents + 1 values, for free(). */
int npy_read_offsets(const char *path, int64_t **offsets, int64_t *documents, cli_error *error);

/* pread and pwrite of all bytes, whatever the system does at a time. */
int npy_read_at(const char *path, int file, void *data, int64_t bytes, int64_t offset,
                cli_error *error);
int npy_write_at(const char *path, int file, const void *data, int64_t bytes, int64_t offset,
                 cli_error *error);

#endif
