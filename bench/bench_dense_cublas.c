/* bench_dense_cublas.c - dense attention with materialised scores through cuBLAS's batched products.
 *
 * The query heads of a KV head lie behind each other, so that they are one matrix of heads x n rows and every
 * product is one strided batch over the KV heads; dk and dv sum over the heads by themselves. cuBLAS
 * accumulates in fp32, and takes no TF32 for f32.
 *
 * cuBLAS is loaded when it is first wanted: its 600 MB are not for every start of bsd_bench, which also runs
 * where no CUDA library is installed. */
#include "bench/bench_dense.h"

#include <cublas_v2.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_dense_softmax.h"

#define NAME_OF(major)  "libcublas.so." #major
#define NAME_FOR(major) NAME_OF(major)

enum { WORKSPACE_BYTES = 32 << 20 }; /* what cuBLAS takes by itself on Hopper */

typedef struct cublas {
  void *library;
  cublasHandle_t handle;
  __typeof__(&cublasCreate) create;
  __typeof__(&cublasDestroy) destroy;
  __typeof__(&cublasGetVersion) get_version;
  __typeof__(&cublasGetStatusString) status_string;
  __typeof__(&cublasSetStream) set_stream;
  __typeof__(&cublasSetWorkspace) set_workspace;
  __typeof__(&cublasGemmStridedBatchedEx) multiply;
} cublas;

static const struct {
  const char *name;
  size_t at;
} functions[] = {{"cublasCreate_v2", offsetof(cublas, create)},
                 {"cublasDestroy_v2", offsetof(cublas, destroy)},
                 {"cublasGetVersion_v2", offsetof(cublas, get_version)},
                 {"cublasGetStatusString", offsetof(cublas, status_string)},
                 {"cublasSetStream_v2", offsetof(cublas, set_stream)},
                 {"cublasSetWorkspace_v2", offsetof(cublas, set_workspace)},
                 {"cublasGemmStridedBatchedEx", offsetof(cublas, multiply)}};

/* ---- loading ----------------------------------------------------------------------------------- */

/* From the loader's own path, else from the toolkit that the build saw. */
static int load(cublas *c, cli_error *error) {
  c->library = dlopen(NAME_FOR(CUBLAS_VER_MAJOR), RTLD_NOW | RTLD_LOCAL);
  if (c->library == NULL)
    c->library = dlopen(CUBLAS_DIRECTORY "/" NAME_FOR(CUBLAS_VER_MAJOR), RTLD_NOW | RTLD_LOCAL);
  if (c->library == NULL)
    return cli_fail(error, CLI_UNUSABLE, "this machine has no " NAME_FOR(CUBLAS_VER_MAJOR));
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
    void *function = dlsym(c->library, functions[i].name);
    if (function == NULL)
      return cli_fail(error, CLI_UNUSABLE,
                      "this machine's " NAME_FOR(CUBLAS_VER_MAJOR) " has no %s", functions[i].name);
    memcpy((char *)c + functions[i].at, &function, sizeof function);
  }
  return CLI_GOOD;
}

static void close_cublas(void *state) {
  cublas *c = state;
  if (c == NULL)
    return;
  if (c->handle != NULL)
    c->destroy(c->handle);
  if (c->library != NULL)
    dlclose(c->library);
  free(c);
}

static int open_cublas(void **state, cli_error *error) {
  cublas *c = calloc(1, sizeof *c);
  if (c == NULL)
    return cli_fail(error, CLI_FAILED, "no memory for cuBLAS");
  int code = load(c, error);
  if (code == CLI_GOOD) {
    cublasStatus_t status = c->create(&c->handle);
    if (status != CUBLAS_STATUS_SUCCESS)
      code = cli_fail(error, CLI_UNUSABLE, "cuBLAS could not be started: %s",
                      c->status_string(status));
  }
  if (code == CLI_GOOD)
    *state = c;
  else
    close_cublas(c);
  return code;
}

static void describe(const void *state, char *text, size_t size) {
  const cublas *c = state;
  int version = 0;
  c->get_version(c->handle, &version);
  snprintf(text, size, "cuBLAS %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
}

/* ---- products ---------------------------------------------------------------------------------- */

static int check(const cublas *c, cublasStatus_t status, const char *call, cli_error *error) {
  if (status == CUBLAS_STATUS_SUCCESS)
    return CLI_GOOD;
  return cli_fail(error, CLI_FAILED, "%s: %s", call, c->status_string(status));
}

static int check_cuda(cudaError_t code, const char *call, cli_error *error) {
  if (code == cudaSuccess)
    return CLI_GOOD;
  return cli_fail(error, CLI_FAILED, "%s: %s", call, cudaGetErrorString(code));
}

static cudaDataType_t type_of(bsd_dtype dtype) {
  return dtype == BSD_F32 ? CUDA_R_32F : dtype == BSD_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

enum { AS_IT_IS = 0, TRANSPOSED = 1 };

/* c [groups][rows][cols] = alpha op(a) op(b), row major and packed. cuBLAS's matrices are column major: it
 * computes the transpose, b's factor first. */
static int product(const cublas *c, const bench_dense_call *x, int ta, int tb, int64_t rows,
                   int64_t cols, int64_t inner, float alpha, const void *a, const void *b, void *to,
                   cli_error *error) {
  const cudaDataType_t type = type_of(x->dtype);
  const float beta = 0;
  return check(c,
               c->multiply(c->handle, tb ? CUBLAS_OP_T : CUBLAS_OP_N,
                           ta ? CUBLAS_OP_T : CUBLAS_OP_N, (int)cols, (int)rows, (int)inner, &alpha,
                           b, type, (int)(tb ? inner : cols), inner * cols, a, type,
                           (int)(ta ? rows : inner), rows * inner, &beta, to, type, (int)cols,
                           rows * cols, (int)x->groups, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
               "cublasGemmStridedBatchedEx", error);
}

static int prepare(const cublas *c, const bench_dense_call *x, cli_error *error) {
  int code = check(c, c->set_stream(c->handle, x->device->stream), "cublasSetStream", error);
  if (code == CLI_GOOD)
    code = check(c, c->set_workspace(c->handle, x->workspace, WORKSPACE_BYTES),
                 "cublasSetWorkspace", error);
  return code;
}

static int forward(void *state, const bench_dense_call *x, cli_error *error) {
  const cublas *c = state;
  int64_t n = x->n, D = x->dim, rows = x->heads * n;
  int code = prepare(c, x, error);
  if (code == CLI_GOOD)
    code = product(c, x, AS_IT_IS, TRANSPOSED, rows, n, D, x->scale, x->q, x->k, x->scores, error);
  if (code == CLI_GOOD)
    code = check_cuda(
        bench_softmax_rows(x->dtype, x->scores, x->groups * rows, n, x->causal, x->device->stream),
        "softmax", error);
  if (code == CLI_GOOD)
    code = product(c, x, AS_IT_IS, AS_IT_IS, rows, D, n, 1, x->scores, x->v, x->o, error);
  return code;
}

static int backward(void *state, const bench_dense_call *x, cli_error *error) {
  const cublas *c = state;
  int64_t n = x->n, D = x->dim, rows = x->heads * n;
  int code = prepare(c, x, error);
  if (code == CLI_GOOD)
    code = product(c, x, TRANSPOSED, AS_IT_IS, n, D, rows, 1, x->scores, x->d_o, x->dv, error);
  if (code == CLI_GOOD)
    code = product(c, x, AS_IT_IS, TRANSPOSED, rows, n, D, 1, x->d_o, x->v, x->dscores, error);
  if (code == CLI_GOOD)
    code = check_cuda(bench_softmax_gradient_rows(x->dtype, x->scores, x->dscores, x->groups * rows,
                                                  n, x->device->stream),
                      "the gradient of softmax", error);
  if (code == CLI_GOOD)
    code = product(c, x, AS_IT_IS, AS_IT_IS, rows, D, n, x->scale, x->dscores, x->k, x->dq, error);
  if (code == CLI_GOOD)
    code =
        product(c, x, TRANSPOSED, AS_IT_IS, n, D, rows, x->scale, x->dscores, x->q, x->dk, error);
  return code;
}

const bench_dense_library bench_dense_on_cuda = {.any_dtype = 1,
                                                 .workspace_bytes = WORKSPACE_BYTES,
                                                 .open = open_cublas,
                                                 .close = close_cublas,
                                                 .describe = describe,
                                                 .forward = forward,
                                                 .backward = backward};
