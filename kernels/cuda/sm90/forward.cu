/* forward.cu - attention forward on sm_90a: TMA, wgmma, row groups.
 *
 * Per member (64 queries of one head), over the entries of its list in order:
 *   S = Q K^T;  P = exp2(S*scale*log2(e) - n);  l += row sums of P;  O += P V
 * and o = O / l, lse = (n + log2 l) ln 2. The parts: forward.cuh (how a multiprocessor is divided),
 * forward_producer.cuh, forward_consumer.cuh, forward_finish.cuh. */
#include "forward_finish.cuh"
#include "forward_producer.cuh"

#include "../launch.cuh"

namespace {

/* Where a member stands in an item. */
struct item_state {
  bool have;    /* the product of the entry before is yet to come */
  bool fresh;   /* no entry has been */
  bool pending; /* a store of the item before reads its own tile, which is in place `other` */
  int other;
};

/* Entries of a chunk from bit 0 of `active` and `masked` on. */
template <class C>
__device__ __forceinline__ void walk(consumer<C> &c, uint32_t active, uint32_t masked, int left,
                                     item_state &at) {
#pragma unroll 1
  while (left > 0) {
    int n = 1;
    if (!(active & 1)) {
      n = min(sm90_first_bit(active), left);
      if (at.have) {
        c.add_values();
        c.wait_values();
      }
      at.have = false;
      c.skip(n);
    } else if (!at.have) {
      c.begin(masked & 1, at.fresh);
      at.have = true;
      at.fresh = false;
    } else if (masked & 1) {
      c.masked_step();
    } else {
      n = c.steps(min(sm90_first_bit(~active | masked), left));
    }
    c.release_own(at.pending, at.other); /* the store has had the time of an entry */
    left -= n;
    active = n < 32 ? active >> n : 0;
    masked = n < 32 ? masked >> n : 0;
  }
}

/* The end of an item of this member, and the start of its next. */
template <class C>
__device__ __forceinline__ void end_item(consumer<C> &c, const member_chunk &last, uint32_t &use,
                                         item_state &at) {
  c.release_own(at.pending, at.other);
  at.pending = finish(c, at.have, last.word >> 16, last.head);
  if (!at.pending) {
    bsd_named_sync(8 + c.m, 128); /* all have read what lies beside the own tile */
    bool at_once = true;
    c.release_own(at_once, use % C::residents);
  }
  c.start((use + 1) % C::residents);
  at.have = false;
  at.fresh = true;
  use = (use + 1) % (2 * C::residents);
}

template <class C> __device__ __forceinline__ void consume(consumer<C> &c) {
  uint32_t chunk = 0, use = 0; /* modulo 2 * their places */
  item_state at = {false, true, false, 0};
  member_chunk now;
  c.take_chunk(chunk, now);
  c.start(0);
  bsd_grid_wait();
#pragma unroll 1
  while (!(now.word & SM90_END)) {
    at.other = 1 - use % C::residents;
    if (now.is_present(c.m))
      c.wait_own(use);
#pragma unroll 1
    for (;;) {
      walk(c, now.active, now.masked, now.count(), at);
      if (now.word & SM90_LAST)
        break;
      c.free_chunk(chunk);
      c.take_chunk(chunk, now);
    }
    c.free_chunk(chunk);
    if (now.is_present(c.m))
      end_item(c, now, use, at);
    c.take_chunk(chunk, now);
  }
  if (c.warp == 0)
    bsd_tma_wait_read(); /* what it wrote is there when the kernel is over */
}

template <class C> __device__ __forceinline__ void init_barriers(uint32_t shared) {
  for (int i = 0; i < C::stages; i++) {
    bsd_barrier_init(sm90_barrier(shared, SM90_FULL, i), 1);
    bsd_barrier_init(sm90_barrier(shared, SM90_EMPTY, i), 4 * C::members);
  }
  for (int i = 0; i < C::residents * C::members; i++) {
    bsd_barrier_init(sm90_barrier(shared, SM90_OWN_FULL, i), 32);
    bsd_barrier_init(sm90_barrier(shared, SM90_OWN_EMPTY, i), 1);
  }
  for (int i = 0; i < SM90_CHUNK_SLOTS; i++) {
    bsd_barrier_init(sm90_barrier(shared, SM90_CHUNK_FULL, i), 1);
    bsd_barrier_init(sm90_barrier(shared, SM90_CHUNK_EMPTY, i), 4 * C::members);
  }
  bsd_barrier_init_fence();
}

template <class C>
__global__ void __launch_bounds__(C::threads, C::ctas)
    forward_kernel(const __grid_constant__ forward_params p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) uint8_t memory[];
  const uint32_t shared = bsd_shared_address(memory);
  const int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0), lane = threadIdx.x & 31;
  if (threadIdx.x == 0)
    init_barriers<C>(shared);
  __syncthreads();
  bsd_grid_launch_next();
  if (warp >= 4 * C::members) {
    bsd_registers_shrink<C::producer>();
    if (warp == 4 * C::members)
      produce<C>(p, shared, lane);
  } else {
    bsd_registers_grow<C::consumer>();
    consumer<C> c(p, shared, warp / 4, warp % 4, lane);
    consume(c);
  }
#endif
}

/* ---- host --------------------------------------------------------------------------------------- */

template <class C>
bsd_status launch(void *device, const bsd_call *call, bsd_sm90_pass *pass,
                  const bsd_sm90_stage *stage, void *stream, bsd_error *error) {
  bsd_tensor out = call->o;
  if (call->acc_o != nullptr)
    out.data = nullptr;
  const bsd_tensor tensors[] = {call->q.local, call->k.local, call->v.local, out};
  const int64_t heads[] = {call->heads, call->kv_heads, call->kv_heads, call->heads};
  const bsd_sm90_map_cache *cache = nullptr;
  BSD_TRY(bsd_sm90_maps_find(call, pass->steps, tensors, heads, 4, &pass->maps[BSD_SM90_FORWARD],
                             &cache, error));
  forward_params p = {cache->maps[0], cache->maps[1], cache->maps[2], cache->maps[3],
                      cache->of_messages};
  p.messages = cache->has_messages ? static_cast<const char *>(call->messages) : nullptr;
  p.query = call->q;
  p.key = call->k;
  p.value = call->v;
  p.lists = sm90_make_lists(*pass, *stage, call->batch, cache->usable);
  p.lse = call->lse_out;
  p.acc_o = call->acc_o;
  p.acc_lse = call->acc_lse;
  p.out = call->o;
  p.heads = call->heads;
  p.tokens = call->tokens;
  p.scale = call->scale * LOG2E;
  const int places = static_cast<bsd_cuda_device *>(device)->multiprocessors * C::ctas;
  const bsd_cuda_grid grid = {p.lists.total < places ? p.lists.total : places, 1, C::threads,
                              C::shared, 1};
  return bsd_launch(device, "sm90 forward", forward_kernel<C>, grid, stream, error, p);
}

template <typename T, int D>
bsd_status launch_width(void *device, const bsd_call *call, bsd_sm90_pass *pass,
                        const bsd_sm90_stage *stage, void *stream, bsd_error *error) {
  if (stage->grouped)
    return launch<config<T, D, D == 64 ? 4 : 3>>(device, call, pass, stage, stream, error);
  return launch<config<T, D, 1>>(device, call, pass, stage, stream, error);
}

template <class C> bsd_status allow(bsd_error *error) {
  return bsd_cuda_allow_shared(reinterpret_cast<const void *>(forward_kernel<C>), C::shared, error);
}

template <typename T> bsd_status allow_type(bsd_error *error) {
  BSD_TRY((allow<config<T, 64, 4>>(error)));
  BSD_TRY((allow<config<T, 64, 1>>(error)));
  BSD_TRY((allow<config<T, 128, 3>>(error)));
  return allow<config<T, 128, 1>>(error);
}

} // namespace

extern "C" bsd_status bsd_sm90_forward_open(bsd_error *error) {
  BSD_TRY(allow_type<__nv_bfloat16>(error));
  return allow_type<__half>(error);
}

extern "C" bsd_status bsd_sm90_forward(void *device, const bsd_call *call, bsd_sm90_pass *pass,
                                       int stage, void *stream, bsd_error *error) {
  const bsd_sm90_stage *s = &pass->stages[stage];
  if (s->nitems == 0 || call->batch == 0)
    return BSD_OK;
  if (call->dtype == BSD_BF16)
    return call->head_dim == 64
               ? launch_width<__nv_bfloat16, 64>(device, call, pass, s, stream, error)
               : launch_width<__nv_bfloat16, 128>(device, call, pass, s, stream, error);
  return call->head_dim == 64 ? launch_width<__half, 64>(device, call, pass, s, stream, error)
                              : launch_width<__half, 128>(device, call, pass, s, stream, error);
}
