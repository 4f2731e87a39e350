// The embedding, and the norm of several rows.
#include "dense.cuh"

struct EmbedParams {
  const u8 *rows; // [T, cols], in host memory: E[token] of each token
  float *x;       // [T, cols]
  int cols, padding;
};

enum RowFormat { rowBF16, rowF16, rowF32 };

// x = E[token], a block a token, with a thread for each four values where that is possible: a second turn would wait for the
// bus a second time.
template <int F> DEVICE void embed(const EmbedParams &p) {
  i64 row = (i64)blockX * p.cols;
  for (int c = threadX * 4; c < p.cols; c += threadsX * 4) {
    F4 v;
    if constexpr (F == rowF32) {
      v = *(const F4 *)(p.rows + (row + c) * 4);
    } else {
      U2 w = *(const U2 *)(p.rows + (row + c) * 2);
      if constexpr (F == rowF16) v = F4{lowF16(w.x), highF16(w.x), lowF16(w.y), highF16(w.y)};
      else v = F4{lowBF16(w.x), highBF16(w.x), lowBF16(w.y), highBF16(w.y)};
    }
    *(F4 *)(p.x + row + c) = v;
  }
}

KERNEL(1024, 1) embedBF16(const EmbedParams p) { embed<rowBF16>(p); }
KERNEL(1024, 1) embedF16(const EmbedParams p) { embed<rowF16>(p); }
KERNEL(1024, 1) embedF32(const EmbedParams p) { embed<rowF32>(p); }

struct NormParams {
  const float *x;      // [.., cols]
  const float *weight; // [cols]
  const int *rows;     // row of x for each row of t; 0: the same
  u16 *t;              // BF16 [T, cols]
  int cols;
  float perCol, eps;   // 1/cols
  int padding;
};

// t = x / sqrt(mean(x^2) + eps) * weight, rounded once. A block a row; a thread holds up to 16 elements.
KERNEL(1024, 1) norm(const NormParams p) {
  SHARED static float sums[32];
  const float *x = p.x + (i64)(p.rows ? p.rows[blockX] : blockX) * p.cols;
  float v[4][4], g[4][4], square = 0;
  UNROLL for (int i = 0; i < 4; i++) {
    int c = (threadX + i * threadsX) * 4;
    UNROLL for (int j = 0; j < 4; j++) v[i][j] = g[i][j] = 0;
    loadFloat4If(v[i], x + c, c < p.cols);
    loadFloat4If(g[i], p.weight + c, c < p.cols);
  }
  UNROLL for (int i = 0; i < 4; i++)
    UNROLL for (int j = 0; j < 4; j++) square += v[i][j] * v[i][j];
  square = warpSum(square);
  if (laneId == 0) sums[warpId] = square;
  syncBlock();
  float total = 0;
  for (int w = 0; w < threadsX / 32; w++) total += sums[w];
  float scale = rsqrtApprox(total * p.perCol + p.eps);
  UNROLL for (int i = 0; i < 4; i++) {
    int c = (threadX + i * threadsX) * 4;
    if (c < p.cols)
      *(U2 *)(p.t + (i64)blockX * p.cols + c) = U2{packBF16(v[i][0] * scale * g[i][0], v[i][1] * scale * g[i][1]), packBF16(v[i][2] * scale * g[i][2], v[i][3] * scale * g[i][3])};
  }
}
