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
  u32 key[mostChosen];
  float weight[mostChosen];
};

// Every lane gets the ids, and the keys that weigh wants. key[j] is that of expert laneId + 32j, 0 where there is none.
template <int N> DEVICE void chooseIds(Choice &c, u32 (&key)[N], int topK) {
  UNROLL for (int k = 0; k < mostChosen; k++) c.id[k] = 0, c.key[k] = 0;
  UNROLL for (int k = 0; k < mostChosen; k++) {
    if (k >= topK) break;
    u32 best = key[0];
    UNROLL for (int j = 1; j < N; j++) best = maxOf(best, key[j]);
    best = warpMaxU(best);
    u32 at = ~0u;
    if constexpr (N == 1) {
      at = (u32)__builtin_ctz(ballot(key[0] == best));
    } else {
      UNROLL for (int j = N - 1; j >= 0; j--)
        if (key[j] == best) at = laneId + 32 * j;
      at = warpMinU(at);
    }
    UNROLL for (int j = 0; j < N; j++)
      if (at == laneId + 32 * j) key[j] = 0;
    c.id[k] = (int)at;
    c.key[k] = best;
  }
}

// The softmax over the chosen logits.
DEVICE void weigh(Choice &c, int topK) {
  float sum = 0;
  UNROLL for (int k = 0; k < mostChosen; k++) {
    c.weight[k] = k < topK ? exp2Approx((logitOfKey(c.key[k]) - logitOfKey(c.key[0])) * log2e) : 0.f;
    sum += c.weight[k];
  }
  sum = 1.f / sum;
  UNROLL for (int k = 0; k < mostChosen; k++) c.weight[k] *= sum;
}

template <int N> DEVICE void choose(Choice &c, u32 (&key)[N], int topK) {
  chooseIds(c, key, topK);
  weigh(c, topK);
}

// Router logits and the sum of squares as the output projection's epilogue accumulated them: fixed point, 2^24 and 2^16
// to 1, before the norm's factor. Loads come first, so that they wait together.
template <int N> struct Accumulated {
  i64 sums[N], squares;
  float bias[N];

  METHOD void loadBias(const float *routerBias, int experts) {
    UNROLL for (int j = 0; j < N; j++) {
      bias[j] = 0;
      loadFloatIf(bias[j], routerBias + laneId + 32 * j, laneId + 32 * j < experts);
    }
  }
  METHOD void load(const u64 *acc, int experts) {
    u64 v = 0;
    loadLongIf(v, acc + experts, true);
    squares = (i64)v;
    UNROLL for (int j = 0; j < N; j++) {
      v = 0;
      loadLongIf(v, acc + laneId + 32 * j, laneId + 32 * j < experts);
      sums[j] = (i64)v;
    }
  }
  static METHOD void loadLongIf(u64 &v, const u64 *p, bool ok) {
    asm volatile("{ .reg .pred q; setp.ne.u32 q, %2, 0; @q ld.global.cg.b64 %0, [%1]; }" : "+l"(v) : "l"(p), "r"((u32)ok) : "memory");
  }
  // 1 / rms of the residual. perCol: 1 / hidden.
  METHOD float scale(float perCol, float eps) const {
    return rsqrtApprox((float)squares * (1.f / 65536.f) * perCol + eps);
  }
  METHOD void keys(u32 (&key)[N], float scale, int experts) const {
    UNROLL for (int j = 0; j < N; j++) key[j] = laneId + 32 * j < experts ? keyOfLogit((float)sums[j] * (1.f / 16777216.f) * scale + bias[j]) : 0;
  }
};
