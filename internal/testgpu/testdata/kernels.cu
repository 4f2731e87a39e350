// Kernels for the tests of testgpu.
//
//	(echo "// sha256 $(sha256sum < kernels.cu | cut -c1-64)"; clang-19 -x cuda --cuda-device-only -nocudainc -nocudalib \
//	  --cuda-gpu-arch=sm_80 -std=c++20 -O3 -S -o - kernels.cu) > kernels.ptx
#define KERNEL extern "C" __attribute__((global)) void
#define DEVICE static __attribute__((device)) __attribute__((always_inline)) inline
#define SHARED __attribute__((shared))
typedef unsigned int u32;
typedef unsigned long long u64;
#define threadX ((int)__nvvm_read_ptx_sreg_tid_x())
#define threadsX ((int)__nvvm_read_ptx_sreg_ntid_x())
#define blockX ((int)__nvvm_read_ptx_sreg_ctaid_x())
#define blocksX ((int)__nvvm_read_ptx_sreg_nctaid_x())
DEVICE void sync() { __nvvm_bar_sync(0); }

KERNEL saxpy(float a, const float *x, float *y, int n) {
  for (int i = blockX * threadsX + threadX; i < n; i += blocksX * threadsX) y[i] += a * x[i];
}

DEVICE float shuffleXor(float v, int m) {
  float r;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 31, 0xffffffff;" : "=f"(r) : "f"(v), "r"(m));
  return r;
}

// The sum of x; the block that finishes last adds the blocks' parts in order.
KERNEL reduce(const float *x, int n, float *parts, u32 *done, float *sum) {
  SHARED static float warps[32];
  SHARED static bool last;
  float v = 0;
  for (int i = blockX * threadsX + threadX; i < n; i += blocksX * threadsX) v += x[i];
  for (int m = 16; m; m >>= 1) v += shuffleXor(v, m);
  if ((threadX & 31) == 0) warps[threadX / 32] = v;
  sync();
  if (threadX == 0) {
    float s = 0;
    for (int i = 0; i < threadsX / 32; i++) s += warps[i];
    parts[blockX] = s;
    asm volatile("fence.acq_rel.gpu;" ::: "memory");
    u32 old;
    asm volatile("atom.global.add.u32 %0, [%1], 1;" : "=r"(old) : "l"(done) : "memory");
    last = old == (u32)blocksX - 1;
  }
  sync();
  if (last && threadX == 0) {
    asm volatile("fence.acq_rel.gpu;" ::: "memory");
    float s = 0;
    for (int i = 0; i < blocksX; i++) {
      float p;
      asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(p) : "l"(parts + i) : "memory");
      s += p;
    }
    *sum = s;
    *done = 0;
  }
}

// An odd-even transposition sort of one block's values: divergent, with a barrier in every step.
KERNEL sort(int *x, int n) {
  for (int step = 0; step < n; step++) {
    int i = 2 * threadX + (step & 1);
    if (i + 1 < n && x[i] > x[i + 1]) {
      int t = x[i];
      x[i] = x[i + 1];
      x[i + 1] = t;
    }
    sync();
  }
}

// A switch, nested loops and early exits: what diverges.
KERNEL diverge(const int *in, int *out, int n) {
  int i = blockX * threadsX + threadX;
  if (i >= n) return;
  int v = in[i], s = 0;
  switch (v & 7) {
  case 0: s = v * 3; break;
  case 1: for (int k = 0; k < v; k++) { if (k % 3 == 1) continue; s += k; } break;
  case 2: while (v > 1) { v = v & 1 ? 3 * v + 1 : v / 2; s++; } break;
  case 3: s = -v; break;
  case 4: for (int k = v; k > 0; k -= 5) for (int j = 0; j < k; j++) s ^= j * k; break;
  case 5: out[i] = 7; return;
  case 6: s = v / 3 - v % 5; break;
  default: s = __builtin_popcount(v) + __builtin_clz(v | 1); break;
  }
  out[i] = s;
}

DEVICE u32 sharedAddress(const void *p) {
  u32 a;
  asm("{ .reg .u64 t; cvta.to.shared.u64 t, %1; cvt.u32.u64 %0, t; }" : "=r"(a) : "l"(p));
  return a;
}
DEVICE void copyAsync(u32 to, const void *from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
DEVICE void loadMatrix(u32 *r, u32 a) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(a) : "memory");
}
DEVICE void loadMatrixTransposed(u32 *r, u32 a) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(a) : "memory");
}
DEVICE void mma(float *c, const u32 *a, u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// C[m, n] = A[m, k] B, bf16 in, float out. B is [k, n] (transposed on load) or [n, k]. A block of 4 warps makes 64 x 32;
// steps of 32 of k in two stages of asynchronous copies. m, n, k are multiples of 64, 32, 32.
template <bool KN> DEVICE void product(const char *a, const char *b, float *c, int n, int k) {
  SHARED static __attribute__((aligned(128))) char tileA[2][64 * 80], tileB[2][32 * 80]; // rows of 64 bytes, 80 apart
  int row = __nvvm_read_ptx_sreg_ctaid_y() * 64, col = blockX * 32, lane = threadX & 31, warp = threadX >> 5;
  float acc[4][4] = {};
  auto load = [&](int step) __attribute__((always_inline)) {
    int s = step & 1;
    for (int i = threadX; i < 256; i += 128)
      copyAsync(sharedAddress(tileA[s]) + i / 4 * 80 + i % 4 * 16, a + ((u64)(row + i / 4) * k + step * 32) * 2 + i % 4 * 16);
    int i = threadX;
    if (KN) copyAsync(sharedAddress(tileB[s]) + i / 4 * 80 + i % 4 * 16, b + ((u64)(step * 32 + i / 4) * n + col) * 2 + i % 4 * 16);
    else copyAsync(sharedAddress(tileB[s]) + i / 4 * 80 + i % 4 * 16, b + ((u64)(col + i / 4) * k + step * 32) * 2 + i % 4 * 16);
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  load(0);
  for (int step = 0; step < k / 32; step++) {
    if (step + 1 < k / 32) load(step + 1);
    else asm volatile("cp.async.commit_group;" ::: "memory");
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    sync();
    u32 ta = sharedAddress(tileA[step & 1]), tb = sharedAddress(tileB[step & 1]);
#pragma unroll
    for (int h = 0; h < 2; h++) {
      u32 fa[4], fb[8];
      loadMatrix(fa, ta + (warp * 16 + lane % 16) * 80 + h * 32 + lane / 16 * 16);
#pragma unroll
      for (int j = 0; j < 2; j++) {
        if (KN) loadMatrixTransposed(fb + 4 * j, tb + (h * 16 + lane % 16) * 80 + j * 32 + lane / 16 * 16);
        else loadMatrix(fb + 4 * j, tb + (j * 16 + lane / 16 * 8 + lane % 8) * 80 + h * 32 + lane / 8 % 2 * 16);
      }
#pragma unroll
      for (int j = 0; j < 4; j++) mma(acc[j], fa, fb[2 * j], fb[2 * j + 1]);
    }
    sync();
  }
  float *out = c + (u64)(row + warp * 16 + lane / 4) * n + col + lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < 4; j++) {
    out[j * 8] = acc[j][0];
    out[j * 8 + 1] = acc[j][1];
    out[j * 8 + 8 * n] = acc[j][2];
    out[j * 8 + 8 * n + 1] = acc[j][3];
  }
}
KERNEL gemmNK(const char *a, const char *b, float *c, int n, int k) { product<false>(a, b, c, n, k); }
KERNEL gemmKN(const char *a, const char *b, float *c, int n, int k) { product<true>(a, b, c, n, k); }

// A function that is called, with a table on the stack.
__attribute__((device)) __attribute__((noinline)) float polynomial(const float *c, int n, float x) {
  float s = 0;
  for (int i = n - 1; i >= 0; i--) s = s * x + c[i];
  return s;
}
KERNEL calls(const float *x, float *y, int n) {
  int i = threadX;
  float c[6];
  for (int k = 0; k < 6; k++) c[k] = x[k] + i;
  y[i] = polynomial(c, n, 0.5f) + (i & 1 ? polynomial(x, 3, 2.f) : 0.f);
}

// Sums and scans by warp functions.
KERNEL warps(const u32 *x, u32 *y) {
  u32 v = x[threadX], scan = v;
  for (int d = 1; d < 32; d *= 2) {
    u32 r;
    asm volatile("{ .reg .pred p; shfl.sync.up.b32 %0|p, %1, %2, 0, 0xffffffff; @!p mov.u32 %0, 0; }" : "=r"(r) : "r"(scan), "r"(d));
    scan += r;
  }
  u32 largest, votes, same;
  asm volatile("redux.sync.max.u32 %0, %1, 0xffffffff;" : "=r"(largest) : "r"(v));
  asm volatile("{ .reg .pred q; setp.ne.u32 q, %1, 0; vote.sync.ballot.b32 %0, q, 0xffffffff; }" : "=r"(votes) : "r"(v & 1));
  asm volatile("match.any.sync.b32 %0, %1, 0xffffffff;" : "=r"(same) : "r"(v % 5));
  y[4 * threadX] = scan;
  y[4 * threadX + 1] = largest;
  y[4 * threadX + 2] = votes;
  y[4 * threadX + 3] = same;
}
