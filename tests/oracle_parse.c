/* oracle_parse.c - a second, small reader of the pattern text, for trusted input. See oracle.h.
 *
 * It refuses what it cannot read but does not judge ranges: that is the library's task. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"

static void skip(const char **s) {
  while (isspace((unsigned char)**s))
    ++*s;
}

static int eat(const char **s, const char *word) {
  skip(s);
  size_t length = strlen(word);
  if (strncmp(*s, word, length) != 0)
    return 0;
  *s += length;
  return 1;
}

/* A decimal integer, with -1 for unlimited and the suffixes K, M, G. */
static int number(const char **s, int64_t *value) {
  skip(s);
  if (eat(s, "-1")) {
    *value = -1;
    return 1;
  }
  if (!isdigit((unsigned char)**s))
    return 0;
  char *end;
  *value = (int64_t)strtoull(*s, &end, 10);
  *s = end;
  const char *suffix = strchr("KMG", **s);
  if (**s && suffix) {
    *value <<= *suffix == 'K' ? 10 : *suffix == 'M' ? 20 : 30;
    ++*s;
  }
  return 1;
}

/* A fraction with at most nine decimals, in billionths. */
static int fraction(const char **s, int64_t *billionths) {
  skip(s);
  if (!isdigit((unsigned char)**s))
    return 0;
  *billionths = 0;
  while (isdigit((unsigned char)**s))
    *billionths = *billionths * 10 + (*(*s)++ - '0');
  *billionths *= 1000000000;
  if (**s == '.')
    ++*s;
  for (int64_t unit = 100000000; isdigit((unsigned char)**s); unit /= 10)
    *billionths += unit * (*(*s)++ - '0');
  return 1;
}

static int step_list(const char **s, oracle_term *term) {
  do {
    if (term->nsteps == ORACLE_MAX_STEPS || !number(s, &term->steps[term->nsteps++]))
      return 0;
  } while (eat(s, ":"));
  return 1;
}

static int parse_term(const char **s, oracle_term *term) {
  memset(term, 0, sizeof *term);
  if (eat(s, "full")) {
    term->kind = ORACLE_FULL;
    return 1;
  }
  int good = 0;
  if (eat(s, "local")) {
    term->kind = ORACLE_LOCAL;
    good = eat(s, "(") && number(s, &term->left) && eat(s, ",") && number(s, &term->right);
  } else if (eat(s, "dilated")) {
    term->kind = ORACLE_DILATED;
    good = eat(s, "(") && step_list(s, term);
  } else if (eat(s, "strided")) {
    term->kind = ORACLE_STRIDED;
    good = eat(s, "(") && step_list(s, term) && eat(s, ",");
    if (good && eat(s, "rows"))
      good = eat(s, "=") && number(s, &term->rows);
    else
      good = good && eat(s, "density") && eat(s, "=") && fraction(s, &term->billionths);
  } else if (eat(s, "global")) {
    term->kind = ORACLE_GLOBAL;
    good = eat(s, "(") && number(s, &term->count);
  } else if (eat(s, "random")) {
    int64_t seed = 0;
    term->kind = ORACLE_RANDOM;
    good = eat(s, "(") && number(s, &term->count) && eat(s, ",") && number(s, &seed);
    term->seed = (uint64_t)seed;
  }
  return good && eat(s, ")");
}

static int parse_terms(const char **s, oracle_branch *branch) {
  branch->nterms = 0;
  do {
    if (branch->nterms == ORACLE_MAX_TERMS || !parse_term(s, &branch->terms[branch->nterms++]))
      return 0;
  } while (eat(s, "+"));
  return 1;
}

static int parse_item(const char **s, oracle_branch *branch) {
  if (eat(s, "window")) {
    branch->has_window = 1;
    return eat(s, "=") && number(s, &branch->left) && eat(s, ":") && number(s, &branch->right);
  }
  if (eat(s, "w"))
    return eat(s, "=") && number(s, &branch->w);
  if (eat(s, "r"))
    return eat(s, "=") && number(s, &branch->r);
  if (eat(s, "blocks"))
    return eat(s, "=") && parse_terms(s, branch);
  if (!eat(s, "offset") || !eat(s, "="))
    return 0;
  branch->offset = eat(s, "mod") ? ORACLE_MOD : eat(s, "group") ? ORACLE_GROUP : ORACLE_KV;
  return branch->offset != ORACLE_KV || eat(s, "kv");
}

int oracle_parse(const char *text, oracle_pattern *pattern) {
  const char *s = text;
  memset(pattern, 0, sizeof *pattern);
  if (eat(&s, "combine")) {
    if (!eat(&s, "="))
      return 0;
    pattern->combine_heads = eat(&s, "heads");
    if ((!pattern->combine_heads && !eat(&s, "sum")) || !eat(&s, "|"))
      return 0;
  }
  do {
    if (pattern->nbranches == ORACLE_MAX_BRANCHES)
      return 0;
    oracle_branch *branch = &pattern->branches[pattern->nbranches++];
    branch->r = 1;
    branch->nterms = 1;
    branch->terms[0].kind = ORACLE_FULL;
    do {
      if (!parse_item(&s, branch))
        return 0;
    } while (eat(&s, ","));
  } while (eat(&s, ";"));
  skip(&s);
  return *s == 0;
}
