// What every kernel shares: attributes that CUDA's headers would define, and the handful of PTX instructions that clang
// has no builtin for. Compiled by plain clang for sm_80 and PTX 7.0 (see build.go): nothing here may need more.
#pragma once

#define DEVICE static __attribute__((device)) __attribute__((always_inline)) inline
// A kernel of at most `threads` threads a block, of which `blocks` shall fit on a multiprocessor.
#define KERNEL(threads, blocks) extern "C" __attribute__((global)) __attribute__((launch_bounds(threads, blocks))) void
#define SHARED __attribute__((shared))
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("nounroll")

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char i8;
typedef long long i64;

struct alignas(8) U2 { u32 x, y; };
struct alignas(16) U4 { u32 x, y, z, w; };
struct alignas(8) F2 { float x, y; };
struct alignas(16) F4 { float x, y, z, w; };

#define threadX ((int)__nvvm_read_ptx_sreg_tid_x())
#define blockX ((int)__nvvm_read_ptx_sreg_ctaid_x())
#define blockY ((int)__nvvm_read_ptx_sreg_ctaid_y())
#define blockZ ((int)__nvvm_read_ptx_sreg_ctaid_z())
#define blocksX ((int)__nvvm_read_ptx_sreg_nctaid_x())
#define blocksY ((int)__nvvm_read_ptx_sreg_nctaid_y())
#define threadsX ((int)__nvvm_read_ptx_sreg_ntid_x())
#define laneId (threadX & 31)
#define warpId (threadX >> 5)

DEVICE void syncBlock() { __nvvm_bar_sync(0); }
DEVICE void syncWarp() { asm volatile("bar.warp.sync 0xffffffff;" ::: "memory"); }

DEVICE float asFloat(u32 u) { return __builtin_bit_cast(float, u); }
DEVICE u32 asBits(float f) { return __builtin_bit_cast(u32, f); }
template <class T> DEVICE T minOf(T a, T b) { return a < b ? a : b; }
template <class T> DEVICE T maxOf(T a, T b) { return a > b ? a : b; }
DEVICE int ceilDiv(int a, int b) { return (a + b - 1) / b; }

// ---- numbers

DEVICE float fromBF16(u16 v) { return asFloat((u32)v << 16); }
DEVICE float lowBF16(u32 pair) { return asFloat(pair << 16); }
DEVICE float highBF16(u32 pair) { return asFloat(pair & 0xffff0000u); }
// Rounds to nearest even; `low` goes to the low half.
DEVICE u32 packBF16(float low, float high) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
DEVICE u16 toBF16(float v) { return (u16)packBF16(v, 0.f); }
DEVICE float fromF16(u16 v) {
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(v));
  return r;
}
DEVICE u16 toF16(float v) {
  u16 r;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(v));
  return r;
}

// Approximations of the special function unit: relative error about 2^-22.
DEVICE float exp2Approx(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
DEVICE float reciprocal(float x) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
DEVICE float rsqrtApprox(float x) {
  float r;
  asm("rsqrt.approx.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
DEVICE float log2Approx(float x) {
  float r;
  asm("lg2.approx.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
constexpr float log2e = 1.4426950408889634f;
constexpr float ln2 = 0.6931471805599453f;

// ---- warps

DEVICE u32 shuffleXor(u32 v, int mask) {
  u32 r;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 31, 0xffffffff;" : "=r"(r) : "r"(v), "r"(mask));
  return r;
}
DEVICE float shuffleXor(float v, int mask) { return asFloat(shuffleXor(asBits(v), mask)); }
DEVICE u32 shuffleFrom(u32 v, int lane) {
  u32 r;
  asm volatile("shfl.sync.idx.b32 %0, %1, %2, 31, 0xffffffff;" : "=r"(r) : "r"(v), "r"(lane));
  return r;
}
DEVICE float shuffleFrom(float v, int lane) { return asFloat(shuffleFrom(asBits(v), lane)); }
DEVICE float warpSum(float v) {
  UNROLL for (int m = 16; m; m >>= 1) v += shuffleXor(v, m);
  return v;
}
DEVICE float warpMax(float v) {
  UNROLL for (int m = 16; m; m >>= 1) v = maxOf(v, shuffleXor(v, m));
  return v;
}
// The upper half of a product. An instruction of its own, for safety: where it is written as a shift of a product of 64
// bits and stands in a loop, ptxas 12.9 and 13.0 make x - mulHigh(x, r) * n wrong (they take a thread's number for 0).
DEVICE u32 mulHigh(u32 a, u32 b) {
  u32 r;
  asm("mul.hi.u32 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
DEVICE u32 warpMaxU(u32 v) {
  u32 r;
  asm volatile("redux.sync.max.u32 %0, %1, 0xffffffff;" : "=r"(r) : "r"(v));
  return r;
}
DEVICE u32 ballot(bool p) {
  u32 r;
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %1, 0; vote.sync.ballot.b32 %0, q, 0xffffffff; }" : "=r"(r) : "r"((u32)p));
  return r;
}

// ---- shared memory by 32-bit address: LLVM then uses [register + immediate]

DEVICE u32 sharedAddress(const void *p) {
  u32 a;
  asm("{ .reg .u64 t; cvta.to.shared.u64 t, %1; cvt.u32.u64 %0, t; }" : "=r"(a) : "l"(p));
  return a;
}
template <int Offset = 0> DEVICE U4 loadShared4(u32 a) {
  U4 v;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4+%5];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(a), "n"(Offset) : "memory");
  return v;
}
template <int Offset = 0> DEVICE u32 loadShared(u32 a) {
  u32 v;
  asm volatile("ld.shared.b32 %0, [%1+%2];" : "=r"(v) : "r"(a), "n"(Offset) : "memory");
  return v;
}
DEVICE void storeShared(u32 a, u32 v) { asm volatile("st.shared.b32 [%0], %1;" ::"r"(a), "r"(v) : "memory"); }
DEVICE void storeShared(u32 a, float v) { asm volatile("st.shared.f32 [%0], %1;" ::"r"(a), "f"(v) : "memory"); }
DEVICE void storeShared4(u32 a, U4 v) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(a), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

// ---- global memory

// Weights: read once, through the read-only path.
template <int Offset = 0> DEVICE U4 loadWeights(const void *p) {
  U4 v;
  asm volatile("ld.global.nc.v4.b32 {%0, %1, %2, %3}, [%4+%5];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p), "n"(Offset));
  return v;
}
// The same, leaving v as it is where ok is false.
template <int Offset = 0> DEVICE void loadWeightsIf(U4 &v, const void *p, bool ok) {
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %5, 0; @q ld.global.nc.v4.b32 {%0, %1, %2, %3}, [%4+%6]; }"
               : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w) : "l"(p), "r"((u32)ok), "n"(Offset));
}
// Activations that another block may have written: past L1, which is not coherent.
DEVICE float loadFloat(const float *p) {
  float v;
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v) : "l"(p) : "memory");
  return v;
}
DEVICE void loadFloatIf(float &v, const float *p, bool ok) {
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %2, 0; @q ld.global.cg.f32 %0, [%1]; }" : "+f"(v) : "l"(p), "r"((u32)ok) : "memory");
}
DEVICE void loadFloat4If(float *v, const float *p, bool ok) {
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %5, 0; @q ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4]; }"
               : "+f"(v[0]), "+f"(v[1]), "+f"(v[2]), "+f"(v[3]) : "l"(p), "r"((u32)ok) : "memory");
}
DEVICE U4 loadActivations(const void *p) {
  U4 v;
  asm volatile("ld.global.cg.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p) : "memory");
  return v;
}

// ---- asynchronous copies, global to shared

DEVICE void copyAsync16(u32 shared, const void *global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
}
// Writes 16 zero bytes where ok is false; global must be a valid address all the same.
DEVICE void copyAsync16OrZero(u32 shared, const void *global, bool ok) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(ok ? 16 : 0) : "memory");
}
DEVICE void copyAsync4(u32 shared, const void *global) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared), "l"(global) : "memory");
}
DEVICE void commitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int Pending> DEVICE void waitCopies() { asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory"); }

// ---- tensor cores. Fragments as in the PTX ISA, mma.m16n8k16: group g = lane/4, t = lane%4; A registers hold rows g and
// g+8, columns 2t and 2t+8; B rows 2t and 2t+8 of column g; C rows g and g+8, columns 2t, 2t+1.

DEVICE void mmaBF16(float *c, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
DEVICE void mmaF16(float *c, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// c = a b, without adding.
DEVICE void mmaZeroBF16(float *c, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};"
      : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "f"(0.f));
}
DEVICE void loadMatrix4(u32 *r, u32 shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared) : "memory");
}
DEVICE void loadMatrix4Transposed(u32 *r, u32 shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared) : "memory");
}

// ---- work

// The part [first, last) of n units that falls to this block.
DEVICE void shareOf(int n, int &first, int &last) {
  first = (int)((i64)n * blockX / blocksX);
  last = (int)((i64)n * (blockX + 1) / blocksX);
}
// A compile-time loop: f(Index<0>{}), f(Index<1>{}), ...; keeps offsets immediate where a pragma would not.
template <int I> struct Index { static constexpr int value = I; };
template <int N, int I = 0, class F> __attribute__((device)) __attribute__((always_inline)) inline void repeat(F &&f) {
  if constexpr (I < N) {
    f(Index<I>{});
    repeat<N, I + 1>(f);
  }
}
