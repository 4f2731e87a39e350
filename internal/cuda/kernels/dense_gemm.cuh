// Several tokens times dense weights on tensor cores: out[split][tokens, rows] = a[tokens, cols] w[rows, cols]^T, one
// partial sum over a share of the columns for each split, in float32.
//
// Tokens are the rows of mma.m16n8k16's A, weights the columns of its B. A block computes TilesM*16*WarpsM tokens times
// TilesN*8*WarpsN weight rows; a stage is StageK columns of both, brought to shared memory by cp.async, several stages
// ahead. Rows of a stage are cut into 16-byte units; unit u of row r lies at place u^swizzle(r), so that ldmatrix meets no
// bank conflict. Fragments of the next step are fetched while the present one multiplies, across the border of a stage.
//
// Weights enter the products exactly: F16 as the sum of two BF16 (11 bits are 8 and 3), which keeps BF16's range for the
// activations; Q8 as integers, which BF16 holds, each block of 32 summed apart and scaled in float32.
#pragma once
#include "dense.cuh"

struct GemmParams {
  const u16 *a;      // BF16 [tokens, cols]
  const u8 *data;    // [rows, cols]
  const u16 *scales; // Q8: [rows, cols/32]
  float *out;        // [splits, tokens, rows]
  int tokens, rows, cols;
  int steps;         // stages of 64 columns that a split takes; the last may have fewer
};

extern SHARED __attribute__((aligned(128))) char dynamicShared[];

// Two F16 as the sum of two pairs of BF16.
DEVICE void splitF16(u32 pair, u32 &high, u32 &low) {
  float a = lowF16(pair), b = highF16(pair);
  high = packBF16(a, b);
  low = packBF16(a - lowBF16(high), b - highBF16(high));
}

// (v & mask) | bits. Left to itself the compiler takes two instructions, as each has room for one constant.
DEVICE u32 maskInto(u32 v, u32 mask, u32 bits) {
  u32 r;
  asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(r) : "r"(v), "r"(mask), "r"(bits));
  return r;
}

// Codes in bytes 0 and 2 of w, as two BF16. The low seven bits on top of 128 are exact there; what is to be taken off is
// 128, or 256 where the eighth bit says that the code is negative.
DEVICE u32 codesToBF16(u32 w) {
  u32 sum = maskInto(w, 0x007f007fu, 0x43004300u), off = maskInto(w, 0x00800080u, 0xc300c300u), r;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(sum), "r"(0x3f803f80u), "r"(off));
  return r;
}

template <int F, int WarpsM, int WarpsN, int TilesM, int TilesN, int StageK, int Stages> struct Gemm {
  static constexpr int threads = WarpsM * WarpsN * 32;
  static constexpr int tileM = WarpsM * TilesM * 16, tileN = WarpsN * TilesN * 8;
  static constexpr bool q8 = F == formatQ8;
  static constexpr int pitch = StageK * 2; // bytes of a BF16 or F16 row in a stage
  static constexpr int bytesA = tileM * pitch, bytesB = tileN * (q8 ? StageK : pitch);
  static constexpr int bytesScales = q8 ? tileN * 4 : 0; // two F16 for 64 columns
  static constexpr int stageBytes = bytesA + bytesB + bytesScales;
  static constexpr int stepK = q8 ? 32 : 16; // columns of a step: Q8's blocks must be whole
  static constexpr int steps = StageK / stepK;
  static_assert(StageK == 64 || (StageK == 32 && !q8), "Q8's scales come in pairs");
  static_assert(steps % 2 == 0 && TilesN % 2 == 0, "fragments are double-buffered; ldmatrix.x4 brings two tiles of B");

  struct Fragments {
    u32 a[stepK / 16][TilesM][4];
    u32 b[q8 ? TilesN : TilesN / 2][q8 ? 2 : 4];
    u32 scales[q8 ? TilesN : 1]; // F16 pairs: of columns 2t and 2t+1 of a tile
  };

  const GemmParams &p;
  int firstM, firstN, stagesToDo;
  u32 shared;
  const u8 *fromA, *fromB, *fromScales; // this split's first column, of the tile's first row
  float acc[TilesM][TilesN][4];

  static METHOD int swizzle(int row) { return pitch == 128 ? row & 7 : (row >> 1) & 3; }

  METHOD Gemm(const GemmParams &p) : p(p) {
    firstM = blockX * tileM, firstN = blockY * tileN;
    int first = blockZ * p.steps, last = minOf(first + p.steps, p.cols / 64);
    stagesToDo = (last - first) * (64 / StageK);
    shared = sharedAddress(dynamicShared);
    fromA = (const u8 *)(p.a + (i64)firstM * p.cols + first * 64);
    fromB = p.data + ((i64)firstN * p.cols + first * 64) * (q8 ? 1 : 2);
    fromScales = (const u8 *)(p.scales + (i64)firstN * (p.cols >> 5) + first * 2);
    UNROLL for (int i = 0; i < TilesM; i++)
      UNROLL for (int j = 0; j < TilesN; j++)
        UNROLL for (int k = 0; k < 4; k++) acc[i][j][k] = 0;
  }

  // Copies Rows rows of Units 16-byte units; rows from `present` on become zeros.
  template <int Rows, int Units, class Place> static METHOD void copyRows(u32 to, const u8 *from, int rowBytes, int present, Place place) {
    constexpr int pass = threads / Units; // rows at a time
    static_assert(threads % Units == 0);
    int row = threadX / Units, unit = threadX % Units;
    u32 at = to + place(row, unit);
    UNROLL for (int i = 0; i < (Rows + pass - 1) / pass; i++) {
      int r = row + i * pass;
      if ((i + 1) * pass > Rows && r >= Rows) break;
      bool ok = r < present;
      copyAsync16OrZero(at + (place(pass, 0) - place(0, 0)) * i, from + (u32)((ok ? r : 0) * rowBytes + unit * 16), ok);
    }
  }

  // Brings stage k to a slot; past the last stage it only keeps the count of groups.
  METHOD void load(int k, u32 slot) {
    if (k < stagesToDo) {
      auto swizzled = [](int row, int unit) __attribute__((always_inline)) { return row * pitch + ((unit ^ swizzle(row)) * 16); };
      copyRows<tileM, pitch / 16>(slot, fromA + (i64)k * pitch, p.cols * 2, p.tokens - firstM, swizzled);
      if constexpr (q8) {
        // The two blocks of 32 columns lie apart, each [tileN][32]: a quarter warp then reads 128 bytes in a run.
        auto halves = [](int row, int unit) __attribute__((always_inline)) { return (unit >> 1) * (tileN * 32) + row * 32 + (unit & 1) * 16; };
        copyRows<tileN, StageK / 16>(slot + bytesA, fromB + (i64)k * StageK, p.cols, p.rows - firstN, halves);
        bool ok = threadX < p.rows - firstN;
        if (threadX < tileN)
          copyAsync4OrZero(slot + bytesA + bytesB + threadX * 4, fromScales + (u32)((ok ? threadX : 0) * (p.cols >> 4) + k * 4), ok);
      } else {
        copyRows<tileN, pitch / 16>(slot + bytesA, fromB + (i64)k * pitch, p.cols * 2, p.rows - firstN, swizzled);
      }
    }
    commitCopies();
  }

  METHOD int warpM() const { return (warpId % WarpsM) * (TilesM * 16); }
  METHOD int warpN() const { return (warpId / WarpsM) * (TilesN * 8); }

  METHOD void fetch(Fragments &f, int step, u32 slot) const {
    int row = laneId & 15, half = laneId >> 4;
    u32 a = slot + (warpM() + row) * pitch;
    UNROLL for (int s = 0; s < stepK / 16; s++) {
      u32 at = a + (((step * (stepK / 8) + s * 2 + half) ^ swizzle(row)) * 16);
      UNROLL for (int i = 0; i < TilesM; i++) loadMatrix4(f.a[s][i], at + i * 16 * pitch);
    }
    if constexpr (q8) {
      u32 at = slot + bytesA + step * (tileN * 32) + (warpN() + (laneId >> 2)) * 32 + (laneId & 3) * 8;
      u32 scales = slot + bytesA + bytesB + (warpN() + (laneId & 3) * 2) * 4;
      UNROLL for (int j = 0; j < TilesN; j++) {
        u32 pairs[2]; // a column's two blocks of the stage
        loadShared2(f.b[j], at + j * 8 * 32);
        loadShared2(pairs, scales + j * 8 * 4);
        f.scales[j] = permuteBytes(pairs[0], pairs[1], step ? 0x7632 : 0x5410);
      }
    } else {
      // Lanes 0-7 and 8-15 address the two halves of the step's columns of tile 2j, 16-31 those of tile 2j+1.
      int r = (laneId & 7) + ((laneId >> 4) << 3);
      u32 at = slot + bytesA + (warpN() + r) * pitch + (((step * 2 + ((laneId >> 3) & 1)) ^ swizzle(r)) * 16);
      UNROLL for (int j = 0; j < TilesN / 2; j++) loadMatrix4(f.b[j], at + j * 16 * pitch);
    }
  }

  METHOD void multiply(const Fragments &f) {
    if constexpr (q8) {
      UNROLL for (int j = 0; j < TilesN; j++) {
        float even = lowF16(f.scales[j]), odd = highF16(f.scales[j]);
        u32 b[4] = {codesToBF16(f.b[j][0]), codesToBF16(f.b[j][0] >> 8), codesToBF16(f.b[j][1]), codesToBF16(f.b[j][1] >> 8)};
        UNROLL for (int i = 0; i < TilesM; i++) {
          const u32 *a0 = f.a[0][i], *a1 = f.a[1][i];
          float c[4];
          mmaZeroBF16(c, a0[0], a0[1], a0[2], a0[3], b[0], b[1]);
          mmaBF16(c, a1[0], a1[1], a1[2], a1[3], b[2], b[3]);
          acc[i][j][0] += c[0] * even;
          acc[i][j][1] += c[1] * odd;
          acc[i][j][2] += c[2] * even;
          acc[i][j][3] += c[3] * odd;
        }
      }
      return;
    }
    UNROLL for (int j = 0; j < TilesN; j++) {
      u32 b0 = f.b[j / 2][(j & 1) * 2], b1 = f.b[j / 2][(j & 1) * 2 + 1];
      if constexpr (F == formatF16) {
        u32 l0, l1;
        splitF16(b0, b0, l0);
        splitF16(b1, b1, l1);
        UNROLL for (int i = 0; i < TilesM; i++) mmaBF16(acc[i][j], f.a[0][i][0], f.a[0][i][1], f.a[0][i][2], f.a[0][i][3], l0, l1);
      }
      UNROLL for (int i = 0; i < TilesM; i++) mmaBF16(acc[i][j], f.a[0][i][0], f.a[0][i][1], f.a[0][i][2], f.a[0][i][3], b0, b1);
    }
  }

  METHOD void run() {
    UNROLL for (int s = 0; s < Stages - 1; s++) load(s, shared + s * stageBytes);
    waitCopies<Stages - 2>();
    syncBlock();
    Fragments f[2];
    fetch(f[0], 0, shared);
    u32 slot = shared, free = shared + (Stages - 1) * stageBytes, end = shared + Stages * stageBytes;
    for (int k = 0; k < stagesToDo; k++) {
      u32 next = slot + stageBytes == end ? shared : slot + stageBytes;
      UNROLL for (int s = 0; s < steps; s++) {
        if (s == steps - 1) { // the next stage has come, and nobody reads this one any more
          waitCopies<Stages - 2>();
          syncBlock();
        }
        if (s < steps - 1) fetch(f[(s + 1) & 1], s + 1, slot);
        else if (k + 1 < stagesToDo) fetch(f[0], 0, next);
        if (s == 0) load(k + Stages - 1, free);
        multiply(f[s & 1]);
      }
      free = slot;
      slot = next;
    }
  }

  METHOD void store() const {
    int g = laneId >> 2, t = laneId & 3;
    float *out = p.out + (i64)blockZ * p.tokens * p.rows;
    UNROLL for (int i = 0; i < TilesM; i++)
      UNROLL for (int h = 0; h < 2; h++) {
        int m = firstM + warpM() + i * 16 + h * 8 + g;
        if (m >= p.tokens) continue;
        float *row = out + (i64)m * p.rows;
        UNROLL for (int j = 0; j < TilesN; j++) {
          int n = firstN + warpN() + j * 8 + t * 2;
          float v0 = acc[i][j][h * 2], v1 = acc[i][j][h * 2 + 1];
          if (!(p.rows & 1)) {
            if (n < p.rows) *(F2 *)(row + n) = F2{v0, v1};
          } else {
            if (n < p.rows) row[n] = v0;
            if (n + 1 < p.rows) row[n + 1] = v1;
          }
        }
      }
  }
};

// A kernel of the given tile, `blocks` of which shall fit on a multiprocessor.
#define GEMM(name, blocks, ...)                                           \
  using name##Tile = Gemm<__VA_ARGS__>;                                   \
  KERNEL(name##Tile::threads, blocks) name(const GemmParams p) {          \
    name##Tile g(p);                                                      \
    g.run();                                                              \
    g.store();                                                            \
  }
