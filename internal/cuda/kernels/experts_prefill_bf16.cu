// Experts with many rows, weights in BF16.
#include "experts_prefill.cuh"

PREFILL_KERNELS(bf16)
