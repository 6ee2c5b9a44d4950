/* pattern_text.h - the pattern text: bsd_pattern_parse and bsd_pattern_format of bsdattn.h.
 *
 *   pattern := [combine=sum| or combine=heads|] branch (';' branch)*
 *   branch  := item (',' item)*       w=INT  r=INT  offset=mod|group|kv  window=L:R  blocks=EXPR
 *   EXPR    := term ('+' term)*
 *   term    := full | local(L,R) | dilated(X:X:..) | strided(X:X:..,density=F)
 *            | strided(X:X:..,rows=K) | global(G) | random(K,SEED) | csr(FILE)
 *
 * The items and the terms are tables; the functions below are what their entries share. */
#ifndef BSD_PATTERN_TEXT_H
#define BSD_PATTERN_TEXT_H

#include "pattern.h"

/* The words of the text, indexed by what they stand for; both directions use them. */
extern const char *const bsd_offset_words[3];
extern const char *const bsd_combine_words[2];
extern const char *const bsd_term_words[7];

#endif
