// What the kernels around attention share: the paged KV cache, int8 codes, and the joining of partial softmaxes.
//
// Softmax works in base 2: scores are multiplied by log2(e)/sqrt(64). A head's sink is one more logit, neither scaled by
// 1/sqrt(64) nor rotated, that has no value: it joins the denominator once.
#pragma once
#include "common.cuh"

// A device function inside a class.
#define METHOD __attribute__((device)) __attribute__((always_inline)) inline

extern SHARED __attribute__((aligned(128))) char dynamicShared[];

constexpr int headDim = 64;
constexpr float scoreScale = 0.125f * log2e;
// Lower than any score, yet finite: differences of two of them are numbers.
constexpr float lowest = -1e30f;
// The running maximum is raised only when a score exceeds it by this much: sums stay below 2^8 times the number of keys,
// and almost no group of keys has to rescale what was summed before.
constexpr float slack = 8;

// ---- memory. Loads are volatile so that they are issued where they stand, ahead of what waits for others.

DEVICE int loadInt(const int *p) {
  int v;
  asm volatile("ld.global.cg.b32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
template <int Offset = 0> DEVICE U4 loadCache4(const void *p) {
  U4 v;
  asm volatile("ld.global.cg.v4.b32 {%0, %1, %2, %3}, [%4+%5];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p), "n"(Offset) : "memory");
  return v;
}
DEVICE void loadCache4If(U4 &v, const void *p, bool ok) {
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %5, 0; @q ld.global.cg.v4.b32 {%0, %1, %2, %3}, [%4]; }"
               : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w) : "l"(p), "r"((u32)ok) : "memory");
}
DEVICE U2 loadCache2(const void *p) {
  U2 v;
  asm volatile("ld.global.cg.v2.b32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p) : "memory");
  return v;
}
DEVICE void loadFloat2If(F2 &v, const float *p, bool ok) {
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %3, 0; @q ld.global.cg.v2.f32 {%0, %1}, [%2]; }" : "+f"(v.x), "+f"(v.y) : "l"(p), "r"((u32)ok) : "memory");
}
DEVICE F2 loadSharedFloat2(u32 a) {
  F2 v;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(a) : "memory");
  return v;
}
// As loadSharedFloat2, leaving v as it is where ok is false.
DEVICE void loadSharedFloat2If(F2 &v, u32 a, bool ok) {
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %3, 0; @q ld.shared.v2.f32 {%0, %1}, [%2]; }" : "+f"(v.x), "+f"(v.y) : "r"(a), "r"((u32)ok) : "memory");
}
DEVICE void storeShared2(u32 a, u32 x, u32 y) { asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(a), "r"(x), "r"(y) : "memory"); }
DEVICE void storeShared2(u32 a, float x, float y) { storeShared2(a, asBits(x), asBits(y)); }
DEVICE void storeShared16Bit(u32 a, u16 v) { asm volatile("st.shared.u16 [%0], %1;" ::"r"(a), "h"(v) : "memory"); }
DEVICE void storeShared8Bit(u32 a, u32 v) { asm volatile("st.shared.u8 [%0], %1;" ::"r"(a), "r"(v) : "memory"); }

// ---- the cache

// The KV cache of one layer. A row is the 64 values of one position and head: BF16, or int8 codes with a scale.
struct Cache {
  u8 *k, *v;              // [pages, kvHeads, pageSize, 64]
  float *kScale, *vScale; // [pages, kvHeads, pageSize]; int8 only
  const int *table;       // [sequences, maxBlocks]: pages; -1 where no key is visible
  int maxBlocks, kvHeads;
  int pageSize;           // a multiple of 16
  u32 pageReciprocal;     // ceil(2^32 / pageSize)
  int window, padding;    // keys that a query sees; 0: all

  // The row of a position that is visible to the sequence. 16 positions from a multiple of 16 on are neighbours.
  METHOD u32 row(int sequence, int position, int head) const {
    int block = (int)mulHigh((u32)position, pageReciprocal);
    u32 page = (u32)loadInt(table + sequence * maxBlocks + block);
    return (page * kvHeads + head) * pageSize + (position - block * pageSize);
  }
  // The first position that a query sees.
  METHOD int firstVisible(int position) const { return window ? maxOf(0, position - window + 1) : 0; }
};

DEVICE u32 permuteBytes(u32 a, u32 b, u32 selector) {
  u32 r;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(selector));
  return r;
}
DEVICE u32 lowHalves(u32 a, u32 b) { return permuteBytes(a, b, 0x5410); }
DEVICE u32 highHalves(u32 a, u32 b) { return permuteBytes(a, b, 0x7632); }
DEVICE u32 word(const U4 &v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }
DEVICE u32 word(const U2 &v, int i) { return i == 0 ? v.x : v.y; }

// ---- int8

// A row's scale is its greatest magnitude / 127; codes are rounded to nearest even.
struct Int8Scale {
  float scale, inverse;
  // absBits: the greatest magnitude as bits, which order like the values and put NaN last: a NaN makes the scale NaN
  // instead of vanishing in a code. What is near zero becomes zero.
  METHOD explicit Int8Scale(u32 absBits) {
    float greatest = asFloat(absBits);
    bool zero = greatest < 0x1p-100f;
    scale = zero ? 0.f : greatest / 127.f;
    inverse = zero ? 0.f : 127.f / greatest;
  }
  METHOD u32 code(float v) const {
    int r;
    asm("cvt.rni.s32.f32 %0, %1;" : "=r"(r) : "f"(v * inverse));
    return (u32)r & 0xff;
  }
};
DEVICE u32 magnitude(float v) { return asBits(v) & 0x7fffffffu; }

// (v & mask) | bits. Left to itself the compiler takes two instructions, as each has room for one constant.
DEVICE u32 maskInto(u32 v, u32 mask, u32 bits) {
  u32 r;
  asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(r) : "r"(v), "r"(mask), "r"(bits));
  return r;
}
// The codes in bytes 0 and 2 as two BF16, exactly: the low seven bits on top of 128, less 128, or less 256 where the
// eighth says that the code is negative.
DEVICE u32 evenCodes(u32 w) {
  u32 sum = maskInto(w, 0x007f007fu, 0x43004300u), off = maskInto(w, 0x00800080u, 0xc300c300u), r;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(sum), "r"(0x3f803f80u), "r"(off));
  return r;
}
// The same of bytes 1 and 3.
DEVICE u32 oddCodes(u32 w) { return evenCodes(w >> 8); }

// ---- softmax in parts

// One instruction where maxOf takes two; of a NaN and a number it is the number.
DEVICE float greater(float a, float b) {
  float r;
  asm("max.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
}

// The greatest of the four lanes that share a row of a fragment, and their sum.
DEVICE float quadMax(float v) {
  v = greater(v, shuffleXor(v, 1));
  return greater(v, shuffleXor(v, 2));
}
DEVICE float quadSum(float v) {
  v += shuffleXor(v, 1);
  return v + shuffleXor(v, 2);
}

// Lane i holds the maximum of part i and its sum relative to that; lanes without a part hold lowest and 0. After joining,
// max and sum are those of the whole, and factor is what part i's weighted values are to be multiplied by.
struct Joined {
  float max, sum, factor;
  METHOD Joined(float partMax, float partSum, float atLeast = lowest) {
    max = maxOf(warpMax(partMax), atLeast);
    factor = exp2Approx(partMax - max);
    sum = warpSum(partSum * factor);
  }
  // Adds part i's values to the total.
  METHOD F2 add(F2 total, F2 v, int i) const {
    float f = shuffleFrom(factor, i);
    return F2{total.x + v.x * f, total.y + v.y * f};
  }
};
