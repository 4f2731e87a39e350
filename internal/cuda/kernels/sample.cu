// From logits to tokens, without the most likely ids (pick.cu).
//
//   stats, finish   greatest logit, its lowest id, sum of exponentials: all that a greedy row needs
//   change          banned ids, biases and penalties, in place; stats and finish then once more, with the mask
//   weigh, draw     a draw from the whole row, in order of ids: temperature and min-p
#include "sample.cuh"

// ---- the row as a whole

KERNEL(128, 8) stats(Sample p) {
  int unit = blockX * 4 + warpId;
  if (unit >= p.n * p.chunks) return;
  int row = p.list[unit / p.chunks], chunk = unit % p.chunks, first = chunk * chunkIds;
  float *logits = p.logits + (i64)row * p.vocab;
  float v[perLane];
  loadLogits(v, logits, first, p.vocab);
  u32 bad = none;
  if (!p.changed) {
    UNROLL for (int i = perLane - 1; i >= 0; i--) {
      int id = first + i * 32 + laneId;
      if (id < p.vocab && !(v[i] - v[i] == 0)) bad = id;
    }
  } else if (int mask = p.row[row].mask; mask >= 0) {
    UNROLL for (int i = 0; i < perLane; i++) {
      int id = first + i * 32 + laneId;
      if (id < p.vocab && !(p.words[mask + id / 32] >> laneId & 1)) logits[id] = v[i] = negInf;
    }
  }
  float m = negInf;
  UNROLL for (int i = 0; i < perLane; i++) m = maxOf(m, v[i]);
  m = warpMax(m);
  float sum = 0;
  u32 best = none;
  if (m > negInf) {
    UNROLL for (int i = perLane - 1; i >= 0; i--) {
      sum += exp2Approx((v[i] - m) * log2e);
      if (v[i] == m) best = first + i * 32 + laneId;
    }
  }
  sum = warpSum(sum);
  best = warpMinU(best);
  bad = warpMinU(bad);
  if (laneId == 0) p.partial[(i64)row * p.chunks + chunk] = {m, sum, best, bad};
}

// Adds b, of higher ids, to a.
DEVICE void merge(Partial &a, const Partial &b) {
  float m = maxOf(a.max, b.max);
  float left = a.max > negInf ? a.sum * exp2Approx((a.max - m) * log2e) : 0;
  float right = b.max > negInf ? b.sum * exp2Approx((b.max - m) * log2e) : 0;
  a = {m, left + right, a.max == m ? a.best : b.best, minOf(a.bad, b.bad)};
}

// Merges the first n partials of a block's threads, in order, into thread 0's.
DEVICE void mergeBlock(Partial &a) {
  SHARED Partial other[512];
  other[threadX] = a;
  for (int d = 1; d < threadsX; d <<= 1) {
    syncBlock();
    if (threadX % (2 * d) == 0) {
      merge(a, other[threadX + d]);
      other[threadX] = a;
    }
  }
}

// One block a row. Raw rows: the whole result as a greedy row without changes needs it. Changed rows: the token alone.
KERNEL(512, 1) finish(Sample p) {
  int row = p.list[blockX];
  const Row &r = p.row[row];
  const Partial *partial = p.partial + (i64)row * p.chunks;
  Result &out = p.result[row];
  if (p.changed && out.bad != none) return;
  int share = ceilDiv(p.chunks, threadsX), first = minOf(threadX * share, p.chunks), last = minOf(first + share, p.chunks);
  Partial a = {negInf, 0, none, none};
  for (int c = first; c < last; c++) merge(a, partial[c]);
  mergeBlock(a);
  SHARED int token;
  if (threadX == 0) {
    const float *logits = p.logits + (i64)row * p.vocab;
    token = a.max > negInf ? (int)a.best : -1;
    out.token = token;
    out.peak = a.max;
    if (!p.changed) {
      out.max = out.logit = a.max;
      out.sum = a.sum;
      out.bad = a.bad;
      out.badLogit = a.bad != none ? logits[a.bad] : 0;
      out.target = r.target >= 0 ? logits[r.target] : 0;
    }
  }
  syncBlock();
  if (p.changed && token >= 0) report(p, r, row, token);
}

// ---- changes

// Rounded products and sums that are never fused into one rounding: the processor's results.
DEVICE float times(float a, float b) {
  float r;
  asm("mul.rn.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
}
DEVICE float plus(float a, float b) {
  float r;
  asm("add.rn.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
}
// Parameters may push a logit out of the numbers: up, it stays the greatest; NaN is never drawn.
DEVICE float tamed(float v) { return v > negInf ? minOf(v, 0x1.fffffep127f) : negInf; }

// A logit that was seen in the output n times, and maybe in the prompt.
DEVICE float penalised(float v, const Row &r, int n) {
  if (r.repetition != 1) v = v > 0 ? v / r.repetition : times(v, r.repetition);
  if (n && (r.presence != 0 || r.frequency != 0)) v = plus(v, -plus(r.presence, times(r.frequency, (float)n)));
  return tamed(v);
}

// One block a row at a time, with a table of counts by id. Raw logits are saved first.
KERNEL(512, 1) change(Sample p) {
  u32 *counts = p.counts + (i64)blockX * p.vocab;
  for (int i = blockX; i < p.n; i += blocksX) {
    int row = p.list[i];
    if (p.result[row].bad != none) continue;
    const Row &r = p.row[row];
    float *logits = p.logits + (i64)row * p.vocab;
    const int *ids = (const int *)p.words + r.ids;
    const int *biased = ids + r.banned, *history = biased + r.biased;
    int seen = r.prompt + r.output, all = r.banned + r.biased + seen;
    const float *bias = (const float *)ids + all;
    for (int k = threadX; k < all; k += threadsX) p.saved[r.ids + k] = logits[ids[k]];
    syncBlock();
    for (int k = threadX; k < r.banned; k += threadsX) logits[ids[k]] = negInf;
    syncBlock();
    for (int k = threadX; k < r.biased; k += threadsX) {
      int id = biased[k];
      if (k > 0 && biased[k - 1] == id) continue;  // equals are added by the first of them, in order
      float v = logits[id];
      for (int j = k; j < r.biased && biased[j] == id; j++) v = tamed(v + bias[j]);
      logits[id] = v;
    }
    constexpr u32 inPrompt = 0x80000000u;
    for (int k = threadX; k < seen; k += threadsX) {
      if (k < r.prompt) __atomic_fetch_or(counts + history[k], inPrompt, __ATOMIC_RELAXED);
      else atomicAdd(counts + history[k], 1u);
    }
    syncBlock();
    for (int k = threadX; k < seen; k += threadsX) {
      u32 n = __atomic_exchange_n(counts + history[k], 0, __ATOMIC_RELAXED);
      if (n) logits[history[k]] = penalised(logits[history[k]], r, n & ~inPrompt);  // whoever takes the count applies it
    }
    syncBlock();
  }
}

// ---- a draw in order of ids

KERNEL(128, 8) weigh(Sample p) {
  int unit = blockX * 4 + warpId;
  if (unit >= p.n * p.chunks) return;
  int row = p.list[unit / p.chunks], chunk = unit % p.chunks;
  const Row &r = p.row[row];
  float peak = p.result[row].peak, v[perLane];
  loadLogits(v, p.logits + (i64)row * p.vocab, chunk * chunkIds, p.vocab);
  u64 sum = 0;
  UNROLL for (int i = 0; i < perLane; i++) sum += keptWeight(v[i], peak, r);
  sum = warpSum(sum);
  if (laneId == 0) p.weight[(i64)row * p.chunks + chunk] = sum;
}

// One block a row, a thread for each id of a chunk: finds the chunk, then the id, in whose share of the sum the uniform
// number falls.
KERNEL(chunkIds, 1) draw(Sample p) {
  SHARED u64 scratch[32];
  SHARED u64 rest;
  SHARED int at;
  int row = p.list[blockX];
  const Row &r = p.row[row];
  float peak = p.result[row].peak;
  if (p.result[row].bad != none || !(peak > negInf)) return;
  const u64 *weight = p.weight + (i64)row * p.chunks;
  int share = ceilDiv(p.chunks, threadsX), first = minOf(threadX * share, p.chunks), last = minOf(first + share, p.chunks);
  u64 sum = 0, total;
  for (int c = first; c < last; c++) sum += weight[c];
  u64 before = blockScan(sum, total, scratch), goal = highProduct(total, r.draw);
  for (int c = first; c < last; before += weight[c++]) {
    if (goal >= before && goal - before < weight[c]) {
      at = c;
      rest = goal - before;
    }
  }
  syncBlock();
  int id = at * chunkIds + threadX;
  float v = negInf;
  loadFloatIf(v, p.logits + (i64)row * p.vocab + id, id < p.vocab);
  u64 w = keptWeight(v, peak, r);
  goal = rest;
  before = blockScan(w, total, scratch);
  if (goal >= before && goal - before < w) at = id;
  syncBlock();
  report(p, r, row, at);
}
