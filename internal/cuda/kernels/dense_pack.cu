// Loading: GGUF's Q8_0 blocks, 34 bytes each (scale, 32 codes), to the codes and scales of dense.cuh.
#include "dense.cuh"

struct PackQ8Params {
  const u16 *blocks; // [n] blocks of 17 halves
  u8 *codes;         // 32 n
  u16 *scales;       // n
  int n, padding;
};

KERNEL(256, 1) packQ8(const PackQ8Params p) {
  for (int b = blockX * threadsX + threadX; b < p.n; b += blocksX * threadsX) {
    const u16 *from = p.blocks + (i64)b * 17;
    p.scales[b] = from[0];
    u32 codes[8];
    // Pair i holds inputs 2i and 2i+1: bytes 0 and 2, or 1 and 3, of the word of dense.cuh's order.
    UNROLL for (int t = 0; t < 4; t++)
      UNROLL for (int s = 0; s < 2; s++) codes[t * 2 + s] = permuteBytes(from[1 + 8 * s + t], from[1 + 8 * s + t + 4], 0x5140);
    U4 *to = (U4 *)(p.codes + (i64)b * 32);
    to[0] = U4{codes[0], codes[1], codes[2], codes[3]};
    to[1] = U4{codes[4], codes[5], codes[6], codes[7]};
  }
}
