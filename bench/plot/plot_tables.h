/* plot_tables.h - the results as tables of the report: configurations, times, memory and exchange. */
#ifndef PLOT_TABLES_H
#define PLOT_TABLES_H

#include <stdio.h>

#include "bench/plot/plot_data.h"

/* Columns in which nothing was measured are left out, and tables that have no other. */
void plot_write_tables(FILE *file, const plot_data *data);

#endif
