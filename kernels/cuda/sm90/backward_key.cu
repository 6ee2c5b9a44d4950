/* backward_key.cu - dk and dv on sm_90a: TMA, wgmma, groups of key tiles.
 *
 * Per member (64 keys of one KV head), over its query heads in order, and for each over the entries of its
 * list in order:
 *   S = K Q^T - lse/scale,  P = exp2(S*scale*log2(e)),  dV += P dO,
 *   dP = V dO^T - delta,    dS = P dP,                  dK += dS Q
 * and dk = scale dK: rows are keys, columns queries. P is rounded to the type, dP too in bf16, and so is their product.
 * lse and delta belong to columns; each comes as three bf16 whose sum the tensor cores add in one more step
 * of the product, by an A operand of ones: no reads and no subtractions in the loop. */
#include "backward_launch.cuh"

namespace sm90 {
namespace {

/* P dP of a pair. In f16 dP alone may be beyond 65504 where P dP is not. */
__device__ __forceinline__ uint32_t weigh(uint32_t p, float a, float b, __nv_bfloat16 type) {
  return bsd_multiply2(p, bsd_pack2(a, b, type), type);
}
__device__ __forceinline__ uint32_t weigh(uint32_t p, float a, float b, __half type) {
  const float2 weight = __half22float2(*reinterpret_cast<const __half2 *>(&p));
  return bsd_pack2(weight.x * a, weight.y * b, type);
}

template <class Config> struct key_consumer : walker<Config> {
  using C = Config;
  using base = walker<C>;
  using T = typename C::type;

  float dk[C::D / 2], dv[C::D / 2];
  uint32_t prob[4][4], ds[4][4]; /* P and dS as A operands */

  __device__ __forceinline__ key_consumer(const backward_params &p, uint32_t shared, int m, int w,
                                          int l)
      : base(p, shared, m, w, l) {
  }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < C::D / 2; i++)
      dk[i] = dv[i] = 0;
  }
  __device__ __forceinline__ void take_own() {
    this->keep();
  }

  /* Descriptor of an operand without swizzle: 8 rows of 16 bytes lie together; the next 8 columns are
   * `columns` bytes on, the next 8 rows `rows`. */
  static __device__ __forceinline__ uint64_t plain(uint32_t address, uint32_t columns,
                                                   uint32_t rows) {
    return static_cast<uint64_t>(rows >> 4) << 32 | columns >> 4 << 16 | address >> 4;
  }
  /* Product `which` of the pair at `pieces`, less lse/scale (0) or delta (1). */
  __device__ __forceinline__ void product(float (&s)[32], int which, uint32_t pieces) {
    bsd_wgmma_fence();
    this->multiply(s, which);
    bsd_wgmma_ss<0>(s, plain(this->shared + SM90_SELECTORS + 256 * which, 128, 0),
                    plain(pieces, 0, 128), 1, __nv_bfloat16());
    bsd_wgmma_commit();
  }
  __device__ __forceinline__ uint32_t pieces_now() const {
    return this->shared + C::statistics_at + this->stage_now() * C::statistics;
  }

  template <bool Masked> __device__ __forceinline__ void probabilities(float (&s)[32], int stage) {
    const float exponent = this->p.exponent;
#pragma unroll
    for (int i = 0; i < 32; i++)
      s[i] = bsd_exp2(s[i] * exponent);
    base::pack(prob, s);
    if (Masked)
      this->mask(prob, stage);
  }
  /* Masked: 0 where P is 0, whatever dP is. */
  template <bool Masked> __device__ __forceinline__ void gradients(const float (&dp)[32]) {
#pragma unroll
    for (int i = 0; i < 16; i++) {
      const uint32_t weight = prob[i / 4][i % 4];
      ds[i / 4][i % 4] = weigh(weight, dp[2 * i], dp[2 * i + 1], T());
      if (Masked)
        ds[i / 4][i % 4] &= __vcmpne2(weight, 0);
    }
  }

  /* An entry whose S is in s; unless it is the last, S of the next one comes into s. Its dS Q may still be in
   * flight at the end if it is not the last. empty: of the entry before, which is freed; none if 0. */
  template <bool Masked, bool Last>
  __device__ __forceinline__ void step(float (&s)[32], uint32_t &empty) {
    const uint32_t now = this->tiles, pieces = pieces_now();
    const int stage = Masked ? this->stage_now() : 0;
    probabilities<Masked>(s, stage);
    product(s, 1, pieces);
    this->accumulate(dv, prob, now + (C::tile >> 4));
    this->advance();
    bsd_wgmma_wait<Masked ? 0 : 1>();
    bsd_hold(s);
    this->release(empty);
    empty = this->last_empty;
    gradients<Masked>(s);
    if (!Last) {
      this->wait_full();
      product(s, 0, pieces_now());
    }
    this->accumulate(dk, ds, now);
    if (!Last) {
      bsd_wgmma_wait<1>();
      bsd_hold(s);
    }
  }
  template <bool Masked> __device__ __forceinline__ void run(int n) {
    float s[32];
    uint32_t empty = 0;
    this->wait_full();
    product(s, 0, pieces_now());
    bsd_wgmma_wait<0>();
    bsd_hold(s);
#pragma unroll 1
    for (; !Masked && n > 1; n--)
      step<false, false>(s, empty);
    step<Masked, true>(s, empty);
    bsd_wgmma_wait<0>();
    bsd_hold(dk);
    bsd_hold(dv);
    this->release(empty);
  }

  __device__ __forceinline__ void finish(uint4 tile, int batch, int head) {
    using weighted = typename base::weighted;
    this->leave(tile, batch, head, weighted{dk, this->p.scale, 0}, weighted{dv, 1, 1});
  }
};

template <typename T, int D> struct consumers {
  using grouped = key_consumer<backward_config<T, D, D == 64 ? 3 : 2, 1, true, 0>>;
  /* One member at D 128 has too few registers: there, items are always of two (sm90.c). */
  using single =
      key_consumer<backward_config<T, D, D == 64 ? 1 : 2, D == 64 ? 2 : 1, true, D == 64 ? 2 : 0>>;

  static constexpr const char *name = "sm90 dk, dv";
  static void give(const bsd_call &call, backward_params &p) {
    p.own_first = call.k;
    p.own_second = call.v;
    p.other_first = call.q;
    p.other_second = call.d_o;
    p.first = call.dk;
    p.second = call.dv;
    p.first_sum = call.acc_dk;
    p.second_sum = call.acc_dv;
  }
};

} // namespace
} // namespace sm90

extern "C" bsd_status bsd_sm90_backward_dkv_open(bsd_error *error) {
  return sm90::open_all<sm90::consumers>(error);
}

extern "C" bsd_status bsd_sm90_backward_dkv(void *device, const bsd_call *call, bsd_sm90_pass *pass,
                                            int stage, void *stream, bsd_error *error) {
  /* stage 0 is launched even if it is empty: dq beside it relies on its wait (sm90.c) */
  if ((pass->stages[stage].nitems == 0 && stage > 0) || call->batch == 0)
    return BSD_OK;
  return sm90::run_any<sm90::consumers>({device, call, pass, stage, 0, stream}, error);
}
