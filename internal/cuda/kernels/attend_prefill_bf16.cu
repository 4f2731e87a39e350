// Attention of runs of tokens over a BF16 cache: 48 KB of shared memory and 252 registers a thread, so that two blocks of 4
// warps share a multiprocessor.
#include "attend_prefill.cuh"

KERNEL(prefillThreads, 2) prefill(const AttendTileParams p) { prefillTile<false>(p); }
