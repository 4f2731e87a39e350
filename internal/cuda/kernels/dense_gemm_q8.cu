// Several tokens times dense weights in 8 bits with block scales. On an RTX 3090, with 100 KB of shared memory and 65,536 registers:
//
//               tokens x rows   registers   shared KB   blocks an SM
//   gemm16        16 x 32         90          24.8        3
//   gemm32        32 x 32        120          36.8        2
//   gemm64        64 x 64        165          36.8        2
//   gemm128      128 x 64        183          60.8        1
//   gemmLarge    128 x 128       255          73.5        1
#include "dense_gemm.cuh"

GEMM(gemm16, 6, formatQ8, 1, 2, 1, 2, 64, 6)
GEMM(gemm32, 4, formatQ8, 1, 2, 2, 2, 64, 6)
GEMM(gemm64, 3, formatQ8, 2, 2, 2, 4, 64, 3)
GEMM(gemm128, 1, formatQ8, 2, 4, 4, 2, 64, 3)
GEMM(gemmLarge, 1, formatQ8, 2, 4, 4, 4, 64, 3)
