/* kernel_judge.h - judges what a call of the kernel table wrote. For programs with Check: a wrong result fails the
 * test. */
#ifndef TESTS_KERNEL_JUDGE_H
#define TESTS_KERNEL_JUDGE_H

#include "support/kernel_run.h"

/* Which case this is, for the words of a failure. */
typedef struct kernel_words {
  char text[256];
} kernel_words;
kernel_words kernel_describe(const kernel_case *c, const char *family, int accumulate);

/* Against the case's fp64 reference, within the bounds of the type; nothing else may be written. */
void kernel_judge(const kernel_case *c, const kernel_family *family, const kernel_results *results,
                  const char *words);

/* Two runs of a case, bit by bit; `what` differed between them. */
void kernel_must_equal(const kernel_results *a, const kernel_results *b, const char *what,
                       const char *words);

#endif
