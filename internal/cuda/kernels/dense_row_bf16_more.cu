// One token times dense weights in BF16, of widths that GPT-OSS does not have.
#include "dense_row.cuh"

ROW_KERNELS(formatBF16, 1, 1, false)
ROW_KERNELS(formatBF16, 2, 2, false)
ROW_KERNELS(formatBF16, 3, 3, false)
ROW_KERNELS(formatBF16, 4, 4, false)
ROW_KERNELS(formatBF16, 6, 6, false)
ROW_KERNELS(formatBF16, 8, 8, false)
ROW_KERNELS(formatBF16, 16, Wide, true)
