// Experts with up to 32 rows each, weights in NF4 and FP4 with float32 scales.
#include "experts_group.cuh"

GROUP_KERNELS(absmax)
