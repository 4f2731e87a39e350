// Experts with many rows, weights in MXFP4.
#include "experts_prefill.cuh"

PREFILL_KERNELS(mxfp4)
