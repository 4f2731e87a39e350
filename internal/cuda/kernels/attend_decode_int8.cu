// Attention of single new tokens over an int8 cache.
#include "attend_decode.cuh"

KERNEL(512, 1) decodeRow(const DecodeParams p) { decode<true, false, true>(p); }
KERNEL(512, 1) decodeRows(const DecodeParams p) { decode<true, false, false>(p); }
KERNEL(384, 1) decodeRowWide(const DecodeParams p) { decode<true, true, true>(p); }
KERNEL(384, 1) decodeRowsWide(const DecodeParams p) { decode<true, true, false>(p); }
