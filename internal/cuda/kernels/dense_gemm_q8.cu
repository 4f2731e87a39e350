#include "dense_gemm.cuh"

GEMM(gemm16, 6, formatQ8, 1, 2, 1, 2, 64, 6)
GEMM(gemm32, 4, formatQ8, 1, 2, 2, 2, 64, 6)
GEMM(gemm64, 3, formatQ8, 2, 2, 2, 4, 64, 3)
GEMM(gemm128, 1, formatQ8, 2, 4, 4, 2, 64, 3)
GEMM(gemmLarge, 1, formatQ8, 2, 4, 4, 4, 64, 3)
