// One token times dense weights in F16, 2880 or 4096 wide as in GPT-OSS. The driver compiles a module whole, so that
// other widths have one of their own.
//
// 126 to 128 registers. The loop of 4096 takes 2.8 instructions a weight, that of 2880 2.9 with its padding.
#include "dense_row.cuh"

ROW_KERNELS(formatF16, 12, 12, false)
ROW_KERNELS(formatF16, 16, 16, false)
