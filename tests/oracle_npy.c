/* oracle_npy.c - what bsd_attend should write, by the fp64 oracle, as f4 files.
 *
 *   oracle_npy [-c] [-B BLOCK] [-b] [-s CU_SEQLENS.npy] [-x SCALE] [-g DO.npy] PATTERN Q K V OUT
 * -c causal, -b inputs rounded to bf16. Writes OUT.o.npy, OUT.lse.npy, with -g also dq, dk, dv. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "examples/floats.h"
#include "examples/npy.h"
#include "oracle.h"

static void fail(const char *sentence) {
  fprintf(stderr, "oracle_npy: %s\n", sentence);
  exit(2);
}

/* A file's f4 or f2 elements as float, rounded to bf16 if asked for; for free(). */
static float *load(const char *path, int to_bf16, npy_header *header) {
  int file = -1;
  cli_error error = {0};
  if (npy_open(path, &file, header, &error) != CLI_GOOD)
    fail(error.text);
  void *data = oracle_alloc(header->elements, 4);
  float *values = oracle_alloc(header->elements, sizeof *values);
  if (npy_read_at(path, file, data, header->bytes, header->data_offset, &error) != CLI_GOOD)
    fail(error.text);
  close(file);
  for (int64_t i = 0; i < header->elements; i++) {
    values[i] = header->type == NPY_F2 ? half_to_float(((uint16_t *)data)[i]) : ((float *)data)[i];
    if (to_bf16)
      values[i] = bfloat_to_float(float_to_bfloat(values[i]));
  }
  free(data);
  return values;
}

static void save(const char *prefix, const char *name, const npy_header *like, const double *data) {
  char path[4096], text[NPY_FORMAT_BYTES];
  snprintf(path, sizeof path, "%s.%s.npy", prefix, name);
  npy_header header = *like;
  header.type = NPY_F4;
  cli_error error = {0};
  if (npy_format_header(path, &header, text, &error) != CLI_GOOD)
    fail(error.text);
  FILE *file = fopen(path, "wb");
  if (file == NULL)
    fail(path);
  fwrite(text, 1, (size_t)header.data_offset, file);
  for (int64_t i = 0; i < header.elements; i++) {
    float value = (float)data[i];
    fwrite(&value, sizeof value, 1, file);
  }
  if (fclose(file) != 0)
    fail(path);
}

/* The header of lse for that of q. */
static npy_header lse_header(const npy_header *q) {
  npy_header lse = {.dimensions = q->dimensions - 1};
  int first = q->dimensions - 3;
  lse.shape[0] = q->shape[0];
  lse.shape[first] = q->shape[first + 1];
  lse.shape[first + 1] = q->shape[first];
  return lse;
}

static void sizes(oracle_problem *p, const npy_header *q, const npy_header *k) {
  int first = q->dimensions - 3;
  p->batch = first == 1 ? q->shape[0] : 1;
  p->n = q->shape[first];
  p->heads = q->shape[first + 1];
  p->dim = q->shape[first + 2];
  p->kv_heads = k->shape[first + 1];
}

static void solve(const oracle_problem *p, const oracle_inputs *in, const npy_header *q,
                  const npy_header *k, const char *prefix) {
  int64_t rows = p->batch * p->n, queries = rows * p->heads * p->dim,
          keys = rows * p->kv_heads * p->dim;
  npy_header lse = lse_header(q);
  oracle_outputs out = {.o = oracle_alloc(queries, sizeof(double)),
                        .lse = oracle_alloc(rows * p->heads, sizeof(double))};
  if (in->d_o != NULL) {
    out.dq = oracle_alloc(queries, sizeof(double));
    out.dk = oracle_alloc(keys, sizeof(double));
    out.dv = oracle_alloc(keys, sizeof(double));
  }
  oracle_attention(p, in, &out);
  save(prefix, "o", q, out.o);
  save(prefix, "lse", &lse, out.lse);
  if (in->d_o != NULL) {
    save(prefix, "dq", q, out.dq);
    save(prefix, "dk", k, out.dk);
    save(prefix, "dv", k, out.dv);
  }
  free(out.o);
  free(out.lse);
  free(out.dq);
  free(out.dk);
  free(out.dv);
}

int main(int argc, char **argv) {
  static oracle_problem p = {.block = 64};
  const char *gradient = NULL;
  int to_bf16 = 0, option;
  int64_t *offsets = NULL;
  cli_error error = {0};
  while ((option = getopt(argc, argv, "cbB:s:x:g:")) != -1) {
    if (option == 'c')
      p.causal = 1;
    else if (option == 'b')
      to_bf16 = 1;
    else if (option == 'B')
      p.block = strtoll(optarg, NULL, 10);
    else if (option == 'x')
      p.scale = strtod(optarg, NULL);
    else if (option == 'g')
      gradient = optarg;
    else if (option != 's' || npy_read_offsets(optarg, &offsets, &p.documents, &error) != CLI_GOOD)
      fail(option == 's' ? error.text : "unknown option");
  }
  if (argc - optind != 5 || !oracle_parse(argv[optind], &p.pattern))
    fail("expected PATTERN Q K V OUT");
  p.cu_seqlens = offsets;
  npy_header q, k, v, d_o;
  float *q_data = load(argv[optind + 1], to_bf16, &q),
        *k_data = load(argv[optind + 2], to_bf16, &k);
  float *v_data = load(argv[optind + 3], to_bf16, &v);
  float *gradient_data = gradient != NULL ? load(gradient, to_bf16, &d_o) : NULL;
  sizes(&p, &q, &k);
  oracle_inputs in = {.q = q_data, .k = k_data, .v = v_data, .d_o = gradient_data};
  solve(&p, &in, &q, &k, argv[optind + 4]);
  free(q_data);
  free(k_data);
  free(v_data);
  free(gradient_data);
  free(offsets);
  return 0;
}
