// Experts with up to 32 rows each, weights in MXFP4.
#include "experts_group.cuh"

GROUP_KERNELS(mxfp4)
