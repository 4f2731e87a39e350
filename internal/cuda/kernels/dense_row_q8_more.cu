// One token times dense weights in 8 bits with block scales, of widths that GPT-OSS does not have.
#include "dense_row.cuh"

ROW_KERNELS(formatQ8, 1, 1, false)
ROW_KERNELS(formatQ8, 2, 2, false)
ROW_KERNELS(formatQ8, 3, 3, false)
ROW_KERNELS(formatQ8, 4, 4, false)
ROW_KERNELS(formatQ8, 8, Wide, true)
