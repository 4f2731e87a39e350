// Attention of runs of tokens: softmax(q k / 8, with the head's sink) v over each token's visible keys, all of which are
// in the cache already, those of the run as well.
//
// Grid: KV heads, tiles. A block takes up to 128 query rows: row r is the tile's token r/group with query head r%group of
// the KV head. It walks over the visible keys 64 at a time, which cp.async brings to shared memory, two stages in turn. Of
// 4 warps, each has 32 rows: two m16 tiles of S = Q K^T, so that every fragment of K and V serves two mma. S becomes
// P = exp2(S) in registers, where it already has the form of the first factor of O = P V.
//
// Rows in shared memory are cut into 16-byte units, which are permuted within a row so that ldmatrix meets no bank
// conflict. int8 codes go through shared memory as they are. A lane's register of them holds four neighbouring dims; as
// BF16 they make the pairs (0, 2) and (1, 3), so Q is brought to that order too, and O comes out in it.
#pragma once
#include "attend.cuh"

struct AttendTileParams {
  Cache cache;
  const u16 *q;       // BF16 [tokens, heads, 64], rotated
  const float *sinks; // [heads]
  const int *tiles;   // [blocksY, 4]: sequence, first row, rows, first position
  u16 *out;           // BF16 [tokens, heads, 64]
  int heads, group;
  u32 groupReciprocal; // ceil(2^16 / group)
  int padding;
};

constexpr int tileRows = 128, tileKeys = 64, prefillThreads = 128, warpRows = 32;
constexpr int queryPitch = 2 * headDim, queryBytes = tileRows * queryPitch;

// As copyAsync16OrZero, for 4 bytes.
DEVICE void copyAsync4OrZero(u32 shared, const void *global, bool ok) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared), "l"(global), "r"(ok ? 4 : 0) : "memory");
}

// Where a 16-byte unit of a row stands, rows of 128 or 64 bytes.
template <int Pitch> DEVICE u32 placeOf(int row, int unit) {
  return row * Pitch + ((unit ^ (Pitch == 128 ? row & 7 : row >> 1 & 3)) * 16);
}

template <bool Int8> struct Prefill {
  static constexpr int pitch = Int8 ? headDim : 2 * headDim, units = pitch / 16;
  static constexpr int matrixBytes = tileKeys * pitch, scalesAt = 2 * matrixBytes;
  static constexpr int stageBytes = 2 * matrixBytes + (Int8 ? 2 * 4 * tileKeys : 0);
  static constexpr int passRows = prefillThreads / units, passes = tileKeys / passRows; // of loading K or V
  static constexpr u32 none = ~0u;

  const AttendTileParams &p;
  const int head = blockX, g = laneId >> 2, t = laneId & 3;
  int sequence, firstRow, rows, firstPosition; // the tile; rows: tokens times group
  int begin, first, end;                       // keys: where the walk begins, the first visible one, past the last
  int least, most;                             // positions of this warp's rows
  u32 shared, ahead[passes], scaleAhead;       // rows of the cache that this thread brings next
  u32 query[2][4][4];
  float top[2][2], sum[2][2];
  float s[2][8][4], out[2][8][4] = {};

  METHOD Prefill(const AttendTileParams &p) : p(p), shared(sharedAddress(dynamicShared)) {
    U4 tile = *(const U4 *)(p.tiles + 4 * blockY);
    sequence = tile.x, firstRow = tile.y, rows = tile.z * p.group, firstPosition = tile.w;
    first = p.cache.firstVisible(firstPosition), begin = first & ~15, end = firstPosition + (int)tile.z;
    least = positionOf(warpId * warpRows), most = positionOf(warpId * warpRows + warpRows - 1);
  }
  METHOD int tokenOf(int row) const { return (int)((u32)row * p.groupReciprocal >> 16); }
  // Rows past the last count as the last.
  METHOD int positionOf(int row) const { return firstPosition + tokenOf(minOf(row, rows - 1)); }
  METHOD int stages() const { return ceilDiv(end - begin, tileKeys); }
  METHOD u32 slotOf(int stage) const { return shared + queryBytes + (stage & 1) * stageBytes; }

  // Finds the rows of the cache that a stage is made of. Only what is visible to some row has a page.
  METHOD void lookUp(int stage) {
    auto rowOf = [&](int key) __attribute__((always_inline)) {
      return key >= first && key < end ? p.cache.row(sequence, key, head) : none;
    };
    int from = begin + stage * tileKeys;
    UNROLL for (int i = 0; i < passes; i++) ahead[i] = rowOf(from + i * passRows + threadX / units);
    if (Int8) scaleAhead = rowOf(from + threadX % tileKeys);
  }

  // Brings the stage that was looked up. Rows that nobody sees become zeros, as P's zeros must not meet a NaN.
  METHOD void load(int stage) {
    u32 slot = slotOf(stage);
    UNROLL for (int i = 0; i < passes; i++) {
      int row = i * passRows + threadX / units, unit = threadX % units;
      bool ok = ahead[i] != none;
      u64 from = (u64)(ok ? ahead[i] : 0) * pitch + unit * 16;
      u32 to = slot + placeOf<pitch>(row, unit);
      copyAsync16OrZero(to, p.cache.k + from, ok);
      copyAsync16OrZero(to + matrixBytes, p.cache.v + from, ok);
    }
    if constexpr (Int8) {
      bool ok = scaleAhead != none;
      copyAsync4OrZero(slot + scalesAt + threadX * 4, (threadX < tileKeys ? p.cache.kScale : p.cache.vScale) + (ok ? scaleAhead : 0), ok);
    }
    commitCopies();
  }

  // This warp's part of the queries, by way of shared memory.
  METHOD u32 myRows() const { return shared + warpId * (warpRows * queryPitch); }
  // The i-th of the 8 rows of which this lane copies a unit; what depends on the lane is computed at both ends of the walk,
  // as in between it would take 30 registers.
  struct Copied {
    int row;   // of the block
    i64 at;    // in q and out
    u32 place; // in shared memory
  };
  METHOD Copied copied(int i) const {
    int lane = laneId;
    asm volatile("" : "+r"(lane));
    int mine = i * 4 + (lane >> 3), row = warpId * warpRows + mine, token = tokenOf(row);
    i64 to = (i64)(firstRow + token) * p.heads + head * p.group + (row - token * p.group);
    return {row, to * headDim + (lane & 7) * 8, myRows() + placeOf<queryPitch>(mine, lane & 7)};
  }

  METHOD void loadQuery() {
    U4 v[8] = {};
    UNROLL for (int i = 0; i < 8; i++) {
      Copied c = copied(i);
      loadCache4If(v[i], p.q + c.at, c.row < rows);
    }
    UNROLL for (int i = 0; i < 8; i++) storeShared4(copied(i).place, v[i]);
    syncWarp();
    UNROLL for (int m = 0; m < 2; m++)
      UNROLL for (int i = 0; i < 4; i++) queryFragment(query[m][i], m, i);
    UNROLL for (int m = 0; m < 2; m++)
      UNROLL for (int i = 0; i < 2; i++) {
        int row = warpId * warpRows + m * 16 + i * 8 + g;
        // The sink is where the softmax starts, as a score with weight 1.
        top[m][i] = maxOf(p.sinks[head * p.group + row - tokenOf(row) * p.group] * log2e, lowest);
        sum[m][i] = t == 0 ? 1.f : 0.f;
      }
    syncWarp();
  }
  // A of step i of S: 16 dims of rows 16m and on.
  METHOD void queryFragment(u32 *a, int m, int i) const {
    if constexpr (Int8) {
      UNROLL for (int h = 0; h < 2; h++) {
        u32 at = myRows() + placeOf<queryPitch>(m * 16 + h * 8 + g, i * 2 + (t >> 1)) + (t & 1) * 8;
        u32 low = loadShared(at), high = loadShared<4>(at);
        a[h] = lowHalves(low, high);
        a[2 + h] = highHalves(low, high);
      }
    } else {
      loadMatrix4(a, myRows() + placeOf<queryPitch>(m * 16 + (laneId & 15), i * 2 + (laneId >> 4)));
    }
  }

  // Flipping bits of an address that has the unit's place in bits 4 to 6 gives the address of another unit of the row.
  METHOD void scores(u32 slot) {
    u32 from = slot + placeOf<pitch>(laneId & 7, laneId >> 3);
    UNROLL for (int j = 0; j < 8; j++) { // 8 keys
      u32 b[4][2];
      UNROLL for (int i = 0; i < 4; i += Int8 ? 4 : 2) {
        u32 r[4];
        loadMatrix4(r, (from ^ i * 32) + j * (8 * pitch));
        UNROLL for (int k = 0; k < 4; k++) {
          if (Int8) b[k][0] = evenCodes(r[k]), b[k][1] = oddCodes(r[k]);
          else b[i + k / 2][k & 1] = r[k];
        }
      }
      UNROLL for (int m = 0; m < 2; m++) {
        const u32(*a)[4] = query[m];
        mmaZeroBF16(s[m][j], a[0][0], a[0][1], a[0][2], a[0][3], b[0][0], b[0][1]);
        UNROLL for (int i = 1; i < 4; i++) mmaBF16(s[m][j], a[i][0], a[i][1], a[i][2], a[i][3], b[i][0], b[i][1]);
      }
      if constexpr (Int8) scaleColumns(j, slot + scalesAt);
    }
  }
  // Multiplies the columns of 8 keys by their scales.
  METHOD void scaleColumns(int j, u32 scales) {
    F2 f = loadSharedFloat2(scales + (j * 8 + t * 2) * 4);
    UNROLL for (int m = 0; m < 2; m++)
      UNROLL for (int i = 0; i < 4; i++) s[m][j][i] *= i & 1 ? f.y : f.x;
  }

  // Hides keys that a row does not see.
  METHOD void mask(int from) {
    int window = p.cache.window;
    UNROLL for (int m = 0; m < 2; m++)
      UNROLL for (int i = 0; i < 2; i++) {
        int last = positionOf(warpId * warpRows + m * 16 + i * 8 + g) - from - t * 2, before = window ? last - window : -tileKeys;
        UNROLL for (int j = 0; j < 8; j++)
          UNROLL for (int c = 0; c < 2; c++)
            if (j * 8 + c > last || j * 8 + c <= before) s[m][j][i * 2 + c] = lowest;
      }
  }

  // Scores to weights relative to top, which rises where it must.
  METHOD void weigh() {
    float greatest[2][2];
    bool rises = false;
    UNROLL for (int m = 0; m < 2; m++)
      UNROLL for (int i = 0; i < 2; i++) {
        float v = greater(s[m][0][i * 2], s[m][0][i * 2 + 1]);
        UNROLL for (int j = 1; j < 8; j++) v = greater(v, greater(s[m][j][i * 2], s[m][j][i * 2 + 1]));
        greatest[m][i] = quadMax(v) * scoreScale;
        rises |= greatest[m][i] > top[m][i] + slack;
      }
    if (ballot(rises)) raise(greatest);
    UNROLL for (int m = 0; m < 2; m++)
      UNROLL for (int i = 0; i < 2; i++)
        UNROLL for (int j = 0; j < 8; j++)
          UNROLL for (int c = 0; c < 2; c++) {
            float &v = s[m][j][i * 2 + c];
            v = exp2Approx(v * scoreScale - top[m][i]);
            if (Int8) sum[m][i] += v;
          }
  }
  METHOD void raise(float greatest[2][2]) {
    UNROLL for (int m = 0; m < 2; m++)
      UNROLL for (int i = 0; i < 2; i++) {
        float higher = greater(top[m][i], greatest[m][i]), factor = exp2Approx(top[m][i] - higher);
        top[m][i] = higher;
        sum[m][i] *= factor;
        UNROLL for (int j = 0; j < 8; j++)
          UNROLL for (int c = 0; c < 2; c++) out[m][j][i * 2 + c] *= factor;
      }
  }

  METHOD void mix(u32 slot) {
    u32 from = slot + matrixBytes + placeOf<pitch>(laneId & 15, laneId >> 4);
    UNROLL for (int k = 0; k < 4; k++) { // 16 keys
      u32 a[2][4];
      UNROLL for (int j = 0; j < 2; j++) {
        if constexpr (Int8) scaleColumns(2 * k + j, slot + scalesAt + 4 * tileKeys);
        UNROLL for (int m = 0; m < 2; m++)
          UNROLL for (int i = 0; i < 2; i++) {
            u32 pair = packBF16(s[m][2 * k + j][i * 2], s[m][2 * k + j][i * 2 + 1]);
            a[m][2 * j + i] = pair;
            // What is divided by is the sum of what is multiplied with, so that rounding does not scale the result.
            if (!Int8) sum[m][i] += lowBF16(pair) + highBF16(pair);
          }
      }
      UNROLL for (int u = 0; u < units; u += 2) {
        u32 r[4]; // two units of dims, keys 0-7 and 8-15 of each
        loadMatrix4Transposed(r, (from ^ u * 16) + k * (16 * pitch));
        UNROLL for (int h = 0; h < 2; h++) {
          if constexpr (Int8) { // 16 dims: the even ones, the odd ones
            multiply((u + h) * 2, a, evenCodes(r[2 * h]), evenCodes(r[2 * h + 1]));
            multiply((u + h) * 2 + 1, a, oddCodes(r[2 * h]), oddCodes(r[2 * h + 1]));
          } else {
            multiply(u + h, a, r[2 * h], r[2 * h + 1]);
          }
        }
      }
    }
  }
  METHOD void multiply(int j, const u32 (*a)[4], u32 b0, u32 b1) {
    UNROLL for (int m = 0; m < 2; m++) mmaBF16(out[m][j], a[m][0], a[m][1], a[m][2], a[m][3], b0, b1);
  }

  METHOD void run() {
    lookUp(0);
    load(0);
    lookUp(1);
    loadQuery();
    int n = stages();
    NO_UNROLL for (int i = 0; i < n; i++) {
      waitCopies<0>();
      syncBlock(); // the stage has come, and nobody reads the one before it any more
      if (i + 1 < n) {
        load(i + 1);
        lookUp(i + 2);
      }
      int from = begin + i * tileKeys, window = p.cache.window;
      bool sees = warpId * warpRows < rows && from <= most && (window == 0 || from + tileKeys > least - window + 1);
      if (!sees) continue;
      scores(slotOf(i));
      if (from + tileKeys - 1 > least || (window && from <= most - window)) mask(from);
      weigh();
      mix(slotOf(i));
    }
    write();
  }

  // By way of shared memory, so that whole rows are stored.
  METHOD void write() {
    UNROLL for (int m = 0; m < 2; m++)
      UNROLL for (int i = 0; i < 2; i++) {
        float f = reciprocal(quadSum(sum[m][i]));
        int row = m * 16 + i * 8 + g;
        UNROLL for (int j = 0; j < 8; j += Int8 ? 2 : 1) {
          const float *v = out[m][j] + i * 2, *odd = out[m][j | 1] + i * 2;
          if (Int8) storeShared2(myRows() + placeOf<queryPitch>(row, j + (t >> 1)) + (t & 1) * 8, packBF16(v[0] * f, odd[0] * f), packBF16(v[1] * f, odd[1] * f));
          else storeShared(myRows() + placeOf<queryPitch>(row, j) + t * 4, packBF16(v[0] * f, v[1] * f));
        }
      }
    syncWarp();
    UNROLL for (int i = 0; i < 8; i++) {
      Copied c = copied(i);
      U4 v = loadShared4(c.place);
      if (c.row < rows) *(U4 *)(p.out + c.at) = v;
    }
  }
};

template <bool Int8> DEVICE void prefillTile(const AttendTileParams &p) {
  Prefill<Int8> f(p);
  f.run();
}
