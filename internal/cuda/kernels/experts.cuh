// Expert weights as the kernels read them, and how a warp turns them into tensor core fragments.
//
// A matrix [rows, cols] is cut into tiles of 16 rows, a tile into chunks of 64 inputs; chunks lie in order of expert, tile,
// inputs. A chunk of 4-bit weights is 512 bytes of codes and then the scales of its 16 rows. Lane 4g+t of a warp reads 16
// bytes of it: word 2b+h holds the 8 weights of row g+8h for inputs 32b+8t .. 32b+8t+7, b and h in {0, 1}. In every block
// of 32 inputs, mma.m16n8k16 step s in {0, 1} takes inputs 8t+4s .. 8t+4s+3 as its columns 2t, 2t+1, 2t+8, 2t+9, so that
// a lane's activations of both steps are one 16-byte load from a row-major BF16 row.
//
// Scales of a chunk, for each g in 0..7:
//   MXFP4    4 bytes, E8M0: row g block 0, row g block 1, row g+8 block 0, row g+8 block 1
//   absmax   2 floats: rows g, g+8
//   nested   2 bytes, 8-bit codes of the double-quantised scales of rows g, g+8
//   columns  none: the scales belong to inputs and lie apart, float32 [rows/64, cols] an expert
// A BF16 chunk is 2048 bytes: piece 2b+h of 512 has 16 bytes a lane, what word 2b+h stands for above.
#pragma once
#include "common.cuh"

// A device function inside a class.
#define METHOD __attribute__((device)) __attribute__((always_inline)) inline

enum ExpertFormat { mxfp4, absmax, nested, columns, bf16 };

constexpr int codeBytes(int f) { return f == bf16 ? 2048 : 512; }
// From one chunk to the next.
constexpr int chunkBytes(int f) { return codeBytes(f) + (f == mxfp4 ? 32 : f == absmax ? 64 : 0); }
// Codes of double-quantised scales lie behind all tiles: among them, they would push codes off the 32 bytes that memory gives.
constexpr int scaleCodeBytes = 16;

// Where the double-quantised scales of an expert's even or odd rows begin.
struct NestedStart {
  int index;     // of its first scale of scales
  int unit;      // runs of 64 weights that lie before its first row under that scale
  float offset;
  int padding;
};

struct Side {
  float table[16];       // what NF4's or FP4's codes stand for
  float map[256];        // what 8-bit codes of scales stand for
  NestedStart start[1];  // [experts, 2]: even rows, odd rows
};

// A projection of all experts of a layer.
struct Experts {
  const u8 *tiles;
  const float *bias;     // [experts, rows]
  const Side *side;      // absmax, nested, columns
  const float *scales;   // nested: scales of scales; columns: [experts, rows/64, cols]
  const u8 *scaleCodes;  // nested: codes of scales [experts, tiles, chunks, 16]: rows 0, 8, 1, 9, ...
  int rows, cols;
  int shift;             // nested: log2 of the runs of 64 weights under one scale of scales
  int split;             // nested: 1 where even and odd rows come from two tensors
};

DEVICE const u8 *tileOf(const Experts &w, int format, int expert, int tile) {
  return w.tiles + ((i64)expert * (w.rows >> 4) + tile) * ((w.cols >> 6) * chunkBytes(format));
}

DEVICE const u8 *scaleCodesOf(const Experts &w, int expert, int tile) {
  return w.scaleCodes + ((i64)expert * (w.rows >> 4) + tile) * ((w.cols >> 6) * scaleCodeBytes);
}

// Work of the batch path: rows of one expert in the sorted order.
struct Item {
  int expert, row, rows; // the first sorted row, and how many
  int family;            // prefill: the expert's first item << 16 | the number of its items
};

// ---- numbers

// Products and sums that are rounded one by one, as bitsandbytes does.
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

// spec/model.md 6: the gate is clamped above only, the up half on both sides.
DEVICE float swiglu(float gate, float up, float alpha, float limit) {
  gate = minOf(gate, limit);
  up = maxOf(minOf(up, limit), -limit);
  return (up + 1.f) * gate * reciprocal(1.f + exp2Approx(-alpha * log2e * gate));
}

DEVICE void loadShared2(u32 &a, u32 &b, u32 from) {
  asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];" : "=r"(a), "=r"(b) : "r"(from) : "memory");
}

// ---- decoding: one word, 8 weights, to four registers; register i holds weights 2i and 2i+1

// MXFP4 to e2m1 * 2^-126, which BF16 subnormals and the smallest normals hold exactly. The bits were permuted for this
// (pack.cu): nine operations for eight weights.
DEVICE void decodeE2M1(u32 w, u32 *out) {
  constexpr u32 mask = 0x81C081C0u;
  out[0] = w & mask;
  out[1] = __builtin_rotateright32(w, 6) & mask;
  out[2] = __builtin_rotateright32(w, 12) & mask;
  out[3] = (__builtin_rotateright32(w, 2) & 0x81808180u) | (__builtin_rotateright32(w, 10) & 0x00400040u);
}

// Multiplies two such weights by 2^(e-1): exact for e <= 128, which loading checks.
DEVICE u32 scaleE2M1(u32 pair, u32 factor) {
  u32 r;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(pair), "r"(factor), "r"(0x80008000u));
  return r;
}
DEVICE u32 factorE8M0(u32 scales, int byte) { return (scales >> (8 * byte) & 255) * 0x00800080u + 0x3F003F00u; }

// NF4 and FP4. Lane i holds what code i&15 stands for: a code, taken as a lane's number, fetches its value. That is as
// fast as a table in shared memory and takes none. Code 2i is the high half of byte i.
template <int I> DEVICE float valueOf(u32 w, float mine) {
  constexpr int shift = 8 * (I / 2) + (I % 2 ? 0 : 4);
  return shuffleFrom(mine, (int)(w >> shift));
}
// Value times scale, rounded to BF16: what bitsandbytes' dequantize_4bit gives.
template <int I> DEVICE u32 pairOf(u32 w, float mine, float scale0, float scale1) {
  return packBF16(valueOf<2 * I>(w, mine) * scale0, valueOf<2 * I + 1>(w, mine) * scale1);
}

// A step of mma: rows g and g+8, columns 2t.. and 2t+8..
struct Fragment {
  u32 r[4];
};
DEVICE void multiply(float *c, const Fragment &a, u32 b0, u32 b1) { mmaBF16(c, a.r[0], a.r[1], a.r[2], a.r[3], b0, b1); }

// Both steps of a block of 32 inputs, scales included. low and high are the words of rows g and g+8.
DEVICE void decodeScaled(Fragment *a, u32 low, u32 high, u32 lowFactor, u32 highFactor) {
  u32 p[4], q[4];
  decodeE2M1(low, p);
  decodeE2M1(high, q);
  UNROLL for (int s = 0; s < 2; s++) {
    UNROLL for (int i = 0; i < 2; i++) {
      a[s].r[2 * i] = scaleE2M1(p[2 * s + i], lowFactor);
      a[s].r[2 * i + 1] = scaleE2M1(q[2 * s + i], highFactor);
    }
  }
}
DEVICE void decodeRows(Fragment *a, u32 low, u32 high, float mine, float lowScale, float highScale) {
  repeat<4>([&](auto i) __attribute__((always_inline)) {
    constexpr int s = i.value / 2, r = i.value % 2 * 2;
    a[s].r[r] = pairOf<i.value>(low, mine, lowScale, lowScale);
    a[s].r[r + 1] = pairOf<i.value>(high, mine, highScale, highScale);
  });
}
// The scales are those of inputs 8t .. 8t+7, at a shared address.
DEVICE void decodeColumns(Fragment *a, u32 low, u32 high, float mine, u32 scales) {
  U4 e = loadShared4<0>(scales), f = loadShared4<16>(scales);
  float s[8] = {asFloat(e.x), asFloat(e.y), asFloat(e.z), asFloat(e.w), asFloat(f.x), asFloat(f.y), asFloat(f.z), asFloat(f.w)};
  repeat<4>([&](auto i) __attribute__((always_inline)) {
    constexpr int k = i.value;
    a[k / 2].r[k % 2 * 2] = pairOf<k>(low, mine, s[2 * k], s[2 * k + 1]);
    a[k / 2].r[k % 2 * 2 + 1] = pairOf<k>(high, mine, s[2 * k], s[2 * k + 1]);
  });
}
DEVICE void fragmentsOf(Fragment *a, U4 low, U4 high) {
  a[0] = {{low.x, high.x, low.y, high.y}};
  a[1] = {{low.z, high.z, low.w, high.w}};
}

// ---- double-quantised scales

// The scales of rows g and g+8 of a tile, for lane 4g+t.
struct NestedRows {
  const float *map, *scales;
  float offset;
  int low, high; // runs of 64 weights before each row
};
DEVICE NestedRows nestedRows(const Experts &w, const NestedStart &start, int tile) {
  int row = tile * 16 + (laneId >> 2);
  int unit = start.unit + (row >> w.split) * (w.cols >> 6);
  return {w.side->map, w.scales + start.index, start.offset, unit, unit + (8 >> w.split) * (w.cols >> 6)};
}
DEVICE float loadTable(const float *p) {
  float v;
  asm volatile("ld.global.nc.f32 %0, [%1];" : "=f"(v) : "l"(p));
  return v;
}
DEVICE float unnest(float value, float scale, float offset) { return plus(times(value, scale), offset); }

extern SHARED __attribute__((aligned(128))) char dynamicShared[];
