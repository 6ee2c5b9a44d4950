/* plot_data.h - all results that are drawn, in one row, and how they are told apart in a legend. */
#ifndef PLOT_DATA_H
#define PLOT_DATA_H

#include "bench/plot/plot_saved.h"

/* What a configuration consists of. */
typedef enum plot_attribute {
  PLOT_PATTERN,
  PLOT_CAUSAL,
  PLOT_LENGTH,
  PLOT_BATCH,
  PLOT_HEADS,
  PLOT_DIM,
  PLOT_DTYPE,
  PLOT_BLOCK,
  PLOT_RANKS,
  PLOT_KERNEL,
  PLOT_LAYOUT,
  PLOT_DEVICE,
  PLOT_ATTRIBUTES
} plot_attribute;

enum { PLOT_TEXT = 192, PLOT_KEY = 8192 };

typedef struct plot_item {
  const plot_run *run;
  const bench_result *result;
} plot_item;

typedef struct plot_data {
  plot_item *items;
  int64_t count;
  int varies[PLOT_ATTRIBUTES]; /* whether the items differ in it */
} plot_data;

/* Borrows from saved. Errors: CLI_FAILED. */
int plot_data_create(const plot_saved *saved, plot_data *data, cli_error *error);
void plot_data_free(plot_data *data);

/* Those items of data that `keep` wants, so that a figure's labels name only what differs in it. */
int plot_data_select(const plot_data *data, int (*keep)(const bench_result *result, int which),
                     int which, plot_data *selected, cli_error *error);

/* The pattern in few words: LongNet's by its name (its text depends on n), else the text without what goes
 * without saying. Long ones are cut. */
void plot_pattern_name(const plot_item *item, char text[PLOT_TEXT]);

/* A text that is equal for items which differ in no attribute but those of `ignored` (bits 1 << attribute), and
 * a label of the attributes in which the items differ; "block-sparse" where there are none. */
void plot_data_name(const plot_data *data, const plot_item *item, unsigned ignored,
                    char key[PLOT_KEY], char *label, size_t size);

/* Over one batch entry, so that sizes with different batches can share a line. */
double plot_per_sequence(const bench_result *result, double ms);

/* A figure of the report. */
typedef struct plot_figure {
  char title[128];
  char name[32];      /* of its files; "" if it was not drawn */
  char caption[1536]; /* how to read it and what is good; not drawn: which option gives it */
} plot_figure;

#endif
