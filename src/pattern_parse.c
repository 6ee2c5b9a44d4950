/* pattern_parse.c - reads the pattern text; a failure names the column and what was expected
 * there. */
#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "pattern_build.h"
#include "pattern_csr.h"
#include "pattern_text.h"

#define BILLION INT64_C(1000000000)

enum { DECIMALS = 9 };

typedef struct parser {
  const char *text;
  int64_t at; /* offset of the next byte */
  bsd_error *error;
} parser;

/* ---- tokens ------------------------------------------------------------------------------ */

static int column_of(int64_t at) {
  return (int)bsd_min(at + 1, INT_MAX);
}

/* Fails at offset `at`, where `expected` should have been. */
static bsd_status expected_at(parser *p, int64_t at, const char *expected) {
  unsigned char found = (unsigned char)p->text[at];
  char words[32];
  if (found == 0)
    snprintf(words, sizeof words, "the end of the text");
  else if (isprint(found))
    snprintf(words, sizeof words, "'%c'", found);
  else
    snprintf(words, sizeof words, "byte 0x%02x", (unsigned)found);
  return bsd_fail_at(p->error, BSD_ERR_PATTERN, column_of(at), "column %d: expected %s, found %s",
                     column_of(at), expected, words);
}

static int is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int is_word(char c) {
  return isalnum((unsigned char)c) || c == '_';
}

static int is_digit(char c) {
  return c >= '0' && c <= '9';
}

static void skip_spaces(parser *p) {
  while (is_space(p->text[p->at]))
    p->at++;
}

static int take_char(parser *p, char wanted) {
  skip_spaces(p);
  if (p->text[p->at] != wanted)
    return 0;
  p->at++;
  return 1;
}

static bsd_status need_char(parser *p, char wanted) {
  char expected[] = {'\'', wanted, '\'', 0};
  return take_char(p, wanted) ? BSD_OK : expected_at(p, p->at, expected);
}

/* Takes `wanted` if the whole next word is that. */
static int take_word(parser *p, const char *wanted) {
  skip_spaces(p);
  int64_t length = 0;
  while (is_word(p->text[p->at + length]))
    length++;
  if ((int64_t)strlen(wanted) != length || memcmp(p->text + p->at, wanted, (size_t)length) != 0)
    return 0;
  p->at += length;
  return 1;
}

/* Takes one of `count` words; *index says which. */
static bsd_status need_word(parser *p, const char *const *words, int count, const char *expected,
                            int *index) {
  for (int i = 0; i < count; i++)
    if (take_word(p, words[i])) {
      *index = i;
      return BSD_OK;
    }
  return expected_at(p, p->at, expected);
}

static int suffix_shift(char c) {
  switch (c) {
  case 'K':
    return 10;
  case 'M':
    return 20;
  case 'G':
    return 30;
  default:
    return 0;
  }
}

static bsd_status need_u64(parser *p, uint64_t least, uint64_t most, uint64_t *value) {
  skip_spaces(p);
  int64_t start = p->at;
  char expected[80];
  snprintf(expected, sizeof expected, "an integer %" PRIu64 " .. %" PRIu64, least, most);
  uint64_t number = 0;
  int fits = is_digit(p->text[p->at]);
  for (; is_digit(p->text[p->at]); p->at++) {
    fits = fits && !__builtin_mul_overflow(number, (uint64_t)10, &number);
    fits = fits && !__builtin_add_overflow(number, (uint64_t)(p->text[p->at] - '0'), &number);
  }
  int shift = p->at > start ? suffix_shift(p->text[p->at]) : 0;
  if (shift > 0)
    p->at++;
  if (!fits || number > most >> shift || number << shift < least)
    return expected_at(p, start, expected);
  *value = number << shift;
  return BSD_OK;
}

static bsd_status need_integer(parser *p, int64_t least, int64_t *value) {
  uint64_t number;
  BSD_TRY(need_u64(p, (uint64_t)least, INT64_MAX, &number));
  *value = (int64_t)number;
  return BSD_OK;
}

/* An integer, or -1 for unlimited. */
static bsd_status need_extent(parser *p, int64_t *value) {
  skip_spaces(p);
  const char *text = p->text + p->at;
  if (*text != '-')
    return need_integer(p, 0, value);
  if (text[1] != '1' || is_word(text[2]))
    return expected_at(p, p->at, "-1 or an integer 0 .. 9223372036854775807");
  p->at += 2;
  *value = -1;
  return BSD_OK;
}

/* A density as billionths. */
static bsd_status need_density(parser *p, int64_t *billionths) {
  skip_spaces(p);
  int64_t start = p->at, value = 0, decimals = 0;
  if (!is_digit(p->text[p->at]))
    return expected_at(p, p->at, "a density above 0 and at most 1, such as 0.05");
  for (; is_digit(p->text[p->at]); p->at++)
    value = bsd_min(value * 10 + (p->text[p->at] - '0'), 2); /* 2 and more are all too large */
  if (p->text[p->at] == '.') {
    p->at++;
    if (!is_digit(p->text[p->at]))
      return expected_at(p, p->at, "a digit after the point");
    for (; is_digit(p->text[p->at]); p->at++) {
      if (++decimals > DECIMALS)
        return expected_at(p, p->at, "at most 9 decimals");
      value = value * 10 + (p->text[p->at] - '0');
    }
  }
  for (; decimals < DECIMALS; decimals++)
    value *= 10;
  if (value < 1 || value > BILLION)
    return expected_at(p, start, "a density above 0 and at most 1");
  *billionths = value;
  return BSD_OK;
}

/* ---- terms ------------------------------------------------------------------------------- */

static bsd_status parse_full(parser *p, bsd_pattern_term *term) {
  (void)p, (void)term;
  return BSD_OK;
}

static bsd_status parse_local(parser *p, bsd_pattern_term *term) {
  BSD_TRY(need_char(p, '('));
  BSD_TRY(need_extent(p, &term->left));
  BSD_TRY(need_char(p, ','));
  BSD_TRY(need_extent(p, &term->right));
  return need_char(p, ')');
}

static bsd_status parse_steps(parser *p, bsd_pattern_term *term) {
  BSD_TRY(need_char(p, '('));
  do {
    int64_t step;
    BSD_TRY(need_integer(p, 1, &step));
    BSD_TRY(bsd_pattern_new_step(term, step, p->error));
  } while (take_char(p, ':'));
  return BSD_OK;
}

static bsd_status parse_dilated(parser *p, bsd_pattern_term *term) {
  BSD_TRY(parse_steps(p, term));
  return take_char(p, ')') ? BSD_OK : expected_at(p, p->at, "':' or ')'");
}

static bsd_status parse_strided(parser *p, bsd_pattern_term *term) {
  BSD_TRY(parse_steps(p, term));
  if (!take_char(p, ','))
    return expected_at(p, p->at, "':' or ','");
  static const char *const budgets[] = {"density", "rows"};
  int budget = 0;
  BSD_TRY(need_word(p, budgets, 2, "density= or rows=", &budget));
  BSD_TRY(need_char(p, '='));
  BSD_TRY(budget == 0 ? need_density(p, &term->density) : need_integer(p, 1, &term->rows));
  return need_char(p, ')');
}

static bsd_status parse_global(parser *p, bsd_pattern_term *term) {
  BSD_TRY(need_char(p, '('));
  BSD_TRY(need_integer(p, 0, &term->count));
  return need_char(p, ')');
}

static bsd_status parse_random(parser *p, bsd_pattern_term *term) {
  BSD_TRY(need_char(p, '('));
  BSD_TRY(need_integer(p, 1, &term->count));
  BSD_TRY(need_char(p, ','));
  BSD_TRY(need_u64(p, 0, UINT64_MAX, &term->seed));
  return need_char(p, ')');
}

/* The file's errors get the column of its name, beside the line in the message. */
static bsd_status parse_csr(parser *p, bsd_pattern_term *term) {
  BSD_TRY(need_char(p, '('));
  skip_spaces(p);
  int64_t start = p->at, end;
  if (p->text[start] == ')' || p->text[start] == 0)
    return expected_at(p, start, "the name of a file");
  if (p->text[start] == '#')
    return expected_at(p, start,
                       "the name of a file (a csr given from memory cannot be read from text)");
  while (p->text[p->at] != ')' && p->text[p->at] != 0)
    p->at++;
  for (end = p->at; is_space(p->text[end - 1]); end--)
    continue;
  BSD_TRY(need_char(p, ')'));
  BSD_TRY(bsd_alloc(&term->csr_file, end - start + 1, 1, p->error));
  memcpy(term->csr_file, p->text + start, (size_t)(end - start));
  bsd_status status = bsd_csr_read(term, term->csr_file, p->error);
  if (status == BSD_OK)
    status = bsd_csr_finish(term, p->error);
  if (status != BSD_OK && p->error)
    p->error->column = column_of(start);
  return status;
}

static bsd_status (*const term_parsers[])(parser *p, bsd_pattern_term *term) = {
    [BSD_TERM_FULL] = parse_full,       [BSD_TERM_LOCAL] = parse_local,
    [BSD_TERM_DILATED] = parse_dilated, [BSD_TERM_STRIDED] = parse_strided,
    [BSD_TERM_GLOBAL] = parse_global,   [BSD_TERM_RANDOM] = parse_random,
    [BSD_TERM_CSR] = parse_csr,
};

/* ---- items ------------------------------------------------------------------------------- */

static bsd_status parse_segment(parser *p, bsd_pattern_branch *branch) {
  return need_integer(p, 0, &branch->segment);
}

static bsd_status parse_dilation(parser *p, bsd_pattern_branch *branch) {
  return need_integer(p, 1, &branch->dilation);
}

static bsd_status parse_offset(parser *p, bsd_pattern_branch *branch) {
  int offset = 0;
  BSD_TRY(need_word(p, bsd_offset_words, 3, "mod, group or kv", &offset));
  branch->offset = (bsd_offset)offset;
  return BSD_OK;
}

static bsd_status parse_window(parser *p, bsd_pattern_branch *branch) {
  branch->has_window = 1;
  BSD_TRY(need_extent(p, &branch->left));
  BSD_TRY(need_char(p, ':'));
  return need_extent(p, &branch->right);
}

static bsd_status parse_blocks(parser *p, bsd_pattern_branch *branch) {
  do {
    int kind = 0;
    bsd_pattern_term *term;
    BSD_TRY(need_word(p, bsd_term_words, 7, "full, local, dilated, strided, global, random or csr",
                      &kind));
    BSD_TRY(bsd_pattern_new_term(branch, (bsd_term_kind)kind, &term, p->error));
    BSD_TRY(term_parsers[kind](p, term));
  } while (take_char(p, '+'));
  return BSD_OK;
}

enum { ITEMS = 5 };

static const char *const item_words[ITEMS] = {"w", "r", "offset", "window", "blocks"};

static bsd_status (*const item_parsers[ITEMS])(parser *p, bsd_pattern_branch *branch) = {
    parse_segment, parse_dilation, parse_offset, parse_window, parse_blocks};

static bsd_status parse_branch(parser *p, bsd_pattern_branch *branch) {
  int seen[ITEMS] = {0}, item = 0;
  do {
    skip_spaces(p);
    int64_t start = p->at;
    BSD_TRY(need_word(p, item_words, ITEMS, "w=, r=, offset=, window= or blocks=", &item));
    if (seen[item]++)
      return expected_at(p, start, "each item at most once in a branch");
    BSD_TRY(need_char(p, '='));
    BSD_TRY(item_parsers[item](p, branch));
  } while (take_char(p, ','));
  if (p->text[p->at] != ';' && p->text[p->at] != 0)
    return expected_at(p, p->at,
                       strcmp(item_words[item], "blocks") == 0
                           ? "'+', ',', ';' or the end of the text"
                           : "',', ';' or the end of the text");
  bsd_pattern_term *term;
  return branch->nterms > 0 ? BSD_OK : bsd_pattern_new_term(branch, BSD_TERM_FULL, &term, p->error);
}

/* ---- the whole --------------------------------------------------------------------------- */

static bsd_status parse_combine(parser *p, bsd_pattern *pattern) {
  int combine = 0;
  if (!take_word(p, "combine"))
    return BSD_OK;
  BSD_TRY(need_char(p, '='));
  BSD_TRY(need_word(p, bsd_combine_words, 2, "sum or heads", &combine));
  pattern->combine = (bsd_combine)combine;
  return need_char(p, '|');
}

static bsd_status parse_pattern(parser *p, bsd_pattern *pattern) {
  BSD_TRY(parse_combine(p, pattern));
  do {
    bsd_pattern_branch *branch;
    BSD_TRY(bsd_pattern_new_branch(pattern, &branch, p->error));
    BSD_TRY(parse_branch(p, branch));
  } while (take_char(p, ';'));
  return BSD_OK;
}

bsd_status bsd_pattern_parse(const char *text, bsd_pattern **pattern, bsd_error *error) {
  if (!text || !pattern)
    return bsd_fail(error, BSD_ERR_ARG, "%s is NULL, expected one", text ? "pattern" : "text");
  parser p = {.text = text, .error = error};
  bsd_pattern *made;
  if (bsd_pattern_create(BSD_COMBINE_SUM, &made) != BSD_OK)
    return bsd_fail(error, BSD_ERR_MEMORY, "an allocation for a pattern failed");
  bsd_status status = parse_pattern(&p, made);
  if (status != BSD_OK) {
    bsd_pattern_destroy(made);
    return status;
  }
  *pattern = made;
  return BSD_OK;
}
