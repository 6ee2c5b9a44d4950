/* plot_page.c - report.html: figures, tables and definitions in one file that needs no network. */
#include "bench/plot/plot_page.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_output.h"
#include "bench/plot/plot_tables.h"
#include "bench/plot/plot_text.h"

static const char *text_at(const json_t *object, const char *key) {
  const char *text = json_string_value(json_object_get(object, key));
  return text != NULL ? text : "?";
}

/* ---- what a reader sees first ------------------------------------------------------------ */

static void write_lead(FILE *file, const plot_page *page) {
  const json_t *document = page->saved->runs[0].document;
  const json_t *ranks = json_object_get(document, "ranks");
  const json_t *environment = json_object_get(document, "environment");
  char date[11];
  snprintf(date, sizeof date, "%s", text_at(environment, "date"));
  fprintf(file, "<p class=\"lead\">%lld configuration%s on ", (long long)page->data->count,
          page->data->count == 1 ? "" : "s");
  plot_write_escaped(file, text_at(json_array_get(ranks, 0), "device"));
  fprintf(file, ", %zu rank%s, ", json_array_size(ranks), json_array_size(ranks) == 1 ? "" : "s");
  plot_write_escaped(file, date);
  if (page->saved->count > 1)
    fprintf(file, "; the first of %lld runs that are drawn together",
            (long long)page->saved->count);
  fputs(".</p>\n", file);
}

/* Whether the results are right, before how fast they are. */
static void write_verdict(FILE *file, const plot_data *data) {
  int64_t checked = 0, failed = 0;
  for (int64_t i = 0; i < data->count; i++) {
    checked += data->items[i].result->check.pass >= 0;
    failed += data->items[i].result->check.pass == 0;
  }
  if (failed > 0)
    fprintf(file,
            "<p class=\"verdict bad\">%lld of %lld checked results are outside the bounds of "
            "the fp64 oracle. The times below mean nothing before that is understood.</p>\n",
            (long long)failed, (long long)checked);
  else if (checked > 0)
    fprintf(file,
            "<p class=\"verdict good\">%lld of %lld results were compared with the fp64 "
            "oracle: all within its bounds.</p>\n",
            (long long)checked, (long long)data->count);
  else
    fputs("<p class=\"verdict\">No result was compared with the fp64 oracle; <code>--check</code> "
          "does that.</p>\n",
          file);
}

/* Text in which options (--length, -np) are code, so that no line ends inside one. */
static void write_words(FILE *file, const char *text) {
  for (const char *p = text; *p != '\0'; p++) {
    size_t length = p == text || p[-1] == ' ' ? strspn(p, "-") : 0;
    if (length > 0)
      length += strspn(p + length, "abcdefghijklmnopqrstuvwxyz-");
    if (length > 1) {
      fprintf(file, "<code>%.*s</code>", (int)length, p);
      p += length - 1;
    } else
      plot_write_escaped(file, (char[]){*p, '\0'});
  }
}

/* ---- figures ----------------------------------------------------------------------------- */

static int write_figure(FILE *file, const plot_figure *figure, const char *directory,
                        cli_error *error) {
  char path[PLOT_PATH], *svg = NULL;
  int code = plot_path(directory, figure->name, ".svg", path, error);
  if (code == CLI_GOOD)
    code = plot_read_file(path, &svg, error);
  if (code != CLI_GOOD)
    return code;
  const char *root = strstr(svg, "<svg"); /* without the XML declaration */
  fprintf(file, "<figure id=\"%s\"><h3>%s</h3>\n%s<figcaption>", figure->name, figure->title,
          root != NULL ? root : svg);
  write_words(file, figure->caption);
  fputs("</figcaption></figure>\n", file);
  free(svg);
  return CLI_GOOD;
}

static int write_figures(FILE *file, const plot_page *page, const char *directory,
                         cli_error *error) {
  int code = CLI_GOOD, drawn = 0;
  for (int i = 0; i < page->count; i++)
    drawn += page->figures[i].name[0] != '\0';
  if (drawn == 0)
    return CLI_GOOD;
  fputs("<section class=\"figures\">\n", file);
  for (int i = 0; i < page->count && code == CLI_GOOD; i++)
    if (page->figures[i].name[0] != '\0')
      code = write_figure(file, &page->figures[i], directory, error);
  fputs("</section>\n", file);
  return code;
}

static void write_missing(FILE *file, const plot_page *page) {
  int missing = page->note[0] != '\0';
  for (int i = 0; i < page->count; i++)
    missing += page->figures[i].name[0] == '\0';
  if (missing == 0)
    return;
  fputs("<section><h2>Not drawn</h2>\n<ul>\n", file);
  for (int i = 0; i < page->count; i++)
    if (page->figures[i].name[0] == '\0') {
      fprintf(file, "<li><b>%s</b>: ", page->figures[i].title);
      write_words(file, page->figures[i].caption);
      fputs("</li>\n", file);
    }
  if (page->note[0] != '\0') {
    fputs("<li>", file);
    write_words(file, page->note);
    fputs("</li>\n", file);
  }
  fputs("</ul></section>\n", file);
}

/* ---- environment ------------------------------------------------------------------------- */

static void write_ranks(FILE *file, const json_t *ranks) {
  size_t count = json_array_size(ranks);
  fputs("<tr><th scope=\"row\">ranks</th><td>", file);
  for (size_t i = 0; i < count && i < 16; i++) {
    const json_t *rank = json_array_get(ranks, i);
    fprintf(file, "%s%zu: ", i > 0 ? "<br>" : "", i);
    plot_write_escaped(file, text_at(rank, "device"));
    fputs(" on ", file);
    plot_write_escaped(file, text_at(rank, "host"));
  }
  if (count > 16)
    fprintf(file, "<br>and %zu more", count - 16);
  fputs("</td></tr>\n", file);
}

static void write_run(FILE *file, const plot_run *run) {
  const char *name;
  json_t *value, *facts = json_object_get(run->document, "environment");
  size_t i;
  fputs("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Environment\">"
        "<table class=\"facts\">\n<tr><th scope=\"row\">command</th><td><code>",
        file);
  json_array_foreach(json_object_get(run->document, "args"), i, value) {
    fputs(i > 0 ? " " : "", file);
    plot_write_escaped(file, json_is_string(value) ? json_string_value(value) : "?");
  }
  fputs("</code></td></tr>\n", file);
  json_object_foreach(facts, name, value) {
    fputs("<tr><th scope=\"row\">", file);
    plot_write_escaped(file, name);
    fputs("</th><td>", file);
    plot_write_escaped(file, json_is_string(value) ? json_string_value(value) : "?");
    fputs("</td></tr>\n", file);
  }
  write_ranks(file, json_object_get(run->document, "ranks"));
  fputs("</table></div>\n", file);
}

/* ---- the page ---------------------------------------------------------------------------- */

static int write_page(FILE *file, const plot_page *page, const char *directory, cli_error *error) {
  fprintf(file,
          "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
          "<meta name=\"color-scheme\" content=\"light dark\">\n"
          "<title>bsd_bench: block-sparse dilated attention</title>\n<style>\n%s</style>\n</head>\n"
          "<body>\n<main>\n<h1>Block-sparse dilated attention</h1>\n",
          plot_page_style);
  write_lead(file, page);
  write_verdict(file, page->data);
  int code = write_figures(file, page, directory, error);
  write_missing(file, page);
  fputs("<section><h2>Results</h2>\n", file);
  plot_write_tables(file, page->data);
  fprintf(file, "</section>\n<section><h2>What the numbers are</h2>\n%s</section>\n",
          plot_page_definitions);
  fputs("<section><h2>Environment</h2>\n", file);
  for (int64_t i = 0; i < page->saved->count; i++)
    write_run(file, &page->saved->runs[i]);
  fputs("</section>\n</main>\n</body>\n</html>\n", file);
  return code;
}

int plot_page_write(const plot_page *page, const char *directory, cli_error *error) {
  char path[PLOT_PATH];
  bench_output output = {0};
  int code = plot_path(directory, "report", ".html", path, error);
  if (code == CLI_GOOD)
    code = bench_output_open(path, &output, error);
  if (code == CLI_GOOD)
    code = write_page(output.file, page, directory, error);
  if (code == CLI_GOOD)
    code = bench_output_commit(&output, error);
  bench_output_discard(&output);
  return code;
}
