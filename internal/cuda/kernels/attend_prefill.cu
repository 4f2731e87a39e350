// Attention of runs of tokens, over a cache in BF16 or in int8.
#include "attend_prefill.cuh"

KERNEL(prefillThreads, 2) prefillBF16(const AttendTileParams p) { prefill<false>(p); }
KERNEL(prefillThreads, 2) prefillInt8(const AttendTileParams p) { prefill<true>(p); }
