// Experts of one token, weights in MXFP4.
#include "experts_row.cuh"

ROW_KERNELS(mxfp4)
