// Experts with up to 32 rows each, weights in NF4 and FP4 with double-quantised scales.
#include "experts_group.cuh"

GROUP_KERNELS(nested)
