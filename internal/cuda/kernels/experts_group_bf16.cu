// Experts with up to 32 rows each, weights in BF16.
#include "experts_group.cuh"

GROUP_KERNELS(bf16)
