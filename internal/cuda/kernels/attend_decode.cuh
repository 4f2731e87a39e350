// Attention of one new token of a sequence: softmax(q k / 8, with the head's sink) v over the sequence's visible keys.
//
// Grid: splits, KV heads, sequences. The grid does not depend on how long the sequences are, which only the device knows
// (a captured step is replayed as they grow): a sequence uses as many splits as its length is worth, the others leave at
// once. The block of a (sequence, KV head) that ends last joins the splits, always in the same order.
//
// A warp takes 16 keys at a time, loads them straight to fragments, and is one step ahead with that. The query heads of
// the KV head are the 8 (Wide: 16) rows of S = Q K^T, so that P = exp2(S), rounded to BF16, has the form that
// O^T = V^T P^T wants of its second factor. Lane (g, t) = (lane/4, lane%4) holds:
//
//   K    of keys g and g+8: dims 8t..8t+7 and 32+8t..39+8t (BF16), 16t..16t+15 (int8); the query's dims likewise
//   S    of head g (Wide: and g+8) with keys 2t, 2t+1, 8+2t, 9+2t
//   V    of those four keys: dims 8g..8g+7
//   O^T  of dims 8g..8g+7 with heads 2t, 2t+1 (Wide: and 8+2t, 9+2t)
#pragma once
#include "attend.cuh"
#include "overlap.cuh"

struct DecodeParams {
  Cache cache;
  const float *qkv;   // row path: [heads + 2 kvHeads, 64], not rotated; k and v are not yet in the cache
  const float *rope;  // row path: 32 cosines, 32 sines
  const u16 *q;       // otherwise: BF16 [tokens, heads, 64], rotated
  const float *sinks; // [heads]
  const int *positions, *seqOf; // [tokens]
  const int *decodeRow;         // [blocksZ]: the row of each sequence's token; row path: not read, the row is 0
  void *out;                    // [tokens, heads, 64]: float32 or BF16
  u64 *clear;                   // clearWords words to set to 0
  float *partial, *stats;       // [blocksZ, kvHeads, splits, group]: 64 sums; maximum and denominator
  u32 *counters;                // [blocksZ, kvHeads], 0 between launches
  int heads, group, outBF16, clearWords;
};

constexpr int groupKeys = 16;
constexpr int splitGroups = 16; // as many are worth a block: two for each of 8 warps
constexpr int mostWarps = 12, mostSplits = 32;
constexpr int outPitch = 68;       // floats of a head's sums in shared memory
constexpr int newRowBytes = 128;   // of the new token's key in shared memory, and of its value
constexpr int newScales = 2 * newRowBytes, finished = newScales + 8, newBytes = newScales + 16;

// Counts the blocks of a set of last+1; the last one sets the counter back. What this block wrote before is seen by who
// comes later.
DEVICE u32 countUp(u32 *counter, u32 last) {
  u32 old;
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;" : "=r"(old) : "l"(counter), "r"(last) : "memory");
  return old;
}

DEVICE int clamp(int v, int low, int high) { return minOf(maxOf(v, low), high); }

// Keys of a group that may be read: [low, high], counted from the group's first, which lies in `row` of the cache.
struct Span {
  u32 row;
  int low, high;
  METHOD u64 at(int key) const { return row + (u32)clamp(key, low, high); }
};

// A lane's part of 16 keys and values. Keys that may not be read are copies of ones that may. Those of the new token, from
// rel on, are put in from shared memory, where the row path has them.
template <bool Int8> struct KeyGroup;

template <> struct KeyGroup<false> {
  U4 k[2][2] = {}, v[4] = {};

  static METHOD int valueKey(int i) { return (laneId & 3) * 2 + (i & 1) + (i >> 1) * 8; }

  METHOD void loadKeys(const Cache &c, const Span &s) {
    UNROLL for (int h = 0; h < 2; h++) {
      const u8 *from = c.k + s.at(h * 8 + (laneId >> 2)) * (2 * headDim) + (laneId & 3) * 16;
      k[h][0] = loadCache4(from);
      k[h][1] = loadCache4<64>(from);
    }
  }
  METHOD void loadValues(const Cache &c, const Span &s) {
    UNROLL for (int i = 0; i < 4; i++) v[i] = loadCache4(c.v + s.at(valueKey(i)) * (2 * headDim) + (laneId >> 2) * 16);
  }
  METHOD void putNew(u32 fresh, int rel) {
    UNROLL for (int h = 0; h < 2; h++)
      if (h * 8 + (laneId >> 2) >= rel) {
        k[h][0] = loadShared4(fresh + (laneId & 3) * 16);
        k[h][1] = loadShared4<64>(fresh + (laneId & 3) * 16);
      }
    UNROLL for (int i = 0; i < 4; i++)
      if (valueKey(i) >= rel) v[i] = loadShared4(fresh + newRowBytes + (laneId >> 2) * 16);
  }
  // B of S's step i for keys 8h..8h+7.
  METHOD void keyFragment(int h, int i, u32 &b0, u32 &b1) const {
    b0 = word(k[h][i >> 1], (i & 1) * 2);
    b1 = word(k[h][i >> 1], (i & 1) * 2 + 1);
  }
  // A of O^T's tile j: rows are dims 8g+2j and 8g+2j+1.
  METHOD void valueFragment(int j, u32 *a) const {
    UNROLL for (int i = 0; i < 2; i++) {
      u32 even = word(v[2 * i], j), odd = word(v[2 * i + 1], j);
      a[2 * i] = lowHalves(even, odd);
      a[2 * i + 1] = highHalves(even, odd);
    }
  }
  static METHOD float keyScale(int, int) { return 1.f; }
  static METHOD float valueScale(int, int) { return 1.f; }
};

template <> struct KeyGroup<true> {
  U4 k[2] = {};
  U2 v[4] = {};
  F2 kScale[2] = {}, vScale[2] = {}; // of keys 8h+2t, 8h+2t+1

  static METHOD int valueKey(int i) { return KeyGroup<false>::valueKey(i); }

  METHOD void loadKeys(const Cache &c, const Span &s) {
    UNROLL for (int h = 0; h < 2; h++) k[h] = loadCache4(c.k + s.at(h * 8 + (laneId >> 2)) * headDim + (laneId & 3) * 16);
  }
  METHOD void loadValues(const Cache &c, const Span &s) {
    UNROLL for (int i = 0; i < 4; i++) v[i] = loadCache2(c.v + s.at(valueKey(i)) * headDim + (laneId >> 2) * 8);
    UNROLL for (int h = 0; h < 2; h++) {
      u64 even = s.at(valueKey(2 * h)), odd = s.at(valueKey(2 * h + 1));
      kScale[h] = F2{loadFloat(c.kScale + even), loadFloat(c.kScale + odd)};
      vScale[h] = F2{loadFloat(c.vScale + even), loadFloat(c.vScale + odd)};
    }
  }
  METHOD void putNew(u32 fresh, int rel) {
    F2 scales = loadSharedFloat2(fresh + newScales);
    UNROLL for (int h = 0; h < 2; h++) {
      if (h * 8 + (laneId >> 2) >= rel) k[h] = loadShared4(fresh + (laneId & 3) * 16);
      if (valueKey(2 * h) >= rel) kScale[h].x = scales.x, vScale[h].x = scales.y;
      if (valueKey(2 * h + 1) >= rel) kScale[h].y = scales.x, vScale[h].y = scales.y;
    }
    UNROLL for (int i = 0; i < 4; i++)
      if (valueKey(i) >= rel) v[i] = U2{loadShared(fresh + newRowBytes + (laneId >> 2) * 8), loadShared<4>(fresh + newRowBytes + (laneId >> 2) * 8)};
  }
  METHOD void keyFragment(int h, int i, u32 &b0, u32 &b1) const {
    b0 = evenCodes(word(k[h], i));
    b1 = oddCodes(word(k[h], i));
  }
  METHOD void valueFragment(int j, u32 *a) const {
    UNROLL for (int i = 0; i < 2; i++) {
      u32 even = word(v[2 * i], j >> 1), odd = word(v[2 * i + 1], j >> 1);
      u32 dims = j & 1 ? highHalves(even, odd) : lowHalves(even, odd); // two dims of each key
      a[2 * i] = evenCodes(dims);
      a[2 * i + 1] = oddCodes(dims);
    }
  }
  METHOD float keyScale(int h, int c) const { return c ? kScale[h].y : kScale[h].x; }
  METHOD float valueScale(int h, int c) const { return c ? vScale[h].y : vScale[h].x; }
};

template <bool Int8, bool Wide, bool Row> struct Decode {
  static constexpr int bands = Wide ? 2 : 1; // of 8 query heads
  static constexpr int queryBytes = bands * 8 * 2 * headDim;
  static constexpr int freshAt = queryBytes, statsAt = freshAt + newBytes;

  const DecodeParams &p;
  const int head = blockY, warps = threadsX >> 5, g = laneId >> 2, t = laneId & 3;
  int row, sequence, position, first; // first: the first visible position
  int splits, begin, end;             // this block's groups of 16 keys
  bool owner;                         // this warp has the new position's key or value
  u32 shared, rowAhead, freshRow;
  int turn = 0;
  float sink[bands]; // in base 2
  u32 query[4][2 * bands];
  float top[bands], sum[bands]; // of the scores of head g (and g+8): maximum, denominator
  float out[bands][4][4] = {};
  KeyGroup<Int8> keys;
  Span span;

  METHOD Decode(const DecodeParams &p) : p(p), shared(sharedAddress(dynamicShared)) {
    if constexpr (!Row) follow();
    row = Row ? 0 : loadInt(p.decodeRow + blockZ);
    position = loadInt(p.positions + row), sequence = loadInt(p.seqOf + row);
  }

  // Finds the keys that are this block's. False: none.
  METHOD bool locate() {
    first = p.cache.firstVisible(position);
    int from = first / groupKeys, groups = position / groupKeys + 1 - from;
    splits = minOf(blocksX, ceilDiv(groups, splitGroups));
    begin = from + (int)((u32)groups * blockX / splits);
    end = from + (int)((u32)groups * (blockX + 1) / splits);
    owner = Row && warpId < 2 && end * groupKeys > position;
    // A row of no sequence has no keys; and with both in one condition, neither load waits for the other.
    return (blockX < splits) & (sequence >= 0);
  }

  // Looks up where this warp's next group lies, 32 of its groups at a time. False: nothing is to be read.
  METHOD bool advance(int group) {
    if (group >= end) return false;
    if ((turn & 31) == 0) {
      int mine = group + laneId * warps;
      if (mine < end) rowAhead = p.cache.row(sequence, mine * groupKeys, head);
    }
    span.row = shuffleFrom(rowAhead, turn++ & 31);
    span.low = maxOf(first - group * groupKeys, 0);
    span.high = minOf(position - Row - group * groupKeys, groupKeys - 1);
    return span.high >= span.low;
  }

  // Where dim d of the query stands in its row. int8 codes come out of a word in the order 0, 2, 1, 3.
  static METHOD int placeOf(int d) { return Int8 ? (d & ~3) | (d & 1) << 1 | (d >> 1 & 1) : d; }

  // Row path: a warp takes a query head, warp 0 also the new key, warp 1 the new value. Otherwise a thread takes 16 bytes.
  struct Fetched {
    float cosine = 0, sine = 0, query[bands][2] = {}, fresh[2] = {}, sink[bands];
    U4 unit = {};
  };
  METHOD bool hasHead(int b) const { return warpId < 8 && b * 8 + warpId < p.group; }

  METHOD void fetch(Fetched &f) const {
    if constexpr (Row) {
      loadFloatIf(f.cosine, p.rope + laneId, true);
      loadFloatIf(f.sine, p.rope + 32 + laneId, true);
      UNROLL for (int i = 0; i < 2; i++) {
        UNROLL for (int b = 0; b < bands; b++)
          loadFloatIf(f.query[b][i], p.qkv + (head * p.group + b * 8 + warpId) * headDim + i * 32 + laneId, hasHead(b));
        loadFloatIf(f.fresh[i], p.qkv + (p.heads + warpId * p.cache.kvHeads + head) * headDim + i * 32 + laneId, warpId < 2);
      }
    } else {
      int h = threadX >> 3;
      loadCache4If(f.unit, p.q + ((i64)row * p.heads + head * p.group + h) * headDim + (threadX & 7) * 8, h < p.group);
    }
    UNROLL for (int b = 0; b < bands; b++) {
      f.sink[b] = lowest;
      loadFloatIf(f.sink[b], p.sinks + head * p.group + b * 8 + warpId, hasHead(b));
    }
  }

  // Puts the queries into shared memory, rotated and rounded, and so the new key and value: the block that has the new
  // position also writes them to the cache.
  METHOD void place(const Fetched &f) {
    UNROLL for (int b = 0; b < bands; b++) sink[b] = f.sink[b] * log2e;
    if constexpr (!Row) {
      U4 v = f.unit;
      if (Int8) v = U4{lowHalves(v.x, v.y), highHalves(v.x, v.y), lowHalves(v.z, v.w), highHalves(v.z, v.w)};
      if (threadX < bands * 64) storeShared4(shared + threadX * 16, v);
      return;
    }
    float c = f.cosine, s = f.sine;
    if (warpId < 8)
      UNROLL for (int b = 0; b < bands; b++) {
        u32 to = shared + (b * 8 + warpId) * (2 * headDim);
        storeShared16Bit(to + placeOf(laneId) * 2, toBF16(f.query[b][0] * c - f.query[b][1] * s));
        storeShared16Bit(to + placeOf(32 + laneId) * 2, toBF16(f.query[b][1] * c + f.query[b][0] * s));
      }
    if (!owner) return;
    bool key = warpId == 0;
    keep(key, key ? f.fresh[0] * c - f.fresh[1] * s : f.fresh[0], key ? f.fresh[1] * c + f.fresh[0] * s : f.fresh[1]);
  }

  // Keeps values lane and 32+lane of the new key or value.
  METHOD void keep(bool key, float a, float b) {
    u64 to = freshRow;
    u8 *rows = key ? p.cache.k : p.cache.v;
    u32 fresh = shared + freshAt + (key ? 0 : newRowBytes);
    if constexpr (Int8) {
      Int8Scale scale(warpMaxU(maxOf(magnitude(a), magnitude(b))));
      u32 low = scale.code(a), high = scale.code(b);
      storeShared8Bit(fresh + laneId, low);
      storeShared8Bit(fresh + 32 + laneId, high);
      rows[to * headDim + laneId] = (u8)low;
      rows[to * headDim + 32 + laneId] = (u8)high;
      if (laneId == 0) {
        storeShared(shared + freshAt + newScales + (key ? 0 : 4), scale.scale);
        (key ? p.cache.kScale : p.cache.vScale)[to] = scale.scale;
      }
    } else {
      u16 low = toBF16(a), high = toBF16(b), *values = (u16 *)rows + to * headDim;
      storeShared16Bit(fresh + laneId * 2, low);
      storeShared16Bit(fresh + 64 + laneId * 2, high);
      values[laneId] = low;
      values[32 + laneId] = high;
    }
  }

  METHOD void loadQuery() {
    UNROLL for (int b = 0; b < bands; b++) {
      u32 from = shared + (b * 8 + g) * (2 * headDim) + t * (Int8 ? 32 : 16);
      U4 q[2] = {loadShared4(from), loadShared4<Int8 ? 16 : 64>(from)};
      UNROLL for (int i = 0; i < 4; i++) {
        query[i][b] = word(q[i >> 1], (i & 1) * 2);
        query[i][bands + b] = word(q[i >> 1], (i & 1) * 2 + 1);
      }
    }
  }

  // s[h][2b + c]: head 8b+g with key 8h+2t+c of the group.
  METHOD void scores(float s[2][4]) const {
    UNROLL for (int h = 0; h < 2; h++)
      UNROLL for (int i = 0; i < 4; i++) {
        const u32 *q = query[i];
        u32 b0, b1;
        keys.keyFragment(h, i, b0, b1);
        if (i == 0) mmaZeroBF16(s[h], q[0], Wide ? q[1] : 0, q[bands], Wide ? q[bands + 1] : 0, b0, b1);
        else mmaBF16(s[h], q[0], Wide ? q[1] : 0, q[bands], Wide ? q[bands + 1] : 0, b0, b1);
      }
  }

  // Scores of a group's visible keys to weights relative to top, which rises where it must.
  METHOD void weigh(float s[2][4], int group) {
    int low = first - group * groupKeys, high = position - group * groupKeys;
    float greatest[bands];
    bool rises = false;
    UNROLL for (int b = 0; b < bands; b++) {
      greatest[b] = lowest;
      UNROLL for (int h = 0; h < 2; h++)
        UNROLL for (int c = 0; c < 2; c++) {
          int key = h * 8 + t * 2 + c;
          float &v = s[h][2 * b + c];
          v = key >= low && key <= high ? v * (scoreScale * keys.keyScale(h, c)) : lowest;
          greatest[b] = greater(greatest[b], v);
        }
      greatest[b] = quadMax(greatest[b]);
      rises |= greatest[b] > top[b] + slack;
    }
    if (ballot(rises)) raise(greatest);
    UNROLL for (int b = 0; b < bands; b++)
      UNROLL for (int h = 0; h < 2; h++)
        UNROLL for (int c = 0; c < 2; c++) {
          float &v = s[h][2 * b + c];
          v = exp2Approx(v - top[b]);
        }
  }

  METHOD void raise(const float *greatest) {
    UNROLL for (int b = 0; b < bands; b++) {
      float higher = greater(top[b], greatest[b]), factor = exp2Approx(top[b] - higher);
      top[b] = higher;
      sum[b] *= factor;
      float even = shuffleFrom(factor, t * 8), odd = shuffleFrom(factor, t * 8 + 4); // of heads 2t, 2t+1
      UNROLL for (int j = 0; j < 4; j++)
        UNROLL for (int i = 0; i < 4; i++) out[b][j][i] *= i & 1 ? odd : even;
    }
  }

  // The kernels before are complete. On the row path the positions, the tables and the earlier keys are known before that:
  // an ordinary launch lies between them and here.
  METHOD void follow() const {
    waitForLast();
    if (blockX + blockY + blockZ == 0)
      for (int i = threadX; i < p.clearWords; i += threadsX) p.clear[i] = 0;
  }

  METHOD void run() {
    if (!locate()) {
      if constexpr (Row) follow();
      return;
    }
    int group = begin + warpId;
    if (advance(group)) { // these take longest
      keys.loadKeys(p.cache, span);
      keys.loadValues(p.cache, span);
    }
    if constexpr (Row) follow();
    Fetched fetched;
    fetch(fetched);
    if (owner) freshRow = p.cache.row(sequence, position, head);
    place(fetched);
    syncBlock();
    loadQuery();
    UNROLL for (int b = 0; b < bands; b++) top[b] = lowest, sum[b] = 0;
    NO_UNROLL for (; group < end; group += warps) {
      if (Row && (group + 1) * groupKeys > position) keys.putNew(shared + freshAt, position - group * groupKeys);
      float s[2][4];
      scores(s);
      bool more = advance(group + warps);
      if (more) keys.loadKeys(p.cache, span);
      weigh(s, group);
      u32 weights[bands][2], a[4][4];
      UNROLL for (int b = 0; b < bands; b++)
        UNROLL for (int h = 0; h < 2; h++) {
          weights[b][h] = packBF16(s[h][2 * b] * keys.valueScale(h, 0), s[h][2 * b + 1] * keys.valueScale(h, 1));
          // What is divided by is the sum of what is multiplied with, so that rounding does not scale the result.
          sum[b] += Int8 ? s[h][2 * b] + s[h][2 * b + 1] : lowBF16(weights[b][h]) + highBF16(weights[b][h]);
        }
      UNROLL for (int j = 0; j < 4; j++) keys.valueFragment(j, a[j]);
      if (more) keys.loadValues(p.cache, span);
      UNROLL for (int b = 0; b < bands; b++)
        UNROLL for (int j = 0; j < 4; j++) mmaBF16(out[b][j], a[j][0], a[j][1], a[j][2], a[j][3], weights[b][0], weights[b][1]);
    }
    share();
    syncBlock();
    UNROLL for (int b = 0; b < bands; b++)
      if (hasHead(b)) joinWarps(b);
    if (splits > 1) joinSplits();
  }

  METHOD u32 statsOf(int warp, int h) const { return shared + statsAt + (warp * bands * 8 + h) * 8; }
  METHOD u32 outOf(int warp, int h) const { return statsOf(warps, 0) + (warp * p.group + h) * (outPitch * 4); }

  // Puts this warp's part into shared memory.
  METHOD void share() {
    UNROLL for (int b = 0; b < bands; b++) {
      float total = quadSum(sum[b]);
      if (t == 0) storeShared2(statsOf(warpId, b * 8 + g), top[b], total);
      UNROLL for (int c = 0; c < 2; c++) {
        int h = b * 8 + t * 2 + c;
        if (h >= p.group) continue;
        u32 to = outOf(warpId, h) + g * 32;
        float(*o)[4] = out[b];
        storeShared4(to, U4{asBits(o[0][c]), asBits(o[0][c + 2]), asBits(o[1][c]), asBits(o[1][c + 2])});
        storeShared4(to + 16, U4{asBits(o[2][c]), asBits(o[2][c + 2]), asBits(o[3][c]), asBits(o[3][c + 2])});
      }
    }
  }

  // Joins the warps' parts of head 8b+warp: lane i then has dims 2i and 2i+1.
  METHOD void joinWarps(int b) {
    int h = b * 8 + warpId;
    F2 part = {lowest, 0}, v[mostWarps] = {}, total = {};
    loadSharedFloat2If(part, statsOf(laneId, h), laneId < warps);
    UNROLL for (int w = 0; w < mostWarps; w++) loadSharedFloat2If(v[w], outOf(w, h) + laneId * 8, w < warps);
    Joined all(part.x, part.y);
    UNROLL for (int w = 0; w < mostWarps; w++) total = all.add(total, v[w], w);
    if (splits == 1) {
      write(b, total, all);
      return;
    }
    i64 slot = (i64)slotOf(blockX) * p.group + h;
    *(F2 *)(p.partial + slot * headDim + laneId * 2) = total;
    if (laneId == 0) *(F2 *)(p.stats + slot * 2) = F2{all.max, all.sum};
  }

  METHOD int slotOf(int split) const { return (blockZ * p.cache.kvHeads + head) * blocksX + split; }

  // The block that ends last joins all splits.
  METHOD void joinSplits() {
    syncBlock();
    u32 flag = shared + freshAt + finished;
    if (threadX == 0) storeShared(flag, countUp(p.counters + blockZ * p.cache.kvHeads + head, splits - 1));
    syncBlock();
    if (loadShared(flag) != splits - 1) return;
    UNROLL for (int b = 0; b < bands; b++) {
      if (!hasHead(b)) return;
      int h = b * 8 + warpId;
      F2 part = {lowest, 0}, v[mostSplits] = {}, total = {};
      loadFloat2If(part, p.stats + ((i64)slotOf(laneId) * p.group + h) * 2, laneId < splits);
      const float *from = p.partial + ((i64)slotOf(0) * p.group + h) * headDim + laneId * 2;
      UNROLL for (int i = 0; i < mostSplits; i++) loadFloat2If(v[i], from + i * p.group * headDim, i < splits);
      Joined all(part.x, part.y, sink[b]);
      UNROLL for (int i = 0; i < mostSplits; i++) total = all.add(total, v[i], i);
      write(b, total, all);
    }
  }

  // Head 8b+warp is complete but for its sink, which counts here, once.
  METHOD void write(int b, F2 v, const Joined &all) {
    float s = sink[b], max = maxOf(all.max, s), factor = exp2Approx(all.max - max);
    factor *= reciprocal(all.sum * factor + exp2Approx(s - max));
    v = F2{v.x * factor, v.y * factor};
    i64 to = ((i64)row * p.heads + head * p.group + b * 8 + warpId) * headDim + laneId * 2;
    if (p.outBF16) *(u32 *)((u16 *)p.out + to) = packBF16(v.x, v.y);
    else *(F2 *)((float *)p.out + to) = v;
  }
};

template <bool Int8, bool Wide, bool Row> DEVICE void decode(const DecodeParams &p) {
  letNextBegin();
  Decode<Int8, Wide, Row> d(p);
  d.run();
}
