// Attention of single new tokens over an int8 cache, 16 query heads to a KV head.
#include "attend_decode.cuh"

KERNEL(256, 1) decodeRow(const DecodeParams p) { decode<true, true, true>(p); }
KERNEL(256, 1) decodeRows(const DecodeParams p) { decode<true, true, false>(p); }
