/* backward_query.cu - dq on sm_90a: TMA, wgmma, row groups.
 *
 * Per member (64 queries of one head), over the entries of its list in order:
 *   S = Q K^T,  P = exp2(S*scale*log2(e) - lse*log2(e)),  dP = dO V^T,  dS = P (dP - delta),  dQ += dS K
 * and dq = scale dQ. P stays fp32; dS is rounded to the type for its product. */
#include "backward_launch.cuh"

namespace sm90 {
namespace {

template <class Config> struct query_consumer : walker<Config> {
  using C = Config;
  using base = walker<C>;
  using T = typename C::type;

  float dq[C::D / 2];
  float n0, n1, d0, d1; /* lse*log2(e) and delta of rows lane/4 and lane/4 + 8 of the warp's 16 */
  uint32_t ds[4][4];    /* dS as A operands */
  uint32_t kept[C::kept > 0 ? C::kept : 1][C::D / 16][4];

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
#pragma unroll
    for (int t = 0; t < C::kept; t++)
      this->keep(kept[t], t);
  }
  __device__ __forceinline__ void product(float (&s)[32], int which) {
    bsd_wgmma_fence();
    if (which < C::kept)
      this->multiply(s, kept[which < C::kept ? which : 0], which);
    else
      this->multiply(s, which);
    bsd_wgmma_commit();
  }

  __device__ __forceinline__ void probabilities(float (&s)[32]) {
    const float exponent = this->p.exponent;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      s[4 * i] = bsd_exp2(fmaf(s[4 * i], exponent, -n0));
      s[4 * i + 1] = bsd_exp2(fmaf(s[4 * i + 1], exponent, -n0));
      s[4 * i + 2] = bsd_exp2(fmaf(s[4 * i + 2], exponent, -n1));
      s[4 * i + 3] = bsd_exp2(fmaf(s[4 * i + 3], exponent, -n1));
    }
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

  /* An entry. Deferred: its own dS K is left for the next step or for drain, that of the entry before runs
   * beside S, unless this is the first. */
  template <bool Masked, bool First> __device__ __forceinline__ void step() {
    float s[32], dp[32];
    this->wait_full();
    product(s, 0);
    if (C::deferred && !First)
      this->accumulate(dq, ds, this->last_tiles);
    product(dp, 1);
    const uint32_t before = this->last_empty;
    const int stage = Masked ? this->stage_now() : 0;
    this->advance();
    if (C::deferred && !First)
      bsd_wgmma_wait<2>();
    else
      bsd_wgmma_wait<1>();
    bsd_hold(s);
    probabilities(s);
    bsd_wgmma_wait<0>();
    bsd_hold(dp);
    if (C::deferred && !First) {
      bsd_hold(dq);
      this->release(before);
    }
    gradients<Masked>(s, dp, stage);
    if (!C::deferred)
      drain();
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
    if (C::deferred) {
      step<Masked, true>();
      n--;
    }
#pragma unroll 1
    for (; !Masked && n > 0; n--)
      step<false, false>();
    if (C::deferred)
      drain();
    else if (Masked)
      step<true, false>();
  }

  __device__ __forceinline__ bool finish(int batch, int head) {
    clear_unseeing();
    return this->leave(batch, head, typename base::weighted{dq, this->p.scale, 0});
  }
};

template <typename T, int D> struct consumers {
  using grouped =
      query_consumer<backward_config<T, D, D == 64 ? 3 : 2, 1, false, true, D == 64 ? 1 : 0>>;
  using single = query_consumer<backward_config<T, D, 1, 2, false, true, 0>>;

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
                                           int stage, void *stream, bsd_error *error) {
  /* stage 0 is launched even if it is empty: dk, dv beside it rely on its wait (sm90.c) */
  if ((pass->stages[stage].nitems == 0 && stage > 0) || call->batch == 0)
    return BSD_OK;
  return sm90::run_any<sm90::consumers>({device, call, pass, stage, 0, stream}, error);
}
