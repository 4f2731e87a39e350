// What sample.cu and pick.cu share. A row of logits is cut into chunks of 512 ids, one warp each, so that one row of
// 201,088 uses every multiprocessor; no result depends on how many rows there are.
//
// Probabilities are integers: exp2 of the scaled distance from the row's greatest logit, cut at 2^-44. Their sums are
// exact in any order, so a draw is the same whatever shares the batch and however blocks are scheduled.
#pragma once
#include "common.cuh"

#define METHOD __attribute__((device)) __attribute__((always_inline)) inline

constexpr int chunkIds = 512;
constexpr int perLane = chunkIds / 32;
constexpr int bins = 2048;  // of a spread
constexpr u32 none = 0xffffffffu;
constexpr float negInf = -__builtin_inff();
constexpr float certain = 0x1p44f;  // a probability of 1; times 2^20 ids it still fits 64 bits

// What the host asks of a logit row. Offsets count 4-byte words of Sample::words.
struct Row {
  u64 draw;                               // the uniform number, as a fraction of 2^64
  u64 topP;                               // share of the weight to keep, as a fraction of 2^64; 0: all
  float scale;                            // log2(e) / temperature
  float floor;                            // least exponent that min-p keeps; -inf: all
  float perLogit;                         // bins in one unit of logit
  int topK;                               // ids to keep, at least 1
  int target;                             // id whose logit to report; -1: none
  int top;                                // how many most likely ids to report, at most the vocabulary
  int topAt;                              // where in Sample::tops
  int mask;                               // offset of the mask; -1: none
  int ids;                                // offset of ids: banned, biased (ascending), prompt, output; then the biases
  int banned, biased, prompt, output;     // counts
  float presence, frequency, repetition;  // repetition 1: none
};

struct Result {
  float max, sum;  // of the raw row: logsumexp = max + log(sum)
  u32 bad;         // lowest id whose logit is not finite, or none
  float badLogit;
  int token;       // -1: every id is masked or banned
  float logit;     // the token's raw logit
  float target;    // the target's raw logit
  float peak;      // greatest logit, as changed
};

// What one chunk adds to its row.
struct Partial {
  float max, sum;  // sum of exp(logit - max)
  u32 best;        // lowest id of the greatest logit
  u32 bad;         // lowest id that is not finite, or none
};

// A row by distance from its greatest logit.
struct Spread {
  u64 weight[bins];
  u64 kept;  // weight that min-p keeps
  u32 count[bins];
};

// Every kernel of sampling takes the same parameters.
struct Sample {
  float *logits;     // [rows, vocab]
  const Row *row;    // [rows]
  const u32 *words;  // what Row's offsets point at
  float *saved;      // raw logit of each id in words
  const int *list;   // rows that this launch is for
  Result *result;    // [rows]
  Partial *partial;  // [rows, chunks]
  u64 *weight;       // [rows, chunks]
  Spread *spread;    // [rows]
  u64 *tops;         // keys of the most likely ids
  u32 *counts;       // [blocks of change, vocab], zero between rows
  int n;             // entries of list
  int vocab, chunks;
  int changed;       // rows are as changed; 0: raw
  int span;          // chunks a block of spread
  int pad;
};

DEVICE u64 shuffleXor(u64 v, int mask) { return (u64)shuffleXor((u32)(v >> 32), mask) << 32 | shuffleXor((u32)v, mask); }
DEVICE u64 warpSum(u64 v) {
  UNROLL for (int m = 16; m; m >>= 1) v += shuffleXor(v, m);
  return v;
}
DEVICE u32 warpMinU(u32 v) { return ~warpMaxU(~v); }
DEVICE u64 highProduct(u64 a, u64 b) { return (u64)((unsigned __int128)a * b >> 64); }
template <class T> DEVICE T atomicAdd(T *p, T v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }

// The probability of a logit relative to the row's greatest.
DEVICE u64 weightOf(float v, float peak, float scale) { return (u64)(exp2Approx((v - peak) * scale) * certain); }
// The same, 0 where min-p drops it.
DEVICE u64 keptWeight(float v, float peak, const Row &r) {
  return (v - peak) * r.scale >= r.floor ? weightOf(v, peak, r.scale) : 0;
}

// Loads N logits a lane, id first + 32 i + lane into v[i]; -inf past the end of the row.
template <int N> DEVICE void loadLogits(float (&v)[N], const float *logits, int first, int vocab) {
  UNROLL for (int i = 0; i < N; i++) {
    int id = first + i * 32 + laneId;
    v[i] = negInf;
    loadFloatIf(v[i], logits + id, id < vocab);
  }
}

// The sum of v over the threads before this one; total is the sum over all. scratch holds a number for each warp.
DEVICE u64 blockScan(u64 v, u64 &total, u64 *scratch) {
  u64 sum = v;
  UNROLL for (int d = 1; d < 32; d <<= 1) {
    u64 left = (u64)shuffleFrom((u32)(sum >> 32), laneId - d) << 32 | shuffleFrom((u32)sum, laneId - d);
    if (laneId >= d) sum += left;
  }
  syncBlock();
  if (laneId == 31) scratch[warpId] = sum;
  syncBlock();
  u64 before = 0, all = 0;
  for (int w = 0; w < threadsX / 32; w++) {
    if (w < warpId) before += scratch[w];
    all += scratch[w];
  }
  total = all;
  return before + sum - v;
}

// Reports the token of a row that may be changed, with its raw logit. All threads of the block take part.
DEVICE void report(const Sample &p, const Row &r, int row, int token) {
  SHARED int at;
  int n = r.banned + r.biased + r.prompt + r.output;
  if (threadX == 0) at = n;
  syncBlock();
  for (int k = threadX; k < n; k += threadsX)
    if ((int)p.words[r.ids + k] == token) __atomic_fetch_min(&at, k, __ATOMIC_RELAXED);
  syncBlock();
  if (threadX == 0) {
    p.result[row].token = token;
    p.result[row].logit = at < n ? p.saved[r.ids + at] : p.logits[(i64)row * p.vocab + token];
  }
}
