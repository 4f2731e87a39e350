// The choice of experts: the TopK largest router logits, equals by ascending index, and the softmax over those alone.
#pragma once
#include "experts.cuh"

constexpr int mostExperts = 256, mostChosen = 8;

// Orders as the logits do; greater than 0 for every logit, so that 0 can stand for none.
DEVICE u32 keyOfLogit(float v) {
  u32 b = asBits(v + 0.f);  // -0 equals 0
  b ^= (u32)((int)b >> 31) | 0x80000000u;
  return b ? b : 1;
}
DEVICE float logitOfKey(u32 key) { return asFloat(key ^ (~(u32)((int)key >> 31) | 0x80000000u)); }

DEVICE u32 warpMinU(u32 v) {
  u32 r;
  asm volatile("redux.sync.min.u32 %0, %1, 0xffffffff;" : "=r"(r) : "r"(v));
  return r;
}

struct Choice {
  int id[mostChosen];
  float weight[mostChosen];
};

// Every lane gets the whole choice. key[j] is that of expert laneId + 32j, 0 where there is none.
template <int N> DEVICE void choose(Choice &c, u32 (&key)[N], int topK) {
  float first = 0, sum = 0;
  UNROLL for (int k = 0; k < mostChosen; k++) {
    c.id[k] = 0;
    c.weight[k] = 0;
    if (k >= topK) continue;
    u32 best = 0, at = ~0u;
    UNROLL for (int j = 0; j < N; j++) best = maxOf(best, key[j]);
    best = warpMaxU(best);
    UNROLL for (int j = N - 1; j >= 0; j--)
      if (key[j] == best) at = laneId + 32 * j;
    at = warpMinU(at);
    UNROLL for (int j = 0; j < N; j++)
      if (at == laneId + 32 * j) key[j] = 0;
    float logit = logitOfKey(best);
    if (k == 0) first = logit;
    c.id[k] = (int)at;
    c.weight[k] = exp2Approx((logit - first) * log2e);
    sum += c.weight[k];
  }
  sum = 1.f / sum;
  UNROLL for (int k = 0; k < mostChosen; k++) c.weight[k] *= sum;
}

// Router logits and the sum of squares as the output projection's epilogue accumulated them: fixed point, 2^24 and 2^16
// to 1, before the norm's factor. Loads come first, so that they wait together.
template <int N> struct Accumulated {
  i64 sums[N], squares;
  float bias[N];

  METHOD void load(const u64 *acc, const float *routerBias, int experts) {
    squares = (i64)loadLong(acc + experts);
    UNROLL for (int j = 0; j < N; j++) {
      sums[j] = 0;
      bias[j] = 0;
      int e = laneId + 32 * j;
      if (e < experts) {
        sums[j] = (i64)loadLong(acc + e);
        bias[j] = routerBias[e];
      }
    }
  }
  static METHOD u64 loadLong(const u64 *p) {
    u64 v;
    asm volatile("ld.global.cg.b64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
    return v;
  }
  // 1 / rms of the residual.
  METHOD float scale(int hidden, float eps) const {
    return rsqrtApprox((float)squares * (1.f / 65536.f) / (float)hidden + eps);
  }
  METHOD void keys(u32 (&key)[N], float scale, int experts) const {
    UNROLL for (int j = 0; j < N; j++) key[j] = laneId + 32 * j < experts ? keyOfLogit((float)sums[j] * (1.f / 16777216.f) * scale + bias[j]) : 0;
  }
};
