// Rotary position embedding: the table of a step's angles, and for several tokens the finishing of q, k and v, which go to
// attention and to the KV cache. One token's q and k are rotated by attention itself (attend_decode.cuh).
#include "attend.cuh"

struct RopeTable {
  const int *positions;   // [tokens]
  const float *frequency; // [32]
  float *table;           // [tokens, 64]: 32 cosines, 32 sines
  float scale;            // multiplies both
  int tokens;
};

// sin and cos of 0 <= x < 2^20, in float64 with an error below 2^-40: the nearest multiple of pi/2 is taken off in two
// pieces, and the series do for the rest, at most pi/4.
DEVICE void sineCosine(double x, float &sine, float &cosine) {
  constexpr double shift = 0x1.8p52; // a sum with it is rounded to an integer, in the low bits
  double shifted = __builtin_fma(x, 0x1.45f306dc9c883p-1, shift), n = shifted - shift;
  u32 quadrant = (u32)__builtin_bit_cast(u64, shifted);
  double r = __builtin_fma(n, -0x1.921fb54442d18p+0, x);
  r = __builtin_fma(n, -0x1.1a62633145c07p-54, r);
  double z = r * r;
  double s = 1.0 / 6227020800;
  s = __builtin_fma(s, z, -1.0 / 39916800);
  s = __builtin_fma(s, z, 1.0 / 362880);
  s = __builtin_fma(s, z, -1.0 / 5040);
  s = __builtin_fma(s, z, 1.0 / 120);
  s = __builtin_fma(s, z, -1.0 / 6);
  s = __builtin_fma(s * z, r, r);
  double c = 1.0 / 479001600;
  c = __builtin_fma(c, z, -1.0 / 3628800);
  c = __builtin_fma(c, z, 1.0 / 40320);
  c = __builtin_fma(c, z, -1.0 / 720);
  c = __builtin_fma(c, z, 1.0 / 24);
  c = __builtin_fma(c, z, -1.0 / 2);
  c = __builtin_fma(c, z, 1.0);
  bool swap = quadrant & 1;
  float a = (float)(swap ? c : s), b = (float)(swap ? s : c);
  sine = quadrant & 2 ? -a : a;
  cosine = (quadrant + 1) & 2 ? -b : b;
}

// The angle is rounded to float32 before its sine is taken, as in training: a more exact one fits the weights less.
KERNEL(256, 1) ropeTable(const RopeTable p) {
  int i = blockX * threadsX + threadX, token = i >> 5;
  if (token >= p.tokens) return;
  float angle = (float)p.positions[token] * p.frequency[i & 31], sine, cosine;
  sineCosine(angle, sine, cosine);
  float *to = p.table + token * headDim + (i & 31);
  to[0] = cosine * p.scale;
  to[32] = sine * p.scale;
}

struct RopeKV {
  Cache cache;
  const float *planes;           // [split, tokens, (heads + 2 kvHeads) * 64]: their sum and bias are q, k and v
  const float *bias;             // [(heads + 2 kvHeads) * 64]
  const float *rope;             // [tokens, 64]
  const int *positions, *seqOf;  // [tokens]
  u16 *q;                        // BF16 [tokens, heads * 64]
  int tokens, heads, split, padding;
};

constexpr int maxPlanes = 4;

// 16 threads finish a head of a token: thread i its values 2i, 2i+1 and, rotated with them, 32+2i, 33+2i.
template <bool Int8> DEVICE void ropeKV(const RopeKV &p) {
  int token = blockX, i = threadX & 15, heads = p.heads + 2 * p.cache.kvHeads;
  int head = blockY * (threadsX >> 4) + (threadX >> 4);
  bool present = head < heads;
  head = minOf(head, heads - 1);
  const float *from = p.planes + ((i64)token * heads + head) * headDim + 2 * i;
  F2 low[maxPlanes + 1] = {}, high[maxPlanes + 1] = {}, cosine = {}, sine = {};
  UNROLL for (int s = 0; s < maxPlanes; s++) {
    const float *plane = from + (i64)s * p.tokens * heads * headDim;
    loadFloat2If(low[s], plane, s < p.split);
    loadFloat2If(high[s], plane + 32, s < p.split);
  }
  loadFloat2If(low[maxPlanes], p.bias + head * headDim + 2 * i, true);
  loadFloat2If(high[maxPlanes], p.bias + head * headDim + 2 * i + 32, true);
  loadFloat2If(cosine, p.rope + token * headDim + 2 * i, true);
  loadFloat2If(sine, p.rope + token * headDim + 2 * i + 32, true);
  UNROLL for (int s = 1; s <= maxPlanes; s++) {
    low[0].x += low[s].x, low[0].y += low[s].y;
    high[0].x += high[s].x, high[0].y += high[s].y;
  }
  F2 a = low[0], b = high[0];
  bool isValue = head >= p.heads + p.cache.kvHeads;
  if (!isValue) {
    a = F2{low[0].x * cosine.x - high[0].x * sine.x, low[0].y * cosine.y - high[0].y * sine.y};
    b = F2{high[0].x * cosine.x + low[0].x * sine.x, high[0].y * cosine.y + low[0].y * sine.y};
  }
  u32 greatest = 0;
  if constexpr (Int8) {
    greatest = maxOf(maxOf(magnitude(a.x), magnitude(a.y)), maxOf(magnitude(b.x), magnitude(b.y)));
    UNROLL for (int m = 8; m; m >>= 1) greatest = maxOf(greatest, shuffleXor(greatest, m));
  }
  if (!present) return;
  if (head < p.heads) {
    u32 *q = (u32 *)(p.q + ((i64)token * p.heads + head) * headDim) + i;
    q[0] = packBF16(a.x, a.y);
    q[16] = packBF16(b.x, b.y);
    return;
  }
  const Cache &cache = p.cache;
  i64 row = cache.row(p.seqOf[token], p.positions[token], head - p.heads - (isValue ? cache.kvHeads : 0));
  u8 *to = isValue ? cache.v : cache.k;
  if constexpr (Int8) {
    Int8Scale scale(greatest);
    u16 *codes = (u16 *)(to + row * headDim) + i;
    codes[0] = (u16)(scale.code(a.x) | scale.code(a.y) << 8);
    codes[16] = (u16)(scale.code(b.x) | scale.code(b.y) << 8);
    if (i == 0) (isValue ? cache.vScale : cache.kScale)[row] = scale.scale;
  } else {
    u32 *pairs = (u32 *)(to + row * headDim * 2) + i;
    pairs[0] = packBF16(a.x, a.y);
    pairs[16] = packBF16(b.x, b.y);
  }
}

KERNEL(256, 1) ropeKVBF16(const RopeKV p) { ropeKV<false>(p); }
KERNEL(256, 1) ropeKVInt8(const RopeKV p) { ropeKV<true>(p); }
