// From the attention's output projection to the experts and back, for several tokens: residual, norm, router, the rows
// sorted by expert, and the weighted sum of what the experts gave. Then what a single token needs where its experts have
// no row kernel of their own.
#include "experts.cuh"
#include "route.cuh"

// ---- x += planes + bias; t = norm(x); router; choice

struct NormRouteParams {
  float *x;             // [tokens, hidden]
  const float *planes;  // [nplanes, tokens, hidden]
  const float *outBias; // [hidden], or 0
  const float *norm;    // [hidden]
  const float *router;  // [hidden, experts]
  const float *routerBias;
  u16 *t;               // BF16 [tokens, hidden]
  int *chosen;          // [tokens, topK]
  float *weight;        // [tokens, topK]
  int tokens, hidden, experts, topK, nplanes;
  float eps;
};

constexpr int routeThreads = 512, routeWarps = 16;

// Sums over the block, for each of N; every thread gets them. scratch: 16*N floats.
template <int N> DEVICE void blockSums(float (&v)[N], float *scratch) {
  UNROLL for (int r = 0; r < N; r++) {
    float s = warpSum(v[r]);
    if (laneId == 0) scratch[warpId * N + r] = s;
  }
  syncBlock();
  UNROLL for (int r = 0; r < N; r++) {
    v[r] = 0;
    UNROLL for (int w = 0; w < routeWarps; w++) v[r] += scratch[w * N + r];
  }
}

// The residual of token `token`, completed, to x and, times the norm's weight, to row r of scaled. Returns this thread's
// share of the sum of squares.
template <int N> DEVICE float addPlanes(const NormRouteParams &p, int token, int r, float *scaled) {
  i64 row = (i64)token * p.hidden, plane = (i64)p.tokens * p.hidden;
  float square = 0;
  for (int i = threadX * 4; i < p.hidden; i += routeThreads * 4) {
    F4 v = *(const F4 *)(p.x + row + i), g = *(const F4 *)(p.norm + i);
    if (p.outBias) {
      F4 b = *(const F4 *)(p.outBias + i);
      v = {v.x + b.x, v.y + b.y, v.z + b.z, v.w + b.w};
    }
    for (int n = 0; n < p.nplanes; n++) {
      F4 a = *(const F4 *)(p.planes + n * plane + row + i);
      v = {v.x + a.x, v.y + a.y, v.z + a.z, v.w + a.w};
    }
    if (p.nplanes > 0 || p.outBias) *(F4 *)(p.x + row + i) = v;
    square += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    scaled[(i + 0) * N + r] = v.x * g.x;
    scaled[(i + 1) * N + r] = v.y * g.y;
    scaled[(i + 2) * N + r] = v.z * g.z;
    scaled[(i + 3) * N + r] = v.w * g.w;
  }
  return square;
}

// Four experts' weights for one input, zeros past the end. Quads: the number of experts is a multiple of four.
template <bool Quads> DEVICE void loadRouter(float *w, const float *row, int expert, int experts, bool ok) {
  UNROLL for (int j = 0; j < 4; j++) w[j] = 0;
  if constexpr (Quads) loadFloat4If(w, row + expert, ok && expert < experts);
  else UNROLL for (int j = 0; j < 4; j++) loadFloatIf(w[j], row + expert + j, ok && expert + j < experts);
}

// Products of N rows with the router: a lane takes four experts, the warp several inputs at a time where experts are few;
// its sums go to part [warp, N, experts]. The order of additions does not depend on N.
template <int N, bool Quads> DEVICE void routerProducts(const NormRouteParams &p, const float *scaled, float *part) {
  int lanes = 1;  // that share an input
  while (lanes < 32 && lanes * 4 < p.experts) lanes *= 2;
  int sub = laneId / lanes, rows = 32 / lanes, per = ceilDiv(p.hidden, routeWarps);
  int first = warpId * per, last = minOf(first + per, p.hidden);
  for (int e0 = 0; e0 < p.experts; e0 += lanes * 4) {
    int expert = e0 + laneId % lanes * 4;
    float acc[N][4];
    UNROLL for (int r = 0; r < N; r++)
      UNROLL for (int j = 0; j < 4; j++) acc[r][j] = 0;
    constexpr int batch = 12;  // loads that wait together
    for (int k = first + sub; k < last; k += rows * batch) {
      float w[batch][4];
      UNROLL for (int b = 0; b < batch; b++) loadRouter<Quads>(w[b], p.router + (i64)(k + b * rows) * p.experts, expert, p.experts, k + b * rows < last);
      UNROLL for (int b = 0; b < batch; b++) {
        const float *v = scaled + minOf(k + b * rows, last - 1) * N;
        UNROLL for (int r = 0; r < N; r++)
          UNROLL for (int j = 0; j < 4; j++) acc[r][j] += v[r] * w[b][j];
      }
    }
    UNROLL for (int r = 0; r < N; r++) {
      UNROLL for (int j = 0; j < 4; j++) {
        float s = acc[r][j];
        for (int m = lanes; m < 32; m *= 2) s += shuffleXor(s, m);
        if (sub == 0 && expert + j < p.experts) part[(warpId * N + r) * p.experts + expert + j] = s;
      }
    }
  }
}

template <int N> DEVICE void normRouteRows(const NormRouteParams &p) {
  int token = blockX * N;
  float *scratch = (float *)dynamicShared, *scaled = scratch + routeWarps * N, *part = scaled + p.hidden * N;
  float scale[N];
  UNROLL for (int r = 0; r < N; r++) {
    scale[r] = 0;
    if (token + r < p.tokens)
      scale[r] = addPlanes<N>(p, token + r, r, scaled);
    else
      for (int i = threadX; i < p.hidden; i += routeThreads) scaled[i * N + r] = 0;
  }
  blockSums<N>(scale, scratch);  // its barrier also completes scaled
  UNROLL for (int r = 0; r < N; r++) scale[r] = rsqrtApprox(scale[r] / (float)p.hidden + p.eps);

  UNROLL for (int r = 0; r < N; r++) {
    if (token + r >= p.tokens) break;
    u32 *t = (u32 *)(p.t + (i64)(token + r) * p.hidden);
    for (int i = threadX; i < p.hidden / 2; i += routeThreads) t[i] = packBF16(scaled[2 * i * N + r] * scale[r], scaled[(2 * i + 1) * N + r] * scale[r]);
  }
  if ((p.experts & 3) == 0) routerProducts<N, true>(p, scaled, part);
  else routerProducts<N, false>(p, scaled, part);
  syncBlock();
  UNROLL for (int r = 0; r < N; r++) {
    if (warpId != r || token + r >= p.tokens) continue;
    u32 key[mostExperts / 32];
    UNROLL for (int j = 0; j < mostExperts / 32; j++) {
      int e = laneId + 32 * j;
      key[j] = 0;
      if (e >= p.experts) continue;
      float logit = 0;
      for (int w = 0; w < routeWarps; w++) logit += part[(w * N + r) * p.experts + e];
      key[j] = keyOfLogit(logit * scale[r] + p.routerBias[e]);
    }
    Choice c;
    choose(c, key, p.topK);
    UNROLL for (int k = 0; k < mostChosen; k++) {
      if (k >= p.topK || laneId != k) continue;
      p.chosen[(token + r) * p.topK + k] = c.id[k];
      p.weight[(token + r) * p.topK + k] = c.weight[k];
    }
  }
}

// One token a block where tokens are few, else four, which share each load of the router.
KERNEL(routeThreads, 1) normRoute1(const NormRouteParams p) { normRouteRows<1>(p); }
KERNEL(routeThreads, 1) normRoute4(const NormRouteParams p) { normRouteRows<4>(p); }

// ---- rows sorted by expert

struct SortParams {
  const int *chosen;           // [n]
  int *token;                  // [n]: of each sorted row
  int *place;                  // [n]: the sorted row of each choice
  Item *narrow, *wide, *large; // lists of work
  int *counts;                 // [3]: of items in each
  int n, topK, experts;
  int narrowRows;              // an expert's last rows, if at most so many, are narrow work; 0: none are
  int largeRows;               // more than 32 of them are large work, in runs of so many; 0: runs of 32 are wide work
  int padding;
};

constexpr int sortThreads = 1024, sortWarps = 32, wideRows = 32;

// The lanes below this one, and all lanes, that have the same value of 8 bits, among those that are ok.
DEVICE u32 sameValue(int v, bool ok) {
  u32 same = ballot(ok);
  UNROLL for (int b = 0; b < 8; b++) {
    u32 set = ballot(v >> b & 1);
    same &= v >> b & 1 ? set : ~set;
  }
  return same;
}
DEVICE int countBits(u32 v) { return __builtin_popcount(v); }

// Places in the three lists.
struct Lists {
  int narrow, wide, large;
};

// Items of one expert, counted, or written where `write` is set; at moves on.
DEVICE void itemsOf(const SortParams &p, int expert, int row, int rows, Lists &at, bool write) {
  int full = p.largeRows ? p.largeRows : wideRows, start = at.large, large = 0;
  if (p.largeRows && rows > wideRows) large = rows / full + (rows % full > wideRows);
  while (rows > 0) {
    int n = minOf(rows, full);
    bool isLarge = n > wideRows, isNarrow = n <= p.narrowRows;
    Item *to = isLarge ? p.large + at.large : isNarrow ? p.narrow + at.narrow : p.wide + at.wide;
    if (write) *to = {expert, row, n, start << 16 | large};
    at.large += isLarge;
    at.narrow += isNarrow;
    at.wide += !isLarge && !isNarrow;
    row += n;
    rows -= n;
  }
}

// The sum over the lanes before this one; total is that over all.
DEVICE int laneScan(int v, int &total) {
  int s = v;
  UNROLL for (int d = 1; d < 32; d *= 2) {
    int left = (int)shuffleFrom((u32)s, laneId - d);
    if (laneId >= d) s += left;
  }
  total = (int)shuffleFrom((u32)s, 31);
  return s - v;
}

// One warp: where each expert's rows begin, and the lists of work.
DEVICE void makeItems(const SortParams &p, const u32 *total, u32 *start) {
  constexpr int each = mostExperts / 32;
  int first = laneId * each, last = minOf(first + each, p.experts), rows = 0, all;
  Lists n = {0, 0, 0}, counts;
  for (int e = first; e < last; e++) {
    itemsOf(p, e, 0, (int)total[e], n, false);
    rows += (int)total[e];
  }
  int row = laneScan(rows, all);
  Lists at = {laneScan(n.narrow, counts.narrow), laneScan(n.wide, counts.wide), laneScan(n.large, counts.large)};
  if (laneId == 0) {
    p.counts[0] = counts.narrow;
    p.counts[1] = counts.wide;
    p.counts[2] = counts.large;
  }
  for (int e = first; e < last; e++) {
    start[e] = (u32)row;
    itemsOf(p, e, row, (int)total[e], at, true);
    row += (int)total[e];
  }
}

// One block. Tokens stay in order within an expert.
KERNEL(sortThreads, 1) sortRows(const SortParams p) {
  SHARED u32 count[sortWarps][mostExperts];
  SHARED u32 total[mostExperts], start[mostExperts];
  int per = ceilDiv(ceilDiv(p.n, sortWarps), 32) * 32, first = warpId * per, last = minOf(first + per, p.n);
  for (int e = laneId; e < p.experts; e += 32) count[warpId][e] = 0;
  syncWarp();
  for (int i = first + laneId; i - laneId < last; i += 32) {
    int e = i < last ? p.chosen[i] : 0;
    u32 same = sameValue(e, i < last);
    if (i < last && (same & ((1u << laneId) - 1)) == 0) count[warpId][e] += countBits(same);
    syncWarp();
  }
  syncBlock();
  if (threadX < p.experts) {
    u32 sum = 0;
    for (int w = 0; w < sortWarps; w++) {
      u32 n = count[w][threadX];
      count[w][threadX] = sum;
      sum += n;
    }
    total[threadX] = sum;
  }
  syncBlock();
  if (warpId == 0) makeItems(p, total, start);
  syncBlock();
  for (int i = first + laneId; i - laneId < last; i += 32) {
    int e = i < last ? p.chosen[i] : 0;
    u32 same = sameValue(e, i < last), below = same & ((1u << laneId) - 1);
    u32 at = start[e] + count[warpId][e] + countBits(below);
    syncWarp();
    if (i < last) {
      if (below == 0) count[warpId][e] += countBits(same);
      p.token[at] = i / p.topK;
      p.place[i] = (int)at;
    }
    syncWarp();
  }
}

// ---- the experts' outputs, added to the residual in the order of the choice

struct CombineParams {
  float *x;            // [tokens, hidden]
  const float *y;      // [sorted rows, hidden], biases included
  const int *place;    // [tokens, topK]
  const float *weight; // [tokens, topK]
  int hidden, topK;
};

constexpr int combineThreads = 256;

KERNEL(combineThreads, 4) combine(const CombineParams p) {
  int i = (blockY * combineThreads + threadX) * 4;
  if (i >= p.hidden) return;
  float v[mostChosen][4], w[mostChosen];
  UNROLL for (int k = 0; k < mostChosen; k++) {
    if (k >= p.topK) break;
    int choice = blockX * p.topK + k;
    w[k] = p.weight[choice];
    F4 y = *(const F4 *)(p.y + (i64)p.place[choice] * p.hidden + i);
    v[k][0] = y.x, v[k][1] = y.y, v[k][2] = y.z, v[k][3] = y.w;
  }
  F4 *at = (F4 *)(p.x + (i64)blockX * p.hidden + i), x = *at;
  UNROLL for (int k = 0; k < mostChosen; k++) {
    if (k >= p.topK) break;
    x = {x.x + w[k] * v[k][0], x.y + w[k] * v[k][1], x.z + w[k] * v[k][2], x.w + w[k] * v[k][3]};
  }
  *at = x;
}

// ---- one token

struct RouteOneParams {
  const float *x, *norm, *routerBias; // [hidden], [hidden], [experts]
  const u64 *acc;                     // [experts+1]
  u16 *t;                             // BF16 [hidden]
  int *choice;                        // ids [topK], then weights, float32 [topK]
  int *token;                         // [topK]: zeros
  Item *items;                        // [topK]: one row each
  int *count;
  int hidden, experts, topK;
  float eps;
};

KERNEL(256, 1) routeOne(const RouteOneParams p) {
  Accumulated<mostExperts / 32> a;
  a.loadBias(p.routerBias, p.experts);
  a.load(p.acc, p.experts);
  float scale = a.scale(1.f / (float)p.hidden, p.eps);
  for (int i = threadX; i < p.hidden / 2; i += 256) {
    F2 x = *(const F2 *)(p.x + 2 * i), g = *(const F2 *)(p.norm + 2 * i);
    ((u32 *)p.t)[i] = packBF16(x.x * g.x * scale, x.y * g.y * scale);
  }
  if (warpId != 0) return;
  u32 key[mostExperts / 32];
  a.keys(key, scale, p.experts);
  Choice c;
  choose(c, key, p.topK);
  UNROLL for (int k = 0; k < mostChosen; k++) {
    if (k >= p.topK || laneId != k) continue;
    p.choice[k] = c.id[k];
    ((float *)p.choice)[p.topK + k] = c.weight[k];
    p.token[k] = 0;
    p.items[k] = {c.id[k], k, 1, 0};
  }
  if (laneId == 0) *p.count = p.topK;
}

struct SumOneParams {
  const float *y;    // [topK, hidden], biases included
  const int *choice; // as routeOne writes it
  float *planes;     // [2, hidden]: the sum, and zeros
  int hidden, topK;
};

KERNEL(256, 4) sumOne(const SumOneParams p) {
  int i = blockX * 256 + threadX;
  if (i >= p.hidden) return;
  float sum = 0;
  for (int k = 0; k < p.topK; k++) sum += ((const float *)p.choice)[p.topK + k] * p.y[(i64)k * p.hidden + i];
  p.planes[i] = sum;
  p.planes[p.hidden + i] = 0;
}
