#include "dense_gemm.cuh"

GEMM(gemm16, 6, formatF16, 1, 2, 1, 2, 64, 6)
GEMM(gemm32, 4, formatF16, 1, 2, 2, 2, 64, 6)
GEMM(gemm64, 3, formatF16, 2, 2, 2, 4, 64, 3)
GEMM(gemm128, 2, formatF16, 4, 1, 2, 6, 32, 4)
GEMM(gemmLarge, 2, formatF16, 2, 2, 4, 8, 32, 3)
