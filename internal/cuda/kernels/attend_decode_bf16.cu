// Attention of single new tokens over a BF16 cache.
#include "attend_decode.cuh"

KERNEL(512, 1) decodeRow(const DecodeParams p) { decode<false, false, true>(p); }
KERNEL(512, 1) decodeRows(const DecodeParams p) { decode<false, false, false>(p); }
KERNEL(384, 1) decodeRowWide(const DecodeParams p) { decode<false, true, true>(p); }
KERNEL(384, 1) decodeRowsWide(const DecodeParams p) { decode<false, true, false>(p); }
