// One token times dense weights in 8 bits with block scales, 2880 or 4096 wide as in GPT-OSS. The driver compiles a
// module whole, so that other widths have one of their own.
//
// 128 registers. The loop of 2880 takes 4.5 instructions a weight: byte to float is two, the product one.
#include "dense_row.cuh"

ROW_KERNELS(formatQ8, 6, 6, false)
ROW_KERNELS(formatQ8, 8, 8, false)
