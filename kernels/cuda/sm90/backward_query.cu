/* backward_query.cu - dq on sm_90a: TMA, wgmma, row groups.
 *
 * Per member (64 queries of one head), over the entries of its list in order:
 *   S = Q K^T,  P = exp2(S*scale*log2(e) - lse*log2(e)),  dP = dO V^T,  dS = P (dP - delta),  dQ += dS K
 * and dq = scale dQ. P stays fp32; dS is rounded to the type for its product. */
#include "backward_launch.cuh"

namespace sm90 {
namespace {

/* Deferred: the product of an entry's dS runs beside the next entry's S. Three members need no such help: while one
 * waits, the tensor cores have the others' products. */
template <class Config, bool Deferred> struct query_consumer : walker<Config> {
  using C = Config;
  using base = walker<C>;
  using T = typename C::type;
  static constexpr bool ahead =
      C::stages > 2; /* room for the next pair, this one and that before */

  float dq[C::D / 2];
  float n0, n1, d0, d1; /* lse*log2(e) and delta of rows lane/4 and lane/4 + 8 of the warp's 16 */
  uint32_t ds[4][4];    /* dS as A operands */

  __device__ __forceinline__ query_consumer(const backward_params &p, uint32_t shared, int m, int w,
                                            int l)
      : base(p, shared, m, w, l) {
  }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < C::D / 2; i++)
      dq[i] = 0;
  }
  __device__ __forceinline__ void take_own() {
    const int place = (this->own - this->shared - C::header) / C::pair;
    const uint32_t from = this->shared + C::statistics_at + place * C::own_statistics +
                          8 * (this->warp * 16 + this->lane / 4);
    const float2 a = bsd_load_pair(from), b = bsd_load_pair(from + 64);
    n0 = a.x, d0 = a.y, n1 = b.x, d1 = b.y;
    this->keep();
  }
  __device__ __forceinline__ void product(float (&s)[32], int which) {
    bsd_wgmma_fence();
    this->multiply(s, which);
    bsd_wgmma_commit();
  }

  __device__ __forceinline__ void probabilities(float (&s)[32]) {
    const float exponent = this->p.exponent;
#pragma unroll
    for (int i = 0; i < 32; i++)
      s[i] = bsd_exp2(fmaf(s[i], exponent, -(i & 2 ? n1 : n0)));
    bsd_hold(s);
  }
  template <bool Masked>
  __device__ __forceinline__ void gradients(float (&s)[32], const float (&dp)[32], int stage) {
#pragma unroll
    for (int i = 0; i < 32; i++)
      s[i] *= dp[i] - (i & 2 ? d1 : d0);
    base::pack(ds, s);
    if (Masked)
      this->mask(ds, stage);
  }

  /* An entry, which has arrived. Its own dS K is left for the next step or for drain; that of the entry before runs
   * beside S, unless this is the first. more: another entry of the run follows. */
  template <bool Masked, bool First> __device__ __forceinline__ void step(bool more) {
    float s[32], dp[32];
    product(s, 0);
    if (!First)
      this->accumulate(dq, ds, this->last_tiles);
    product(dp, 1);
    const uint32_t before = this->last_empty;
    const int stage = Masked ? this->stage_now() : 0;
    this->advance();
    bsd_wgmma_wait<First ? 1 : 2>();
    bsd_hold(s);
    probabilities(s);
    if (ahead)
      this->wait_next(more);
    bsd_wgmma_wait<0>();
    bsd_hold(dp);
    if (!First) {
      bsd_hold(dq);
      this->release(before);
    }
    gradients<Masked>(s, dp, stage);
    if (!ahead)
      this->wait_next(more);
  }
  __device__ __forceinline__ void drain() {
    this->accumulate(dq, ds, this->last_tiles);
    bsd_wgmma_wait<0>();
    bsd_hold(dq);
    this->release(this->last_empty);
  }

  /* Queries that see no key: whatever Q and dO hold. */
  __device__ __forceinline__ void clear_unseeing() {
    const bool none0 = n0 == INFINITY, none1 = n1 == INFINITY;
#pragma unroll
    for (int i = 0; i < C::D / 2; i++)
      dq[i] = (i & 2 ? none1 : none0) ? 0 : dq[i];
  }
  template <bool Masked> __device__ __forceinline__ void run(int n) {
    this->wait_full();
    step<Masked, true>(n > 1);
#pragma unroll 1
    for (; !Masked && n > 1; n--) {
      if (!Deferred)
        drain();
      step<false, !Deferred>(n > 2);
    }
    drain();
  }

  __device__ __forceinline__ void finish(uint4 tile, int batch, int head) {
    clear_unseeing();
    this->leave(tile, batch, head, typename base::weighted{dq, this->p.scale, 0});
  }
};

template <typename T, int D> struct consumers {
  static constexpr int members = D == 64 ? 3 : 2, kept = D == 64 ? 2 : 1;
  using grouped = query_consumer<backward_config<T, D, members, 1, false, kept>, members == 2>;
  using single = query_consumer<backward_config<T, D, 1, 2, false, kept>, true>;

  static constexpr const char *name = "sm90 dq";
  static void give(const bsd_call &call, backward_params &p) {
    p.own_first = call.q;
    p.own_second = call.d_o;
    p.other_first = call.k;
    p.other_second = call.v;
    p.first = call.dq;
    p.first_sum = call.acc_dq;
  }
};

} // namespace
} // namespace sm90

extern "C" bsd_status bsd_sm90_backward_dq_open(bsd_error *error) {
  return sm90::open_all<sm90::consumers>(error);
}

extern "C" bsd_status bsd_sm90_backward_dq(void *device, const bsd_call *call, bsd_sm90_pass *pass,
                                           int stage, int beside, void *stream, bsd_error *error) {
  if (pass->stages[stage].nitems == 0 || call->batch == 0)
    return BSD_OK;
  return sm90::run_any<sm90::consumers>({device, call, pass, stage, beside, stream}, error);
}
