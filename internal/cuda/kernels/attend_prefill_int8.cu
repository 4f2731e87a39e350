// Attention of runs of tokens over an int8 cache: 33 KB of shared memory and 255 registers a thread, so that two blocks of 4
// warps share a multiprocessor.
#include "attend_prefill.cuh"

KERNEL(prefillThreads, 2) prefill(const AttendTileParams p) { prefillTile<true>(p); }
