// Experts of one token, in two launches: the choice of experts, norm, gate/up and SwiGLU; then down and the weighted sum.
//
// A block takes a run of segments, each a tile of one chosen expert. Its warps take them in groups of three chunks, warp w
// every 16th group; a ring of three slots, in which every lane copies and reads its own 16 bytes, brings the codes without
// any synchronisation, and with the first of them the lane's scales of the group. Double-quantised scales come to registers
// instead: their addresses are scattered, and a copy to shared memory takes a turn for each. The vector is one column of B; a
// group's 16 sums go to shared memory, and after one barrier a thread adds up each row's. Where the inputs are no
// multiple of three chunks, zeros follow the vector, and whatever weights follow do not matter.
//
// Weights stay unscaled in the products of a block, which are then multiplied by its scale.
//
//   MXFP4     e2m1 * 2^-126 in BF16, blocks of 32. So that they stay normal numbers, the vector is multiplied by 2^100
//             before and the sum by 2^26 after.
//   NF4, FP4  the code's value in F16, blocks of 64. A table in shared memory turns a byte, two codes, into two values; it
//             is there 32 times, once for each bank, so that every lane reads its own and none waits for another. The
//             vector is rounded to BF16 and then multiplied by a power of two that brings its bound to 2^15: F16 holds
//             what is not 2^-29 times smaller than that exactly. So a weight is the code's value rounded to 11 bits,
//             times the scale: closer to value times scale than the 8 bits that BF16 leaves of dequantize_4bit's product,
//             but not the same number.
//
// Every warp runs the prologue before it can ask for its first weights, so that each instruction there counts 16 times:
// the host divides (RowPlan), and what no address depends on comes after.
#pragma once
#include "experts.cuh"
#include "overlap.cuh"
#include "route.cuh"

constexpr int rowThreads = 512, rowWarps = 16, perGroup = 3;
constexpr int scaleWords = 2;  // a lane and group, at most, by way of shared memory
constexpr int warpRing = perGroup * 512 + scaleWords * 128;
constexpr int pairBytes(int f) { return f == mxfp4 ? 0 : 256 * 128; }

// How a launch is divided.
struct RowPlan {
  int share, extra;          // units of a block: the first `extra` blocks take share+1
  int segments;              // at most, of a block
  int groups;                // of a segment
  u32 groupsReciprocal;      // ceil(2^16 / groups)
  u32 tilesReciprocal;       // ceil(2^32 / tiles of an expert)
  int stepSegments, stepGroups; // 16 groups further
};

// Where a segment's weights and its part of the vector lie.
struct alignas(16) Segment {
  const u8 *tile;
  int number;        // of the tile in its expert
  u16 slot, expert;  // of the expert in the choice; the expert
};

// Shared memory, in this order.
struct RowShared {
  u32 ring, pairs, map, starts, segments, vector, sums;
  // format; experts: as many as have a place in starts; pitch: bytes of one vector.
  METHOD RowShared(int format, int experts, int segmentsAtMost, int vectors, int pitch) {
    ring = sharedAddress(dynamicShared);
    pairs = ring + rowWarps * warpRing;   // [256, 32] two F16: what a byte of codes stands for
    map = pairs + pairBytes(format);      // [256] what codes of scales stand for
    starts = map + 256 * 4;               // [experts, 2] NestedStart
    segments = starts + experts * 2 * 16; // [segmentsAtMost] Segment
    vector = segments + segmentsAtMost * 16;
    sums = vector + vectors * pitch;      // [groups, 16]
  }
};

template <int To, int From> DEVICE void copyAsync16If(u32 shared, const void *global, bool ok) {
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %2, 0; @q cp.async.cg.shared.global [%0+%3], [%1+%4], 16; }" ::"r"(shared), "l"(global), "r"((u32)ok), "n"(To), "n"(From) : "memory");
}
// Bytes: 4 or 8.
template <int Bytes> DEVICE void copyAsyncIf(u32 shared, const void *global, bool ok) {
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %2, 0; @q cp.async.ca.shared.global [%0], [%1], %3; }" ::"r"(shared), "l"(global), "r"((u32)ok), "n"(Bytes) : "memory");
}
template <int Offset> DEVICE void loadShared4If(U4 &v, u32 a, bool ok) {
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %5, 0; @q ld.shared.v4.b32 {%0, %1, %2, %3}, [%4+%6]; }"
               : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w) : "r"(a), "r"((u32)ok), "n"(Offset) : "memory");
}
DEVICE void loadShortIf(u32 &v, const void *p, bool ok) {
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %2, 0; @q ld.global.nc.u16 %0, [%1]; }" : "+r"(v) : "l"(p), "r"((u32)ok));
}
DEVICE void loadSharedFloatIf(float &v, u32 a, bool ok) {
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %2, 0; @q ld.shared.f32 %0, [%1]; }" : "+f"(v) : "r"(a), "r"((u32)ok) : "memory");
}
DEVICE void loadActivationsIf(U4 &v, const void *p, bool ok) {
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %5, 0; @q ld.global.cg.v4.b32 {%0, %1, %2, %3}, [%4]; }"
               : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w) : "l"(p), "r"((u32)ok) : "memory");
}
DEVICE void mmaZeroF16(float *c, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};"
      : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "f"(0.f));
}
template <int Offset> DEVICE void storeSharedIf(u32 a, float v, bool ok) {
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %2, 0; @q st.shared.f32 [%0+%3], %1; }" ::"r"(a), "f"(v), "r"((u32)ok), "n"(Offset) : "memory");
}

// The scales of one group of chunks: lane 4g+t has those of rows g and g+8 in chunk t, and copies them itself.
template <int F> struct RowScales {
  u32 a = 0, b = 0;  // MXFP4: the word of both rows; else two floats
  u32 codes = 0;     // nested: of the group after, until it is taken
  float low = 0, high = 0, offset = 0;

  // The lane's place in the warp's room for scales.
  static METHOD u32 placeOf(u32 room) { return room + laneId * (F == absmax ? 8 : 4); }

  METHOD void copy(const Experts &w, const RowShared &at, u32 to, const Segment &s, int chunk, bool ok) {
    int g = laneId >> 2, t = minOf(laneId & 3, perGroup - 1);
    const u8 *p = s.tile + (chunk + t) * chunkBytes(F) + 512;
    if constexpr (F == mxfp4) copyAsyncIf<4>(to, p + g * 4, ok);
    if constexpr (F == absmax) copyAsyncIf<8>(to, p + g * 8, ok);
    if constexpr (F == nested) {
      U4 v = loadShared4(at.starts + (s.expert * 2 + (g & 1) * w.split) * 16);
      NestedStart start = {(int)v.x, (int)v.y, asFloat(v.z), 0};
      NestedRows r = nestedRows(w, start, s.number);
      offset = r.offset;
      loadShortIf(codes, scaleCodesOf(w, s.expert, s.number) + (chunk + t) * scaleCodeBytes + g * 2, ok);
      loadFloatIf(low, r.scales + ((r.low + chunk + t) >> w.shift), ok);
      loadFloatIf(high, r.scales + ((r.high + chunk + t) >> w.shift), ok);
    }
  }
  // Takes what copy brought, after it was waited for.
  METHOD void take(const RowShared &at, u32 from) {
    if constexpr (F == mxfp4) a = loadShared(from);
    if constexpr (F == absmax) loadShared2(a, b, from);
    if constexpr (F == nested) {
      u32 first = loadShared(at.map + (codes & 255) * 4), second = loadShared(at.map + (codes >> 8) * 4);
      a = asBits(unnest(asFloat(first), low, offset));
      b = asBits(unnest(asFloat(second), high, offset));
    }
  }
};

DEVICE float scaleE8M0(u32 scales, int byte) { return asFloat((scales >> (8 * byte) & 255) << 23); }

// Two F16 for byte I of a word. pairs: the lane's column of the table.
template <int I> DEVICE u32 pairAt(u32 w, u32 pairs) {
  u32 byte;
  asm("prmt.b32 %0, %1, 0, %2;" : "=r"(byte) : "r"(w), "n"(0x4440 | I));
  return loadShared(pairs + byte * 128);
}

// Sums of rows g and g+8 over one group, in the lanes of t = 0.
template <int F> struct RowSums {
  float low[2] = {0, 0}, high[2] = {0, 0};  // by block of 32

  // Chunk K of the group, from its codes and 16 values of the vector.
  template <int K> METHOD void add(U4 codes, const U4 (&x)[2], const RowScales<F> &s, u32 pairs) {
    int from = (laneId & 28) + K;
    u32 word[4] = {codes.x, codes.y, codes.z, codes.w};
    u32 e = shuffleFrom(s.a, from), f = 0;
    if constexpr (F != mxfp4) f = shuffleFrom(s.b, from);
    UNROLL for (int b = 0; b < 2; b++) {
      u32 p[4], q[4];
      float v[4];
      if constexpr (F == mxfp4) {
        decodeE2M1(word[2 * b], p);
        decodeE2M1(word[2 * b + 1], q);
        mmaZeroBF16(v, p[0], q[0], p[1], q[1], x[b].x, x[b].y);
        mmaBF16(v, p[2], q[2], p[3], q[3], x[b].z, x[b].w);
        low[b] += v[0] * scaleE8M0(e, b);
        high[b] += v[2] * scaleE8M0(e, 2 + b);
      } else {
        repeat<4>([&](auto i) __attribute__((always_inline)) {
          p[i.value] = pairAt<i.value>(word[2 * b], pairs);
          q[i.value] = pairAt<i.value>(word[2 * b + 1], pairs);
        });
        mmaZeroF16(v, p[0], q[0], p[1], q[1], x[b].x, x[b].y);
        mmaF16(v, p[2], q[2], p[3], q[3], x[b].z, x[b].w);
        low[b] += v[0] * asFloat(e);
        high[b] += v[2] * asFloat(f);
      }
    }
  }
  METHOD float sum(int half) const { return half ? high[0] + high[1] : low[0] + low[1]; }
};

// One warp's way through the block's groups.
template <int F> struct RowStream {
  const Experts &w;
  const RowShared &at;
  const RowPlan &plan;
  int segment, group;  // the warp's next
  u32 slot, room;      // of the ring: this lane's first 16 bytes; its scales
  float mine = 0;      // what code laneId&15 stands for
  RowScales<F> scales;

  METHOD RowStream(const Experts &experts, const RowShared &shared, const RowPlan &rowPlan) : w(experts), at(shared), plan(rowPlan) {
    segment = (int)(warpId * plan.groupsReciprocal >> 16);
    group = warpId - segment * plan.groups;
    slot = at.ring + warpId * warpRing + laneId * 16;
    room = RowScales<F>::placeOf(at.ring + warpId * warpRing + perGroup * 512);
    if constexpr (F != mxfp4) mine = loadTable(w.side->table + (laneId & 15));
  }
  METHOD void advance() {
    segment += plan.stepSegments;
    group += plan.stepGroups;
    if (group >= plan.groups) {
      group -= plan.groups;
      segment++;
    }
  }
  METHOD const u8 *codes(const Segment &s) const { return s.tile + group * (perGroup * chunkBytes(F)) + laneId * 16; }

  // The first group's codes: its segment is not in shared memory yet. Double-quantised scales follow with startNested.
  METHOD void start(const Segment &s, bool ok) {
    const u8 *p = codes(s);
    if constexpr (F != nested) scales.copy(w, at, room, s, group * perGroup, ok);
    repeat<perGroup>([&](auto k) __attribute__((always_inline)) {
      copyAsync16If<k.value * 512, k.value * chunkBytes(F)>(slot, p, ok);
      commitCopies();
    });
  }
  METHOD void startNested(const Segment &s, bool ok) {
    if constexpr (F == nested) scales.copy(w, at, room, s, group * perGroup, ok);
  }

  METHOD Segment segmentAt(int i) const {
    U4 v = loadShared4(at.segments + i * 16);
    return {(const u8 *)((u64)v.y << 32 | v.x), (int)v.z, (u16)v.w, (u16)(v.w >> 16)};
  }

  // The warp's part of the table of pairs: 16 entries, 512 bytes at a time.
  METHOD void storePairs() const {
    if constexpr (F == mxfp4) return;
    UNROLL for (int j = 0; j < 4; j++) {
      int byte = warpId * 16 + j * 4 + (laneId >> 3);
      u32 first = toF16(shuffleFrom(mine, byte >> 4)), second = toF16(shuffleFrom(mine, byte & 15)), pair = first | second << 16;
      storeShared4(at.pairs + warpId * (16 * 128) + j * 512 + laneId * 16, {pair, pair, pair, pair});
    }
  }

  // pitch: bytes of a vector; 0 where all segments have the same.
  METHOD void run(int segments, int pitch) {
    // Any lanes of g > 0 may hold the vector too: they are columns of the product that nobody reads. MXFP4 has them
    // load it, which leaves its loop without a branch; the others are short of reads from shared memory.
    bool first = F == mxfp4 || laneId < 4;
    u32 pairs = at.pairs + laneId * 4;
    U4 x[2] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
    while (segment < segments) {
      u32 vector = at.vector + group * (perGroup * 128) + (laneId & 3) * 16;
      if (pitch) vector += segmentAt(segment).slot * pitch;
      u32 sums = at.sums + (segment * plan.groups + group) * 64 + (laneId >> 2) * 4;
      advance();
      bool more = segment < segments;
      Segment next = segmentAt(more ? segment : segments - 1);
      const u8 *p = codes(next);
      RowSums<F> sum;
      repeat<perGroup>([&](auto k) __attribute__((always_inline)) {
        constexpr int K = k.value;
        waitCopies<perGroup - 1>();
        if constexpr (K == 0) {
          scales.take(at, room);
          scales.copy(w, at, room, next, group * perGroup, more);
        }
        U4 v = loadShared4<K * 512>(slot);
        if constexpr (F == mxfp4) {
          x[0] = loadShared4<K * 128>(vector);
          x[1] = loadShared4<K * 128 + 64>(vector);
        } else {
          loadShared4If<K * 128>(x[0], vector, first);
          loadShared4If<K * 128 + 64>(x[1], vector, first);
        }
        copyAsync16If<K * 512, K * chunkBytes(F)>(slot, p, more);
        commitCopies();
        sum.template add<K>(v, x, scales, pairs);
      });
      storeSharedIf<0>(sums, sum.sum(0), (laneId & 3) == 0);
      storeSharedIf<32>(sums, sum.sum(1), (laneId & 3) == 0);
    }
  }
};

// The sum of a row of a segment over its groups.
DEVICE float rowSum(const RowShared &at, int groups, int segment, int row) {
  constexpr int batch = 8;  // loads that wait together
  float sum = 0;
  u32 a = at.sums + segment * groups * 64 + row * 4;
  for (int i = 0; i < groups; i += batch) {
    float v[batch];
    UNROLL for (int j = 0; j < batch; j++) {
      v[j] = 0;
      loadSharedFloatIf(v[j], a + (i + j) * 64, i + j < groups);
    }
    UNROLL for (int j = 0; j < batch; j++) sum += v[j];
  }
  return sum;
}

DEVICE void storeSegment(const RowShared &at, int i, const Segment &s) {
  u64 p = (u64)s.tile;
  storeShared4(at.segments + i * 16, {(u32)p, (u32)(p >> 32), (u32)s.number, (u32)s.slot | (u32)s.expert << 16});
}

// What double-quantised scales need in shared memory, of all experts: nothing of it depends on the choice.
template <int F> struct NestedTables {
  U4 start = {0, 0, 0, 0};
  float value = 0;
  METHOD void load(const Experts &w, int experts) {
    if constexpr (F == nested) {
      loadWeightsIf(start, w.side->start + threadX, threadX < experts * 2);
      if (threadX < 256) value = loadTable(w.side->map + threadX);
    }
  }
  METHOD void store(const RowShared &at, int experts) const {
    if constexpr (F == nested) {
      if (threadX < experts * 2) storeShared4(at.starts + threadX * 16, start);
      if (threadX < 256) storeShared(at.map + threadX * 4, value);
      syncBlock();
    }
  }
};
static_assert(mostExperts * 2 <= rowThreads, "a thread for each start");

template <int F> DEVICE Segment segmentOf(const Experts &w, u64 ids, int slot, int tile) {
  u32 expert = (u32)(ids >> slot * 8) & 255, tiles = (u32)w.rows >> 4, bytes = (u32)(w.cols >> 6) * chunkBytes(F);
  return {w.tiles + (u64)(expert * tiles + (u32)tile) * bytes, tile, (u16)slot, (u16)expert};
}

DEVICE void shareOf(const RowPlan &plan, int &first, int &last) {
  first = blockX * plan.share + minOf(blockX, plan.extra);
  last = first + plan.share + (blockX < plan.extra);
}

// ---- gate/up

struct GateUpRowParams {
  Experts w;
  const float *x, *norm;   // [cols]
  const float *routerBias; // [experts]
  const u64 *acc;          // [experts+1]
  u16 *h;                  // BF16 [topK, rows/2], times factor
  int *choice;             // ids [topK], then weights, float32 [topK]
  RowPlan plan;
  int experts, topK;
  float perCol, eps, alpha, limit, factor;  // perCol: 1/cols
  float vectorFactor, sumFactor;            // of the products
  int padding;
};

// Two activations as the products take them: rounded to BF16, times a power of two.
template <int F> DEVICE u32 packVector(float a, float b, float factor) {
  if constexpr (F == mxfp4) return packBF16(a * factor, b * factor);
  u32 pair = packBF16(a, b);
  return (u32)toF16(lowBF16(pair) * factor) | (u32)toF16(highBF16(pair) * factor) << 16;
}

template <int F> DEVICE Segment gateUpSegment(const GateUpRowParams &p, u64 ids, int unit) {
  int slot = (int)mulHigh((u32)unit, p.plan.tilesReciprocal);
  return segmentOf<F>(p.w, ids, slot, unit - slot * (p.w.rows >> 4));
}

// The residual times the norm's weight, held from before the choice of experts until 1/rms is known.
constexpr int quadsHeld = 2;
struct HeldQuads {
  float x[quadsHeld][4], g[quadsHeld][4];
  // First.
  METHOD void loadNorm(const GateUpRowParams &p, int first) {
    UNROLL for (int i = 0; i < quadsHeld; i++) {
      int q = first + i * rowThreads;
      UNROLL for (int j = 0; j < 4; j++) x[i][j] = g[i][j] = 0;
      loadFloat4If(g[i], p.norm + q * 4, q * 4 < p.w.cols);
    }
  }
  METHOD void loadResidual(const GateUpRowParams &p, int first) {
    UNROLL for (int i = 0; i < quadsHeld; i++) {
      int q = first + i * rowThreads;
      loadFloat4If(x[i], p.x + q * 4, q * 4 < p.w.cols);
    }
  }
  template <int F> METHOD void store(u32 vector, int quads, int first, float scale, float factor) const {
    UNROLL for (int i = 0; i < quadsHeld; i++) {
      int q = first + i * rowThreads;
      const float *a = x[i], *b = g[i];
      if (q < quads) storeShared2(vector + q * 8, packVector<F>(a[0] * b[0] * scale, a[1] * b[1] * scale, factor), packVector<F>(a[2] * b[2] * scale, a[3] * b[3] * scale, factor));
    }
  }
  static METHOD void storeShared2(u32 a, u32 x, u32 y) { asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(a), "r"(x), "r"(y) : "memory"); }
};

DEVICE void storeChoice(int *choice, Choice &c, int topK) {
  weigh(c, topK);
  UNROLL for (int k = 0; k < mostChosen; k++) {
    if (k >= topK || laneId != k) continue;
    choice[k] = c.id[k];
    ((float *)choice)[topK + k] = c.weight[k];
  }
}

template <int F, int N> DEVICE void gateUpRow(const GateUpRowParams &p) {
  HeldQuads held;
  Accumulated<N> sums;
  NestedTables<F> tables;
  letNextBegin();
  sums.loadBias(p.routerBias, p.experts);
  held.loadNorm(p, threadX);
  tables.load(p.w, p.experts);
  waitForLast();
  sums.load(p.acc, p.experts);
  held.loadResidual(p, threadX);
  int pitch = p.plan.groups * perGroup * 128, quads = pitch / 8;
  RowShared at(F, p.experts, p.plan.segments, 1, pitch);
  int first, last;
  shareOf(p.plan, first, last);
  int segments = last - first;
  RowStream<F> stream(p.w, at, p.plan);

  float scale = sums.scale(p.perCol, p.eps);
  u32 key[N];
  sums.keys(key, scale, p.experts);
  Choice c;
  chooseIds(c, key, p.topK);
  u32 low = 0, high = 0;
  UNROLL for (int k = 0; k < 4; k++) low |= (u32)c.id[k] << (8 * k), high |= (u32)c.id[4 + k] << (8 * k);
  u64 ids = (u64)high << 32 | low;
  bool some = stream.segment < segments;
  Segment start = gateUpSegment<F>(p, ids, first + (some ? stream.segment : 0));
  stream.start(start, some);
  tables.store(at, p.experts);
  stream.startNested(start, some);

  for (int i = threadX; i < segments; i += rowThreads) storeSegment(at, i, gateUpSegment<F>(p, ids, first + i));
  stream.storePairs();
  held.store<F>(at.vector, quads, threadX, scale, p.vectorFactor);
  for (int q = threadX + quadsHeld * rowThreads; q < quads; q += quadsHeld * rowThreads) {
    held.loadNorm(p, q);
    held.loadResidual(p, q);
    held.store<F>(at.vector, quads, q, scale, p.vectorFactor);
  }
  float bias = 0;  // of this thread's first row
  auto biasOf = [&](int i) __attribute__((always_inline)) {
    Segment s = gateUpSegment<F>(p, ids, first + i / 16);
    return p.w.bias + (i64)s.expert * p.w.rows + s.number * 16 + i % 16;
  };
  if (threadX < segments * 16) bias = *biasOf(threadX);
  if (blockX == 0 && warpId == 0) storeChoice(p.choice, c, p.topK);
  syncBlock();
  stream.run(segments, 0);
  syncBlock();
  for (int i0 = 0; i0 < segments * 16; i0 += rowThreads) {
    int i = i0 + threadX;
    bool ok = i < segments * 16;
    float v = 0;
    if (ok) v = rowSum(at, p.plan.groups, i / 16, i % 16) * p.sumFactor + (i0 == 0 ? bias : *biasOf(i));
    float up = shuffleXor(v, 1);
    if (!ok || (i & 1)) continue;
    Segment s = gateUpSegment<F>(p, ids, first + i / 16);
    p.h[s.slot * (p.w.rows >> 1) + s.number * 8 + i % 16 / 2] = toBF16(swiglu(v, up, p.alpha, p.limit) * p.factor);
  }
}

// ---- down

struct DownRowParams {
  Experts w;
  const u16 *h;      // BF16 [topK, cols], times 2^100 for MXFP4
  const int *choice; // ids [topK], then weights
  float *planes;     // [2, rows]: the first half of the choice, the second
  RowPlan plan;
  int experts, topK;
  u32 halfReciprocal; // ceil(2^16 / segments of a unit)
  float vectorFactor, sumFactor; // of the products; for MXFP4, h has the former already
  int padding;
};

// A unit is a tile of one plane, with `half` segments. Where the second plane has fewer experts, the last is met twice,
// the second time with weight 0.
struct DownUnits {
  int tiles, half, topK;
  METHOD int plane(int unit) const { return unit >= tiles; }
  METHOD int tile(int unit) const { return unit - plane(unit) * tiles; }
  METHOD int slot(int unit, int i) const { return minOf(plane(unit) * half + i, topK - 1); }
  METHOD bool real(int unit, int i) const { return plane(unit) * half + i < topK; }
};
constexpr int mostHalf = mostChosen / 2;

// What a row of a unit needs beside its sums.
struct DownRest {
  float weight[mostHalf] = {}, bias[mostHalf] = {};
  METHOD void load(const DownRowParams &p, const DownUnits &u, u64 ids, int unit, int row) {
    UNROLL for (int j = 0; j < mostHalf; j++) {
      weight[j] = bias[j] = 0;
      int slot = u.slot(unit, j), expert = (int)(ids >> slot * 8) & 255;
      bool needed = j < u.half && u.real(unit, j);
      loadFloatIf(weight[j], (const float *)p.choice + p.topK + slot, needed);
      loadFloatIf(bias[j], p.w.bias + (i64)expert * p.w.rows + row, needed);
    }
  }
};

template <int F> DEVICE Segment downSegment(const DownRowParams &p, const DownUnits &u, u64 ids, int first, int i) {
  int n = (int)((u32)i * p.halfReciprocal >> 16), unit = first + n;
  return segmentOf<F>(p.w, ids, u.slot(unit, i - n * u.half), u.tile(unit));
}

// The vectors, each followed by zeros to a whole number of groups: one set of copies, or, where they are converted, none.
template <int F> DEVICE void copyVectors(const DownRowParams &p, u32 vector, int units) {
  int real = p.w.cols / 8;
  if constexpr (F != mxfp4) return;
  for (int n = threadX; n < units; n += rowThreads) {
    const u16 *from = p.h + (n < real ? n * 8 : 0);
    NO_UNROLL for (int k = 0; k < p.topK; k++) copyAsync16OrZero(vector + (k * units + n) * 16, from + k * p.w.cols, n < real);
  }
  commitCopies();
}

template <int F> DEVICE void convertVectors(const DownRowParams &p, u32 vector, int units) {
  constexpr int batch = 4;  // loads that wait together
  int real = p.w.cols / 8;
  for (int n = threadX; n < units; n += rowThreads)
    for (int k0 = 0; k0 < p.topK; k0 += batch) {
      U4 v[batch];
      UNROLL for (int k = 0; k < batch; k++) {
        v[k] = {0, 0, 0, 0};
        loadActivationsIf(v[k], p.h + (k0 + k) * p.w.cols + n * 8, n < real && k0 + k < p.topK);
      }
      UNROLL for (int k = 0; k < batch; k++) {
        auto convert = [&](u32 pair) __attribute__((always_inline)) { return packVector<F>(lowBF16(pair), highBF16(pair), p.vectorFactor); };
        if (k0 + k < p.topK) storeShared4(vector + ((k0 + k) * units + n) * 16, {convert(v[k].x), convert(v[k].y), convert(v[k].z), convert(v[k].w)});
      }
    }
}

template <int F> DEVICE void downRow(const DownRowParams &p) {
  letNextBegin();
  NestedTables<F> tables;
  tables.load(p.w, p.experts);
  waitForLast();
  float id[mostChosen];
  UNROLL for (int k = 0; k < mostChosen; k++) {
    id[k] = 0;
    loadFloatIf(id[k], (const float *)p.choice + k, k < p.topK);
  }
  DownUnits u = {p.w.rows >> 4, (p.topK + 1) >> 1, p.topK};
  int pitch = p.plan.groups * perGroup * 128;
  RowShared at(F, p.experts, p.plan.segments, p.topK, pitch);
  int first, last;
  shareOf(p.plan, first, last);
  int segments = (last - first) * u.half;
  RowStream<F> stream(p.w, at, p.plan);
  copyVectors<F>(p, at.vector, pitch / 16);

  u32 low = 0, high = 0;
  UNROLL for (int k = 0; k < 4; k++) low |= asBits(id[k]) << (8 * k), high |= asBits(id[4 + k]) << (8 * k);
  u64 ids = (u64)high << 32 | low;
  bool some = stream.segment < segments;
  Segment start = downSegment<F>(p, u, ids, first, some ? stream.segment : 0);
  stream.start(start, some);
  tables.store(at, p.experts);
  stream.startNested(start, some);
  for (int i = threadX; i < segments; i += rowThreads) storeSegment(at, i, downSegment<F>(p, u, ids, first, i));
  DownRest rest;  // of this thread's first row
  auto loadRest = [&](int i) __attribute__((always_inline)) {
    int unit = first + i / 16;
    rest.load(p, u, ids, unit, u.tile(unit) * 16 + i % 16);
  };
  if (threadX < (last - first) * 16) loadRest(threadX);
  if constexpr (F == mxfp4) {
    waitCopies<perGroup>();  // the vectors
  } else {
    stream.storePairs();
    convertVectors<F>(p, at.vector, pitch / 16);
  }
  syncBlock();
  stream.run(segments, pitch);
  syncBlock();
  for (int i = threadX; i < (last - first) * 16; i += rowThreads) {
    int unit = first + i / 16, row = u.tile(unit) * 16 + i % 16;
    if (i >= rowThreads) loadRest(i);
    float sum = 0;
    UNROLL for (int j = 0; j < mostHalf; j++)
      if (j < u.half) sum += rest.weight[j] * (rowSum(at, p.plan.groups, i / 16 * u.half + j, i % 16) * p.sumFactor + rest.bias[j]);
    p.planes[u.plane(unit) * p.w.rows + row] = sum;
  }
}

// Up to 32 experts have a lane each in the choice.
#define ROW_KERNELS(format)                                                                  \
  KERNEL(rowThreads, 1) gateUpRow32(const GateUpRowParams p) { gateUpRow<format, 1>(p); }    \
  KERNEL(rowThreads, 1) gateUpRow256(const GateUpRowParams p) { gateUpRow<format, 8>(p); }   \
  KERNEL(rowThreads, 1) downRow(const DownRowParams p) { downRow<format>(p); }
