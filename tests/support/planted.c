/* planted.c - see planted.h. */
#include "support/planted.h"

#include <string.h>

#include "src/context.h"

const char *const plant_names[PLANT_COUNT] = {"nothing",
                                              "dropped query block",
                                              "dropped key block",
                                              "swapped pair",
                                              "scale",
                                              "backward scale",
                                              "mask",
                                              "window",
                                              "no merge",
                                              "no delta"};

static struct {
  plant what;
  int planted, prepared;
  const bsd_backend_table *real;
  const bsd_kernels *real_kernels;
  bsd_backend_table table;
  bsd_kernels kernels;
} garden;

int plant_count(void) {
  return garden.planted;
}

/* ---- lists ---- */

/* Takes one tile from an entry that has several. */
static int drop_block(bsd_list *list) {
  for (int64_t e = 0; e < list->row_ptr[list->nrows]; e++) {
    bsd_entry *entry = (bsd_entry *)&list->entries[e];
    if (entry->count > 1) {
      entry->count--;
      return 1;
    }
  }
  return 0;
}

/* Exchanges the first entries of the first two rows that differ there. */
static int swap_pair(bsd_list *list) {
  bsd_entry *entries = (bsd_entry *)list->entries;
  for (int64_t row = 0; row + 1 < list->nrows; row++) {
    bsd_entry *a = &entries[list->row_ptr[row]], *b = &entries[list->row_ptr[row + 1]], kept;
    if (list->row_ptr[row] == list->row_ptr[row + 1] ||
        list->row_ptr[row + 1] == list->row_ptr[row + 2] || memcmp(a, b, sizeof *a) == 0)
      continue;
    kept = *a;
    *a = *b;
    *b = kept;
    return 1;
  }
  return 0;
}

static int widen_mask(bsd_list *list) {
  if (!list->causal || list->right >= 0)
    return 0;
  list->causal = 0;
  list->right = 1;
  return 1;
}

static int widen_window(bsd_list *list) {
  if (list->left < 0)
    return 0;
  list->left++;
  return 1;
}

static bsd_status prepare(void *device, const bsd_kernels *kernels, const bsd_kernel_shape *shape,
                          const bsd_pass *passes, int64_t npasses, bsd_lists **lists,
                          bsd_error *error) {
  (void)kernels;                        /* garden.kernels */
  int queries = garden.prepared++ == 0; /* a plan prepares query rows, then key rows */
  for (int64_t x = 0; x < npasses; x++)
    for (int64_t y = 0; y < passes[x].nlists && !garden.planted; y++) {
      bsd_list *list = &passes[x].lists[y];
      if ((garden.what == PLANT_DROPPED_QUERY_BLOCK && queries) ||
          (garden.what == PLANT_DROPPED_KEY_BLOCK && !queries))
        garden.planted += drop_block(list);
      if (garden.what == PLANT_SWAPPED_PAIR && queries)
        garden.planted += swap_pair(list);
      if (garden.what == PLANT_MASK && queries)
        garden.planted += widen_mask(list);
      if (garden.what == PLANT_WINDOW && queries)
        garden.planted += widen_window(list);
    }
  return garden.real->prepare(device, garden.real_kernels, shape, passes, npasses, lists, error);
}

/* ---- calls ---- */

static bsd_status forward(void *device, const bsd_call *call, const bsd_lists *lists, int64_t pass,
                          int stage, void *stream, bsd_error *error) {
  bsd_call changed = *call;
  if (garden.what == PLANT_NO_MERGE && pass == 1) {
    garden.planted++;
    return BSD_OK;
  }
  if (garden.what == PLANT_SCALE) {
    changed.scale *= 1.001f;
    garden.planted++;
  }
  return garden.real_kernels->forward(device, &changed, lists, pass, stage, stream, error);
}

static bsd_status backward_dq(void *device, const bsd_call *call, const bsd_lists *lists,
                              int64_t pass, int stage, void *stream, bsd_error *error) {
  bsd_call changed = *call;
  if (garden.what == PLANT_BACKWARD_SCALE) {
    changed.scale *= 1.001f;
    garden.planted++;
  }
  return garden.real_kernels->backward_dq(device, &changed, lists, pass, stage, stream, error);
}

static bsd_status delta(void *device, const bsd_call *call, void *stream, bsd_error *error) {
  if (garden.what != PLANT_NO_DELTA)
    return garden.real_kernels->delta(device, call, stream, error);
  memset(call->delta_out, 0, (size_t)(call->batch * call->heads * call->tokens) * sizeof(float));
  garden.planted++;
  return BSD_OK;
}

static bsd_status select_planted(void *device, const bsd_kernel_shape *shape, bsd_kernel wanted,
                                 const bsd_kernels **kernels, bsd_error *error) {
  BSD_TRY(garden.real->select(device, shape, wanted, &garden.real_kernels, error));
  garden.kernels = *garden.real_kernels;
  garden.kernels.forward = forward;
  garden.kernels.backward_dq = backward_dq;
  garden.kernels.delta = delta;
  *kernels = &garden.kernels;
  return BSD_OK;
}

void plant_into(bsd_context *context, plant what) {
  memset(&garden, 0, sizeof garden);
  garden.what = what;
  garden.real = context->backend;
  garden.table = *context->backend;
  garden.table.prepare = prepare;
  garden.table.select = select_planted;
  context->backend = &garden.table;
}
