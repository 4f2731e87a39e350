// Attention of single new tokens over a BF16 cache, 16 query heads to a KV head.
#include "attend_decode.cuh"

KERNEL(256, 1) decodeRow(const DecodeParams p) { decode<false, true, true>(p); }
KERNEL(256, 1) decodeRows(const DecodeParams p) { decode<false, true, false>(p); }
