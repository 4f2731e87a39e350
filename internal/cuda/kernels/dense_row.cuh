// Matrix times vector: one token. A warp takes one row at a time; every 16-byte load of the row is in flight at once, and
// each register is loaded again, with the next row's bytes, as soon as it is consumed. The first row is asked for before
// anything else happens. The vector lies in shared memory as float planes: plane j holds elements 4j..4j+3 of each chunk,
// so that the lanes of a warp read 512 bytes in a run. After the prologue no warp waits for another.
//
// A chunk is 16 bytes: 8 weights of BF16 and F16, 16 of Q8. A lane holds chunks lane, lane+32, ...; the kernels exist for
// several numbers of chunks a lane. Wide rows are cut into segments of 16 chunks a lane.
#pragma once
#include "dense.cuh"
#include "overlap.cuh"

constexpr int rowThreads = 256, rowWarps = rowThreads / 32;

// Loads chunk K of a lane, or leaves v, if the row has it: left is what the row holds from the lane's first chunk on.
template <int K> DEVICE void loadChunk(U4 &v, const u8 *p, int left) {
  asm volatile("{ .reg .pred q; setp.gt.s32 q, %5, %6; @q ld.global.nc.v4.b32 {%0, %1, %2, %3}, [%4+%7]; }"
               : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w) : "l"(p), "r"(left), "n"(32 * K), "n"(512 * K));
}
// The same for the chunk's scale: two chunks share one.
template <int K> DEVICE void loadScale(u32 &v, const u8 *p, int left) {
  asm volatile("{ .reg .pred q; .reg .b16 h; setp.gt.s32 q, %2, %3; @q ld.global.nc.b16 h, [%1+%4]; @q cvt.u32.u16 %0, h; }"
               : "+r"(v) : "l"(p), "r"(left), "n"(32 * K), "n"(32 * K));
}

// A stream of weight rows through the registers of a warp.
template <int F, int Chunks, bool Wide> struct RowStream {
  static constexpr int perChunk = F == formatQ8 ? 16 : 8; // weights
  static constexpr int planes = perChunk / 4;
  static constexpr int segment = Chunks * 32; // chunks
  // The prologue's share of a thread: groups of 4 elements, and how many at a time, so that no register spills.
  static constexpr int quads = segment * planes;
  static constexpr int turn = (quads + rowThreads - 1) / rowThreads;
  static constexpr int held = turn > 3 && (Wide || F == formatQ8) ? 3 : turn;
  static constexpr bool oneTurn = !Wide && held == turn;

  U4 codes[Chunks];
  u32 scales[F == formatQ8 ? Chunks : 1];
  const u8 *data, *scaleData; // this lane's, of row 0
  int pitch;                  // bytes of a row's codes
  int chunks, segments;       // of a row

  template <int K> METHOD void load(const u8 *p, const u8 *sp, int left) {
    loadChunk<K>(codes[K], p, left);
    if constexpr (F == formatQ8) loadScale<K>(scales[K], sp, left);
  }
  // Segment s of a row: what loadChunk wants to know of it, and where it is.
  METHOD int leftOf(int s, bool ok) const { return ok ? chunks - s * segment - laneId : 0; }
  METHOD const u8 *codesOf(int row, int s) const { return data + (i64)row * pitch + s * (segment * 16); }
  METHOD const u8 *scalesOf(int row, int s) const { return scaleData + (i64)row * (pitch >> 4) + s * segment; }

  METHOD void start(const u8 *codesAt, const u16 *scalesAt, int cols, int row, bool ok) {
    pitch = cols * (F == formatQ8 ? 1 : 2);
    chunks = cols / perChunk;
    segments = Wide ? ceilDiv(chunks, segment) : 1;
    data = codesAt + laneId * 16;
    scaleData = (const u8 *)(scalesAt + (laneId >> 1));
    const u8 *p = codesOf(row, 0), *sp = scalesOf(row, 0);
    int left = leftOf(0, ok);
    repeat<Chunks>([&](auto k) __attribute__((always_inline)) {
      codes[k.value] = {0, 0, 0, 0};
      if constexpr (F == formatQ8) scales[k.value] = 0;
      load<k.value>(p, sp, left);
    });
  }

  // Four elements of plane J that meet chunk K; x is the lane's place in plane 0.
  template <int K, int J> METHOD U4 elements(u32 x) const {
    if constexpr (Wide) return loadShared4<K * 512>(x + J * stride(segments));
    else return loadShared4<K * 512 + J * segment * 16>(x);
  }

  // The products of chunk K with the vector.
  template <int K> METHOD void multiply(float *s, u32 x) const {
    U4 w = codes[K];
    if constexpr (F == formatQ8) {
      u32 words[4] = {w.x, w.y, w.z, w.w};
      float part[4];
      repeat<4>([&](auto j) __attribute__((always_inline)) {
        u32 c = words[j.value] ^ 0x80808080u;
        U4 v = elements<K, j.value>(x);
        part[j.value] = codeOf<0>(c) * asFloat(v.x) + codeOf<1>(c) * asFloat(v.y) + codeOf<2>(c) * asFloat(v.z) + codeOf<3>(c) * asFloat(v.w);
      });
      s[K & 3] += ((part[0] + part[1]) + (part[2] + part[3])) * lowF16(scales[K]);
      return;
    }
    U4 a = elements<K, 0>(x), b = elements<K, 1>(x);
    constexpr bool half = F == formatF16;
    s[0] += (half ? lowF16(w.x) : lowBF16(w.x)) * asFloat(a.x);
    s[1] += (half ? highF16(w.x) : highBF16(w.x)) * asFloat(a.y);
    s[2] += (half ? lowF16(w.y) : lowBF16(w.y)) * asFloat(a.z);
    s[3] += (half ? highF16(w.y) : highBF16(w.y)) * asFloat(a.w);
    s[0] += (half ? lowF16(w.z) : lowBF16(w.z)) * asFloat(b.x);
    s[1] += (half ? highF16(w.z) : highBF16(w.z)) * asFloat(b.y);
    s[2] += (half ? lowF16(w.w) : lowBF16(w.w)) * asFloat(b.z);
    s[3] += (half ? highF16(w.w) : highBF16(w.w)) * asFloat(b.w);
  }

  static METHOD int stride(int segments) { return segments * segment * 16; } // bytes of a plane
  static METHOD int vectorBytes(int segments) { return planes * stride(segments); }

  // Multiplies rows row, row+rowWarps, ... below last, the first of which start() asked for. done(i, row, sum) gets the
  // i-th product, in every lane.
  template <class Done> METHOD void run(int row, int last, u32 vector, Done done) {
    for (int i = 0; row < last; row += rowWarps, i++) {
      float s[4] = {0, 0, 0, 0};
      for (int g = 0; g < segments; g++) {
        bool same = Wide && g + 1 < segments;
        int nextRow = same ? row : row + rowWarps, next = same ? g + 1 : 0;
        const u8 *p = codesOf(nextRow, next), *sp = scalesOf(nextRow, next);
        int left = leftOf(next, nextRow < last);
        u32 x = vector + g * (segment * 16) + laneId * 16;
        repeat<Chunks>([&](auto k) __attribute__((always_inline)) {
          multiply<k.value>(s, x);
          load<k.value>(p, sp, left);
        });
        if constexpr (!Wide) break;
      }
      done(i, row, warpSum((s[0] + s[1]) + (s[2] + s[3])));
    }
  }
};

// Four elements of the vector, from 4*quad on, to their places in the planes.
template <int F> DEVICE void storeQuad(u32 vector, int stride, int quad, const float *v) {
  if constexpr (F == formatQ8) {
    // As dense.cuh orders a block: two words of one chunk, two bytes apart in each.
    int k = (quad * 4) & 31, p = placeQ8(k);
    u32 at = vector + (((p & 15) >> 2) * stride) + ((quad >> 3) * 2 + (p >> 4)) * 16 + (p & 3) * 4;
    storeShared(at, v[0]);
    storeShared(at + 8, v[1]);
    storeShared(at + 2 * stride, v[2]);
    storeShared(at + 2 * stride + 8, v[3]);
  } else {
    storeShared4(vector + (quad & 1) * stride + (quad >> 1) * 16, U4{asBits(v[0]), asBits(v[1]), asBits(v[2]), asBits(v[3])});
  }
}

// ---- norm, product, bias: q/k/v and the head

// Rows of a block: the first `extra` blocks take share+1, the others share. The host divides.
DEVICE void rowsOf(int share, int extra, int &first, int &last) {
  first = blockX * share + minOf(blockX, extra);
  last = first + share + (blockX < extra);
}

struct NormRowParams {
  const u8 *data;
  const u16 *scales;
  const float *bias;         // [rows], or 0; with it, share+1 is at most 256
  const float *x, *planes;   // the residual is x + planes[0] + planes[1]
  const float *norm;         // [cols]
  float *out;                // [rows]
  int cols, nplanes;
  int share, extra;          // rowsOf
  float perCol, eps;         // 1/cols
};

// Adds the planes, writes residual times norm weight to the vector's planes, and returns the block's sum of squares of
// the residual: the factor 1/rms is applied to the products.
template <int F, int Chunks, bool Wide> DEVICE float normVector(const NormRowParams &p, u32 scratch, u32 vector, int segments) {
  using Stream = RowStream<F, Chunks, Wide>;
  constexpr int held = Stream::held;
  int quads = segments * Stream::quads, real = p.cols / 4;
  float square = 0;
  for (int first = threadX; first < quads; first += held * rowThreads) {
    float v[held][4], a[held][4], b[held][4], g[held][4];
    UNROLL for (int i = 0; i < held; i++) {
      int q = first + i * rowThreads;
      bool ok = q < real, sum = ok && p.nplanes > 0;
      UNROLL for (int j = 0; j < 4; j++) v[i][j] = a[i][j] = b[i][j] = g[i][j] = 0;
      loadFloat4If(g[i], p.norm + q * 4, ok);
      loadFloat4If(v[i], p.x + q * 4, ok);
      loadFloat4If(a[i], p.planes + q * 4, sum);
      loadFloat4If(b[i], p.planes + p.cols + q * 4, sum);
    }
    UNROLL for (int i = 0; i < held; i++) {
      int q = first + i * rowThreads;
      UNROLL for (int j = 0; j < 4; j++) {
        v[i][j] += a[i][j] + b[i][j];
        square += v[i][j] * v[i][j];
        v[i][j] *= g[i][j];
      }
      if (q < quads) storeQuad<F>(vector, Stream::stride(segments), q, v[i]);
    }
    if constexpr (Stream::oneTurn) break;
  }
  square = warpSum(square);
  if (laneId == 0) storeShared(scratch + warpId * 4, square);
  syncBlock();
  U4 s = loadShared4<0>(scratch), t = loadShared4<16>(scratch);
  return ((asFloat(s.x) + asFloat(s.y)) + (asFloat(s.z) + asFloat(s.w))) + ((asFloat(t.x) + asFloat(t.y)) + (asFloat(t.z) + asFloat(t.w)));
}

extern SHARED __attribute__((aligned(128))) char dynamicShared[];

template <int F, int Chunks, bool Wide> DEVICE void normRow(const NormRowParams &p) {
  letNextBegin();
  int first, last;
  rowsOf(p.share, p.extra, first, last);
  RowStream<F, Chunks, Wide> w;
  int row = first + warpId;
  w.start(p.data, p.scales, p.cols, row, row < last);
  // Lane i holds the bias of the warp's i-th row; a block with a bias has at most 32 rows a warp.
  float bias = 0;
  int mine = row + laneId * rowWarps;
  loadFloatIf(bias, p.bias + mine, p.bias && mine < last);
  waitForLast();

  u32 scratch = sharedAddress(dynamicShared), vector = scratch + 128;
  float scale = rsqrtApprox(normVector<F, Chunks, Wide>(p, scratch, vector, w.segments) * p.perCol + p.eps);
  w.run(row, last, vector, [&](int i, int r, float sum) __attribute__((always_inline)) {
    if (laneId == (i & 31)) p.out[r] = sum * scale + bias;
  });
}

// ---- product, bias, residual, and the router's partial sums: the output projection

struct OutRowParams {
  const u8 *data;
  const u16 *scales;
  const float *bias;       // [rows], or 0
  const float *in;         // [cols]
  const float *x, *planes; // the residual is x + planes[0] + planes[1]
  const float *norm;       // [rows], of the norm before the router
  const float *router;     // [rows, experts]
  float *xOut;             // [rows]
  u64 *acc;                // [experts+1]: see finishRouter
  int rows, cols, nplanes, experts;
  int share, extra;        // rowsOf; share+1 is at most 256
  int expertBits;          // threads that share a row of the router: 2^expertBits >= experts, at least 32
  int padding;
};

// What the router needs of a block: its rows' residual times norm weight, and their router weights, asked for at the start.
struct RouterSlab {
  u32 values, partial, squares, weights; // shared addresses: [256], [256], [8], [rows of the block, experts]
};

DEVICE void loadRouterSlab(const OutRowParams &p, const RouterSlab &s, int first, int last) {
  const float *from = p.router + (i64)first * p.experts;
  int n = (last - first) * p.experts;
  if (p.experts & 3) {
    NO_UNROLL for (int i = threadX; i < n; i += rowThreads) copyAsync4(s.weights + i * 4, from + i);
  } else {
    NO_UNROLL for (int i = threadX * 4; i < n; i += rowThreads * 4) copyAsync16(s.weights + i * 4, from + i);
  }
  commitCopies();
}

DEVICE void addFixed(u64 *to, float v) {
  i64 fixed = (i64)__builtin_rintf(v);
  asm volatile("red.global.add.u64 [%0], %1;" ::"l"(to), "l"(fixed) : "memory");
}

// Adds the block's share of the router logits (before 1/rms and bias) and of the sum of squares to acc, in fixed point:
// 2^24 and 2^16 to 1. Integer sums do not depend on the order of the blocks.
DEVICE void finishRouter(const OutRowParams &p, const RouterSlab &s, int n) {
  waitCopies<0>();
  syncBlock();
  int expert = threadX & ((1 << p.expertBits) - 1), group = threadX >> p.expertBits, groups = rowThreads >> p.expertBits;
  float sum = 0;
  if (expert < p.experts)
    for (int r = group; r < n; r += groups) sum += asFloat(loadShared(s.values + r * 4)) * asFloat(loadShared(s.weights + (r * p.experts + expert) * 4));
  storeShared(s.partial + threadX * 4, sum);
  syncBlock();
  if (threadX < p.experts) {
    float logit = 0;
    for (int g = 0; g < groups; g++) logit += asFloat(loadShared(s.partial + ((g << p.expertBits) + threadX) * 4));
    addFixed(p.acc + threadX, logit * 16777216.f);
  }
  if (threadX == 0) {
    float squares = 0;
    UNROLL for (int w = 0; w < rowWarps; w++) squares += asFloat(loadShared(s.squares + w * 4));
    addFixed(p.acc + p.experts, squares * 65536.f);
  }
}

// A block has at most 256 rows: 32 a warp.
template <int F, int Chunks, bool Wide> DEVICE void outRow(const OutRowParams &p) {
  letNextBegin();
  int first, last;
  rowsOf(p.share, p.extra, first, last);
  RowStream<F, Chunks, Wide> w;
  int row = first + warpId;
  w.start(p.data, p.scales, p.cols, row, row < last);

  u32 vector = sharedAddress(dynamicShared);
  u32 end = vector + w.vectorBytes(w.segments);
  RouterSlab slab = {end, end + 1024, end + 2048, end + 2048 + 128};
  loadRouterSlab(p, slab, first, last);

  // Lane i holds what the warp's i-th row needs beside its product.
  int mine = row + laneId * rowWarps;
  bool ok = mine < last, sum = ok && p.nplanes > 0;
  float rest = 0, a = 0, b = 0, bias = 0, norm = 0;
  loadFloatIf(norm, p.norm + mine, ok);
  loadFloatIf(bias, p.bias + mine, ok && p.bias);
  waitForLast();
  loadFloatIf(rest, p.x + mine, ok);
  loadFloatIf(a, p.planes + mine, sum);
  loadFloatIf(b, p.planes + p.rows + mine, sum);

  constexpr int held = w.held;
  int quads = w.segments * w.quads, real = p.cols / 4;
  for (int q0 = threadX; q0 < quads; q0 += held * rowThreads) {
    float v[held][4];
    UNROLL for (int i = 0; i < held; i++) {
      UNROLL for (int j = 0; j < 4; j++) v[i][j] = 0;
      loadFloat4If(v[i], p.in + (q0 + i * rowThreads) * 4, q0 + i * rowThreads < real);
    }
    UNROLL for (int i = 0; i < held; i++)
      if (q0 + i * rowThreads < quads) storeQuad<F>(vector, w.stride(w.segments), q0 + i * rowThreads, v[i]);
    if constexpr (w.oneTurn) break;
  }
  rest += (a + b) + bias;
  syncBlock();

  float value = 0;
  w.run(row, last, vector, [&](int i, int r, float product) __attribute__((always_inline)) {
    if (laneId == i) p.xOut[r] = value = product + rest;
  });
  // Lane i has the new residual of row i of the warp; 0 where there is none.
  if (ok) storeShared(slab.values + (mine - first) * 4, value * norm);
  float square = warpSum(value * value);
  if (laneId == 0) storeShared(slab.squares + warpId * 4, square);
  finishRouter(p, slab, last - first);
}

#define ROW_KERNELS(format, chunks, name, wide)                                                                      \
  KERNEL(rowThreads, 2) normRow##name(const NormRowParams p) { normRow<format, chunks, wide>(p); }                   \
  KERNEL(rowThreads, 2) outRow##name(const OutRowParams p) { outRow<format, chunks, wide>(p); }
