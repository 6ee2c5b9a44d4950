/* ptx_cases.h - the small kernels that exercise kernels/cuda/ptx.cuh, one function per kind of instruction.
 *
 * Each launches its kernel 1000 times on the current device: what the first launch wrote is compared with what
 * the CPU computed, what the others wrote with the first, to the bit. Numbers are small integers where the
 * arithmetic allows it, so that sums are exact in any order. */
#ifndef TESTS_GPU_PTX_CASES_H
#define TESTS_GPU_PTX_CASES_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { PTX_LAUNCHES = 1000 };

typedef struct ptx_report {
  char failure[256];      /* the CUDA call that failed; empty: none */
  int64_t wrong, first;   /* elements that are not as expected; the first of them */
  double found, expected; /* there */
  int64_t unequal;        /* words of later launches that differ from the first launch's */
} ptx_report;

/* ---- sm90/: a GPU of compute capability 9.0 ------------------------------------------------------ */

typedef enum ptx_operand {
  PTX_SHARED,    /* A by descriptor */
  PTX_REGISTERS, /* A in registers, as ptx.cuh says that they lie */
  PTX_MATRICES   /* A in registers, as bsd_load_matrix brings them */
} ptx_operand;

/* [64][depth] times [columns][depth] transposed, or times [depth][columns] (transposed_b), twice added. */
ptx_report ptx_product(int half, int columns, int depth, int transposed_b, ptx_operand a);

/* The accumulator of a first product as A of a second with 64 or 128 columns. */
ptx_report ptx_accumulator_as_operand(int half, int columns);

/* Tile `row` .. row + 63 of a tensor of 150 tokens with `step` residues, some of it beyond the ends: loaded
 * (zeros there), or stored (nothing there; `row` not negative). */
ptx_report ptx_tensor_load(int half, int dim, int step, int row);
ptx_report ptx_tensor_store(int half, int dim, int step, int row);

/* Pieces of 16, 32, ... bytes on one barrier. */
ptx_report ptx_bulk_load(void);

/* A producer and one or two consumer warpgroups that walk rows of 0, 1 and many entries through a ring. */
ptx_report ptx_ring(int consumers, int stages);

/* bsd_store_matrix, bsd_add_pair, bsd_multiply2; a chain of kernels that overlap. */
ptx_report ptx_store_matrix(void);
ptx_report ptx_add_pair(void);
ptx_report ptx_multiply(void);
ptx_report ptx_dependent_launches(void);

/* ---- sm80/: a GPU of compute capability 8.0 or later ---------------------------------------------- */

/* [16][16] times [16][16] by mma, operands as ptx.cuh says that they lie or as the matrix loads bring them. */
ptx_report ptx_warp_product(int half, int by_matrix_loads);

/* cp.async with and without zero fill; words, pairs, vectors and pointers in shared memory. */
ptx_report ptx_copies(void);

ptx_report ptx_pack(int half);
ptx_report ptx_exp2(void);

#ifdef __cplusplus
}
#endif

#endif
