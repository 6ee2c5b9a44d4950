/* pattern_text.c - the words of the pattern text, and its canonical form written out. */
#include "pattern_text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { DECIMALS = 9 };

const char *const bsd_offset_words[3] = {"mod", "group", "kv"};
const char *const bsd_combine_words[2] = {"sum", "heads"};
const char *const bsd_term_words[7] = {"full",   "local",  "dilated", "strided",
                                       "global", "random", "csr"};

/* Counts what is written, and writes it if there is a buffer (which a first pass has measured). */
typedef struct writer {
  char *buffer;
  size_t length;
} writer;

static void put_text(writer *w, const char *text) {
  size_t length = strlen(text);
  if (w->buffer)
    memcpy(w->buffer + w->length, text, length);
  w->length += length;
}

/* For what fits a short line; a text of any length goes through put_text. */
static void put(writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(writer *w, const char *format, ...) {
  char text[128];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  put_text(w, text);
}

/* The shortest decimal of 1 .. 10^9 billionths. */
static void put_density(writer *w, int64_t billionths) {
  char text[16];
  if (billionths == INT64_C(1000000000)) {
    put_text(w, "1");
    return;
  }
  int length = snprintf(text, sizeof text, "0.%0*" PRId64, DECIMALS, billionths);
  while (length > 0 && text[length - 1] == '0')
    text[--length] = 0;
  put_text(w, text);
}

static void put_steps(writer *w, const bsd_pattern_term *term) {
  for (int64_t i = 0; i < term->nsteps; i++)
    put(w, "%s%" PRId64, i > 0 ? ":" : "", term->steps[i]);
}

static void put_strided(writer *w, const bsd_pattern_term *term) {
  put_text(w, "(");
  put_steps(w, term);
  if (term->rows > 0) {
    put(w, ",rows=%" PRId64 ")", term->rows);
    return;
  }
  put_text(w, ",density=");
  put_density(w, term->density);
  put_text(w, ")");
}

static void put_term(writer *w, const bsd_pattern_term *term) {
  put_text(w, bsd_term_words[term->kind]);
  switch (term->kind) {
  case BSD_TERM_FULL:
    break;
  case BSD_TERM_LOCAL:
    put(w, "(%" PRId64 ",%" PRId64 ")", term->left, term->right);
    break;
  case BSD_TERM_DILATED:
    put_text(w, "(");
    put_steps(w, term);
    put_text(w, ")");
    break;
  case BSD_TERM_STRIDED:
    put_strided(w, term);
    break;
  case BSD_TERM_GLOBAL:
    put(w, "(%" PRId64 ")", term->count);
    break;
  case BSD_TERM_RANDOM:
    put(w, "(%" PRId64 ",%" PRIu64 ")", term->count, term->seed);
    break;
  case BSD_TERM_CSR:
    put_text(w, "(");
    if (term->csr_file)
      put_text(w, term->csr_file);
    else
      put(w, "#%016" PRIx64, term->csr_hash);
    put_text(w, ")");
    break;
  }
}

static int is_full(const bsd_pattern_branch *branch) {
  return branch->nterms == 1 && branch->terms[0].kind == BSD_TERM_FULL;
}

static void put_branch(writer *w, const bsd_pattern_branch *branch) {
  size_t start = w->length;
  if (branch->segment != 0)
    put(w, "w=%" PRId64, branch->segment);
  if (branch->dilation != 1)
    put(w, "%sr=%" PRId64, w->length > start ? "," : "", branch->dilation);
  if (branch->offset != BSD_OFFSET_MOD)
    put(w, "%soffset=%s", w->length > start ? "," : "", bsd_offset_words[branch->offset]);
  if (branch->has_window)
    put(w, "%swindow=%" PRId64 ":%" PRId64, w->length > start ? "," : "", branch->left,
        branch->right);
  if (w->length > start && is_full(branch))
    return;
  put_text(w, w->length > start ? ",blocks=" : "blocks=");
  for (int64_t i = 0; i < branch->nterms; i++) {
    put_text(w, i > 0 ? "+" : "");
    put_term(w, &branch->terms[i]);
  }
}

static void put_pattern(writer *w, const bsd_pattern *pattern) {
  if (pattern->combine != BSD_COMBINE_SUM)
    put(w, "combine=%s|", bsd_combine_words[pattern->combine]);
  for (int64_t i = 0; i < pattern->nbranches; i++) {
    put_text(w, i > 0 ? ";" : "");
    put_branch(w, &pattern->branches[i]);
  }
}

bsd_status bsd_pattern_format(const bsd_pattern *pattern, char *buffer, size_t size,
                              size_t *needed) {
  if (!pattern)
    return bsd_fail(NULL, BSD_ERR_ARG, "pattern is NULL, expected one");
  writer measured = {0};
  put_pattern(&measured, pattern);
  if (needed)
    *needed = measured.length + 1;
  if (!buffer && size == 0)
    return BSD_OK;
  if (!buffer || size <= measured.length)
    return bsd_fail(NULL, BSD_ERR_ARG, "buffer is %s and size is %zu, expected at least %zu bytes",
                    buffer ? "set" : "NULL", size, measured.length + 1);
  writer written = {.buffer = buffer};
  put_pattern(&written, pattern);
  buffer[written.length] = 0;
  return BSD_OK;
}
