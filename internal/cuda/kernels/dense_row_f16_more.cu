// One token times dense weights in F16, of widths that GPT-OSS does not have.
#include "dense_row.cuh"

ROW_KERNELS(formatF16, 1, 1, false)
ROW_KERNELS(formatF16, 2, 2, false)
ROW_KERNELS(formatF16, 3, 3, false)
ROW_KERNELS(formatF16, 4, 4, false)
ROW_KERNELS(formatF16, 6, 6, false)
ROW_KERNELS(formatF16, 8, 8, false)
ROW_KERNELS(formatF16, 16, Wide, true)
