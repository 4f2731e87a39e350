// Experts with many rows: 128 weight rows times up to 128 rows of activations a block. A warp has two tiles of weights and
// all the activations: every weight is decoded once for 128 columns, straight from global memory to registers, one chunk
// ahead, and never passes through shared memory. Activations come by cp.async in two stages of one chunk, laid out as in
// experts_group.cuh. An item has more than 32 rows; of its last 64 columns, those past its rows are left out in groups of 32.
#pragma once
#include "experts.cuh"

struct PrefillParams {
  Experts w;
  const u16 *x;      // BF16 [*, cols]
  const int *token;  // row of x of each sorted row; 0: the sorted row itself
  void *out;         // gate/up: BF16 [sorted rows, rows/2]; down: float32 [sorted rows, rows]
  const Item *items;
  const int *count;  // of items
  float alpha, limit;
};

constexpr int prefillWarps = 4, prefillThreads = prefillWarps * 32, prefillTiles = 2, prefillColumns = 128;
constexpr int prefillRows = prefillWarps * prefillTiles * 16;
constexpr int prefillStage = prefillColumns * 128, prefillShared = 2 * prefillStage + prefillColumns * 4;

// Blocks of one expert follow each other, those that share weight rows first.
DEVICE bool findItem(const PrefillParams &p, Item &item, int &part) {
  int parts = ceilDiv(p.w.rows, prefillRows), i = blockX / parts;
  if (i >= *p.count) return false;
  int family = p.items[i].family, first = family >> 16, n = family & 0xffff, local = blockX - first * parts;
  part = local / n;
  item = p.items[first + local % n];
  return true;
}

// One chunk of 4-bit weights of both tiles, as it lies in memory, with scales. absmax and nested: lane 4g+t has the scale
// of row g+8(t&1) of tile t>>1.
template <int F> struct PrefillChunk {
  U4 codes[prefillTiles];
  u32 e[prefillTiles];
  float scale, outer;
  u32 code;
};

template <int F, bool GateUp> struct Prefill {
  const PrefillParams &p;
  Item item;
  u32 base;
  int part, chunks;
  const u8 *weights;      // this lane's, of the first tile; they move on
  u32 second, scaleAt;    // from there to the second tile, and to this lane's scale (absmax)
  const u8 *scaleCode;    // nested: this lane's next
  const float *outer;     // nested: scales of scales
  int unit;               // nested: runs of 64 weights before this lane's row
  float offset, mine;
  float acc[prefillTiles][16][4];

  METHOD Prefill(const PrefillParams &params, const Item &i, int partOfRows) : p(params), item(i), part(partOfRows) {
    base = sharedAddress(dynamicShared);
    chunks = p.w.cols >> 6;
    weights = tileOf(p.w, F, item.expert, tile(0)) + laneId * 16;
    second = (u32)((tile(1) - tile(0)) * chunks * chunkBytes(F));
    if constexpr (F == absmax || F == nested) prepareScales();
    UNROLL for (int i = 0; i < prefillTiles; i++)
      UNROLL for (int j = 0; j < 16; j++)
        UNROLL for (int k = 0; k < 4; k++) acc[i][j][k] = 0;
  }
  // Past the end the last tile is repeated, and not stored.
  METHOD int tile(int i) const { return minOf((part * prefillWarps + warpId) * prefillTiles + i, (p.w.rows >> 4) - 1); }
  METHOD bool real(int i) const { return (part * prefillWarps + warpId) * prefillTiles + i < p.w.rows >> 4; }

  METHOD void prepareScales() {
    int g = laneId >> 2, t = laneId & 3, mineTile = tile(t >> 1);
    if constexpr (F == absmax) scaleAt = (t >> 1) * second + 512 - laneId * 16 + (g * 2 + (t & 1)) * 4;
    mine = p.w.side->table[laneId & 15];
    if constexpr (F == nested) {
      const NestedStart start = p.w.side->start[item.expert * 2 + (g & 1) * p.w.split];
      NestedRows r = nestedRows(p.w, start, mineTile);
      outer = r.scales;
      offset = r.offset;
      unit = t & 1 ? r.high : r.low;
      scaleCode = scaleCodesOf(p.w, item.expert, mineTile) + g * 2 + (t & 1);
    }
  }

  // ---- activations

  METHOD u32 rowTable() const { return base + 2 * prefillStage; }
  // Where each column's activations begin, 16 bytes to 1.
  METHOD void findRows() {
    int sorted = item.row + minOf(threadX, item.rows - 1);
    int row = p.token ? p.token[sorted] : sorted;
    storeShared(rowTable() + threadX * 4, (u32)row * (u32)(p.w.cols >> 3));
    syncBlock();
  }
  METHOD void copyActivations(int chunk) {
    if (chunk < chunks) {
      int row = threadX >> 3, unit = threadX & 7;
      u32 to = base + (chunk & 1) * prefillStage + row * 128 + (unit ^ (row & 1) << 2) * 16;
      const u8 *from = (const u8 *)p.x + chunk * 128 + unit * 16;
      UNROLL for (int i = 0; i < 8; i++)
        if (i * 16 < ((item.rows + 31) & ~31)) copyAsync16(to + i * 16 * 128, from + (i64)loadShared(rowTable() + (row + i * 16) * 4) * 16);
    }
    commitCopies();
  }
  METHOD u32 vectors(int chunk) const {
    int g = laneId >> 2, t = laneId & 3;
    return base + (chunk & 1) * prefillStage + g * 128 + (t ^ (g & 1) << 2) * 16;
  }

  // ---- weights

  // The next chunk. After the last comes one that is not used: of the next tile, or the padding behind all tiles.
  METHOD void load(PrefillChunk<F> &c) {
    UNROLL for (int i = 0; i < prefillTiles; i++) {
      const u8 *from = weights + i * second;
      c.codes[i] = loadWeights(from);
      if constexpr (F == mxfp4) c.e[i] = loadWord(from + 512 - laneId * 16 + (laneId >> 2) * 4);
    }
    if constexpr (F == absmax) c.scale = loadTable((const float *)(weights + (int)scaleAt));
    if constexpr (F == nested) {
      c.code = loadByte(scaleCode);
      scaleCode += scaleCodeBytes;
      c.outer = loadTable(outer + (unit++ >> p.w.shift));
    }
    weights += chunkBytes(F);
  }
  METHOD void finish(PrefillChunk<F> &c) {
    if constexpr (F == nested) c.scale = unnest(loadTable(p.w.side->map + c.code), c.outer, offset);
  }
  static METHOD u32 loadWord(const u8 *p) {
    u32 v;
    asm volatile("ld.global.nc.b32 %0, [%1];" : "=r"(v) : "l"(p));
    return v;
  }
  static METHOD u32 loadByte(const u8 *p) {
    u32 v;
    asm volatile("{ .reg .b16 h; ld.global.nc.u8 h, [%1]; cvt.u32.u16 %0, h; }" : "=r"(v) : "l"(p));
    return v;
  }
  template <int B> METHOD void decode(Fragment (&a)[prefillTiles][2], const PrefillChunk<F> &c) const {
    UNROLL for (int i = 0; i < prefillTiles; i++) {
      u32 low = B ? c.codes[i].z : c.codes[i].x, high = B ? c.codes[i].w : c.codes[i].y;
      if constexpr (F == mxfp4) {
        decodeScaled(a[i], low, high, factorE8M0(c.e[i], B), factorE8M0(c.e[i], 2 + B));
      } else {
        int from = (laneId & 28) + 2 * i;
        decodeRows(a[i], low, high, mine, shuffleFrom(c.scale, from), shuffleFrom(c.scale, from + 1));
      }
    }
  }

  // ---- products

  // Both steps of a block of 32 inputs, for all columns.
  METHOD void multiplyAll(const Fragment (&a)[prefillTiles][2], u32 vectors) {
    repeat<4>([&](auto quarter) __attribute__((always_inline)) {
      constexpr int j0 = quarter.value * 4;
      if (j0 < 8 || j0 * 8 < item.rows) {
        U4 v[4];
        UNROLL for (int j = 0; j < 4; j++) v[j] = loadShared4(vectors + (j0 + j) * 1024);
        UNROLL for (int j = 0; j < 4; j++)
          UNROLL for (int i = 0; i < prefillTiles; i++) multiply(acc[i][j0 + j], a[i][0], v[j].x, v[j].y);
        UNROLL for (int j = 0; j < 4; j++)
          UNROLL for (int i = 0; i < prefillTiles; i++) multiply(acc[i][j0 + j], a[i][1], v[j].z, v[j].w);
      }
    });
  }
  METHOD void nextStage(int chunk) {
    waitCopies<0>();
    syncBlock();
    copyActivations(chunk + 1);
  }

  METHOD void runCodes() {
    PrefillChunk<F> now, next;
    load(now);
    finish(now);
    NO_UNROLL for (int k = 0; k < chunks; k++) {
      nextStage(k);
      Fragment a[prefillTiles][2];
      decode<0>(a, now);
      load(next);
      multiplyAll(a, vectors(k));
      decode<1>(a, now);
      multiplyAll(a, vectors(k) ^ 64);
      finish(next);
      now = next;
    }
  }

  // BF16: half a chunk ahead.
  METHOD void loadHalf(U4 (&w)[prefillTiles][2]) {
    UNROLL for (int i = 0; i < prefillTiles; i++) {
      w[i][0] = loadWeights<0>(weights + i * second);
      w[i][1] = loadWeights<512>(weights + i * second);
    }
    weights += chunkBytes(bf16) / 2;
  }
  static METHOD void fragments(Fragment (&a)[prefillTiles][2], const U4 (&w)[prefillTiles][2]) {
    UNROLL for (int i = 0; i < prefillTiles; i++) fragmentsOf(a[i], w[i][0], w[i][1]);
  }
  METHOD void runBF16() {
    U4 even[prefillTiles][2], odd[prefillTiles][2];
    loadHalf(even);
    NO_UNROLL for (int k = 0; k < chunks; k++) {
      nextStage(k);
      Fragment a[prefillTiles][2];
      loadHalf(odd);
      fragments(a, even);
      multiplyAll(a, vectors(k));
      loadHalf(even);
      fragments(a, odd);
      multiplyAll(a, vectors(k) ^ 64);
    }
  }
  METHOD void run() {
    findRows();
    copyActivations(0);
    if constexpr (F == bf16) runBF16();
    else runCodes();
    waitCopies<0>();
    syncBlock();
    if constexpr (GateUp) storeGateUp();
    else storeDown();
  }

  // ---- results, gathered in shared memory to be stored in runs of 16 bytes

  METHOD void biasOf(float *b, int i) const {
    const float *from = p.w.bias + (i64)item.expert * p.w.rows + tile(i) * 16 + (laneId >> 2);
    b[0] = from[0];
    b[1] = from[8];
  }

  METHOD void storeGateUp() {
    constexpr int half = prefillRows / 2, pitch = half * 2 + 16;
    int g = laneId >> 2, t = laneId & 3;
    UNROLL for (int i = 0; i < prefillTiles; i++) {
      float bias[2];
      biasOf(bias, i);
      UNROLL for (int j = 0; j < 16; j++) {
        UNROLL for (int c = 0; c < 2; c++) {
          // As in experts_group.cuh: a lane of an even row finishes that pair, its odd neighbour the pair 8 rows on.
          float low = acc[i][j][c] + bias[0], high = acc[i][j][2 + c] + bias[1];
          float other = shuffleXor(g & 1 ? low : high, 4);
          float y = swiglu(g & 1 ? other : low, g & 1 ? high : other, p.alpha, p.limit);
          u32 to = base + (j * 8 + 2 * t + c) * pitch + ((warpId * prefillTiles + i) * 8 + (g >> 1) + (g & 1) * 4) * 2;
          asm volatile("st.shared.b16 [%0], %1;" ::"r"(to), "h"(toBF16(y)) : "memory");
        }
      }
    }
    syncBlock();
    int width = p.w.rows >> 1, left = width - part * half;
    for (int q = threadX; q < item.rows * (half / 8); q += prefillThreads) {
      int row = q / (half / 8), at = q % (half / 8) * 8;
      if (at < left) *(U4 *)((u16 *)p.out + (i64)(item.row + row) * width + part * half + at) = loadShared4(base + row * pitch + at * 2);
    }
  }

  METHOD void storeDown() {
    constexpr int pitch = (prefillRows + 4) * 4;
    int g = laneId >> 2, t = laneId & 3, left = p.w.rows - part * prefillRows;
    float bias[prefillTiles][2];
    UNROLL for (int i = 0; i < prefillTiles; i++) biasOf(bias[i], i);
    repeat<4>([&](auto quarter) __attribute__((always_inline)) {
      constexpr int first = quarter.value * 32;
      if (first < item.rows) {
        UNROLL for (int i = 0; i < prefillTiles; i++) {
          UNROLL for (int j = 0; j < 4; j++) {
            UNROLL for (int c = 0; c < 2; c++) {
              const float *v = acc[i][first / 8 + j];
              u32 to = base + (j * 8 + 2 * t + c) * pitch + ((warpId * prefillTiles + i) * 16 + g) * 4;
              storeShared(to, v[c] + bias[i][0]);
              storeShared(to + 32, v[2 + c] + bias[i][1]);
            }
          }
        }
        syncBlock();
        UNROLL for (int q = 0; q < 8; q++) {
          int row = q * 4 + warpId, at = laneId * 4;
          if (first + row < item.rows && at < left)
            *(U4 *)((float *)p.out + (i64)(item.row + first + row) * p.w.rows + part * prefillRows + at) = loadShared4(base + row * pitch + at * 4);
        }
        syncBlock();
      }
    });
  }
};

template <int F, bool GateUp> DEVICE void prefillItem(const PrefillParams &p) {
  Item item;
  int part;
  if (!findItem(p, item, part)) return;
  Prefill<F, GateUp> work(p, item, part);
  work.run();
}

#define PREFILL_KERNELS(format)                                                                      \
  KERNEL(prefillThreads, 2) gateUpPrefill(const PrefillParams p) { prefillItem<format, true>(p); }   \
  KERNEL(prefillThreads, 2) downPrefill(const PrefillParams p) { prefillItem<format, false>(p); }
