// Attention of single new tokens over an int8 cache, up to 8 query heads to a KV head. 128 registers: two blocks of 8 warps
// share a multiprocessor.
#include "attend_decode.cuh"

KERNEL(512, 1) decodeRow(const DecodeParams p) { decode<true, false, true>(p); }
KERNEL(512, 1) decodeRows(const DecodeParams p) { decode<true, false, false>(p); }
