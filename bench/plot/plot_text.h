/* plot_text.h - the report's files and words: paths, escaping, numbers and sizes for a reader. */
#ifndef PLOT_TEXT_H
#define PLOT_TEXT_H

#include <stdint.h>
#include <stdio.h>

#include "bench/cli.h"

enum { PLOT_PATH = 4096, PLOT_NUMBER = 32 };

/* DIRECTORY/NAMESUFFIX. Errors: CLI_UNUSABLE where that is too long. */
int plot_path(const char *directory, const char *name, const char *suffix, char path[PLOT_PATH],
              cli_error *error);

/* A whole file, malloc'ed, with a final 0. */
int plot_read_file(const char *path, char **text, cli_error *error);

/* Text for XML and HTML, and for a gnuplot string between single quotes. */
void plot_write_escaped(FILE *file, const char *text);
void plot_write_quoted(FILE *file, const char *text);

/* A number with three or four digits that count ("1234", "56.7", "0.00123"); "" for NAN. */
void plot_number(double value, char text[PLOT_NUMBER]);

/* Tokens in 1024s where that is exact ("16K", "1M", "1000"). */
void plot_tokens(int64_t tokens, char text[PLOT_NUMBER]);

/* Bytes with a binary unit ("1.50 GiB"); "" if negative. */
void plot_bytes(double bytes, char text[PLOT_NUMBER]);

#endif
