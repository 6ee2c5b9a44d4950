/* bitset.c - sparse sets of non-negative integers. See bitset.h. */
#include "bitset.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

static int compare_words(const void *a, const void *b) {
  int64_t x = ((const bsd_bitset_word *)a)->index, y = ((const bsd_bitset_word *)b)->index;
  return (x > y) - (x < y);
}

/* Sorts the words and merges those of the same index. Words mostly come in order already. */
static void normalise(bsd_bitset *set) {
  int64_t i, out = 0;
  int ascending = 1;
  for (i = 1; i < set->words && ascending; i++)
    ascending = set->word[i - 1].index < set->word[i].index;
  if (!ascending) {
    qsort(set->word, (size_t)set->words, sizeof(bsd_bitset_word), compare_words);
    for (i = 1; i < set->words; i++) {
      if (set->word[i].index == set->word[out].index)
        set->word[out].bits |= set->word[i].bits;
      else
        set->word[++out] = set->word[i];
    }
    set->words = out + 1;
  }
  set->sorted_words = set->words;
}

/* The first of the `count` sorted words with this index or a larger one. Without gaps it stands where it
 * belongs. */
static int64_t lower_bound(const bsd_bitset *set, int64_t count, int64_t index) {
  int64_t low = 0, high = count;
  int64_t guess = count > 0 ? index - set->word[0].index : 0;
  if (guess >= 0 && guess < count && set->word[guess].index == index)
    return guess;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (set->word[middle].index < index)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* Index of the word in the sorted prefix, or -1. */
static int64_t find_sorted(const bsd_bitset *set, int64_t index) {
  int64_t at = lower_bound(set, set->sorted_words, index);
  return at < set->sorted_words && set->word[at].index == index ? at : -1;
}

static bsd_status add_word(bsd_bitset *set, int64_t index, uint64_t bits, int64_t *hint,
                           bsd_error *error) {
  /* Rows add much the same words again and again: look where the last call ended first. */
  int64_t next = *hint + 1;
  if (*hint >= 0 && set->word[*hint].index == index) {
    set->word[*hint].bits |= bits;
    return BSD_OK;
  }
  if (next < set->words && set->word[next].index == index) {
    set->word[next].bits |= bits;
    *hint = next;
    return BSD_OK;
  }
  if (set->words > 0 && index <= set->word[set->words - 1].index) {
    int64_t found = find_sorted(set, index);
    if (found >= 0) {
      set->word[found].bits |= bits;
      *hint = found;
      return BSD_OK;
    }
    if (set->words - set->sorted_words > 1024 && set->words > 2 * set->sorted_words)
      normalise(set);
  } else if (set->sorted_words == set->words) {
    set->sorted_words++;
  }
  BSD_TRY(bsd_grow(&set->word, &set->capacity, set->words + 1, sizeof(bsd_bitset_word), error));
  set->word[set->words] = (bsd_bitset_word){index, bits};
  *hint = set->words++;
  return BSD_OK;
}

bsd_status bsd_bitset_add_run(bsd_bitset *set, int64_t first, int64_t step, int64_t count,
                              bsd_error *error) {
  int64_t value = first, last = first + (count - 1) * step, hint = -1;
  if (count <= 0)
    return BSD_OK;
  while (value <= last) {
    int64_t index = value >> 6, end = index * 64 + 63;
    uint64_t bits = 0;
    if (step == 1) {
      int64_t stop = last < end ? last : end;
      int width = (int)(stop - value + 1);
      bits = (width == 64 ? ~UINT64_C(0) : (UINT64_C(1) << width) - 1) << (value & 63);
      value = stop + 1;
    } else {
      for (; value <= last && value <= end; value += step)
        bits |= UINT64_C(1) << (value & 63);
    }
    BSD_TRY(add_word(set, index, bits, &hint, error));
  }
  return BSD_OK;
}

bsd_status bsd_bitset_seal(bsd_bitset *set, bsd_error *error) {
  int64_t i, members = 0;
  if (set->words > 0)
    normalise(set);
  BSD_TRY(bsd_alloc(&set->before, set->words, sizeof(int64_t), error));
  for (i = 0; i < set->words; i++) {
    set->before[i] = members;
    members += __builtin_popcountll(set->word[i].bits);
  }
  set->members = members;
  return BSD_OK;
}

int64_t bsd_bitset_rank(const bsd_bitset *set, int64_t value) {
  int64_t index = value >> 6, at = lower_bound(set, set->words, index);
  if (at == set->words)
    return set->members;
  if (set->word[at].index != index)
    return set->before[at];
  return set->before[at] +
         __builtin_popcountll(set->word[at].bits & ((UINT64_C(1) << (value & 63)) - 1));
}

int bsd_bitset_next(const bsd_bitset *set, bsd_bitset_cursor *cursor, int64_t *member) {
  while (cursor->word < set->words) {
    uint64_t left = set->word[cursor->word].bits & ~cursor->taken;
    if (left != 0) {
      int bit = __builtin_ctzll(left);
      cursor->taken |= UINT64_C(1) << bit;
      *member = set->word[cursor->word].index * 64 + bit;
      return 1;
    }
    cursor->word++;
    cursor->taken = 0;
  }
  return 0;
}

void bsd_bitset_free(bsd_bitset *set) {
  bsd_free(set->word);
  bsd_free(set->before);
  memset(set, 0, sizeof *set);
}

int bsd_bitset_is_valid(const bsd_bitset *set) {
  int64_t i, members = 0;
  for (i = 0; i < set->words; i++) {
    if (set->word[i].bits == 0 || set->before[i] != members ||
        (i > 0 && set->word[i - 1].index >= set->word[i].index))
      return 0;
    members += __builtin_popcountll(set->word[i].bits);
  }
  return members == set->members;
}
