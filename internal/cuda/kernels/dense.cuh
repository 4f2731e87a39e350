// Formats of dense weights, for the row kernels (one token) and the tiled ones (several).
//
// BF16 and F16 are row-major [rows, cols]. Q8 is int8 codes [rows, cols] and one F16 scale for 32 codes, [rows, cols/32].
// The 32 codes of a block stand in the order in which a tensor core wants them: byte 8t + 4s + b holds input
// 16s + 2t + b/2 + 8(b%2), so that lane t of mma.m16n8k16 finds both its registers of step s in one word.
#pragma once
#include "common.cuh"

// A device function inside a class.
#define METHOD __attribute__((device)) __attribute__((always_inline)) inline

enum Format { formatBF16, formatF16, formatQ8 };

// Where input k of a block of 32 stands.
DEVICE int placeQ8(int k) { return ((k & 6) << 2) | ((k & 16) >> 2) | ((k & 1) << 1) | ((k & 8) >> 3); }

DEVICE float lowF16(u32 pair) {
  float r;
  asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, l; }" : "=f"(r) : "r"(pair));
  return r;
}
DEVICE float highF16(u32 pair) {
  float r;
  asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, h; }" : "=f"(r) : "r"(pair));
  return r;
}

DEVICE u32 permuteBytes(u32 a, u32 b, u32 selector) {
  u32 r;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(selector));
  return r;
}

// Byte I of four codes that had 0x80 added: it becomes the low end of 2^23's fraction.
template <int I> DEVICE float codeOf(u32 biased) { return asFloat(permuteBytes(biased, 0x4B000000u, 0x7540 | I)) - 8388736.f; }

DEVICE void loadShared2(u32 *r, u32 a) {
  asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(a) : "memory");
}
// As copyAsync16OrZero, for 4 bytes.
DEVICE void copyAsync4OrZero(u32 shared, const void *global, bool ok) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared), "l"(global), "r"(ok ? 4 : 0) : "memory");
}
