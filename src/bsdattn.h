/* bsdattn.h - block-sparse dilated attention, exact, forward and backward, on one rank or many.
 *
 * Four nouns: a context (backend, device, communicator), a pattern (which pairs attend), a plan
 * (one pattern for one problem on this rank of the context's communicator) and tensors.
 * Order of calls: context, pattern, plan, then forward and backward as often as wanted.
 *
 * Every function returns a bsd_status and sets its outputs only on success. Nothing calls exit or
 * abort, prints to stdout or keeps process-wide state. C and C++.
 *
 * What is computed (LongNet, arXiv:2307.02486, eq. 9-10; docs in README.md):
 *   o_i = sum_j m(i,j) exp(s_ij) v_j / sum_j m(i,j) exp(s_ij),   s_ij = scale <q_i, k_j>
 * with m(i,j) the number of the pattern's branches that hold the pair (i,j). A query that sees no key
 * has o = 0 and lse = -inf. */
#ifndef BSDATTN_H
#define BSDATTN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) && __GNUC__ >= 4
#define BSD_API __attribute__((visibility("default")))
#else
#define BSD_API
#endif

#define BSD_VERSION_MAJOR 0
#define BSD_VERSION_MINOR 1
#define BSD_VERSION_PATCH 0

/* ---- status and errors ------------------------------------------------------------------- */

typedef enum bsd_status {
  BSD_OK = 0,
  BSD_ERR_ARG = 1,         /* an argument is unusable; the message names it, its value, the need */
  BSD_ERR_PATTERN = 2,     /* the pattern text or a pattern's parameter is unusable */
  BSD_ERR_UNSUPPORTED = 3, /* a combination that this build, backend or kernel does not have */
  BSD_ERR_MEMORY = 4,      /* an allocation failed */
  BSD_ERR_STATE = 5,       /* called out of order, or the communicator has failed before */
  BSD_ERR_PEER = 6,        /* another rank has failed */
  BSD_ERR_TIMEOUT = 7,     /* an exchange passed its deadline */
  BSD_ERR_MISMATCH = 8,    /* the ranks were given different patterns, problems or versions */
  BSD_ERR_IO = 9,          /* a file could not be read or written */
  BSD_ERR_BACKEND = 10     /* CUDA, NCCL or MPI reported an error; the message has its words */
} bsd_status;

/* A failure in words. `column` is 1-based, in bytes, for pattern text; 0 elsewhere. */
typedef struct bsd_error {
  bsd_status status;
  int column;
  char message[512];
} bsd_error;

/* The class of a status in words ("invalid argument"). Never NULL. */
BSD_API const char *bsd_status_string(bsd_status status);

/* The library's version as text, "0.1.0". */
BSD_API const char *bsd_version(void);

/* Backends and transports that this build has, space separated ("cpu cuda", "self mpi"). */
BSD_API const char *bsd_build_backends(void);
BSD_API const char *bsd_build_transports(void);

/* ---- contexts ---------------------------------------------------------------------------- */

typedef struct bsd_context bsd_context;
typedef struct bsd_comm bsd_comm; /* made by bsdattn_mpi.h or bsdattn_nccl.h */

typedef enum bsd_backend { BSD_BACKEND_AUTO = 0, BSD_BACKEND_CPU = 1, BSD_BACKEND_CUDA = 2 } bsd_backend;

/* Which kernel family to take. AUTO takes the fastest that applies; any other either applies or is
 * refused when the plan is made. The CPU backend has only AUTO. */
typedef enum bsd_kernel {
  BSD_KERNEL_AUTO = 0,
  BSD_KERNEL_SIMT = 1,
  BSD_KERNEL_SM80 = 2,
  BSD_KERNEL_SM90 = 3
} bsd_kernel;

typedef enum bsd_dtype { BSD_F32 = 0, BSD_BF16 = 1, BSD_F16 = 2 } bsd_dtype;

/* What messages between two ranks take: a rank's messages of one exchange, in each direction,
 *   latency_seconds + messages * message_seconds + bytes / bytes_per_second. */
typedef struct bsd_cost_link {
  double latency_seconds, message_seconds;
  double bytes_per_second; /* 0: the built-in link */
} bsd_cost_link;

/* What one pass of a kernel family takes for a dtype, head_dim and block. A pass on one rank takes
 *   launch_seconds * kernel launches
 * + row_seconds    * block rows (of the backward: and block columns), over heads and batch entries
 * + block_seconds  * active blocks (backward: of rows and of columns)
 * + alone_seconds  * those of them that no neighbouring row has too
 * + tail_seconds   * blocks of the longest row, summed over launches
 * + byte_seconds   * bytes that are cleared, merged and rounded beside the products. */
typedef struct bsd_cost_rate {
  char kernel[16]; /* "cpu", "simt", "sm80", "sm90" */
  int backward;    /* 0: forward */
  bsd_dtype dtype;
  int64_t head_dim, block;
  double launch_seconds, row_seconds, block_seconds, alone_seconds, tail_seconds, byte_seconds;
} bsd_cost_rate;

/* Constants by which plans choose layout and stages and predict times. A shape that no rate has takes
 * the nearest one of its kernel, scaled; a kernel that no rate has takes the library's own round figures. */
typedef struct bsd_cost_model {
  size_t struct_size;          /* sizeof(bsd_cost_model) */
  bsd_cost_link host, network; /* between ranks of one host, and of two */
  int host_ranks;              /* ranks r and s share a host if r / host_ranks = s / host_ranks; 0: all do */
  const bsd_cost_rate *rates;
  int64_t nrates;
} bsd_cost_model;

typedef struct bsd_context_options {
  size_t struct_size;     /* sizeof(bsd_context_options) */
  bsd_backend backend;    /* AUTO: CUDA if this build has it and a device is there, else CPU */
  bsd_kernel kernel;      /* AUTO */
  int device;             /* CUDA device number */
  int threads;            /* CPU: OpenMP threads, 0: OpenMP's own choice */
  bsd_comm *comm;         /* borrowed, must outlive the context; NULL: one rank */
  double timeout_seconds; /* deadline of an exchange; 0: 300 */
  const bsd_cost_model *cost_model; /* copied; NULL: the library's own. Rank 0's counts on all ranks */
} bsd_context_options;

/* Makes a context. options may be NULL (all defaults). Collective over comm's ranks.
 * Errors: ARG (struct_size, device, cost_model), UNSUPPORTED (backend not in this build), BACKEND, MEMORY.
 * *error (may be NULL) says why. */
BSD_API bsd_status bsd_context_create(const bsd_context_options *options, bsd_context **context,
                                      bsd_error *error);

/* Frees a context whose plans are all destroyed. NULL is fine. Always works, also after an error. */
BSD_API void bsd_context_destroy(bsd_context *context);

/* One sentence on the last call that failed on this context or a plan of it; "" if none has.
 * Valid until the next failing call on it. */
BSD_API const char *bsd_last_error(const bsd_context *context);

/* Rank and size of the context's communicator (0 of 1 without one). Either output may be NULL. */
BSD_API bsd_status bsd_context_rank(const bsd_context *context, int *rank, int *size);

/* Backend taken ("cpu", "cuda"), its device in words, and the transport's name. */
BSD_API const char *bsd_context_backend(const bsd_context *context);
BSD_API const char *bsd_context_device(const bsd_context *context);
BSD_API const char *bsd_context_transport(const bsd_context *context);

/* Frees a communicator made by bsdattn_mpi.h or bsdattn_nccl.h. NULL is fine. */
BSD_API void bsd_comm_destroy(bsd_comm *comm);

/* ---- patterns ---------------------------------------------------------------------------- */

typedef struct bsd_pattern bsd_pattern;

typedef enum bsd_offset { BSD_OFFSET_MOD = 0, BSD_OFFSET_GROUP = 1, BSD_OFFSET_KV = 2 } bsd_offset;
typedef enum bsd_combine { BSD_COMBINE_SUM = 0, BSD_COMBINE_HEADS = 1 } bsd_combine;

typedef enum bsd_term_kind {
  BSD_TERM_FULL = 0,
  BSD_TERM_LOCAL = 1,   /* left, right */
  BSD_TERM_DILATED = 2, /* steps */
  BSD_TERM_STRIDED = 3, /* steps, and rows or density */
  BSD_TERM_GLOBAL = 4,  /* count */
  BSD_TERM_RANDOM = 5,  /* count, seed */
  BSD_TERM_CSR = 6      /* csr_* */
} bsd_term_kind;

/* One block pattern. Fields that the kind does not use are ignored; arrays are copied. */
typedef struct bsd_term {
  bsd_term_kind kind;
  int64_t left, right;      /* LOCAL: blocks to each side, -1 unlimited */
  int64_t count;            /* GLOBAL: g; RANDOM: k >= 1 */
  uint64_t seed;            /* RANDOM */
  const int64_t *steps;     /* DILATED, STRIDED: R, each >= 1 */
  int64_t nsteps;           /* >= 1 */
  int64_t rows;             /* STRIDED: blocks per row >= 1, or 0 to use density */
  int64_t density;          /* STRIDED: billionths, 1 .. 10^9, if rows is 0 */
  int64_t csr_rows;         /* CSR: M */
  int64_t csr_heads;        /* CSR: 1 (shared by all heads) or the number of global query heads */
  const int64_t *csr_ptr;   /* CSR: csr_heads * M + 1 offsets into csr_columns, first 0 */
  const int64_t *csr_columns; /* CSR: ascending and unique in each row, 0 .. M-1 */
} bsd_term;

typedef struct bsd_branch {
  int64_t segment;        /* w, 0: the whole document */
  int64_t dilation;       /* r, 0 is taken as 1 */
  bsd_offset offset;
  int has_window;         /* 0: none */
  int64_t window_left, window_right; /* gathered tokens, -1 unlimited */
  const bsd_term *terms;  /* the union; none: full */
  int64_t nterms;
} bsd_branch;

/* An empty pattern; add branches to it. Errors: MEMORY. */
BSD_API bsd_status bsd_pattern_create(bsd_combine combine, bsd_pattern **pattern);

/* Appends a branch (copied). Errors: PATTERN (a value out of range, csr columns not ascending),
 * MEMORY. A pattern that a plan was made from may be changed or destroyed: plans keep their own. */
BSD_API bsd_status bsd_pattern_add_branch(bsd_pattern *pattern, const bsd_branch *branch,
                                          bsd_error *error);

/* Reads a pattern from text (grammar: README.md, "Pattern text"). csr(FILE) reads that file.
 * Errors: PATTERN (error->column says where, error->message what was expected), IO, MEMORY. */
BSD_API bsd_status bsd_pattern_parse(const char *text, bsd_pattern **pattern, bsd_error *error);

/* Writes the canonical text; parsing it gives the same pattern (csr from memory: csr(#hash), which
 * parse refuses). *needed (may be NULL) gets the bytes needed including the final 0. buffer may be
 * NULL if size is 0. Errors: ARG if size is too small (nothing is written). */
BSD_API bsd_status bsd_pattern_format(const bsd_pattern *pattern, char *buffer, size_t size,
                                      size_t *needed);

BSD_API void bsd_pattern_destroy(bsd_pattern *pattern);

/* ---- problems and plans ------------------------------------------------------------------ */

typedef enum bsd_layout_kind {
  BSD_LAYOUT_AUTO = 0,
  BSD_LAYOUT_CONTIGUOUS = 1,
  BSD_LAYOUT_ZIGZAG = 2,
  BSD_LAYOUT_DILATED = 3, /* group, unit */
  BSD_LAYOUT_CUSTOM = 4   /* unit_ranks */
} bsd_layout_kind;

typedef struct bsd_layout_spec {
  bsd_layout_kind kind;
  int64_t group;             /* DILATED: g >= 1, units in a row on one rank */
  int64_t unit;              /* DILATED: u >= 1, tokens in a unit */
  const int32_t *unit_ranks; /* CUSTOM: the rank of each unit of `block` tokens (copied) */
  int64_t nunits;            /* CUSTOM: ceil(length / block) */
} bsd_layout_spec;

/* What is to be computed, in global terms, the same on every rank. Zeroed = sensible. */
typedef struct bsd_problem {
  size_t struct_size;        /* sizeof(bsd_problem) */
  int64_t batch;             /* B, 0: 1 */
  int64_t length;            /* n, tokens of the whole sequence over all ranks, >= 1 */
  int64_t heads;             /* H, >= 1 */
  int64_t kv_heads;          /* Hkv, 0: H; divides H */
  int64_t head_dim;          /* D, 1 .. 256 */
  bsd_dtype dtype;
  int causal;
  double scale;              /* 0: 1/sqrt(D) */
  int64_t block;             /* 16, 32, 64, 128 or 256 tokens; 0: 64 */
  const int64_t *cu_seqlens; /* documents + 1 offsets on the host, first 0, last n; NULL: one */
  int64_t documents;
  int64_t head_first;        /* tensor parallelism: the first of these heads in the model */
  int64_t heads_total;       /* and the model's number of query heads, 0: H */
  bsd_layout_spec layout;
  int allow_atomics;         /* a faster backward that is not bitwise repeatable may be taken */
  int allow_tf32;            /* f32 products may be rounded to TF32 */
} bsd_problem;

typedef struct bsd_plan bsd_plan;

/* Plans `pattern` for `problem` on this rank. Collective over the context's ranks, always: each
 * rank calls it with the same arguments in the same order. Nothing of the arguments is kept.
 * Errors: ARG, PATTERN (more branches than heads, csr too small), UNSUPPORTED (with the reason),
 * MEMORY, MISMATCH (the message names a rank that differs; all ranks get it), PEER, TIMEOUT. */
BSD_API bsd_status bsd_plan_create(bsd_context *context, const bsd_pattern *pattern,
                                   const bsd_problem *problem, bsd_plan **plan);

/* The plan that `rank` of `nranks` would make, without a communicator: for simulation and tests.
 * Not collective. Stats, print, hash and positions work; runs are refused with STATE. */
BSD_API bsd_status bsd_plan_create_offline(bsd_context *context, const bsd_pattern *pattern,
                                           const bsd_problem *problem, int rank, int nranks,
                                           bsd_plan **plan);

/* Frees a plan; waits for its run if one is under way and the communicator has not failed. The stream of its last
 * run must still be there. */
BSD_API void bsd_plan_destroy(bsd_plan *plan);

typedef struct bsd_comm_stats { /* bytes of payload, summed over all ranks */
  int64_t bytes_lower_bound;    /* what the pattern needs across shards, each once */
  int64_t bytes_allgather;      /* what an all-gather (backward: and reduce-scatter) would move */
  int64_t bytes_received_here;  /* of the bound, by this rank */
  int64_t bytes_sent_here;
  int64_t bytes_received_worst; /* by the rank that receives most */
  int64_t messages_here;        /* received by this rank, one per peer and step */
} bsd_comm_stats;

typedef struct bsd_plan_statistics {
  size_t struct_size;
  int rank, nranks;
  int64_t local_length;       /* tokens of this rank */
  int64_t active_blocks;      /* over branches, served heads, segments; one batch entry; all ranks */
  int64_t active_pairs;       /* sum of m_h(i,j), one batch entry, all ranks */
  int64_t active_pairs_here;  /* those of this rank's queries */
  double density;             /* active_pairs / (H * pairs) */
  double imbalance;           /* the worst rank's pairs over the mean; 1 without work */
  double flops_forward;       /* 4 D per active pair, times B, all ranks */
  double flops_backward;      /* 10 D */
  bsd_comm_stats forward, backward;
  int64_t workspace_bytes;    /* device workspace of a run on this rank */
  int64_t plan_bytes;         /* memory that the plan itself holds on this rank */
  double plan_ms;             /* time of bsd_plan_create on this rank */
  int stages;                 /* 1 (all local) .. 3 */
  double predicted_forward_ms, predicted_backward_ms; /* of the worst rank, by the cost model */
  double predicted_efficiency; /* compute of the mean rank, without exchange, over both */
  int ranks_counted;          /* ranks that sums and maxima come from: all, or of an offline plan for more
                               * than 64 ranks about 64 at equal distances; sums are scaled to all then */
  const char *backend, *kernel, *kernel_backward, *transport; /* owned by the plan */
  const char *layout;         /* the option's text, for auto that of the layout taken */
  const char *layout_reason;  /* for auto why: bytes and imbalance of each candidate */
} bsd_plan_statistics;

/* Fills *stats (struct_size set by the caller). Not collective. */
BSD_API bsd_status bsd_plan_stats(const bsd_plan *plan, bsd_plan_statistics *stats);

/* Payload bytes to and from one peer in one forward and one backward; outputs may be NULL. */
BSD_API bsd_status bsd_plan_peer_bytes(const bsd_plan *plan, int peer, int64_t *forward_sent,
                                       int64_t *forward_received, int64_t *backward_sent,
                                       int64_t *backward_received);

/* Writes the plan in words (rows, stages, steps, bytes) into buffer, as bsd_pattern_format does. */
BSD_API bsd_status bsd_plan_print(const bsd_plan *plan, char *buffer, size_t size, size_t *needed);

/* 64-bit hash over pattern, problem, layout, number of ranks and library version. */
BSD_API bsd_status bsd_plan_hash(const bsd_plan *plan, uint64_t *hash);

/* Bytes that a run needs beside the caller's tensors, and the caller's own memory for them (of the
 * backend, aligned to 256 bytes, at least that size; NULL gives it back to the plan). */
BSD_API bsd_status bsd_plan_workspace_bytes(const bsd_plan *plan, size_t *bytes);
BSD_API bsd_status bsd_plan_set_workspace(bsd_plan *plan, void *workspace, size_t bytes);

/* ---- which tokens this rank holds -------------------------------------------------------- */

typedef struct bsd_position_run { /* `count` tokens from global position `first`, in order */
  int64_t first, count;
} bsd_position_run;

BSD_API bsd_status bsd_plan_local_length(const bsd_plan *plan, int64_t *tokens);

/* Global position of each local token, ascending. positions holds local_length entries. */
BSD_API bsd_status bsd_plan_local_positions(const bsd_plan *plan, int64_t *positions);

/* The same as runs: *count gets their number; the first `capacity` are written to runs. */
BSD_API bsd_status bsd_plan_position_runs(const bsd_plan *plan, bsd_position_run *runs,
                                          int64_t capacity, int64_t *count);

/* ---- tensors and runs -------------------------------------------------------------------- */

/* A tensor [B][local n][heads][D]: element (b,i,h,d) is at
 * data + (b*batch_stride + i*position_stride + h*head_stride + d) elements.
 * Three zero strides mean packed in that order. data may be NULL where this rank holds no token. */
typedef struct bsd_tensor {
  void *data;
  int64_t batch_stride, position_stride, head_stride;
} bsd_tensor;

/* Attention of this rank's queries over all keys that the plan's pattern lets them see.
 *
 * q, o [B][local n][H][D], k, v [B][local n][Hkv][D] of the problem's dtype, in memory of the
 * context's backend; lse [B][H][local n] fp32, natural log, may be NULL.
 * Collective over the plan's ranks, in the same order on each. With self and NCCL asynchronous on
 * `stream` (a cudaStream_t; NULL on the CPU); with MPI and on the CPU it returns when complete.
 * Errors: ARG (a null or misaligned pointer, a stride too small), STATE (the communicator has
 * failed, an offline plan), PEER, TIMEOUT.
 * Equation: LongNet (arXiv:2307.02486) eq. 9-10, one softmax over the multiset of keys. */
BSD_API bsd_status bsd_forward(bsd_plan *plan, const bsd_tensor *q, const bsd_tensor *k,
                               const bsd_tensor *v, const bsd_tensor *o, float *lse, void *stream);

/* Exact gradients of bsd_forward.
 *
 * q, k, v, o, lse as in forward (o and lse its results); d_o the gradient of o, shaped like it;
 * dlse [B][H][local n] fp32 the gradient of lse, or NULL; dq like q, dk and dv like k and v, written.
 *   P = m exp(s - lse), delta = sum_d do o, dv = P^T do, ds = P (do v^T - delta + dlse),
 *   dq = scale ds k, dk = scale ds^T q.
 * Collective, streams and errors as bsd_forward. */
BSD_API bsd_status bsd_backward(bsd_plan *plan, const bsd_tensor *q, const bsd_tensor *k,
                                const bsd_tensor *v, const bsd_tensor *o, const float *lse,
                                const bsd_tensor *d_o, const float *dlse, const bsd_tensor *dq,
                                const bsd_tensor *dk, const bsd_tensor *dv, void *stream);

/* Waits until the plan's last run is complete, at most `seconds` (0: the context's timeout).
 * Errors: TIMEOUT, PEER (the message names rank, peer, step and bytes), BACKEND. */
BSD_API bsd_status bsd_plan_wait(bsd_plan *plan, double seconds);

/* While tracing is on (nonzero), a run notes on the device when its parts begin and end, and
 * bsd_plan_run_stats tells times; off, as in a new plan, nothing is noted and nothing is spent. Turning it
 * on allocates, and again before a run it sets the device's clock anew. Not while a run is under way; a run
 * captured into a graph cannot be traced. Errors: MEMORY, STATE (an offline plan), BACKEND. */
BSD_API bsd_status bsd_plan_set_tracing(bsd_plan *plan, int on);

/* What the plan's last completed forward and backward moved and how long they waited. Times are NAN but for
 * the last run, if that was traced and there is more than one rank. */
typedef struct bsd_run_statistics {
  size_t struct_size;
  int64_t forward_bytes_received, backward_bytes_received; /* payload, this rank, last run */
  double forward_exposed_ms, backward_exposed_ms;   /* the exchange kept the kernels waiting */
  double forward_exchange_ms, backward_exchange_ms; /* from posting to the last arrival */
} bsd_run_statistics;

BSD_API bsd_status bsd_plan_run_stats(const bsd_plan *plan, bsd_run_statistics *stats);

/* ---- moving tensors between global order and the plan's own ------------------------------ */

typedef enum bsd_tensor_kind {
  BSD_TENSOR_Q = 0,  /* also o, do, dq: rows of H * D elements of the dtype */
  BSD_TENSOR_KV = 1, /* k, v, dk, dv: rows of Hkv * D elements */
  BSD_TENSOR_LSE = 2 /* rows of H fp32 */
} bsd_tensor_kind;

/* Host tensors in global order are [B][count][heads][D] (lse: [B][H][count]), packed; those in the
 * plan's order are [B][local n][heads][D] (lse: [B][H][local n]), packed, in the backend's memory.
 *
 * bsd_scatter: each rank passes the contiguous run [first, first+count) of global positions that it
 * has in src (host), the runs together cover [0, n) once (root only: one rank passes all, the others
 * 0); dst gets this rank's tokens. bsd_gather: the inverse, src the rank's own tokens, dst (host) the
 * run that it asks for; runs may overlap there.
 * Collective. Errors: ARG (runs that do not cover), STATE, PEER, TIMEOUT, MEMORY. */
BSD_API bsd_status bsd_scatter(bsd_plan *plan, bsd_tensor_kind kind, const void *src, int64_t first,
                               int64_t count, void *dst, void *stream);
BSD_API bsd_status bsd_gather(bsd_plan *plan, bsd_tensor_kind kind, const void *src, int64_t first,
                              int64_t count, void *dst, void *stream);

#ifdef __cplusplus
}
#endif
#endif
