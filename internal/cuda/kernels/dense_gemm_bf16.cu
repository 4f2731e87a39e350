#include "dense_gemm.cuh"

GEMM(gemm16, 6, formatBF16, 1, 2, 1, 2, 64, 6)
GEMM(gemm32, 4, formatBF16, 1, 2, 2, 2, 64, 6)
GEMM(gemm64, 3, formatBF16, 2, 2, 2, 4, 64, 3)
GEMM(gemm128, 2, formatBF16, 4, 1, 2, 6, 32, 4)
GEMM(gemmLarge, 2, formatBF16, 2, 2, 4, 8, 32, 3)
