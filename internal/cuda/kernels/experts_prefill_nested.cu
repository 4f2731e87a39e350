// Experts with many rows, weights in NF4 and FP4 with double-quantised scales.
#include "experts_prefill.cuh"

PREFILL_KERNELS(nested)
