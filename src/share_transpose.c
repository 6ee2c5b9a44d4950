/* share_transpose.c - columns that have no closed form (random), made of rows.
 *
 * A *record* says in which columns of one rank a block row is active. The rank that holds the row's first query
 * writes it, for each rank that holds a key of these columns. Words of a record: the index of the list, the
 * same on all ranks, document and number of the segment, the row, how many columns, the columns in ascending
 * order. Where the others are not asked, all rows are evaluated here, into records to itself. */
#include <inttypes.h>
#include <stdlib.h>

#include "memory.h"
#include "rows.h"
#include "share.h"

enum { LIST, DOCUMENT, SEGMENT, ROW, COLUMNS, RECORD_WORDS }; /* before the columns */

static int needs_rows(const bsd_share *share, const bsd_share_list *list) {
  return !bsd_branch_has_columns(&share->task->pattern->branches[list->branch]);
}

/* First own tile that lies in segment s or a later one. */
static int64_t first_own(const bsd_share_list *list, int64_t s) {
  int64_t low = 0, high = list->nown;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (list->own[middle].segment < s)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* Index of the own tile of block `block` among [low, high), those of one segment, or -1. Mostly they are
 * neighbours. */
static int64_t find_own(const bsd_share_list *list, int64_t low, int64_t high, int64_t block) {
  if (low == high || block < list->own[low].block || block > list->own[high - 1].block)
    return -1;
  if (list->own[high - 1].block - list->own[low].block == high - 1 - low)
    return low + block - list->own[low].block;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (list->own[middle].block == block)
      return middle;
    if (list->own[middle].block < block)
      low = middle + 1;
    else
      high = middle;
  }
  return -1;
}

/* ---- writing records --------------------------------------------------------------------- */

/* The record of a row that is being written to one rank. */
typedef struct open_record {
  int64_t at, serial; /* its first word; number of the row, 0: none yet */
} open_record;

typedef struct row_head {
  int64_t word[RECORD_WORDS];
  int64_t serial; /* rows are counted from 1 */
} row_head;

static row_head head_of(int64_t list, const bsd_segment *segment, int64_t row, int64_t serial) {
  return (row_head){{list, segment->document, segment->number, row, 0}, serial};
}

/* Columns of a row come in ascending order; one that a rank holds in several pieces comes several times. */
static bsd_status add_column(bsd_row_records *to, open_record *open, const row_head *head,
                             int64_t column, bsd_error *error) {
  int64_t *record, i;
  if (open->serial != head->serial) {
    *open = (open_record){to->count, head->serial};
    BSD_TRY(bsd_grow(&to->word, &to->capacity, to->count + RECORD_WORDS, sizeof *to->word, error));
    for (i = 0; i < RECORD_WORDS; i++)
      to->word[to->count++] = head->word[i];
  }
  record = to->word + open->at;
  if (record[COLUMNS] > 0 && to->word[to->count - 1] == column)
    return BSD_OK;
  record[COLUMNS]++;
  BSD_TRY(bsd_grow(&to->word, &to->capacity, to->count + 1, sizeof *to->word, error));
  to->word[to->count++] = column;
  return BSD_OK;
}

/* The row of own tile `own` to all that hold keys of its columns. */
static bsd_status pack_row(const bsd_share *share, const bsd_share_list *list, int64_t own,
                           const row_head *head, bsd_row_records *to, open_record *open,
                           bsd_error *error) {
  const bsd_side *side = &list->side[BSD_ROWS];
  int64_t s = list->own[own].segment, i, j, slot;
  const bsd_segment *segment = &list->segments[s];
  for (i = side->run_ptr[own]; i < side->run_ptr[own + 1]; i++)
    for (j = 0; j < side->runs.run[i].count; j++) {
      int64_t column = side->runs.run[i].first + j * side->runs.run[i].step - list->block_base[s];
      int64_t tokens = bsd_share_block_tokens(share, segment, column);
      for (slot = 0; slot < tokens;) {
        bsd_piece p = bsd_share_piece(share, segment, column, slot);
        BSD_TRY(add_column(&to[p.owner], &open[p.owner], head, column, error));
        slot += p.count;
      }
    }
  return BSD_OK;
}

static bsd_status pack_lists(const bsd_share *share, bsd_row_records *to, open_record *open,
                             bsd_error *error) {
  int64_t l, i, serial = 0;
  for (l = 0; l < share->nlists; l++) {
    const bsd_share_list *list = &share->lists[l];
    for (i = 0; i < list->nown && needs_rows(share, list); i++) {
      const bsd_own_tile *own = &list->own[i];
      row_head head = head_of(l, &list->segments[own->segment], own->block, ++serial);
      if (list->own_fragments[list->own_tiles[i].fragment].slot == 0)
        BSD_TRY(pack_row(share, list, i, &head, to, open, error));
    }
  }
  return BSD_OK;
}

bsd_status bsd_share_pack_rows(const bsd_share *share, bsd_row_records *to, bsd_error *error) {
  open_record *open;
  bsd_status status;
  BSD_TRY(bsd_alloc(&open, share->layout->nranks, sizeof *open, error));
  status = pack_lists(share, to, open, error);
  bsd_free(open);
  return status;
}

/* ---- evaluating all rows here ------------------------------------------------------------ */

/* All rows of the segment of own tiles [low, high). */
static bsd_status evaluate_segment(const bsd_share *share, int64_t l, int64_t low, int64_t high,
                                   bsd_runs *columns, bsd_row_records *records, bsd_error *error) {
  const bsd_share_list *list = &share->lists[l];
  const bsd_segment *segment = &list->segments[list->own[low].segment];
  int64_t class_head = share->task->head_class_head[list->head_class], row, i, j;
  for (row = 0; row < segment->blocks; row++) {
    row_head head = head_of(l, segment, row, row + 1);
    open_record open = {0, 0};
    columns->count = 0;
    BSD_TRY(bsd_rows_row(share->task, list->branch, class_head, segment, row, columns, error));
    for (i = 0; i < columns->count; i++)
      for (j = 0; j < columns->run[i].count; j++) {
        int64_t column = columns->run[i].first + j * columns->run[i].step;
        if (find_own(list, low, high, column) >= 0)
          BSD_TRY(add_column(records, &open, &head, column, error));
      }
  }
  return BSD_OK;
}

bsd_status bsd_share_evaluate_rows(const bsd_share *share, bsd_row_records *records,
                                   bsd_error *error) {
  bsd_runs columns = {0};
  bsd_status status = BSD_OK;
  int64_t l, low, high;
  for (l = 0; l < share->nlists; l++) {
    const bsd_share_list *list = &share->lists[l];
    if (!needs_rows(share, list))
      continue;
    for (low = 0; low < list->nown && status == BSD_OK; low = high) {
      high = first_own(list, list->own[low].segment + 1);
      status = evaluate_segment(share, l, low, high, &columns, records, error);
    }
  }
  bsd_runs_free(&columns);
  return status;
}

/* ---- reading records --------------------------------------------------------------------- */

typedef struct record { /* its columns are indices of own tiles */
  int64_t segment;      /* index in the list */
  int64_t *word;
  int from;
} record;

typedef struct reader {
  const bsd_share *share;
  record *records;
  int64_t nrecords, capacity;
} reader;

/* Index of a segment that the list knows, or -1. */
static int64_t find_segment(const bsd_share_list *list, int64_t document, int64_t number) {
  int64_t low = 0, high = list->nsegments;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    const bsd_segment *at = &list->segments[middle];
    if (at->document == document && at->number == number)
      return middle;
    if (at->document < document || (at->document == document && at->number < number))
      low = middle + 1;
    else
      high = middle;
  }
  return -1;
}

/* Columns become indices of own tiles; 0 if they do not ascend or one is not here. */
static int place_columns(const bsd_share_list *list, int64_t segment, int64_t *column,
                         int64_t count) {
  int64_t low = first_own(list, segment), high = first_own(list, segment + 1), i;
  for (i = 0; i < count; i++) {
    column[i] = find_own(list, low, high, column[i]);
    if (column[i] < 0 || (i > 0 && column[i] <= column[i - 1]))
      return 0;
  }
  return 1;
}

/* The record at `word`, of which `left` words are there; 0 if it says what cannot be. */
static int read_record(const bsd_share *share, int64_t *word, int64_t left, record *made) {
  const bsd_share_list *list;
  if (left <= RECORD_WORDS || word[LIST] < 0 || word[LIST] >= share->nlists)
    return 0;
  list = &share->lists[word[LIST]];
  made->word = word;
  made->segment = find_segment(list, word[DOCUMENT], word[SEGMENT]);
  return needs_rows(share, list) && made->segment >= 0 && word[ROW] >= 0 &&
         word[ROW] < list->segments[made->segment].blocks && word[COLUMNS] > 0 &&
         word[COLUMNS] <= left - RECORD_WORDS &&
         place_columns(list, made->segment, word + RECORD_WORDS, word[COLUMNS]);
}

static bsd_status refuse(const reader *r, int from, bsd_error *error) {
  return bsd_fail(
      error, BSD_ERR_PEER,
      "bsd_plan_create: rank %d sent rows that rank %d cannot use: they must be of segments "
      "and columns that it holds, each row once, in ascending order",
      from, r->share->rank);
}

static bsd_status read_records(reader *r, const bsd_row_records *from, bsd_error *error) {
  int64_t at = 0;
  while (at < from->count) {
    record made = {.from = from->from};
    if (!read_record(r->share, from->word + at, from->count - at, &made))
      return refuse(r, from->from, error);
    BSD_TRY(bsd_grow(&r->records, &r->capacity, r->nrecords + 1, sizeof made, error));
    r->records[r->nrecords++] = made;
    at += RECORD_WORDS + made.word[COLUMNS];
  }
  return BSD_OK;
}

/* By list, segment and row. */
static int compare_records(const void *a, const void *b) {
  const record *x = a, *y = b;
  if (x->word[LIST] != y->word[LIST])
    return x->word[LIST] < y->word[LIST] ? -1 : 1;
  if (x->segment != y->segment)
    return x->segment < y->segment ? -1 : 1;
  return (x->word[ROW] > y->word[ROW]) - (x->word[ROW] < y->word[ROW]);
}

/* Of ranks that hold ascending stretches they come in order. */
static bsd_status order_records(reader *r, bsd_error *error) {
  int64_t i;
  for (i = 1; i < r->nrecords && compare_records(&r->records[i - 1], &r->records[i]) < 0; i++)
    ;
  if (i >= r->nrecords)
    return BSD_OK;
  qsort(r->records, (size_t)r->nrecords, sizeof *r->records, compare_records);
  for (i = 1; i < r->nrecords; i++)
    if (compare_records(&r->records[i - 1], &r->records[i]) == 0)
      return refuse(r, r->records[i].from, error);
  return BSD_OK;
}

/* ---- from rows to columns ---------------------------------------------------------------- */

/* rows: those of own tile 0, then those of 1, ...; first[i]: where own tile i's begin. */
static void transpose(const record *records, int64_t nrecords, int64_t nown, int64_t *first,
                      int64_t *rows) {
  int64_t i, j;
  for (i = 0; i < nrecords; i++)
    for (j = 0; j < records[i].word[COLUMNS]; j++)
      first[records[i].word[RECORD_WORDS + j] + 1]++;
  for (i = 0; i < nown; i++)
    first[i + 1] += first[i];
  for (i = 0; i < nrecords; i++)
    for (j = 0; j < records[i].word[COLUMNS]; j++)
      rows[first[records[i].word[RECORD_WORDS + j]]++] = records[i].word[ROW];
  for (i = nown; i > 0; i--) /* each has moved to where the next begins */
    first[i] = first[i - 1];
  first[0] = 0;
}

static bsd_status push_columns(bsd_share_list *list, const int64_t *first, const int64_t *rows,
                               bsd_error *error) {
  bsd_side *side = &list->side[BSD_COLUMNS];
  int64_t own, i;
  for (own = 0; own < list->nown; own++) {
    int64_t from = side->runs.count;
    side->run_ptr[own] = from;
    for (i = first[own]; i < first[own + 1]; i++)
      BSD_TRY(bsd_runs_push(&side->runs, (bsd_run){rows[i], 1, 1}, error));
    BSD_TRY(bsd_share_note_needed(list, side, list->own[own].segment, from, error));
  }
  side->run_ptr[list->nown] = side->runs.count;
  return bsd_bitset_seal(&side->needed, error);
}

static bsd_status make_columns(bsd_share_list *list, const record *records, int64_t nrecords,
                               bsd_error *error) {
  int64_t *first, *rows = NULL, total = 0, i;
  bsd_status status;
  for (i = 0; i < nrecords; i++)
    total += records[i].word[COLUMNS];
  BSD_TRY(bsd_alloc(&first, list->nown + 1, sizeof *first, error));
  status = bsd_alloc(&rows, total, sizeof *rows, error);
  if (status == BSD_OK) {
    transpose(records, nrecords, list->nown, first, rows);
    status = push_columns(list, first, rows, error);
  }
  bsd_free(first);
  bsd_free(rows);
  return status;
}

static bsd_status make_all(bsd_share *share, reader *r, const bsd_row_records *from, int64_t nfrom,
                           bsd_error *error) {
  int64_t i, l, begin, end = 0;
  for (i = 0; i < nfrom; i++)
    BSD_TRY(read_records(r, &from[i], error));
  BSD_TRY(order_records(r, error));
  for (l = 0; l < share->nlists; l++) {
    for (begin = end; end < r->nrecords && r->records[end].word[LIST] == l; end++)
      ;
    if (needs_rows(share, &share->lists[l]))
      BSD_TRY(make_columns(&share->lists[l], r->records + begin, end - begin, error));
  }
  return BSD_OK;
}

bsd_status bsd_share_transpose(bsd_share *share, bsd_row_records *from, int64_t nfrom,
                               bsd_error *error) {
  reader r = {.share = share};
  bsd_status status = make_all(share, &r, from, nfrom, error);
  bsd_free(r.records);
  return status;
}
