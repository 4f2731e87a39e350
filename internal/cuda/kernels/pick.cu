// The most likely ids of a row, without sorting it.
//
//   spread   counts and weights by distance from the greatest logit, in 2,048 bins
//   tops     the n most likely ids, in any order
//   pick     a draw from the most likely ids: temperature, top-k, top-p, min-p
//
// The spread says in which bin the k-th id lies, or the id at which the weights have reached a sum. That bin's few ids,
// or all up to it where they are few, are sorted in shared memory; a bin with too many is halved until it has not.
#include "sample.cuh"

constexpr float topBins = 32.f;  // bins in one unit of logit where the most likely are asked for
constexpr int windowMax = 2048;  // ids sorted at once
constexpr int pickThreads = 512;
constexpr int atOnce = 8, piece = 32 * atOnce;  // ids that a warp reads at once
constexpr int idBits = 20, lastId = (1 << idBits) - 1;
constexpr u64 lastKey = ~0ull >> (32 - idBits);
constexpr int each = windowMax / pickThreads;
static_assert(windowMax == bins, "a thread holds as many bins as sorted ids");

// Falls with the logit: bin 0 holds the greatest.
DEVICE int binOf(float v, float peak, float perLogit) { return (int)minOf((peak - v) * perLogit, bins - 1.f); }

// Counts and weights of a row. A block takes span chunks, at most 2^17 ids: it adds weights up in three parts of 15 bits,
// since shared memory has no 64-bit addition, and no part of a bin can overflow.
KERNEL(256, 2) spread(Sample p) {
  constexpr int partBits = 15;
  SHARED u32 count[bins], weight[3][bins];
  int blocks = ceilDiv(p.chunks, p.span);
  int row = p.list[blockX / blocks], first = blockX % blocks * p.span, last = minOf(first + p.span, p.chunks);
  const Row &r = p.row[row];
  if (p.result[row].bad != none) return;
  float peak = p.result[row].peak, perLogit = p.changed ? r.perLogit : topBins, v[atOnce];
  for (int b = threadX; b < bins; b += threadsX) count[b] = weight[0][b] = weight[1][b] = weight[2][b] = 0;
  syncBlock();
  u64 kept = 0;
  NO_UNROLL for (int id = first * chunkIds + warpId * piece; id < last * chunkIds; id += threadsX / 32 * piece) {
    loadLogits(v, p.logits + (i64)row * p.vocab, id, p.vocab);
    UNROLL for (int i = 0; i < atOnce; i++) {
      if (!(v[i] > negInf)) continue;
      int b = binOf(v[i], peak, perLogit);
      atomicAdd(count + b, 1u);
      if (!p.changed) continue;
      u64 w = weightOf(v[i], peak, r.scale);
      UNROLL for (int j = 0; j < 3; j++) {
        u32 bits = (u32)(w >> j * partBits) & ((1 << partBits) - 1);
        if (bits) atomicAdd(weight[j] + b, bits);
      }
      kept += keptWeight(v[i], peak, r);
    }
  }
  syncBlock();
  Spread &out = p.spread[row];
  for (int b = threadX; b < bins; b += threadsX) {
    if (!count[b]) continue;
    u64 w = weight[0][b] + ((u64)weight[1][b] << partBits) + ((u64)weight[2][b] << 2 * partBits);
    atomicAdd(out.count + b, count[b]);
    if (w) atomicAdd(out.weight + b, w);
  }
  kept = warpSum(kept);
  if (laneId == 0 && kept) atomicAdd(&out.kept, kept);
}

// Keys order ids: descending logits, equals by ascending id. No key is 0.
DEVICE u64 keyOf(float v, int id) {
  u32 b = asBits(v + 0.f);  // -0 equals 0
  b ^= (u32)((int)b >> 31) | 0x80000000u;
  return (u64)b << idBits | (u32)(lastId - id);
}
DEVICE float logitOf(u64 key) {
  u32 b = (u32)(key >> idBits);
  return asFloat(b ^ (~(u32)((int)b >> 31) | 0x80000000u));
}
DEVICE int idOf(u64 key) { return lastId - (int)((u32)key & lastId); }

struct Sum {
  u64 count, weight;
};
DEVICE Sum operator+(Sum a, Sum b) { return {a.count + b.count, a.weight + b.weight}; }
DEVICE Sum operator-(Sum a, Sum b) { return {a.count - b.count, a.weight - b.weight}; }
DEVICE u64 part(const Sum &s, bool weight) { return weight ? s.weight : s.count; }
DEVICE Sum blockScan(Sum v, Sum &total, u64 *scratch) {
  Sum before;
  before.count = blockScan(v.count, total.count, scratch);
  before.weight = blockScan(v.weight, total.weight, scratch);
  return before;
}

// A bin or an id of the window: the sums before it, its own, and its number.
struct Found {
  Sum before, own;
  int at;
};

struct Shared {
  u64 key[windowMax];  // the window's ids, in order
  u64 scratch[32];
  Found found;
  u32 size;
};

// Finds ids of a row by their rank, or by the weights before them. A block of pickThreads threads holds it.
struct Finder {
  const float *logits;
  const Partial *partial;
  int vocab, chunks;
  float peak, scale, perLogit;
  Shared *s;
  Sum total;
  Sum bin[each], binsBefore;  // this thread's bins

  // The window: the ids of bins first to last whose keys are from low to high.
  int first, last;
  u64 low, high;
  bool whole;                   // all ids of its bins
  Sum skipped;                  // ids above it
  Sum item[each], itemsBefore;  // this thread's ids

  METHOD void start(const Sample &p, int row, float binsPerLogit, Shared *shared) {
    logits = p.logits + (i64)row * p.vocab;
    partial = p.partial + (i64)row * p.chunks;
    vocab = p.vocab, chunks = p.chunks;
    peak = p.result[row].peak, scale = p.row[row].scale, perLogit = binsPerLogit;
    s = shared;
    Sum sum = {0, 0};
    UNROLL for (int j = 0; j < each; j++) {
      bin[j] = {p.spread[row].count[threadX * each + j], p.spread[row].weight[threadX * each + j]};
      sum = sum + bin[j];
    }
    binsBefore = blockScan(sum, total, s->scratch);
    whole = false;
  }

  // Writes the keys of the window, in any order, as far as there is room, and sums up all of it. The chunks' greatest
  // logits tell which ones to read.
  METHOD Sum gather(u64 *out, int room) {
    if (threadX == 0) s->size = 0;
    syncBlock();
    Sum mine = {0, 0}, all;
    NO_UNROLL for (int at = warpId * piece; at < vocab; at += pickThreads / 32 * piece) {
      float m = partial[at / chunkIds].max, v[atOnce];
      if (!(m > negInf) || binOf(m, peak, perLogit) > last) continue;
      loadLogits(v, logits, at, vocab);
      UNROLL for (int i = 0; i < atOnce; i++) {
        if (!(v[i] > negInf)) continue;
        int b = binOf(v[i], peak, perLogit);
        u64 key = keyOf(v[i], at + i * 32 + laneId);
        if (b < first || b > last || key < low || key > high) continue;
        mine = mine + Sum{1, weightOf(v[i], peak, scale)};
        u32 slot = atomicAdd(&s->size, 1u);
        if (slot < room) out[slot] = key;
      }
    }
    blockScan(mine, all, s->scratch);
    return all;
  }

  // The id before which lie `target` ids, or weights of at most `target`; target is less than the total.
  METHOD Found find(bool byWeight, u64 target) {
    Found f = choose(byWeight, target, bin, binsBefore);
    if (!whole || f.at < first || f.at > last) load(f, byWeight, target);
    return choose(byWeight, target, item, skipped + itemsBefore);
  }

  METHOD u64 key(const Found &f) { return s->key[f.at]; }

  // Whoever holds the target in its bins or ids tells the others.
  METHOD Found choose(bool byWeight, u64 target, const Sum *own, Sum before) {
    UNROLL for (int j = 0; j < each; j++) {
      u64 from = part(before, byWeight);
      if (target >= from && target - from < part(own[j], byWeight))
        s->found = {before, own[j], threadX * each + j};
      before = before + own[j];
    }
    syncBlock();
    Found f = s->found;
    syncBlock();
    return f;
  }

  // Sorts the ids of all bins up to f's if they are few, else of f's bin. A bin with too many is halved by keys until
  // those around the target are few.
  METHOD void load(const Found &f, bool byWeight, u64 target) {
    Sum through = f.before + f.own;
    bool few = through.count <= windowMax;
    first = few ? 0 : f.at;
    last = f.at;
    skipped = few ? Sum{0, 0} : f.before;
    high = lastKey;
    u64 bottom = 0;
    int n = (int)(through - skipped).count;
    whole = n <= windowMax;
    NO_UNROLL for (;;) {
      low = n <= windowMax ? bottom : bottom + (high - bottom) / 2 + 1;
      Sum upper = gather(s->key, windowMax);
      if (target - part(skipped, byWeight) >= part(upper, byWeight)) {
        skipped = skipped + upper;
        n -= (int)upper.count;
        high = low - 1;
        continue;
      }
      n = (int)upper.count;
      bottom = low;
      if (n <= windowMax) break;
    }
    sort(n);
    Sum sum = {0, 0}, all;
    UNROLL for (int j = 0; j < each; j++) {
      int i = threadX * each + j;
      item[j] = {0, 0};
      if (i < n) item[j] = {1, weightOf(logitOf(s->key[i]), peak, scale)};
      sum = sum + item[j];
    }
    itemsBefore = blockScan(sum, all, s->scratch);
  }

  // Sorts the window's n keys, descending, by a bitonic network.
  METHOD void sort(int n) {
    int size = 32;
    while (size < n) size *= 2;
    for (int i = n + threadX; i < size; i += pickThreads) s->key[i] = 0;
    syncBlock();
    NO_UNROLL for (int run = 2; run <= size; run *= 2) {
      NO_UNROLL for (int d = run / 2; d; d /= 2) {
        for (int i = threadX; i < size / 2; i += pickThreads) {
          int a = 2 * i - (i & (d - 1));
          u64 x = s->key[a], y = s->key[a + d];
          if ((x < y) == ((a & run) == 0)) {
            s->key[a] = y;
            s->key[a + d] = x;
          }
        }
        syncBlock();
      }
    }
  }
};

// One block a row: writes the keys of the Row::top most likely ids.
KERNEL(pickThreads, 1) tops(Sample p) {
  SHARED Shared shared;
  int row = p.list[blockX];
  const Row &r = p.row[row];
  if (p.result[row].bad != none) { // none are reported; what travels back is defined all the same
    for (int i = threadX; i < r.top; i += pickThreads) p.tops[r.topAt + i] = 0;
    return;
  }
  Finder f;
  f.start(p, row, topBins, &shared);
  f.low = f.key(f.find(false, r.top - 1));
  f.high = lastKey;
  f.first = 0;
  f.gather(p.tops + r.topAt, r.top);
}

// One block a row. Kept are the ids before the first that top-k, top-p or min-p drops; the draw falls on one of them.
KERNEL(pickThreads, 1) pick(Sample p) {
  SHARED Shared shared;
  int row = p.list[blockX];
  const Row &r = p.row[row];
  if (p.result[row].bad != none || p.result[row].token < 0) return;
  Finder f;
  f.start(p, row, r.perLogit, &shared);
  u64 kept = f.total.weight;
  enum { byRank, byShare, byChance };
  NO_UNROLL for (int step = byRank; step <= byChance; step++) {
    u64 target = r.topK - 1;
    if (step == byRank && r.topK >= f.total.count) continue;
    if (step == byShare) {
      if (!r.topP) continue;
      target = highProduct(kept, r.topP) + (kept * r.topP != 0) - 1;  // the fewest ids whose sum reaches the share
    }
    if (step == byChance) {
      kept = minOf(kept, p.spread[row].kept);
      target = highProduct(kept, r.draw);
    }
    Found id = f.find(step != byRank, target);
    if (step == byChance) report(p, r, row, idOf(f.key(id)));
    kept = (id.before + id.own).weight;
  }
}
