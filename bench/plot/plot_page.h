/* plot_page.h - report.html: figures, tables and definitions in one file that needs no network. */
#ifndef PLOT_PAGE_H
#define PLOT_PAGE_H

#include "bench/plot/plot_data.h"

typedef struct plot_page {
  const plot_saved *saved;
  const plot_data *data;
  const plot_figure *figures; /* those that were drawn lie in the directory as NAME.svg */
  int count;
  const char *note; /* one more sentence on what was not drawn, "" for none */
} plot_page;

/* Writes DIRECTORY/report.html. Errors: CLI_FAILED. */
int plot_page_write(const plot_page *page, const char *directory, cli_error *error);

/* plot_words.c: the style sheet, and the definitions of all units. */
extern const char plot_page_style[], plot_page_definitions[];

#endif
