// Experts with up to 32 rows each. A block is four warps; a warp owns one tile of weights (two, where there are many rows)
// over all inputs, so that no partial sums exist. Weights are the A of mma, the expert's rows of activations are columns of
// B. Three chunks of the block's weights and of its activations are a stage; cp.async keeps stages-1 of them on their way.
//
// Activations stand in shared memory as rows of 128 bytes a chunk, their 16-byte units exchanged by halves in odd rows: a
// warp's loads meet no bank twice. Where the inputs are no multiple of a stage, activations past the end are zeros, and
// whatever weights follow do not matter.
#pragma once
#include "experts.cuh"

struct GroupParams {
  Experts w;
  const u16 *x;      // BF16 [*, cols]
  const int *token;  // row of x of each sorted row; 0: the sorted row itself
  void *out;         // gate/up: BF16 [sorted rows, rows/2]; down: float32 [sorted rows, rows]
  const Item *items;
  const int *count;  // of items
  float alpha, limit;
  float factor;      // of what gate/up writes
  int padding;
};

constexpr int groupWarps = 4, groupThreads = groupWarps * 32;

template <int F, int N8, int Tiles, bool GateUp> struct Group {
  static constexpr int perStage = F == bf16 ? 1 : 3, stages = F == bf16 ? 4 : 3;
  static constexpr int width = N8 * 8; // rows of activations
  static constexpr int rowThreads = groupThreads / width, units = perStage * 8, turns = (units + rowThreads - 1) / rowThreads;
  static constexpr int codeStage = perStage * chunkBytes(F), tileStage = codeStage + (F == nested ? perStage * scaleCodeBytes : 0);
  static constexpr int codeUnits = codeStage / 16;
  static constexpr int xStage = perStage * width * 128, scaleStage = F == columns ? Tiles * perStage * 256 : 0;
  // A multiple of 128, as multiplyStage exchanges halves of 128 bytes by their address.
  static constexpr int stageBytes = (xStage + groupWarps * Tiles * tileStage + scaleStage + 127) / 128 * 128;
  static constexpr int sharedBytes = stages * stageBytes;

  const GroupParams &p;
  Item item;
  u32 base;                  // of shared memory
  int chunks;                // of a tile
  int tile[Tiles];           // this warp's; past the end it repeats the last
  const u8 *weights[Tiles];  // this lane's next 16 bytes
  const u8 *scaleCodes[Tiles]; // nested: likewise, of the first lanes
  const u8 *activations;     // this thread's row
  bool live;                 // there is such a row
  const float *columnScales; // this thread's next 16 bytes
  NestedRows nest[Tiles];
  float mine;                // what code laneId&15 stands for
  float acc[Tiles][N8][4];

  METHOD Group(const GroupParams &params, const Item &i) : p(params), item(i) {
    base = sharedAddress(dynamicShared);
    chunks = p.w.cols >> 6;
    UNROLL for (int i = 0; i < Tiles; i++) {
      tile[i] = minOf((blockX * groupWarps + warpId) * Tiles + i, (p.w.rows >> 4) - 1);
      weights[i] = tileOf(p.w, F, item.expert, tile[i]) + laneId * 16;
      if constexpr (F == nested) scaleCodes[i] = scaleCodesOf(p.w, item.expert, tile[i]) + laneId * 16;
    }
    UNROLL for (int i = 0; i < Tiles; i++)
      UNROLL for (int j = 0; j < N8; j++)
        UNROLL for (int k = 0; k < 4; k++) acc[i][j][k] = 0;
  }

  // What only the activations and the scales need; the first weights are on their way by now.
  METHOD void prepare() {
    int row = threadX / rowThreads;
    live = row < item.rows;
    int sorted = item.row + minOf(row, item.rows - 1);
    if (p.token) sorted = p.token[sorted];
    activations = (const u8 *)(p.x + (i64)sorted * p.w.cols);
    if constexpr (F == absmax || F == nested || F == columns) mine = p.w.side->table[laneId & 15];
    if constexpr (F == nested) {
      const NestedStart start = p.w.side->start[item.expert * 2 + (laneId >> 2 & 1) * p.w.split];
      UNROLL for (int i = 0; i < Tiles; i++) nest[i] = nestedRows(p.w, start, tile[i]);
    }
    if constexpr (F == columns) {
      int per = perStage * 16, group = minOf(blockX * Tiles + threadX / per, (p.w.rows >> 6) - 1);
      columnScales = p.w.scales + ((i64)item.expert * (p.w.rows >> 6) + group) * p.w.cols + threadX % per * 4;
    }
  }

  METHOD u32 stageAt(int stage) const { return base + stage % stages * stageBytes; }
  METHOD u32 weightsAt(int stage, int i) const { return stageAt(stage) + xStage + (warpId * Tiles + i) * tileStage; }

  METHOD void copyWeights(int stage) {
    UNROLL for (int i = 0; i < Tiles; i++) {
      u32 to = weightsAt(stage, i) + laneId * 16;
      repeat<(codeUnits + 31) / 32>([&](auto c) __attribute__((always_inline)) {
        constexpr int n = c.value * 32;
        if (n + 32 <= codeUnits || laneId < codeUnits - n) copyAsync16(to + n * 16, weights[i] + n * 16);
      });
      weights[i] += codeStage;
      if constexpr (F == nested) {
        if (laneId < perStage) copyAsync16(to + codeStage, scaleCodes[i]);
        scaleCodes[i] += perStage * scaleCodeBytes;
      }
    }
  }

  METHOD void copyActivations(int stage) {
    int row = threadX / rowThreads, unit = threadX % rowThreads;
    UNROLL for (int c = 0; c < turns; c++) {
      int u = unit + c * rowThreads, chunk = stage * perStage + (u >> 3);
      u32 to = stageAt(stage) + (u >> 3) * (width * 128) + row * 128 + ((u & 7) ^ (row & 1) << 2) * 16;
      bool ok = live && chunk < chunks;
      if (units % rowThreads == 0 || u < units) copyAsync16OrZero(to, ok ? activations + (i64)stage * (perStage * 128) + u * 16 : activations, ok);
    }
    if constexpr (F == columns) {
      if (threadX < Tiles * perStage * 16) copyAsync16(stageAt(stage) + stageBytes - scaleStage + threadX * 16, columnScales + stage * (perStage * 64));
    }
  }

  // The scales of chunk t of the stage in lane 4g+t: rows g and g+8.
  METHOD void nestedScales(F2 *s, int stage) const {
    int t = minOf(laneId & 3, perStage - 1);
    UNROLL for (int i = 0; i < Tiles; i++) {
      u32 codes = loadShared(weightsAt(stage, i) + codeStage + t * scaleCodeBytes + (laneId >> 3) * 4) >> (laneId & 4) * 4;
      int at = stage * perStage + t;
      float a = loadTable(nest[i].map + (codes & 255)), b = loadTable(nest[i].map + (codes >> 8 & 255));
      float c = loadTable(nest[i].scales + ((nest[i].low + at) >> p.w.shift)), d = loadTable(nest[i].scales + ((nest[i].high + at) >> p.w.shift));
      s[i] = {unnest(a, c, nest[i].offset), unnest(b, d, nest[i].offset)};
    }
  }

  // The fragments of block b (32 inputs) of chunk k.
  METHOD void decode(Fragment *a, int stage, int i, int k, int b, const F2 &nestedScale) const {
    u32 chunk = weightsAt(stage, i) + k * chunkBytes(F), at = chunk + laneId * 16;
    int g = laneId >> 2;
    if constexpr (F == bf16) {
      fragmentsOf(a, loadShared4(at + b * 1024), loadShared4(at + b * 1024 + 512));
      return;
    }
    u32 low, high;
    loadShared2(low, high, at + b * 8);
    if constexpr (F == mxfp4) {
      u32 e = loadShared(chunk + 512 + g * 4);
      decodeScaled(a, low, high, factorE8M0(e, b), factorE8M0(e, 2 + b));
    } else if constexpr (F == absmax) {
      u32 s0, s1;
      loadShared2(s0, s1, chunk + 512 + g * 8);
      decodeRows(a, low, high, mine, asFloat(s0), asFloat(s1));
    } else if constexpr (F == nested) {
      int from = (laneId & 28) + k;
      decodeRows(a, low, high, mine, shuffleFrom(nestedScale.x, from), shuffleFrom(nestedScale.y, from));
    } else {
      int group = (warpId * Tiles + i) >> 2;
      decodeColumns(a, low, high, mine, stageAt(stage) + stageBytes - scaleStage + (group * perStage + k) * 256 + b * 128 + (laneId & 3) * 32);
    }
  }

  METHOD void multiplyStage(int stage) {
    F2 scale[Tiles];
    if constexpr (F == nested) nestedScales(scale, stage);
    int g = laneId >> 2, t = laneId & 3;
    u32 x = stageAt(stage) + g * 128 + (t ^ (g & 1) << 2) * 16;
    UNROLL for (int k = 0; k < perStage; k++) {
      UNROLL for (int b = 0; b < 2; b++) {
        U4 v[N8];
        UNROLL for (int j = 0; j < N8; j++) v[j] = loadShared4((x + k * (width * 128) + j * 1024) ^ b * 64);
        UNROLL for (int i = 0; i < Tiles; i++) {
          Fragment a[2];
          decode(a, stage, i, k, b, scale[i]);
          UNROLL for (int j = 0; j < N8; j++) multiply(acc[i][j], a[0], v[j].x, v[j].y);
          UNROLL for (int j = 0; j < N8; j++) multiply(acc[i][j], a[1], v[j].z, v[j].w);
        }
      }
    }
  }

  METHOD void run() {
    int n = ceilDiv(chunks, perStage);
    copyWeights(0);
    prepare();
    copyActivations(0);
    commitCopies();
    for (int s = 1; s < stages - 1; s++) copyStage(s, n);
    float bias[Tiles][2];
    UNROLL for (int i = 0; i < Tiles; i++) {
      const float *b = p.w.bias + (i64)item.expert * p.w.rows + tile[i] * 16 + (laneId >> 2);
      bias[i][0] = b[0];
      bias[i][1] = b[8];
    }
    NO_UNROLL for (int s = 0; s < n; s++) {
      waitCopies<stages - 2>();
      syncBlock();
      copyStage(s + stages - 1, n);
      multiplyStage(s);
    }
    UNROLL for (int i = 0; i < Tiles; i++)
      if ((blockX * groupWarps + warpId) * Tiles + i < p.w.rows >> 4) store(i, bias[i]);
  }
  METHOD void copyStage(int stage, int n) {
    if (stage < n) {
      copyWeights(stage);
      copyActivations(stage);
    }
    commitCopies();
  }

  METHOD void store(int i, const float *bias) const {
    int g = laneId >> 2, column = (laneId & 3) * 2;
    UNROLL for (int j = 0; j < N8; j++) {
      UNROLL for (int c = 0; c < 2; c++) {
        int row = j * 8 + column + c;
        float low = acc[i][j][c] + bias[0], high = acc[i][j][2 + c] + bias[1];
        if constexpr (GateUp) {
          // Even rows are gates, odd rows the ups after them: the lane of an even row finishes that pair, its odd
          // neighbour the pair 8 rows on.
          float other = shuffleXor(g & 1 ? low : high, 4);
          float y = swiglu(g & 1 ? other : low, g & 1 ? high : other, p.alpha, p.limit) * p.factor;
          if (row < item.rows) ((u16 *)p.out)[(i64)(item.row + row) * (p.w.rows >> 1) + tile[i] * 8 + (g >> 1) + (g & 1) * 4] = toBF16(y);
        } else if (row < item.rows) {
          float *y = (float *)p.out + (i64)(item.row + row) * p.w.rows + tile[i] * 16 + g;
          y[0] = low;
          y[8] = high;
        }
      }
    }
  }
};

// Items of up to 8 rows.
template <int F, bool GateUp> DEVICE void narrowItem(const GroupParams &p) {
  if (blockY >= *p.count) return;
  Group<F, 1, 1, GateUp> g(p, p.items[blockY]);
  g.run();
}

// Items of up to 32 rows. The block's kind of work is the same for all of its threads.
template <int F, bool GateUp> DEVICE void wideItem(const GroupParams &p) {
  if (blockY >= *p.count) return;
  Item item = p.items[blockY];
  if (item.rows <= 8) {
    Group<F, 1, 2, GateUp> g(p, item);
    g.run();
  } else if (item.rows <= 16) {
    Group<F, 2, 2, GateUp> g(p, item);
    g.run();
  } else {
    Group<F, 4, 2, GateUp> g(p, item);
    g.run();
  }
}

#define GROUP_KERNELS(format)                                                             \
  KERNEL(groupThreads, 6) gateUpNarrow(const GroupParams p) { narrowItem<format, true>(p); } \
  KERNEL(groupThreads, 6) downNarrow(const GroupParams p) { narrowItem<format, false>(p); }  \
  KERNEL(groupThreads, 3) gateUpWide(const GroupParams p) { wideItem<format, true>(p); }     \
  KERNEL(groupThreads, 3) downWide(const GroupParams p) { wideItem<format, false>(p); }
