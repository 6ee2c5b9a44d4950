/* plot_picture.c - the blocks that are computed, coloured by the rank that holds their keys; a cell is the paler
 * the fewer of its pairs are active. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/plot/plot_figures.h"
#include "bench/plot/plot_gnuplot.h"
#include "bench/plot/plot_raster.h"
#include "bench/plot/plot_text.h"

enum { MOST_RANKS = 64, NAMED_RANKS = 8 };

/* ---- gnuplot's input --------------------------------------------------------------------- */

/* Okabe and Ito's colours. */
static const char *const rank_colours[NAMED_RANKS] = {"0072b2", "e69f00", "009e73", "d55e00",
                                                      "56b4e9", "cc79a7", "f0e442", "8a8f96"};

/* More ranks than colours with names: from dark blue over green to yellow. */
static void rank_colour(int rank, int ranks, char text[8]) {
  static const int stops[5][3] = {
      {59, 60, 140}, {44, 114, 142}, {33, 160, 130}, {122, 205, 80}, {240, 224, 60}};
  if (ranks <= NAMED_RANKS) {
    snprintf(text, 8, "%s", rank_colours[rank]);
    return;
  }
  double place = 4.0 * rank / (ranks - 1);
  int stop = place >= 4 ? 3 : (int)place, rgb[3];
  for (int i = 0; i < 3; i++)
    rgb[i] = (int)lround(stops[stop][i] + (place - stop) * (stops[stop + 1][i] - stops[stop][i]));
  snprintf(text, 8, "%02x%02x%02x", rgb[0] & 255, rgb[1] & 255, rgb[2] & 255);
}

/* 0 full, 1, 2 pale: by the share of a cell's pairs that are active. */
static int paleness(const plot_raster *r, int row, int column) {
  double share = r->pairs[row][column] / ((double)r->tokens * (double)r->tokens);
  return share >= 0.5 ? 0 : share >= 0.1 ? 1 : 2;
}

static int looks(const plot_raster *r, int row, int column, int rank, int pale) {
  return r->holder[row][column] == rank && paleness(r, row, column) == pale;
}

/* Rectangles of one look, neighbours in a row joined: x, y, their ends. */
static int write_cells(FILE *file, const plot_raster *r, int rank, int pale) {
  int written = 0;
  for (int row = 0; row < r->cells; row++)
    for (int column = 0, end; column < r->cells; column = end + 1) {
      for (end = column; end < r->cells && looks(r, row, end, rank, pale);)
        end++;
      if (end == column)
        continue;
      fprintf(file, "%d %d %d %d %d %d\n", column, row, column, end, row, row + 1);
      written++;
    }
  return written;
}

/* The strip on the left, where there are several ranks: which one computes the rows. */
static void write_strip(FILE *file, const plot_raster *r, int rank) {
  double width = r->cells * 0.03;
  for (int row = 0, end; row < r->cells; row = end + 1) {
    for (end = row; end < r->cells && r->computes[end] == rank;)
      end++;
    if (end > row)
      fprintf(file, "%g %d %g %g %d %d\n", -width, row, -2 * width, -width, row, end);
  }
}

static void write_head(FILE *file, const char *name, const plot_raster *r, int ranks) {
  char whole[PLOT_NUMBER], half[PLOT_NUMBER];
  double cells = (double)r->length / (double)r->tokens;
  plot_tokens(r->length, whole);
  plot_tokens(r->length / 2, half);
  fprintf(file,
          "set terminal svg noenhanced dynamic size 420,%d name '%s' font 'sans-serif,15'\n"
          "set output '%s.svg'\nset border 0\nset tics scale 0 nomirror\n"
          "set size ratio -1\nset xrange [%g:%g]\nset yrange [%g:0]\n"
          "set xtics ('0' 0, '%s' %g, '%s' %g)\nset ytics ('0' 0, '%s' %g, '%s' %g)\n"
          "set xlabel 'keys' offset 0,0.7\nset ylabel 'queries' offset 0.8,0\n"
          "set key below left Left reverse maxcols %d samplen 1 width 1 height 0.6\n"
          "set style fill solid 1 noborder\nset lmargin 8\nset rmargin 1.5\nset tmargin 0.7\n",
          ranks == 1 || ranks > NAMED_RANKS ? 420 : 420 + 22 * ((ranks + 3) / 4), name, name,
          -0.07 * r->cells, cells, cells, half, cells / 2, whole, cells, half, cells / 2, whole,
          cells, 4);
}

typedef struct picture {
  const plot_raster *raster;
  int ranks;
} picture;

/* Data and script grow together: an index per look. */
static void write_picture(void *figure, const char *name, FILE *data, FILE *script) {
  const picture *p = figure;
  const plot_raster *r = p->raster;
  const int ranks = p->ranks;
  static const char *const alpha[] = {"00", "70", "b0"};
  int index = 0;
  char colour[8];
  write_head(script, name, r, ranks);
  fputs("plot", script);
  for (int rank = 0; rank < ranks; rank++) {
    rank_colour(rank, ranks, colour);
    if (ranks > 1)
      write_strip(data, r, rank);
    for (int pale = 0; pale < 3; pale++) {
      int written = write_cells(data, r, rank, pale);
      if (pale > 0 && written == 0)
        continue;
      fprintf(script, "%s '%s.dat' index %d using 1:2:3:4:5:6 with boxxyerror lc rgb '#%s%s'",
              index > 0 ? ", \\\n " : "", name, index, alpha[pale], colour);
      if (pale == 0 && ranks > 1 && ranks <= NAMED_RANKS)
        fprintf(script, " title 'rank %d'", rank);
      else
        fputs(" notitle", script);
      fputs("0 0 0 0 0 0\n\n\n", data); /* an index is never empty */
      index++;
    }
  }
  fputc('\n', script);
}

/* ---- pictures ---------------------------------------------------------------------------- */

/* Appends to the caption. */
static void say(plot_figure *figure, const char *format, ...) {
  size_t used = strlen(figure->caption);
  va_list list;
  va_start(list, format);
  vsnprintf(figure->caption + used, sizeof figure->caption - used, format, list);
  va_end(list);
}

static void write_caption(const plot_item *item, const plot_raster *r, plot_figure *figure) {
  const bench_result *result = item->result;
  char shown[PLOT_NUMBER], run[PLOT_NUMBER];
  plot_tokens(r->length, shown);
  plot_tokens(result->n, run);
  say(figure, "Head 0, %s, layout %s on %d rank%s.", result->causal ? "causal" : "not causal",
      result->layout, result->ranks, result->ranks == 1 ? "" : "s");
  say(figure, " A cell is %lld x %lld pairs; empty cells are never computed, pale ones in part.",
      (long long)r->tokens, (long long)r->tokens);
  if (result->ranks > 1)
    say(figure, " The strip on the left says which rank computes a row, a cell's colour which rank "
                "holds its keys. Good is a row in the colour of its strip: keys of another colour "
                "have to be moved.");
  if (result->ranks > NAMED_RANKS)
    say(figure, " Colours go from the first rank, dark, to the last, bright.");
  if (r->length < result->n)
    say(figure, " Shown for %s tokens; %s were run.", shown, run);
}

static int draw(const plot_item *item, const char *directory, plot_pictures *pictures,
                cli_error *error) {
  plot_figure *figure = &pictures->figures[pictures->count];
  plot_raster *r = malloc(sizeof *r);
  bsd_error failure = {0};
  char pattern[PLOT_TEXT];
  if (r == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for a picture");
  int code = CLI_GOOD;
  bsd_status status = plot_raster_create(item, r, &failure);
  if (status == BSD_OK) {
    plot_pattern_name(item, pattern);
    snprintf(figure->title, sizeof figure->title, "Pattern: %.90s", pattern);
    snprintf(figure->name, sizeof figure->name, "pattern_%d", pictures->count + 1);
    write_caption(item, r, figure);
    picture p = {r, item->result->ranks};
    code = plot_gnuplot_draw(write_picture, &p, directory, figure->name, figure->title, error);
    pictures->count++;
  } else if (status == BSD_ERR_MEMORY)
    code = cli_fail(error, CLI_FAILED, "no memory for a picture");
  else
    snprintf(pictures->note, sizeof pictures->note, "no picture of '%.100s': %.300s",
             item->result->pattern, failure.message);
  free(r);
  return code;
}

/* Whether b shows more than a of the same pattern: more ranks, then more tokens. */
static int shows_more(const bench_result *a, const bench_result *b) {
  return b->ranks != a->ranks ? b->ranks > a->ranks : b->n > a->n;
}

/* Whether an item of the same pattern that shows more, or as much and earlier, is in the data too. */
static int is_covered(const plot_data *data, int64_t index) {
  char key[PLOT_KEY], other[PLOT_KEY], label[PLOT_TEXT];
  const plot_item *item = &data->items[index];
  const unsigned ignored = ~(1u << PLOT_PATTERN | 1u << PLOT_CAUSAL);
  plot_data_name(data, item, ignored, key, label, sizeof label);
  for (int64_t i = 0; i < data->count; i++) {
    const bench_result *r = data->items[i].result;
    if (r->ranks > MOST_RANKS || shows_more(r, item->result) ||
        (i >= index && !shows_more(item->result, r)))
      continue;
    plot_data_name(data, &data->items[i], ignored, other, label, sizeof label);
    if (strcmp(key, other) == 0)
      return 1;
  }
  return 0;
}

int plot_pictures_draw(const plot_data *data, const char *directory, plot_pictures *pictures,
                       cli_error *error) {
  int code = CLI_GOOD;
  *pictures = (plot_pictures){0};
  for (int64_t i = 0; i < data->count && code == CLI_GOOD; i++) {
    if (data->items[i].result->ranks > MOST_RANKS || is_covered(data, i))
      continue;
    if (pictures->count == PLOT_PICTURES) {
      snprintf(pictures->note, sizeof pictures->note,
               "pictures are drawn of the first %d patterns.", PLOT_PICTURES);
      break;
    }
    code = draw(&data->items[i], directory, pictures, error);
  }
  if (pictures->count == 0 && pictures->note[0] == '\0')
    snprintf(pictures->note, sizeof pictures->note,
             "a picture of the pattern needs a configuration on at most %d ranks.", MOST_RANKS);
  return code;
}
