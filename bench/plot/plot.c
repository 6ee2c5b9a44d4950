/* plot.c - the report: which figures, in which order, and the page around them. */
#include "bench/plot/plot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/plot/plot_figures.h"
#include "bench/plot/plot_gnuplot.h"
#include "bench/plot/plot_page.h"
#include "bench/plot/plot_text.h"

enum { CHARTS = 8, FIGURES = CHARTS + PLOT_PICTURES };

/* Every name that a figure of the report can have. */
static const char *const names[] = {
    "time_forward",   "time_backward", "speedup_forward", "speedup_backward",
    "scaling_strong", "scaling_weak",  "bytes",           "predicted",
    "pattern_1",      "pattern_2",     "pattern_3",       "pattern_4"};

int plot_judge(const char *directory, cli_error *error) {
  struct stat status;
  char path[PLOT_PATH];
  int code = plot_gnuplot_judge(error);
  if (code == CLI_GOOD) /* the longest name of all, with that of a process */
    code = plot_path(directory, "speedup_backward", ".svg.999999999999.tmp", path, error);
  if (code != CLI_GOOD)
    return code;
  if (directory[0] == '\0')
    return cli_fail(error, CLI_UNUSABLE, "--plot is '', expected a directory");
  if (mkdir(directory, 0777) != 0 && errno != EEXIST)
    return cli_fail(error, CLI_UNUSABLE, "--plot %s: %s", directory, strerror(errno));
  if (stat(directory, &status) != 0 || !S_ISDIR(status.st_mode))
    return cli_fail(error, CLI_UNUSABLE, "--plot %s: not a directory", directory);
  if (access(directory, W_OK | X_OK) != 0)
    return cli_fail(error, CLI_UNUSABLE, "--plot %s: %s", directory, strerror(errno));
  return CLI_GOOD;
}

/* Removes what an earlier report left. */
static int clean(const char *directory, cli_error *error) {
  static const char *const suffixes[] = {".dat", ".gp", ".svg"};
  char path[PLOT_PATH];
  int code = CLI_GOOD;
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    for (size_t s = 0; s < sizeof suffixes / sizeof suffixes[0] && code == CLI_GOOD; s++) {
      code = plot_path(directory, names[i], suffixes[s], path, error);
      if (code == CLI_GOOD && unlink(path) != 0 && errno != ENOENT)
        code = cli_fail(error, CLI_FAILED, "%s: %s", path, strerror(errno));
    }
  return code;
}

static int draw_charts(const plot_data *data, const char *directory, plot_figure *figures,
                       cli_error *error) {
  int code = clean(directory, error), i = 0;
  for (int backward = 0; backward < 2 && code == CLI_GOOD; backward++)
    code = plot_time(data, backward, directory, &figures[i++], error);
  for (int backward = 0; backward < 2 && code == CLI_GOOD; backward++)
    code = plot_speedup(data, backward, directory, &figures[i++], error);
  for (int weak = 0; weak < 2 && code == CLI_GOOD; weak++)
    code = plot_efficiency(data, weak, directory, &figures[i++], error);
  if (code == CLI_GOOD)
    code = plot_traffic(data, directory, &figures[i++], error);
  if (code == CLI_GOOD)
    code = plot_model(data, directory, &figures[i++], error);
  return code;
}

static int write_report(const plot_saved *saved, const char *directory, cli_error *error) {
  plot_data data;
  plot_figure figures[FIGURES] = {0};
  plot_pictures pictures = {0};
  int code = plot_data_create(saved, &data, error);
  if (code == CLI_GOOD)
    code = draw_charts(&data, directory, figures, error);
  if (code == CLI_GOOD)
    code = plot_pictures_draw(&data, directory, &pictures, error);
  if (code == CLI_GOOD) {
    memcpy(figures + CHARTS, pictures.figures, sizeof pictures.figures);
    plot_page page = {saved, &data, figures, CHARTS + pictures.count, pictures.note};
    code = plot_page_write(&page, directory, error);
  }
  plot_data_free(&data);
  return code;
}

int plot_document(json_t *document, const char *directory, cli_error *error) {
  plot_saved saved = {0};
  int code = plot_saved_add(&saved, document, "the run", error);
  if (code == CLI_GOOD)
    code = write_report(&saved, directory, error);
  plot_saved_free(&saved);
  return code;
}

int plot_files(const char *const *files, int64_t count, const char *directory, cli_error *error) {
  plot_saved saved = {0};
  int code = CLI_GOOD;
  for (int64_t i = 0; i < count && code == CLI_GOOD; i++)
    code = plot_saved_read(&saved, files[i], error);
  if (code == CLI_GOOD)
    code = plot_judge(directory, error);
  if (code == CLI_GOOD)
    code = write_report(&saved, directory, error);
  plot_saved_free(&saved);
  return code;
}
