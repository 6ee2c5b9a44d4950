/* plot_gnuplot.c - drawing by gnuplot, and making its SVG follow the reader's colours.
 *
 * gnuplot writes colours as attributes (stroke='rgb(  0, 114, 178)'). A style sheet inside the SVG wins over
 * attributes, so the file stays as gnuplot wrote it for viewers without style sheets. */
#include "bench/plot/plot_gnuplot.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "bench/bench_output.h"
#include "bench/plot/plot_text.h"

extern char **environ;

/* Runs gnuplot with one or two arguments, its messages into `log` (NULL: nowhere). The result is its exit status,
 * -1 if it could not be started (errno says why). */
static int gnuplot(const char *expression, const char *script, const char *log) {
  char *arguments[] = {"gnuplot", "-e", (char *)expression, (char *)script, NULL};
  posix_spawn_file_actions_t actions;
  pid_t child;
  int status = 0;
  if (posix_spawn_file_actions_init(&actions) != 0)
    return -1;
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, log != NULL ? log : "/dev/null",
                                   O_WRONLY | O_CREAT | O_TRUNC, 0666);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  errno = posix_spawnp(&child, arguments[0], &actions, NULL, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (errno != 0)
    return -1;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR)
      return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

int plot_gnuplot_judge(cli_error *error) {
  int status = gnuplot("set terminal svg noenhanced dynamic", NULL, NULL);
  if (status == 0)
    return CLI_GOOD;
  if (status < 0)
    return cli_fail(
        error, CLI_UNUSABLE,
        "--plot draws with gnuplot, which could not be started: %s (Debian's package is "
        "gnuplot-nox; --json saves the results, --from draws them elsewhere)",
        strerror(errno));
  return cli_fail(error, CLI_UNUSABLE,
                  "--plot draws with gnuplot's svg terminal, which this gnuplot does not have");
}

/* ---- colours ----------------------------------------------------------------------------- */

/* Ink is whatever gnuplot calls black. The series colours are those of plot_chart.c. */
static const char svg_style[] =
    "<style>\n"
    ".bsd{--ink:#1b1f24;--grid:#d9dce0;--c1:#0072b2;--c2:#d55e00;--c3:#009e73;--c4:#b0568f;"
    "--c5:#a87400;--c6:#3a93c2}\n"
    "@media (prefers-color-scheme:dark){.bsd{--ink:#dfe3e8;--grid:#3a4048;--c1:#5db3ea;"
    "--c2:#ff8a4a;--c3:#2ccf9f;--c4:#e493c2;--c5:#e8b33c;--c6:#9bd4f5}}\n"
    ".bsd [color=\"black\"]{color:var(--ink)}\n"
    ".bsd [fill=\"black\"]{fill:var(--ink)}\n"
    ".bsd [stroke=\"black\"]{stroke:var(--ink)}\n"
    ".bsd path.gridline{stroke:var(--grid)}\n";

static const struct {
  const char *attribute, *variable;
} svg_colours[] = {{"rgb(  0, 114, 178)", "--c1"}, {"rgb(213,  94,   0)", "--c2"},
                   {"rgb(  0, 158, 115)", "--c3"}, {"rgb(176,  86, 143)", "--c4"},
                   {"rgb(168, 116,   0)", "--c5"}, {"rgb( 58, 147, 194)", "--c6"},
                   {"rgb(  0,   0,   0)", "--ink"}};

static void write_style(FILE *file) {
  fputs(svg_style, file);
  for (size_t i = 0; i < sizeof svg_colours / sizeof svg_colours[0]; i++) {
    const char *colour = svg_colours[i].attribute, *variable = svg_colours[i].variable;
    fprintf(file, ".bsd [stroke=\"%s\"]{stroke:var(%s)}.bsd [color=\"%s\"]{color:var(%s)}\n",
            colour, variable, colour, variable);
  }
  fputs("</style>\n", file);
}

/* Whether one of gnuplot's names for parts of an SVG begins here. */
static int is_name(const char *text) {
  static const char *const names[] = {"gpPt", "gpDot", "gnuplot_canvas", "textbox'", "greybox'"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    if (strncmp(text, names[i], strlen(names[i])) == 0)
      return 1;
  return 0;
}

/* Copies gnuplot's SVG: its names become the figure's own, so that several figures can stand in
 * one page; its title becomes the figure's. */
static void dress(FILE *file, const char *text, const char *name, const char *title) {
  const char *root = strstr(text, "<svg"), *end = root != NULL ? strchr(root, '>') : NULL;
  const char *titled = end != NULL ? strstr(end, "<title>") : NULL;
  const char *body = titled != NULL ? strstr(titled, "</title>") : NULL;
  if (body == NULL) {
    fputs(text, file);
    return;
  }
  fprintf(file, "<svg class=\"bsd\" role=\"img\"%.*s>\n<title>", (int)(end - root - 4), root + 4);
  plot_write_escaped(file, title);
  fputs("</title>\n", file);
  write_style(file);
  for (const char *p = body + strlen("</title>"); *p != '\0'; p++) {
    if (is_name(p) && strchr("'\"#", p[-1]) != NULL)
      fprintf(file, "%s-", name);
    fputc(*p, file);
  }
}

/* Rewrites the file by dress(). */
static int dress_file(const char *path, const char *name, const char *title, cli_error *error) {
  char *text = NULL;
  bench_output output = {0};
  int code = plot_read_file(path, &text, error);
  if (code == CLI_GOOD)
    code = bench_output_open(path, &output, error);
  if (code == CLI_GOOD) {
    dress(output.file, text, name, title);
    code = bench_output_commit(&output, error);
  }
  bench_output_discard(&output);
  free(text);
  return code;
}

/* gnuplot's command that enters the directory, malloc'ed. */
static char *enter(const char *directory) {
  char *text = NULL;
  size_t size = 0;
  FILE *memory = open_memstream(&text, &size);
  if (memory == NULL)
    return NULL;
  fputs("cd '", memory);
  plot_write_quoted(memory, directory);
  fputc('\'', memory);
  return fclose(memory) == 0 ? text : NULL;
}

/* Runs the script of a figure and dresses what it draws. */
static int run(const char *directory, const char *name, const char *title, cli_error *error) {
  char script[PLOT_PATH], log[PLOT_PATH], svg[PLOT_PATH];
  int code = plot_path(directory, name, ".log", log, error);
  if (code == CLI_GOOD)
    code = plot_path(directory, name, ".svg", svg, error);
  char *expression = code == CLI_GOOD ? enter(directory) : NULL;
  if (code == CLI_GOOD && expression == NULL)
    code = cli_fail(error, CLI_FAILED, "no memory for gnuplot's command");
  if (code != CLI_GOOD)
    return code;
  snprintf(script, sizeof script, "%s.gp", name);
  int status = gnuplot(expression, script, log);
  free(expression);
  if (status != 0)
    return cli_fail(error, CLI_FAILED, "gnuplot could not draw %s: its messages are in %s", svg,
                    log);
  remove(log);
  return dress_file(svg, name, title, error);
}

int plot_gnuplot_draw(plot_write *write, void *figure, const char *directory, const char *name,
                      const char *title, cli_error *error) {
  bench_output data = {0}, script = {0};
  char data_path[PLOT_PATH], script_path[PLOT_PATH];
  int code = plot_path(directory, name, ".dat", data_path, error);
  if (code == CLI_GOOD)
    code = plot_path(directory, name, ".gp", script_path, error);
  if (code == CLI_GOOD)
    code = bench_output_open(data_path, &data, error);
  if (code == CLI_GOOD)
    code = bench_output_open(script_path, &script, error);
  if (code == CLI_GOOD) {
    write(figure, name, data.file, script.file);
    code = bench_output_commit(&data, error);
  }
  if (code == CLI_GOOD)
    code = bench_output_commit(&script, error);
  bench_output_discard(&data);
  bench_output_discard(&script);
  return code == CLI_GOOD ? run(directory, name, title, error) : code;
}
