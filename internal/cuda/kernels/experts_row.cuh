// Experts of one token, in two launches: the choice of experts, norm, gate/up and SwiGLU; then down and the weighted sum.
//
// A block takes a run of segments, each a tile of one chosen expert. Its warps take them in groups of three chunks, warp w
// every 16th group; a ring of three slots, in which every lane copies and reads its own 16 bytes, brings the codes without
// any synchronisation, the scales come through registers one group ahead. The vector is one column of B, in the lanes of
// g = 0; a group's 16 sums go to shared memory, and after one barrier a thread adds up each row's. Where the inputs are no
// multiple of three chunks, zeros follow the vector, and whatever weights follow do not matter.
//
// MXFP4 weights stay unscaled, e2m1 * 2^-126, in the products of a block of 32, which are then multiplied by its scale. So
// that they stay normal numbers, the vector is multiplied by 2^100 before and the sum by 2^26 after.
#pragma once
#include "experts.cuh"
#include "route.cuh"

constexpr int rowThreads = 512, rowWarps = 16, perGroup = 3;
constexpr int ringBytes = rowWarps * perGroup * 512;
constexpr float vectorFactor(int f) { return f == mxfp4 ? 0x1p100f : 1.f; }
constexpr float sumFactor(int f) { return f == mxfp4 ? 0x1p26f : 1.f; }

// Where a segment's weights and its part of the vector lie.
struct alignas(16) Segment {
  const u8 *tile;
  int number;  // of the tile in its expert
  int slot;    // of the expert in the choice
};

// Shared memory, in this order.
struct RowShared {
  u32 ring, map, starts, segments, vector, sums;
  // pitch: bytes of one vector.
  METHOD RowShared(int segmentsAtMost, int vectors, int pitch) {
    ring = sharedAddress(dynamicShared);
    map = ring + ringBytes;                   // [256] what codes of scales stand for
    starts = map + 256 * 4;                   // [mostChosen, 2] NestedStart
    segments = starts + mostChosen * 2 * 16;  // [segmentsAtMost] Segment
    vector = segments + segmentsAtMost * 16;
    sums = vector + vectors * pitch;          // [groups, 16]
  }
};

template <int To, int From> DEVICE void copyAsync16If(u32 shared, const void *global, bool ok) {
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %2, 0; @q cp.async.cg.shared.global [%0+%3], [%1+%4], 16; }" ::"r"(shared), "l"(global), "r"((u32)ok), "n"(To), "n"(From) : "memory");
}
template <int Offset> DEVICE void loadShared4If(U4 &v, u32 a, bool ok) {
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %5, 0; @q ld.shared.v4.b32 {%0, %1, %2, %3}, [%4+%6]; }"
               : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w) : "r"(a), "r"((u32)ok), "n"(Offset) : "memory");
}
DEVICE void loadWordIf(u32 &v, const void *p, bool ok) {
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %2, 0; @q ld.global.nc.b32 %0, [%1]; }" : "+r"(v) : "l"(p), "r"((u32)ok));
}
DEVICE void loadHalfIf(u32 &v, const void *p, bool ok) {
  asm volatile("{ .reg .pred q; .reg .b16 h; setp.ne.u32 q, %2, 0; @q ld.global.nc.b16 h, [%1]; @q cvt.u32.u16 %0, h; }" : "+r"(v) : "l"(p), "r"((u32)ok));
}
DEVICE void loadPairIf(u32 &a, u32 &b, const void *p, bool ok) {
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %3, 0; @q ld.global.nc.v2.b32 {%0, %1}, [%2]; }" : "+r"(a), "+r"(b) : "l"(p), "r"((u32)ok));
}

// The scales of one group of chunks: lane 4g+t has those of rows g and g+8 in chunk t.
template <int F> struct RowScales {
  u32 a = 0, b = 0;  // MXFP4: the word of both rows; absmax: two floats; nested: first codes, then two floats
  u32 c = 0, d = 0;  // nested: scales of scales
  float offset = 0;

  METHOD void load(const Experts &w, const RowShared &at, const Segment &s, int chunk, bool ok) {
    int g = laneId >> 2, t = laneId & 3;
    ok = ok && t < perGroup;
    const u8 *p = s.tile + (chunk + t) * chunkBytes(F) + 512;
    if constexpr (F == mxfp4) loadWordIf(a, p + g * 4, ok);
    if constexpr (F == absmax) loadPairIf(a, b, p + g * 8, ok);
    if constexpr (F == nested) {
      U4 v = loadShared4(at.starts + (s.slot * 2 + (g & 1) * w.split) * 16);
      NestedStart start = {(int)v.x, (int)v.y, asFloat(v.z), 0};
      NestedRows r = nestedRows(w, start, s.number);
      offset = r.offset;
      loadHalfIf(a, p + g * 2, ok);
      loadWordIf(c, r.scales + ((r.low + chunk + t) >> w.shift), ok);
      loadWordIf(d, r.scales + ((r.high + chunk + t) >> w.shift), ok);
    }
  }
  // Turns what load asked for into scales. It waits for the loads.
  METHOD void finish(const RowShared &at) {
    if constexpr (F == nested) {
      u32 low = loadShared(at.map + (a & 255) * 4), high = loadShared(at.map + (a >> 8 & 255) * 4);
      a = asBits(unnest(asFloat(low), asFloat(c), offset));
      b = asBits(unnest(asFloat(high), asFloat(d), offset));
    }
  }
};

DEVICE float scaleE8M0(u32 scales, int byte) { return asFloat((scales >> (8 * byte) & 255) << 23); }

// Sums of rows g and g+8 over one group, in the lanes of t = 0.
template <int F> struct RowSums {
  float low[2] = {0, 0}, high[2] = {0, 0};  // by block of 32
  float c[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}};

  // Chunk K of the group, from its codes and the 16 values of the vector in lanes of g = 0.
  template <int K> METHOD void add(U4 codes, const U4 (&x)[2], const RowScales<F> &s, float mine) {
    int from = (laneId & 28) + K;
    if constexpr (F == mxfp4) {
      u32 e = shuffleFrom(s.a, from), word[4] = {codes.x, codes.y, codes.z, codes.w};
      UNROLL for (int b = 0; b < 2; b++) {
        u32 p[4], q[4];
        float v[4];
        decodeE2M1(word[2 * b], p);
        decodeE2M1(word[2 * b + 1], q);
        mmaZeroBF16(v, p[0], q[0], p[1], q[1], x[b].x, x[b].y);
        mmaBF16(v, p[2], q[2], p[3], q[3], x[b].z, x[b].w);
        low[b] += v[0] * scaleE8M0(e, b);
        high[b] += v[2] * scaleE8M0(e, 2 + b);
      }
    } else {
      float scale0 = asFloat(shuffleFrom(s.a, from)), scale1 = asFloat(shuffleFrom(s.b, from));
      Fragment f[2];
      decodeRows(f, codes.x, codes.y, mine, scale0, scale1);
      multiply(c[0], f[0], x[0].x, x[0].y);
      multiply(c[0], f[1], x[0].z, x[0].w);
      decodeRows(f, codes.z, codes.w, mine, scale0, scale1);
      multiply(c[1], f[0], x[1].x, x[1].y);
      multiply(c[1], f[1], x[1].z, x[1].w);
    }
  }
  METHOD float sum(int half) const {
    if constexpr (F != mxfp4) return c[0][2 * half] + c[1][2 * half];
    return ((half ? high : low)[0] + (half ? high : low)[1]) * sumFactor(F);
  }
};

// One warp's way through the block's groups.
template <int F> struct RowStream {
  const Experts &w;
  const RowShared &at;
  int groups;          // of a segment
  int segment, group;  // the warp's next
  u32 slot;            // of the ring: this lane's first 16 bytes
  float mine = 0;      // what code laneId&15 stands for
  RowScales<F> scales;

  METHOD RowStream(const Experts &experts, const RowShared &shared, int groupsOfSegment) : w(experts), at(shared), groups(groupsOfSegment) {
    segment = warpId / groups;
    group = warpId % groups;
    slot = at.ring + warpId * (perGroup * 512) + laneId * 16;
    if constexpr (F != mxfp4) mine = loadTable(w.side->table + (laneId & 15));
  }
  METHOD void advance() {
    segment += rowWarps / groups;
    group += rowWarps % groups;
    if (group >= groups) {
      group -= groups;
      segment++;
    }
  }
  METHOD const u8 *codes(const Segment &s) const { return s.tile + group * (perGroup * chunkBytes(F)) + laneId * 16; }

  // The first group: its segment is not in shared memory yet.
  METHOD void startCodes(const Segment &s, bool ok) {
    const u8 *p = codes(s);
    repeat<perGroup>([&](auto k) __attribute__((always_inline)) {
      copyAsync16If<k.value * 512, k.value * chunkBytes(F)>(slot, p, ok);
      commitCopies();
    });
  }
  METHOD void startScales(const Segment &s, bool ok) { scales.load(w, at, s, group * perGroup, ok); }

  METHOD Segment segmentAt(int i) const {
    U4 v = loadShared4(at.segments + i * 16);
    return {(const u8 *)((u64)v.y << 32 | v.x), (int)v.z, (int)v.w};
  }

  // pitch: bytes of a vector; 0 where all segments have the same.
  METHOD void run(int segments, int pitch) {
    bool first = laneId < 4;  // g = 0
    U4 x[2] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
    if (segment < segments) scales.finish(at);
    while (segment < segments) {
      u32 vector = at.vector + group * (perGroup * 128) + (laneId & 3) * 16;
      if (pitch) vector += segmentAt(segment).slot * pitch;
      u32 sums = at.sums + (segment * groups + group) * 64 + (laneId >> 2) * 4;
      advance();
      bool more = segment < segments;
      Segment next = segmentAt(more ? segment : segments - 1);
      const u8 *p = codes(next);
      RowScales<F> coming;
      coming.load(w, at, next, group * perGroup, more);
      RowSums<F> sum;
      repeat<perGroup>([&](auto k) __attribute__((always_inline)) {
        constexpr int K = k.value;
        waitCopies<perGroup - 1>();
        U4 v = loadShared4<K * 512>(slot);
        loadShared4If<K * 128>(x[0], vector, first);
        loadShared4If<K * 128 + 64>(x[1], vector, first);
        copyAsync16If<K * 512, K * chunkBytes(F)>(slot, p, more);
        commitCopies();
        sum.template add<K>(v, x, scales, mine);
        if constexpr (K == perGroup - 1) coming.finish(at);
      });
      scales = coming;
      if ((laneId & 3) == 0) {
        storeShared(sums, sum.sum(0));
        storeShared(sums + 32, sum.sum(1));
      }
    }
  }
};

// The sum of a row of a segment over its groups.
DEVICE float rowSum(const RowShared &at, int groups, int segment, int row) {
  float sum = 0;
  u32 a = at.sums + segment * groups * 64 + row * 4;
  for (int i = 0; i < groups; i++) sum += asFloat(loadShared(a + i * 64));
  return sum;
}

DEVICE void storeSegment(const RowShared &at, int i, const Segment &s) {
  u64 p = (u64)s.tile;
  storeShared4(at.segments + i * 16, {(u32)p, (u32)(p >> 32), (u32)s.number, (u32)s.slot});
}

// What double-quantised scales need in shared memory: their map, which is needed after the next barrier, and where those of
// the chosen experts begin, which are there at return. ids: a byte each.
template <int F> DEVICE void storeNested(const Experts &w, const RowShared &at, u64 ids, int topK) {
  if constexpr (F == nested) {
    U4 start = {0, 0, 0, 0};
    float value = 0;
    if (threadX < topK * 2) start = loadWeights(w.side->start + ((int)(ids >> (threadX >> 1) * 8) & 255) * 2 + (threadX & 1));
    if (threadX < 256) value = loadTable(w.side->map + threadX);
    if (threadX < topK * 2) storeShared4(at.starts + threadX * 16, start);
    if (threadX < 256) storeShared(at.map + threadX * 4, value);
    syncBlock();
  }
}

// ---- gate/up

struct GateUpRowParams {
  Experts w;
  const float *x, *norm;   // [cols]
  const float *routerBias; // [experts]
  const u64 *acc;          // [experts+1]
  u16 *h;                  // BF16 [topK, rows/2], times factor
  int *choice;             // ids [topK], then weights, float32 [topK]
  int experts, topK, segments; // segments: at most, of a block
  float eps, alpha, limit, factor;
  int padding;
};

DEVICE Segment gateUpSegment(const GateUpRowParams &p, int format, u64 ids, int unit) {
  int tiles = p.w.rows >> 4, slot = unit / tiles, tile = unit - slot * tiles;
  return {tileOf(p.w, format, (int)(ids >> slot * 8) & 255, tile), tile, slot};
}

// The residual times the norm's weight, held from before the choice of experts until 1/rms is known.
constexpr int quadsHeld = 2;
struct HeldQuads {
  float x[quadsHeld][4], g[quadsHeld][4];
  METHOD void load(const GateUpRowParams &p, int first) {
    UNROLL for (int i = 0; i < quadsHeld; i++) {
      int q = first + i * rowThreads;
      UNROLL for (int j = 0; j < 4; j++) x[i][j] = g[i][j] = 0;
      loadFloat4If(g[i], p.norm + q * 4, q * 4 < p.w.cols);
      loadFloat4If(x[i], p.x + q * 4, q * 4 < p.w.cols);
    }
  }
  METHOD void store(u32 vector, int quads, int first, float scale) const {
    UNROLL for (int i = 0; i < quadsHeld; i++) {
      int q = first + i * rowThreads;
      const float *a = x[i], *b = g[i];
      if (q < quads) storeShared2(vector + q * 8, packBF16(a[0] * b[0] * scale, a[1] * b[1] * scale), packBF16(a[2] * b[2] * scale, a[3] * b[3] * scale));
    }
  }
  static METHOD void storeShared2(u32 a, u32 x, u32 y) { asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(a), "r"(x), "r"(y) : "memory"); }
};

template <int F, int N> DEVICE void gateUpRow(const GateUpRowParams &p) {
  Accumulated<N> sums;
  sums.load(p.acc, p.routerBias, p.experts);
  HeldQuads held;
  held.load(p, threadX);
  float scale = sums.scale(p.w.cols, p.eps);
  u32 key[N];
  sums.keys(key, scale, p.experts);
  Choice c;
  choose(c, key, p.topK);
  u64 ids = 0;
  UNROLL for (int k = 0; k < mostChosen; k++) ids |= (u64)c.id[k] << (8 * k);

  int groups = ceilDiv(p.w.cols >> 6, perGroup), pitch = groups * perGroup * 128, quads = pitch / 8;
  RowShared at(p.segments, 1, pitch);
  int first, last;
  shareOf(p.topK * (p.w.rows >> 4), first, last);
  int segments = last - first;
  RowStream<F> stream(p.w, at, groups);
  Segment start = gateUpSegment(p, F, ids, first + minOf(stream.segment, maxOf(segments - 1, 0)));
  stream.startCodes(start, stream.segment < segments);
  storeNested<F>(p.w, at, ids, p.topK);
  stream.startScales(start, stream.segment < segments);
  for (int i = threadX; i < segments; i += rowThreads) storeSegment(at, i, gateUpSegment(p, F, ids, first + i));

  if (blockX == 0 && warpId == 0) {
    UNROLL for (int k = 0; k < mostChosen; k++) {
      if (k >= p.topK || laneId != k) continue;
      p.choice[k] = c.id[k];
      ((float *)p.choice)[p.topK + k] = c.weight[k];
    }
  }
  scale *= vectorFactor(F);
  held.store(at.vector, quads, threadX, scale);
  for (int q = threadX + quadsHeld * rowThreads; q < quads; q += quadsHeld * rowThreads) {
    held.load(p, q);
    held.store(at.vector, quads, q, scale);
  }
  float bias = 0;  // of this thread's first row
  auto biasOf = [&](int i) __attribute__((always_inline)) {
    Segment s = gateUpSegment(p, F, ids, first + i / 16);
    return p.w.bias + (i64)((int)(ids >> s.slot * 8) & 255) * p.w.rows + s.number * 16 + i % 16;
  };
  if (threadX < segments * 16) bias = *biasOf(threadX);
  syncBlock();
  stream.run(segments, 0);
  syncBlock();
  for (int i0 = 0; i0 < segments * 16; i0 += rowThreads) {
    int i = i0 + threadX;
    bool ok = i < segments * 16;
    float v = 0;
    if (ok) v = rowSum(at, groups, i / 16, i % 16) + (i0 == 0 ? bias : *biasOf(i));
    float up = shuffleXor(v, 1);
    if (!ok || (i & 1)) continue;
    Segment s = gateUpSegment(p, F, ids, first + i / 16);
    p.h[s.slot * (p.w.rows >> 1) + s.number * 8 + i % 16 / 2] = toBF16(swiglu(v, up, p.alpha, p.limit) * p.factor);
  }
}

// ---- down

struct DownRowParams {
  Experts w;
  const u16 *h;      // BF16 [topK, cols], times what the format wants
  const int *choice; // ids [topK], then weights
  float *planes;     // [2, rows]: the first half of the choice, the second
  int topK, segments; // segments: at most, of a block
};

// A unit is a tile of one plane, with `half` segments. Where the second plane has fewer experts, the last is met twice,
// the second time with weight 0.
struct DownUnits {
  int tiles, half, topK;
  METHOD int slot(int unit, int i) const { return minOf(unit / tiles * half + i, topK - 1); }
  METHOD bool real(int unit, int i) const { return unit / tiles * half + i < topK; }
};

template <int F> DEVICE Segment downSegment(const DownRowParams &p, const DownUnits &u, u64 ids, int first, int i) {
  int unit = first + i / u.half, slot = u.slot(unit, i % u.half), tile = unit % u.tiles;
  return {tileOf(p.w, F, (int)(ids >> slot * 8) & 255, tile), tile, slot};
}

template <int F> DEVICE void downRow(const DownRowParams &p) {
  u64 ids = 0;
  {
    int id[mostChosen];
    UNROLL for (int k = 0; k < mostChosen; k++) {
      float v = 0;
      loadFloatIf(v, (const float *)p.choice + k, k < p.topK);
      id[k] = (int)asBits(v);
    }
    UNROLL for (int k = 0; k < mostChosen; k++) ids |= (u64)(u32)id[k] << (8 * k);
  }
  DownUnits u = {p.w.rows >> 4, (p.topK + 1) >> 1, p.topK};
  int groups = ceilDiv(p.w.cols >> 6, perGroup), pitch = groups * perGroup * 128;
  RowShared at(p.segments, p.topK, pitch);
  int first, last;
  shareOf(2 * u.tiles, first, last);
  int segments = (last - first) * u.half;
  RowStream<F> stream(p.w, at, groups);
  Segment start = downSegment<F>(p, u, ids, first, minOf(stream.segment, maxOf(segments - 1, 0)));
  stream.startCodes(start, stream.segment < segments);
  storeNested<F>(p.w, at, ids, p.topK);
  stream.startScales(start, stream.segment < segments);
  for (int i = threadX; i < segments; i += rowThreads) storeSegment(at, i, downSegment<F>(p, u, ids, first, i));

  // The vectors, each followed by zeros to a whole number of groups.
  int units = pitch / 16, real = p.w.cols / 8;
  constexpr int held = 3;
  for (int i0 = threadX; i0 < p.topK * units; i0 += held * rowThreads) {
    U4 v[held];
    UNROLL for (int j = 0; j < held; j++) {
      int i = i0 + j * rowThreads, k = i / units, n = i - k * units;
      v[j] = {0, 0, 0, 0};
      if (k < p.topK && n < real) v[j] = loadActivations(p.h + (i64)k * p.w.cols + n * 8);
    }
    UNROLL for (int j = 0; j < held; j++)
      if (i0 + j * rowThreads < p.topK * units) storeShared4(at.vector + (i0 + j * rowThreads) * 16, v[j]);
  }
  syncBlock();
  stream.run(segments, pitch);
  syncBlock();
  for (int i = threadX; i < (last - first) * 16; i += rowThreads) {
    int unit = first + i / 16, row = unit % u.tiles * 16 + i % 16;
    float sum = 0;
    for (int j = 0; j < u.half; j++) {
      int slot = u.slot(unit, j), expert = (int)(ids >> slot * 8) & 255;
      float weight = u.real(unit, j) ? loadFloat((const float *)p.choice + p.topK + slot) : 0.f;
      sum += weight * (rowSum(at, groups, i / 16 * u.half + j, i % 16) + p.w.bias[(i64)expert * p.w.rows + row]);
    }
    p.planes[unit / u.tiles * p.w.rows + row] = sum;
  }
}

// Up to 32 experts have a lane each in the choice.
#define ROW_KERNELS(format)                                                                  \
  KERNEL(rowThreads, 1) gateUpRow32(const GateUpRowParams p) { gateUpRow<format, 1>(p); }    \
  KERNEL(rowThreads, 1) gateUpRow256(const GateUpRowParams p) { gateUpRow<format, 8>(p); }   \
  KERNEL(rowThreads, 1) downRow(const DownRowParams p) { downRow<format>(p); }
