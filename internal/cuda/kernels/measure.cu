// What this card can do at best, for `hearth bench` to compare with, and made-up content for its KV cache.
#include "common.cuh"

struct Read {
  const U4 *data;
  u32 *out;
  i64 units;  // of 16 bytes
};

// Reads data once, with plain loads, and writes nothing unless the sum is one that random data do not have.
KERNEL(512, 2) readAll(Read p) {
  constexpr int batch = 8;
  i64 stride = (i64)blocksX * 512, i = (i64)blockX * 512 + threadX;
  u32 sum = 0;
  for (; i + (batch - 1) * stride < p.units; i += batch * stride) {
    U4 v[batch];
    UNROLL for (int j = 0; j < batch; j++) v[j] = loadWeights(p.data + i + j * stride);
    UNROLL for (int j = 0; j < batch; j++) sum += v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  for (; i < p.units; i += stride) {
    U4 v = loadWeights(p.data + i);
    sum += v.x ^ v.y ^ v.z ^ v.w;
  }
  if (sum == 0x9e3779b9u) *p.out = sum;
}

struct Multiply {
  float *out;
  i64 rounds;
};

// Nothing but tensor core products: 8 independent m16n8k16 a warp and round, operands in registers.
KERNEL(512, 1) multiplyAll(Multiply p) {
  constexpr int tiles = 8;
  float c[tiles][4] = {};
  u32 a = packBF16(1.f, (float)laneId), b = packBF16((float)threadX, 0.5f);
  for (i64 i = 0; i < p.rounds; i++) {
    UNROLL for (int t = 0; t < tiles; t++) mmaBF16(c[t], a, b, a, b, a + t, b);
  }
  float sum = 0;
  UNROLL for (int t = 0; t < tiles; t++) sum += c[t][0] + c[t][1] + c[t][2] + c[t][3];
  if (sum == 1.5f) *p.out = sum;
}

struct Fill {
  U4 *out;
  i64 units;  // of 16 bytes
  u32 seed;
  u32 keep, set;  // each word is (random & keep) + set
  u32 pad;
};

// A word of a sequence: a counter through a mixing function (lowbias32, by Chris Wellons).
DEVICE u32 mixed(u32 x) {
  x = (x ^ x >> 16) * 0x7feb352du;
  x = (x ^ x >> 15) * 0x846ca68bu;
  return x ^ x >> 16;
}

struct MakeUp {
  U4 *out;
  const U4 *codes, *scales;   // pools
  u32 units;                  // of 16 bytes, to write
  u32 codeUnits, scaleUnits;  // of a chunk: so many from one pool, then so many from the other
  u32 codeMask, scaleMask;    // units of the pools, less 1: powers of two
  u32 seed;
};

// Weights whose values are those of the pools, 16 bytes at a time from random places.
KERNEL(512, 2) makeUp(MakeUp p) {
  u32 chunk = p.codeUnits + p.scaleUnits, base = mixed(p.seed);
  for (u32 i = blockX * 512 + threadX, step = blocksX * 512; i < p.units; i += step) {
    u32 at = mixed(base + i);
    p.out[i] = i % chunk < p.codeUnits ? p.codes[at & p.codeMask] : p.scales[at & p.scaleMask];
    if (i + step < i) break;  // past the end of u32
  }
}

KERNEL(512, 2) fill(Fill p) {
  for (i64 i = (i64)blockX * 512 + threadX; i < p.units; i += (i64)blocksX * 512) {
    u32 at = mixed(p.seed ^ (u32)(i >> 30)) + (u32)i * 4;
    p.out[i] = {(mixed(at) & p.keep) + p.set, (mixed(at + 1) & p.keep) + p.set, (mixed(at + 2) & p.keep) + p.set,
                (mixed(at + 3) & p.keep) + p.set};
  }
}
