// Experts of one token, weights in NF4 and FP4 with float32 scales.
#include "experts_row.cuh"

ROW_KERNELS(absmax)
