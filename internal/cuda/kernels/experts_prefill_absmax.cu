// Experts with many rows, weights in NF4 and FP4 with float32 scales.
#include "experts_prefill.cuh"

PREFILL_KERNELS(absmax)
