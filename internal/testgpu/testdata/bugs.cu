// Kernels with mistakes that testgpu must find. Each is right where `bug` (or `kind`) is 0.
//
//	(echo "// sha256 $(sha256sum < bugs.cu | cut -c1-64)"; clang-19 -x cuda --cuda-device-only -nocudainc -nocudalib \
//	  --cuda-gpu-arch=sm_80 -std=c++20 -O3 -S -o - bugs.cu) > bugs.ptx
#define KERNEL extern "C" __attribute__((global)) void
#define DEVICE static __attribute__((device)) __attribute__((always_inline)) inline
#define SHARED __attribute__((shared))
typedef unsigned int u32;
#define threadX ((int)__nvvm_read_ptx_sreg_tid_x())
#define blockX ((int)__nvvm_read_ptx_sreg_ctaid_x())
DEVICE void sync() { __nvvm_bar_sync(0); }
DEVICE void syncWarp() { asm volatile("bar.warp.sync 0xffffffff;" ::: "memory"); }
DEVICE u32 sharedAddress(const void *p) {
  u32 a;
  asm("{ .reg .u64 t; cvta.to.shared.u64 t, %1; cvt.u32.u64 %0, t; }" : "=r"(a) : "l"(p));
  return a;
}
DEVICE u32 load(u32 a) {
  u32 v;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(a) : "memory");
  return v;
}
DEVICE void store(u32 a, u32 v) { asm volatile("st.shared.u32 [%0], %1;" ::"r"(a), "r"(v) : "memory"); }

// Neighbouring warps exchange a value.
KERNEL readAfterWrite(u32 *out, int bug) {
  SHARED static u32 s[64];
  store(sharedAddress(s + threadX), threadX);
  if (!bug) sync();
  out[threadX] = load(sharedAddress(s + (threadX ^ 32)));
}

// A buffer is used again: the second barrier is missing.
KERNEL writeAfterRead(u32 *out, int bug) {
  SHARED static u32 s[64];
  u32 sum = 0;
  for (int i = 0; i < 3; i++) {
    store(sharedAddress(s + threadX), threadX * i);
    sync();
    sum += load(sharedAddress(s + (threadX ^ 32)));
    if (!bug) sync();
  }
  out[threadX] = sum;
}

// Everyone reads a word, then one warp writes it.
KERNEL writeAfterBroadcast(u32 *out, int bug) {
  SHARED static u32 s;
  if (threadX == 0) store(sharedAddress(&s), 5);
  sync();
  u32 v = load(sharedAddress(&s));
  if (!bug) sync();
  if (threadX == 63) store(sharedAddress(&s), 6);
  sync();
  out[threadX] = v + load(sharedAddress(&s));
}

KERNEL writeAfterWrite(u32 *out, int bug) {
  SHARED static u32 s[32];
  if (threadX < 32) store(sharedAddress(s + threadX), 1);
  if (!bug) sync();
  if (threadX >= 32) store(sharedAddress(s + threadX - 32), 2);
  sync();
  out[threadX] = load(sharedAddress(s + threadX % 32));
}

// The lanes of one warp exchange a value.
KERNEL withinWarp(u32 *out, int bug) {
  SHARED static u32 s[32];
  store(sharedAddress(s + threadX), threadX);
  if (!bug) syncWarp();
  out[threadX] = load(sharedAddress(s + (threadX ^ 1)));
}

// Halves of one word belong to different warps, which is no race; the mistake is to read the other's half.
KERNEL halves(u32 *out, int bug) {
  SHARED static unsigned short s[64];
  int at = threadX % 32 * 2 + threadX / 32;
  asm volatile("st.shared.u16 [%0], %1;" ::"r"(sharedAddress(s + at)), "h"((unsigned short)threadX) : "memory");
  unsigned short v;
  asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(sharedAddress(s + (bug ? at ^ 1 : at))) : "memory");
  sync();
  out[threadX] = v + load(sharedAddress(s + threadX % 32 * 2));
}

KERNEL sharedUnwritten(u32 *out, int bug) {
  SHARED static u32 s[64];
  if (threadX < 60 || !bug) store(sharedAddress(s + threadX), threadX);
  sync();
  out[threadX] = load(sharedAddress(s + 63 - threadX));
}

KERNEL sharedOutside(u32 *out, int bug) {
  SHARED static u32 s[64];
  store(sharedAddress(s + threadX + (bug ? 1 : 0)), threadX);
  sync();
  out[threadX] = load(sharedAddress(s + threadX));
}

KERNEL sharedMisaligned(u32 *out, int bug) {
  SHARED static __attribute__((aligned(16))) u32 s[256];
  u32 v;
  for (int i = 0; i < 4; i++) store(sharedAddress(s + threadX * 4 + i), threadX);
  asm volatile("{ .reg .u32 a, b, c; ld.shared.v4.u32 {%0, a, b, c}, [%1]; }" : "=r"(v) : "r"(sharedAddress(s + threadX * 4) - (bug && threadX ? 8 : 0)) : "memory");
  out[threadX] = v;
}

KERNEL globalOutside(u32 *out, int bug) { out[threadX + (bug ? 1 : 0)] = 1; }
// kind: 1 loads and 2 stores before the kernels before are complete, 3 does not ask.
KERNEL follow(u32 *out, int kind) {
  u32 v = 0;
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  if (kind == 3) return;
  if (kind == 1) asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(v) : "l"(out + threadX) : "memory");
  if (kind == 2) out[64 + threadX] = 1;
  asm volatile("griddepcontrol.wait;" ::: "memory");
  if (kind == 0) asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(v) : "l"(out + threadX) : "memory");
  out[threadX] = v + 1;
}
KERNEL globalUnwritten(u32 *out, int bug) {
  if (threadX != 40 || !bug) out[threadX] = 1;
  sync();
  u32 v;
  asm volatile("ld.global.u32 %0, [%1];" : "=r"(v) : "l"(out + 63 - threadX) : "memory");
  sync();
  out[threadX] = v;
}
KERNEL globalMisaligned(u32 *out, int bug) {
  asm volatile("st.global.v2.u32 [%0], {%1, %1};" ::"l"(out + (threadX & ~1) + (bug ? 1 : 0)), "r"(threadX / 2) : "memory");
}
KERNEL freed(u32 *out, u32 *other) { out[threadX] = other[threadX]; }

// An asynchronous copy, with its wait or without.
KERNEL copyWithoutWait(u32 *out, int bug) {
  SHARED static __attribute__((aligned(16))) u32 s[256];
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n\tcp.async.commit_group;" ::"r"(sharedAddress(s + 4 * threadX)), "l"(out + 4 * threadX) : "memory");
  if (!bug) asm volatile("cp.async.wait_group 0;" ::: "memory");
  sync();
  u32 v = load(sharedAddress(s + 255 - threadX));
  sync();
  out[threadX] = v;
}
// The wait without the barrier behind it: other threads' copies are not there.
KERNEL copyWithoutBarrier(u32 *out, int bug) {
  SHARED static __attribute__((aligned(16))) u32 s[256];
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n\tcp.async.wait_all;" ::"r"(sharedAddress(s + 4 * threadX)), "l"(out + 4 * threadX) : "memory");
  if (!bug) sync();
  u32 v = load(sharedAddress(s + 255 - threadX));
  sync();
  out[threadX] = v;
}
// Two groups under way: waiting for the older one is enough for its data only.
KERNEL copyWrongGroup(u32 *out, int bug) {
  SHARED static __attribute__((aligned(16))) u32 s[512];
  for (int i = 0; i < 2; i++)
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;\n\tcp.async.commit_group;" ::"r"(sharedAddress(s + 64 * i + threadX)), "l"(out + threadX) : "memory");
  asm volatile("cp.async.wait_group 1;" ::: "memory");
  out[threadX] = load(sharedAddress(s + (bug ? 64 : 0) + threadX));
}

// Half of a warp goes around a barrier.
KERNEL divergedBarrier(u32 *out, int bug) {
  if (bug && threadX % 32 < 16) {
    out[threadX] = 1;
    asm volatile("bar.sync 1;" ::: "memory");
    out[threadX] = 2;
  } else {
    sync();
    out[threadX] = 3;
  }
}
KERNEL exitedBeforeBarrier(u32 *out, int bug) {
  out[threadX] = 1;
  if (bug && threadX % 32 >= 16) return;
  sync();
  out[threadX] = 2;
}
// A warp waits for others that wait somewhere else.
KERNEL barrierMissed(u32 *out, int bug) {
  out[threadX] = 1;
  if (bug && threadX >= 32) asm volatile("bar.sync 1, 64;" ::: "memory");
  else sync();
}
// A shuffle of all lanes inside a branch that only some take.
KERNEL divergedShuffle(u32 *out, int bug) {
  u32 v = threadX;
  if (!bug || threadX < 16) {
    asm volatile("shfl.sync.bfly.b32 %0, %0, 1, 31, 0xffffffff;" : "+r"(v));
    out[threadX] = v;
  } else {
    sync();
  }
}
KERNEL shuffleFromAbsent(u32 *out, int bug) {
  u32 v = threadX;
  if (threadX < 16) asm volatile("shfl.sync.bfly.b32 %0, %0, %1, 31, 0xffff;" : "+r"(v) : "r"(bug ? 16 : 1));
  out[threadX] = v;
}
KERNEL spin(u32 *out, int bug) {
  u32 v;
  do asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(out) : "memory");
  while (v == 7 && bug);
  out[64 + threadX] = v;
}
// Races in global memory: between warps; between blocks, with kind 1 no synchronisation, 2 no fence before the atomic,
// 3 none after it.
KERNEL globalRace(u32 *out, int bug) {
  asm volatile("st.global.u32 [%0], %1;" ::"l"(out + threadX), "r"(threadX) : "memory");
  if (!bug) sync();
  u32 v;
  asm volatile("ld.global.u32 %0, [%1];" : "=r"(v) : "l"(out + 63 - threadX) : "memory");
  sync();
  out[threadX] = v;
}
KERNEL blockRace(u32 *out, u32 *count, u32 *sum, int kind) {
  SHARED static bool last;
  out[blockX * 64 + threadX] = threadX;
  sync();
  if (threadX == 0) {
    u32 old = 1;
    if (kind != 2) asm volatile("fence.acq_rel.gpu;" ::: "memory");
    if (kind != 1) asm volatile("atom.global.add.u32 %0, [%1], 1;" : "=r"(old) : "l"(count) : "memory");
    if (kind != 3) asm volatile("fence.acq_rel.gpu;" ::: "memory");
    last = old == 1;
  }
  sync();
  if (last) {
    u32 a, b;
    asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(a) : "l"(out + threadX) : "memory");
    asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(b) : "l"(out + 64 + threadX) : "memory");
    sum[threadX] = a + b;
  }
}
// Halves of a word from two blocks; with bug, the same half.
KERNEL halvesOfBlocks(unsigned short *out, int bug) { out[2 * threadX + (bug ? 0 : blockX)] = blockX; }
KERNEL divideByZero(u32 *out, int bug) { out[threadX] = 100 / (bug ? threadX : threadX + 1); }
