// Several tokens times dense weights in BF16. On an RTX 3090, with 100 KB of shared memory and 65,536 registers:
//
//               tokens x rows   registers   shared KB   blocks an SM
//   gemm16        16 x 32         72          36.0        2
//   gemm32        32 x 32         98          48.0        2
//   gemm64        64 x 64        128          48.0        2
//   gemm128      128 x 48        128          44.0        2
//   gemmLarge    128 x 128       242          48.0        2
#include "dense_gemm.cuh"

GEMM(gemm16, 6, formatBF16, 1, 2, 1, 2, 64, 6)
GEMM(gemm32, 4, formatBF16, 1, 2, 2, 2, 64, 6)
GEMM(gemm64, 3, formatBF16, 2, 2, 2, 4, 64, 3)
GEMM(gemm128, 2, formatBF16, 4, 1, 2, 6, 32, 4)
GEMM(gemmLarge, 2, formatBF16, 2, 2, 4, 8, 32, 3)
