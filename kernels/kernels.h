/* kernels.h - the contract between the executor and a backend's kernels.
 *
 * A kernel sees block lists (src/lists.h) and base pointers. It knows nothing of ranks.
 *
 * Shapes: q, o, do, dq [B][n][H][D]; k, v, dk, dv [B][n][Hkv][D] of the dtype, by strides in elements
 * (D contiguous), n the local tokens; lse, delta [B][H][n] fp32. Query head h reads KV head h/(H/Hkv).
 *
 * Equations (scale applied to scores, natural logarithm):
 *   forward   o_t = sum_u P v_u / sum_u P,  P = exp(scale q_t.k_u), lse_t = log sum_u P; no key: 0, -inf
 *   delta     delta_t = sum_d do o  -  dlse_t
 *   dq        dq_t = scale sum_u dS k_u,  dS = P (do_t.v_u - delta_t),  P = exp(scale q_t.k_u - lse_t)
 *   dk, dv    dv_u = sum_t P do_t,  dk_u = scale sum_t dS q_t
 * over the pairs (t,u) of the row's tiles that causal, window and raggedness allow. lse = -inf: P = 0.
 *
 * Order (results repeat bit for bit): a row's entries in order, each key block summed on its own and then
 * added; one pass after the other. A row's bits depend on nothing but its own tokens and its own list. */
#ifndef BSD_KERNELS_H
#define BSD_KERNELS_H

#include <stdint.h>

#include "../src/lists.h"
#include "../src/status.h"

/* Received rows of one tensor in message s (fragment source s = index + 1): head h's tokens of batch b
 * are contiguous from data + (b*batch_rows + head_row[h]) rows of D elements (fp32 tensors: 1). */
typedef struct bsd_received {
  const void *data;
  int64_t batch_rows;
  const int64_t *head_row; /* one entry per head of the tensor */
} bsd_received;

/* A tensor whose tokens lie in the caller's memory (source 0) and in received messages. */
typedef struct bsd_operand {
  bsd_tensor local;             /* strides set, never all zero */
  const bsd_received *received; /* one per message; NULL without any */
} bsd_operand;

/* The same for fp32 [B][H][n] tensors: local element (b,h,i) at local[(b*H + h)*n + i]. */
typedef struct bsd_operand_f32 {
  const float *local;
  const bsd_received *received;
} bsd_operand_f32;

/* Everything a pass needs beside its lists. Only the members that a slot names are read. */
typedef struct bsd_call {
  int64_t batch, heads, kv_heads, head_dim;
  int64_t tokens; /* local n */
  int64_t block;
  bsd_dtype dtype;
  float scale;
  int allow_tf32;

  bsd_operand q, k, v, d_o;
  bsd_operand_f32 lse, delta; /* backward inputs; delta already holds delta - dlse */

  bsd_tensor o, dq, dk, dv; /* outputs, local */
  float *lse_out;           /* [B][H][n] or NULL */
  float *delta_out;         /* [B][H][n] */
  const float *dlse;        /* [B][H][n] or NULL */

  /* fp32 accumulators, packed [B][H or Hkv][n][D]; NULL: the pass writes the outputs themselves.
   * acc_lse [B][H][n] goes with acc_o. */
  float *acc_o, *acc_lse, *acc_dq, *acc_dk, *acc_dv;

  /* The memory that holds all received messages, their rows of K and V at multiples of a row; NULL: unknown. */
  const void *messages;
  int64_t messages_bytes;

  void *scratch; /* bsd_kernels.scratch_bytes */
} bsd_call;

/* What a choice of kernels may depend on: pattern, global problem and device, never what is local. */
typedef struct bsd_kernel_shape {
  int64_t batch, heads, kv_heads, head_dim, block;
  bsd_dtype dtype;
  int causal, has_window, max_dilation_is_one;
  int allow_tf32, allow_atomics;
} bsd_kernel_shape;

/* Lists made ready for a backend (the CPU: the plan's own arrays; CUDA: device copies). */
typedef struct bsd_lists bsd_lists;

/* One backend. Every slot is set. Streams are void *. All memory is of the device unless said. */
typedef struct bsd_backend_table bsd_backend_table;

typedef struct bsd_kernels {
  const char *forward_name, *backward_name; /* "cpu", "simt", ... as printed in stats */

  /* Bytes of scratch that a call needs (per-thread tiles on the CPU). */
  int64_t (*scratch_bytes)(void *device, const bsd_call *call);

  /* Outputs of heads or tokens that no row writes: o (or acc_o) = 0 and lse (or acc_lse) = -inf;
   * acc_dq, acc_dk, acc_dv = 0 and dq, dk, dv = 0 likewise. */
  bsd_status (*clear_forward)(void *device, const bsd_call *call, void *stream, bsd_error *error);
  bsd_status (*clear_backward)(void *device, const bsd_call *call, void *stream, bsd_error *error);

  /* Runs the rows of one stage of all lists of pass number `pass`. With acc_o set, the row's (o, lse) is
   * merged into (acc_o, acc_lse): m = max, o = (e^(l1-m) o1 + e^(l2-m) o2) / (e^(l1-m) + e^(l2-m)),
   * first operand the accumulator; two -inf stay -inf with o = 0; else o and lse_out are written.
   * dq, dk, dv: added to the accumulators (scaled), or written. A run calls delta, then for each stage dk, dv of
   * all passes, then dq of all passes: a backend may run one beside the one before. */
  bsd_status (*forward)(void *device, const bsd_call *call, const bsd_lists *lists, int64_t pass,
                        int stage, void *stream, bsd_error *error);
  bsd_status (*backward_dq)(void *device, const bsd_call *call, const bsd_lists *lists,
                            int64_t pass, int stage, void *stream, bsd_error *error);
  bsd_status (*backward_dkv)(void *device, const bsd_call *call, const bsd_lists *lists,
                             int64_t pass, int stage, void *stream, bsd_error *error);

  /* The accumulators rounded to the outputs, once: acc_o, acc_lse -> o, lse_out (forward);
   * acc_dq -> dq, acc_dk -> dk, acc_dv -> dv, those that are set (backward). */
  bsd_status (*combine)(void *device, const bsd_call *call, void *stream, bsd_error *error);
  bsd_status (*finish_backward)(void *device, const bsd_call *call, void *stream, bsd_error *error);

  /* delta_out = sum_d do o - dlse over all local tokens and heads. */
  bsd_status (*delta)(void *device, const bsd_call *call, void *stream, bsd_error *error);
} bsd_kernels;

/* A piece of a message: `count` tokens of one head, in order of the runs, as contiguous rows. */
typedef struct bsd_pack_run {
  int64_t first, step, count; /* local token indices */
  int64_t row;                /* row of the piece's first token in its head's part of the message */
} bsd_pack_run;

/* One tensor's part of one message: for b, for head h: rows_of[h] rows, head h's starting at row
 * b*batch_rows + head_row[h]. Heads of one class share their runs. */
typedef struct bsd_pack {
  int64_t nheads;
  const int32_t *run_class; /* [nheads] class of each head */
  const int64_t *class_ptr; /* offsets into runs, one more than classes */
  const bsd_pack_run *runs; /* of a class ascending in row, without gaps */
  int64_t batch_rows;
  const int64_t *head_row; /* [nheads] */
} bsd_pack;

struct bsd_backend_table {
  const char *name; /* "cpu", "cuda" */
  bsd_backend id;

  /* Opens a device; *description (may be NULL) gets it in words. */
  bsd_status (*open)(const bsd_context_options *options, void **device, char *description,
                     size_t size, bsd_error *error);
  void (*close)(void *device);

  /* On what the bits of results depend beside the kernels, in a word ("sm_90", "avx2"): all ranks must have the
   * same. */
  const char *(*architecture)(const void *device);

  /* The kernels for a shape: the fastest that apply, or the family asked for. Errors: UNSUPPORTED with
   * the reason. */
  bsd_status (*select)(void *device, const bsd_kernel_shape *shape, bsd_kernel wanted,
                       const bsd_kernels **kernels, bsd_error *error);

  /* Memory of the device, and host memory that it copies from and to fast (pinned); releasing NULL is
   * fine. Aligned to 256 bytes. */
  bsd_status (*alloc)(void *device, int64_t bytes, void **pointer, bsd_error *error);
  void (*release)(void *device, void *pointer);
  bsd_status (*alloc_host)(void *device, int64_t bytes, void **pointer, bsd_error *error);
  void (*release_host)(void *device, void *pointer);
  bsd_status (*copy_in)(void *device, void *to, const void *host, int64_t bytes, void *stream,
                        bsd_error *error);
  bsd_status (*copy_out)(void *device, void *host, const void *from, int64_t bytes, void *stream,
                         bsd_error *error);
  bsd_status (*synchronize)(void *device, void *stream, bsd_error *error);

  /* Makes lists ready (uploads them) for the kernels that select gave for the shape; they refer to the passes'
   * arrays, which must stay. */
  bsd_status (*prepare)(void *device, const bsd_kernels *kernels, const bsd_kernel_shape *shape,
                        const bsd_pass *passes, int64_t npasses, bsd_lists **lists,
                        bsd_error *error);
  void (*discard)(void *device, bsd_lists *lists);

  /* Gathers one tensor's part of a message into `to`. `elements` per row and their size in bytes:
   * (D, dtype) for tensors by strides, (1, 4) for fp32 [B][H][n] given as strides. */
  bsd_status (*pack)(void *device, const bsd_pack *pack, int64_t batch, const bsd_tensor *from,
                     int64_t elements, int64_t element_bytes, void *to, void *stream,
                     bsd_error *error);

  /* Streams and events: the executor forks its exchange stream from the caller's and rejoins it. On the
   * CPU streams order nothing. Streams made here do not wait for the default stream. */
  bsd_status (*stream_create)(void *device, void **stream, bsd_error *error);
  void (*stream_destroy)(void *device, void *stream);
  bsd_status (*event_create)(void *device, void **event, bsd_error *error);
  void (*event_destroy)(void *device, void *event);
  bsd_status (*event_record)(void *device, void *event, void *stream, bsd_error *error);
  bsd_status (*stream_wait)(void *device, void *stream, void *event, bsd_error *error);
  bsd_status (*event_query)(void *device, void *event, int *done, bsd_error *error);
  /* Whether all work on a stream is complete; never blocks. */
  bsd_status (*stream_query)(void *device, void *stream, int *done, bsd_error *error);
  /* Milliseconds between two events that have both happened; 0 where one was only captured into a graph. */
  double (*event_elapsed_ms)(void *device, void *start, void *stop);
};

/* Backends of this build, NULL-terminated (select.c). */
const bsd_backend_table *const *bsd_backends(void);

/* Finds by id; AUTO takes the first that this machine supports, with the options (NULL: none) that it will be
 * opened with. Errors: UNSUPPORTED naming what is missing; AUTO: what opening says. */
bsd_status bsd_backend_find(bsd_backend id, const bsd_context_options *options,
                            const bsd_backend_table **table, bsd_error *error);

#endif
