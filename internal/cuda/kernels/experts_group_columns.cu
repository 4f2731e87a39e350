// Experts with up to 32 rows each, weights in NF4 and FP4 whose scales run along the outputs: fused bitsandbytes tensors.
#include "experts_group.cuh"

GROUP_KERNELS(columns)
