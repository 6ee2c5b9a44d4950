/* backward_launch.cuh - the gradient kernels themselves, and their launches. */
#ifndef BSD_SM90_BACKWARD_LAUNCH_CUH
#define BSD_SM90_BACKWARD_LAUNCH_CUH

#include "../launch.cuh"
#include "backward_consumer.cuh"
#include "backward_statistics.cuh"
#include "sm90.h"

namespace sm90 {

/* A operands of one k16 step without swizzle, all rows equal: ones in columns 0-2, then ones in columns 3-5. */
__device__ __forceinline__ void put_selectors(uint32_t shared, int thread) {
  const int word = thread & 3, block = thread >> 5;
  uint32_t v = 0;
  if (block == 0)
    v = word == 0 ? 0x3f803f80u : word == 1 ? 0x00003f80u : 0;
  else if (block == 2)
    v = word == 1 ? 0x3f800000u : word == 2 ? 0x3f803f80u : 0;
  bsd_store_word(shared + SM90_SELECTORS + 4 * thread, v);
  bsd_fence_async();
}

template <class C> __device__ __forceinline__ void init_barriers(uint32_t shared) {
  for (int i = 0; i < C::stages; i++) {
    bsd_barrier_init(sm90_barrier(shared, SM90_FULL, i), 1);
    if (C::keys)
      bsd_barrier_init(sm90_barrier(shared, SM90_LANDED, i), 1);
    bsd_barrier_init(sm90_barrier(shared, SM90_EMPTY, i), 4 * C::members);
  }
  for (int i = 0; i < C::residents * C::members; i++) {
    bsd_barrier_init(sm90_barrier(shared, SM90_OWN_FULL, i),
                     C::keys ? 32 : 64); /* of the tiles' warp, of the statistics' */
    bsd_barrier_init(sm90_barrier(shared, SM90_OWN_EMPTY, i), 4);
  }
  for (int i = 0; i < SM90_CHUNK_SLOTS; i++) {
    bsd_barrier_init(sm90_barrier(shared, SM90_CHUNK_FULL, i), 1);
    bsd_barrier_init(sm90_barrier(shared, SM90_CHUNK_EMPTY, i), 4 * C::members);
  }
  bsd_barrier_init_fence();
}

template <class Consumer>
__global__ void __launch_bounds__(Consumer::C::threads, Consumer::C::ctas)
    backward_kernel(const __grid_constant__ backward_params p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using C = typename Consumer::C;
  extern __shared__ __align__(1024) uint8_t memory[];
  const uint32_t shared = bsd_shared_address(memory);
  const int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0), lane = threadIdx.x & 31;
  if (threadIdx.x == 0)
    init_barriers<C>(shared);
  if (C::keys && threadIdx.x < 128)
    put_selectors(shared, threadIdx.x);
  if (warp == 4 * C::members)
    prefetch(p, lane);
  __syncthreads();
  if (p.beside_previous)
    __threadfence(); /* what this multiprocessor has cached may be older than delta */
  else
    bsd_grid_wait();
  bsd_grid_launch_next();
  if (warp >= 4 * C::members) {
    bsd_registers_shrink<C::producer>();
    if (warp == 4 * C::members)
      produce<C>(p, shared, lane);
    else if (C::keys)
      produce_pieces<C>(p, shared, warp - 4 * C::members - 1, 3, lane);
    else if (warp == 4 * C::members + 1)
      produce_own_statistics<C>(p, shared, lane);
  } else {
    bsd_registers_grow<C::consumer>();
    consume<Consumer>(p, shared, warp / 4, warp % 4, lane);
  }
  if (p.beside_previous)
    bsd_grid_wait(); /* so that dq never ends before dk, dv */
#endif
}

/* ---- host --------------------------------------------------------------------------------------- */

/* What a run is given. */
struct run {
  void *device;
  const bsd_call *call;
  bsd_sm90_pass *pass;
  int stage, beside;
  void *stream;
};

/* What both directions fill in alike. */
template <class C> bsd_status make_params(const run &r, backward_params *p, bsd_error *error) {
  const bsd_call *call = r.call;
  const bsd_tensor tensors[] = {p->own_first.local, p->own_second.local, p->other_first.local,
                                p->other_second.local};
  const int64_t own = C::keys ? call->kv_heads : call->heads;
  const int64_t other = C::keys ? call->heads : call->kv_heads;
  const int64_t heads[] = {own, own, other, other};
  const bsd_sm90_map_cache *cache = nullptr;
  BSD_TRY(bsd_sm90_maps_find(call, r.pass->steps, tensors, heads, 4,
                             &r.pass->maps[BSD_SM90_BACKWARD], &cache, error));
  bsd_sm90_maps *const maps[] = {&p->own1, &p->own2, &p->other1, &p->other2};
  for (int t = 0; t < 4; t++)
    *maps[t] = cache->maps[t];
  p->lists = sm90_make_lists(*r.pass, r.pass->stages[r.stage], call->batch, cache->usable);
  p->query_heads = r.pass->heads;
  p->lse = call->lse;
  p->delta = call->delta;
  p->beside_previous = r.beside;
  p->own_heads = own;
  p->heads = call->heads;
  p->tokens = call->tokens;
  p->scale = call->scale;
  p->exponent = call->scale * LOG2E;
  p->inverse = 1 / call->scale;
  return BSD_OK;
}

template <class Consumer>
bsd_status launch(const run &r, const char *name, backward_params &p, bsd_error *error) {
  using C = typename Consumer::C;
  BSD_TRY(make_params<C>(r, &p, error));
  const int places = static_cast<bsd_cuda_device *>(r.device)->multiprocessors * C::ctas;
  const int ctas = p.lists.total < places ? p.lists.total : places;
  const bsd_cuda_grid grid = {ctas > 0 ? ctas : 1, 1, C::threads, C::shared, 1};
  return bsd_launch(r.device, name, backward_kernel<Consumer>, grid, r.stream, error, p);
}

template <class Consumer> bsd_status allow(bsd_error *error) {
  return bsd_cuda_allow_shared(reinterpret_cast<const void *>(backward_kernel<Consumer>),
                               Consumer::C::shared, error);
}

/* A Direction<T, D> has consumers for items of several members and of one, a name, and give, which sets its tensors. */
template <class Direction> bsd_status open_both(bsd_error *error) {
  BSD_TRY(allow<typename Direction::grouped>(error));
  return allow<typename Direction::single>(error);
}
template <template <typename, int> class Direction> bsd_status open_all(bsd_error *error) {
  BSD_TRY((open_both<Direction<__nv_bfloat16, 64>>(error)));
  BSD_TRY((open_both<Direction<__nv_bfloat16, 128>>(error)));
  BSD_TRY((open_both<Direction<__half, 64>>(error)));
  return open_both<Direction<__half, 128>>(error);
}

template <class Direction> bsd_status run_one(const run &r, bsd_error *error) {
  backward_params p = {};
  Direction::give(*r.call, p);
  return r.pass->stages[r.stage].grouped
             ? launch<typename Direction::grouped>(r, Direction::name, p, error)
             : launch<typename Direction::single>(r, Direction::name, p, error);
}
template <template <typename, int> class Direction>
bsd_status run_any(const run &r, bsd_error *error) {
  const bool is_narrow = r.call->head_dim == 64;
  if (r.call->dtype == BSD_BF16)
    return is_narrow ? run_one<Direction<__nv_bfloat16, 64>>(r, error)
                     : run_one<Direction<__nv_bfloat16, 128>>(r, error);
  return is_narrow ? run_one<Direction<__half, 64>>(r, error)
                   : run_one<Direction<__half, 128>>(r, error);
}

} // namespace sm90

#endif
