// Experts of one token, weights in NF4 and FP4 with double-quantised scales.
#include "experts_row.cuh"

ROW_KERNELS(nested)
