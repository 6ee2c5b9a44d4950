/* ptx.cuh - inline assembly, all that the project has beside overlap.cuh: instructions that CUDA C++ has no words for.
 *
 * Sections: shared memory and barriers (mbarrier, named), tensor copies (TMA), products of a warpgroup
 * (wgmma) with their descriptors, small pieces. Every wait has a "memory" clobber. sm_90a unless said.
 * tests/gpu/test_ptx checks descriptors, major-ness, accumulator layout, copies and barriers. */
#ifndef BSD_CUDA_PTX_CUH
#define BSD_CUDA_PTX_CUH

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

#include "overlap.cuh"

/* ---- shared memory and barriers --------------------------------------------------------------- */

static __device__ __forceinline__ uint32_t bsd_shared_address(const void *p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

static __device__ __forceinline__ void bsd_barrier_init(uint32_t barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

/* After the inits, before __syncthreads(): makes them visible to the copy engine. */
static __device__ __forceinline__ void bsd_barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

static __device__ __forceinline__ void bsd_barrier_wait(uint32_t barrier, uint32_t parity) {
  asm volatile("{ .reg .pred P; AGAIN: mbarrier.try_wait.parity.shared::cta.b64 P, [%0], %1; "
               "@P bra.uni DONE; bra.uni AGAIN; DONE: }" ::"r"(barrier),
               "r"(parity)
               : "memory");
}

static __device__ __forceinline__ bool bsd_barrier_test(uint32_t barrier, uint32_t parity) {
  uint32_t done;
  asm volatile("{ .reg .pred P; mbarrier.test_wait.parity.shared::cta.b64 P, [%1], %2; selp.u32 "
               "%0, 1, 0, P; }"
               : "=r"(done)
               : "r"(barrier), "r"(parity)
               : "memory");
  return done;
}

static __device__ __forceinline__ void bsd_barrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

static __device__ __forceinline__ void bsd_barrier_arrive_times(uint32_t barrier, uint32_t times) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(times) : "memory");
}

/* Arrives where `yes` is not 0. One predicated instruction: a divergent branch around the arrival costs
 * ptxas its uniform registers, dozens of instructions in an inner loop. */
static __device__ __forceinline__ void bsd_barrier_arrive_if(uint32_t barrier, uint32_t yes) {
  asm volatile(
      "{ .reg .pred P; setp.ne.u32 P, %1, 0; @P mbarrier.arrive.shared::cta.b64 _, [%0]; }" ::"r"(
          barrier),
      "r"(yes)
      : "memory");
}

/* Arrives and announces bytes that tensor copies will bring. */
static __device__ __forceinline__ void bsd_barrier_expect(uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

/* Barrier number 1 .. 15 among `threads` threads. */
static __device__ __forceinline__ void bsd_named_sync(int number, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

/* Orders this thread's ordinary accesses to shared memory before later ones of wgmma or TMA. */
static __device__ __forceinline__ void bsd_fence_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* ---- tensor copies (TMA) ---------------------------------------------------------------------- */

static __device__ __forceinline__ void bsd_tma_prefetch(const CUtensorMap *map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/* A box of a 5-D tensor into shared memory; its bytes count on `barrier`. Zeros come from beyond the tensor's ends;
 * coordinates may be negative. */
static __device__ __forceinline__ void bsd_tma_load(uint32_t to, const CUtensorMap *map,
                                                    uint32_t barrier, int c0, int c1, int c2,
                                                    int c3, int c4) {
  asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
               "[%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(to),
               "l"(map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4)
               : "memory");
}

/* A box from shared memory into a 5-D tensor; belongs to this thread's open group. Nothing is written beyond the
 * tensor's ends, but a negative coordinate is an illegal instruction: boxes begin at or after the first row. */
static __device__ __forceinline__ void bsd_tma_store(const CUtensorMap *map, uint32_t from, int c0,
                                                     int c1, int c2, int c3, int c4) {
  asm volatile("cp.async.bulk.tensor.5d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5, "
               "%6}], [%1];" ::"l"(map),
               "r"(from), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4)
               : "memory");
}

static __device__ __forceinline__ void bsd_tma_commit() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

/* Until this thread's stores have read their shared memory. */
static __device__ __forceinline__ void bsd_tma_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

static __device__ __forceinline__ void bsd_tma_wait() {
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

/* 16 contiguous bytes (a multiple of 16 in general) without a tensor map. */
static __device__ __forceinline__ void bsd_bulk_load(uint32_t to, const void *from, int bytes,
                                                     uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}

/* ---- copies of 16 bytes by one thread (sm_80) -------------------------------------------------- */

static __device__ __forceinline__ void bsd_copy_async(uint32_t to, const void *from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

static __device__ __forceinline__ void bsd_copy_async_wait() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

static __device__ __forceinline__ void bsd_store_shared(uint32_t to, uint32_t a, uint32_t b,
                                                        uint32_t c, uint32_t d) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(a), "r"(b), "r"(c), "r"(d)
               : "memory");
}

static __device__ __forceinline__ uint4 bsd_load_shared(uint32_t from) {
  uint4 v;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(from)
               : "memory");
  return v;
}

static __device__ __forceinline__ uint32_t bsd_load_word(uint32_t from) {
  uint32_t v;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(from) : "memory");
  return v;
}

static __device__ __forceinline__ void bsd_store_word(uint32_t to, uint32_t v) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(to), "r"(v) : "memory");
}

static __device__ __forceinline__ void bsd_store_pair(uint32_t to, float a, float b) {
  asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(a), "f"(b) : "memory");
}

static __device__ __forceinline__ float2 bsd_load_pair(uint32_t from) {
  float2 v;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(from) : "memory");
  return v;
}

static __device__ __forceinline__ void bsd_store_pointer(uint32_t to, const void *p) {
  asm volatile("st.shared.u64 [%0], %1;" ::"r"(to), "l"(p) : "memory");
}

static __device__ __forceinline__ const char *bsd_load_pointer(uint32_t from) {
  const char *p;
  asm volatile("ld.shared.u64 %0, [%1];" : "=l"(p) : "r"(from) : "memory");
  return p;
}

/* Four 8x8 matrices of 16-bit elements, one row address per lane (sm_90). */
static __device__ __forceinline__ void bsd_store_matrix(uint32_t to, uint32_t a, uint32_t b,
                                                        uint32_t c, uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(a),
               "r"(b), "r"(c), "r"(d)
               : "memory");
}

static __device__ __forceinline__ void bsd_load_matrix(uint32_t (&v)[4], uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
               : "r"(from)
               : "memory");
}

/* The same matrices transposed. */
static __device__ __forceinline__ void bsd_load_matrix_transposed(uint32_t (&v)[4], uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
               : "r"(from)
               : "memory");
}

/* Adds to two floats in global memory, aligned to 8 bytes, without reading them (sm_90). */
static __device__ __forceinline__ void bsd_add_pair(float *to, float a, float b) {
  asm volatile("red.global.add.v2.f32 [%0], {%1, %2};" ::"l"(to), "f"(a), "f"(b) : "memory");
}

/* Copies `bytes` (0 or 16) and fills the rest of 16 with zeros; belongs to this thread's open group. */
static __device__ __forceinline__ void bsd_copy_async_or_zero(uint32_t to, const void *from,
                                                              int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}

/* Copies 4 bytes; belongs to this thread's open group. */
static __device__ __forceinline__ void bsd_copy_async_word(uint32_t to, const void *from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}

/* ---- products of a warp (mma.sync, sm_80) ------------------------------------------------------ */

/* d += A B: A [16][16] row by row in a, B [16][8] in b0, b1. With g = lane/4 and t = lane%4: a[0] row g,
 * columns 2t and 2t + 1; a[1] row g + 8; a[2], a[3] the same, columns + 8; b0 rows 2t, 2t + 1 of column g, b1
 * rows + 8; d[0], d[1] row g, columns 2t, 2t + 1, d[2], d[3] row g + 8. The last argument gives the type. */
static __device__ __forceinline__ void bsd_mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                               uint32_t b1, __nv_bfloat16) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
static __device__ __forceinline__ void bsd_mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                               uint32_t b1, __half) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Brings a line of global memory into the L2 cache. */
static __device__ __forceinline__ void bsd_prefetch(const void *from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
}

/* ---- arithmetic -------------------------------------------------------------------------------- */

static __device__ __forceinline__ float bsd_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/* Two floats rounded to the type, the first in the low half. */
static __device__ __forceinline__ uint32_t bsd_pack2(float a, float b, __nv_bfloat16) {
  uint32_t v;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(b), "f"(a));
  return v;
}
static __device__ __forceinline__ uint32_t bsd_pack2(float a, float b, __half) {
  uint32_t v;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(b), "f"(a));
  return v;
}

static __device__ __forceinline__ uint32_t bsd_multiply2(uint32_t a, uint32_t b, __nv_bfloat16) {
  uint32_t v;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(v) : "r"(a), "r"(b));
  return v;
}

/* ---- products of a warpgroup (wgmma, sm_90a) --------------------------------------------------- */

/* Moves registers between the warps of a kernel; every warp of the warpgroup. */
template <int Registers> static __device__ __forceinline__ void bsd_registers_shrink() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}
template <int Registers> static __device__ __forceinline__ void bsd_registers_grow() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}

static __device__ __forceinline__ void bsd_wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
static __device__ __forceinline__ void bsd_wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int Groups> static __device__ __forceinline__ void bsd_wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Groups) : "memory");
}

/* Keeps the compiler from moving uses of accumulators or A registers across a wait. */
template <int N> static __device__ __forceinline__ void bsd_hold(float (&x)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++)
    asm volatile("" : "+f"(x[i])::"memory");
}
template <int N> static __device__ __forceinline__ void bsd_hold(uint32_t (&x)[N][4]) {
#pragma unroll
  for (int i = 0; i < 4 * N; i++)
    asm volatile("" : "+r"(x[i / 4][i % 4])::"memory");
}

/* Hides from the compiler where a value comes from, so that what follows from it is not computed ahead. */
static __device__ __forceinline__ void bsd_forget(uint32_t &x) {
  asm volatile("" : "+r"(x));
}

/* Descriptors: address>>4 in bits 0-13, LBO>>4 in 16-29, SBO>>4 in 32-45, swizzle in 62-63 (1: 128 bytes).
 * Operands are tiles of 64 columns of 16-bit elements (128 bytes a row, 128-byte swizzle, aligned to 1024
 * bytes), so that SBO, from one group of 8 rows to the next, is 1024. LBO matters only for operands that
 * are read along their rows (TransposeB) and wider than 64: from one tile of 64 columns to the next. */
enum { BSD_DESCRIPTOR_HIGH = (1024 >> 4) | (1 << 30) };

static __device__ __forceinline__ uint64_t bsd_descriptor(uint32_t low) {
  return static_cast<uint64_t>(BSD_DESCRIPTOR_HIGH) << 32 | low;
}
static __device__ __forceinline__ uint32_t bsd_descriptor_low(uint32_t address, uint32_t lbo) {
  return (address >> 4) | (lbo >> 4) << 16;
}

/* d (+)= A B^T (TransposeB 0: B is [n][16], as rows of keys) or A B (1: B is [16][n]); A is [64][16], in
 * registers or by descriptor. Accumulator of a thread: row 16*warp + lane/4 (+8), columns 8j + 2*(lane%4)
 * + {0, 1}: d[4j], d[4j + 1] and, 8 rows on, d[4j + 2], d[4j + 3]. A of k16 step i packs d[8i] .. d[8i + 7]
 * pairwise. add 0: d is overwritten. The last argument gives the type. */
template <int TransposeB>
__device__ __forceinline__ void bsd_wgmma_ss(float (&d)[32], uint64_t a, uint64_t b, int add,
                                             __nv_bfloat16) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %34, 0; "
               "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
               "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
               "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
               "}, %32, %33, p, 1, 1, 0, %35; }"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
                 "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]),
                 "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]),
                 "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
                 "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]),
                 "+f"(d[31])
               : "l"(a), "l"(b), "r"(add), "n"(TransposeB));
}

template <int TransposeB>
__device__ __forceinline__ void bsd_wgmma_rs(float (&d)[32], const uint32_t (&a)[4], uint64_t b,
                                             int add, __nv_bfloat16) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %37, 0; "
               "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
               "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
               "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
               "}, {%32, %33, %34, %35}, %36, p, 1, 1, %38; }"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
                 "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]),
                 "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]),
                 "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
                 "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]),
                 "+f"(d[31])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(TransposeB));
}

template <int TransposeB>
__device__ __forceinline__ void bsd_wgmma_ss(float (&d)[32], uint64_t a, uint64_t b, int add,
                                             __half) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %34, 0; "
               "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
               "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
               "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
               "}, %32, %33, p, 1, 1, 0, %35; }"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
                 "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]),
                 "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]),
                 "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
                 "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]),
                 "+f"(d[31])
               : "l"(a), "l"(b), "r"(add), "n"(TransposeB));
}

template <int TransposeB>
__device__ __forceinline__ void bsd_wgmma_rs(float (&d)[32], const uint32_t (&a)[4], uint64_t b,
                                             int add, __half) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %37, 0; "
               "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
               "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
               "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
               "}, {%32, %33, %34, %35}, %36, p, 1, 1, %38; }"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
                 "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]),
                 "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]),
                 "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
                 "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]),
                 "+f"(d[31])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(TransposeB));
}

template <int TransposeB>
__device__ __forceinline__ void bsd_wgmma_rs(float (&d)[64], const uint32_t (&a)[4], uint64_t b,
                                             int add, __nv_bfloat16) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %69, 0; "
               "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
               "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
               "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
               "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
               "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
               "}, {%64, %65, %66, %67}, %68, p, 1, 1, %70; }"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
                 "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]),
                 "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]),
                 "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
                 "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]),
                 "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]),
                 "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]),
                 "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),
                 "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]),
                 "+f"(d[55]), "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]),
                 "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(TransposeB));
}

template <int TransposeB>
__device__ __forceinline__ void bsd_wgmma_rs(float (&d)[64], const uint32_t (&a)[4], uint64_t b,
                                             int add, __half) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %69, 0; "
               "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {"
               "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
               "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
               "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
               "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
               "}, {%64, %65, %66, %67}, %68, p, 1, 1, %70; }"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
                 "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]),
                 "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]),
                 "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
                 "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]),
                 "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]),
                 "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]),
                 "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),
                 "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]),
                 "+f"(d[55]), "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]),
                 "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(TransposeB));
}

#endif
