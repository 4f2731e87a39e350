// Packs expert weights, from the bytes of a checkpoint to the tiles that experts.cuh describes. A piece is some rows of
// one expert, or, of a transposed matrix, some inputs. One thread fills one lane's bytes of one chunk.
#include "experts.cuh"

enum Source { huggingFace, ggml, ollama };

struct PackParams {
  const u8 *even, *odd;             // values; of odd rows, where the matrix is split
  const u8 *evenScales, *oddScales; // as stored
  u8 *tiles;                        // of the piece's first row; transposed: of the expert
  u8 *scaleCodes;                   // nested, likewise; else 0
  float *scales;                    // transposed 4-bit: of the expert, [rows/64, chunks*64]
  u32 *worst;                       // the largest E8M0 exponent so far, if above 128
  int rows;                         // of the piece; transposed: of the expert
  int chunks;                       // of a tile
  int firstChunk, pieceChunks;      // transposed: those of the piece; else all
  int split;                        // 1: even and odd rows lie apart
  int source;                       // MXFP4
  int block;                        // NF4, FP4: weights under one scale, in runs of 64
  int evenBefore, oddBefore;        // runs of 64 of the first block before the piece
  int padding;
};

struct Place {
  int tile, chunk, lane;
  bool ok;
};
DEVICE Place placeOf(const PackParams &p) {
  i64 i = (i64)blockX * threadsX + threadX;
  i64 at = i >> 5;
  return {(int)(at / p.pieceChunks), (int)(at % p.pieceChunks), (int)(i & 31), at < (i64)(p.rows >> 4) * p.pieceChunks};
}
// A row of the piece, in the part that holds it.
struct SourceRow {
  const u8 *values, *scales;
  i64 row;
  int before;
};
DEVICE SourceRow sourceRow(const PackParams &p, int row) {
  if (p.split && (row & 1)) return {p.odd, p.oddScales, row >> 1, p.oddBefore};
  return {p.even, p.evenScales, row >> p.split, p.evenBefore};
}

// Spreads the bits of eight E2M1 codes, the first lowest, as decodeE2M1 wants them.
DEVICE u32 spreadE2M1(u32 codes) {
  // For code i: where its sign and its magnitude's bits 2, 1 and 0 go.
  constexpr u8 to[8][4] = {{15, 8, 7, 6}, {31, 24, 23, 22}, {21, 14, 13, 12}, {5, 30, 29, 28}, {27, 20, 19, 18}, {11, 4, 3, 2}, {17, 10, 9, 16}, {1, 26, 25, 0}};
  u32 w = 0;
  UNROLL for (int i = 0; i < 8; i++)
    UNROLL for (int b = 0; b < 4; b++) w |= (codes >> (4 * i + 3 - b) & 1) << to[i][b];
  return w;
}

// Codes 8t .. 8t+7 of a block of 32, the first lowest.
DEVICE u32 codesOf(const u8 *block, int source, int t) {
  if (source == huggingFace) return *(const u32 *)(block + 4 * t);
  u32 w = 0;
  if (source == ollama) {
    UNROLL for (int i = 0; i < 4; i++) w |= (u32)block[1 + 4 * t + i] << (8 * i);
  } else {
    // Byte 1+j has code j low and j+16 high.
    UNROLL for (int i = 0; i < 8; i++) w |= (u32)(block[1 + (8 * t & 15) + i] >> (t & 2) * 2 & 15) << (4 * i);
  }
  return w;
}

KERNEL(256, 4) packMXFP4(const PackParams p) {
  Place at = placeOf(p);
  if (!at.ok) return;
  int g = at.lane >> 2, t = at.lane & 3;
  u32 word[4], scales = 0, worst = 0;
  UNROLL for (int h = 0; h < 2; h++) {
    SourceRow r = sourceRow(p, at.tile * 16 + g + 8 * h);
    UNROLL for (int b = 0; b < 2; b++) {
      i64 block = r.row * (2 * p.chunks) + 2 * at.chunk + b;
      const u8 *codes = r.values + block * (p.source == huggingFace ? 16 : 17);
      u32 e = p.source == huggingFace ? r.scales[block] : codes[0];
      word[2 * b + h] = spreadE2M1(codesOf(codes, p.source, t));
      scales |= e << (8 * (2 * h + b));
      worst = maxOf(worst, e);
    }
  }
  u8 *chunk = p.tiles + ((i64)at.tile * p.chunks + at.chunk) * chunkBytes(mxfp4);
  *(U4 *)(chunk + at.lane * 16) = {word[0], word[1], word[2], word[3]};
  if (t == 0) {
    *(u32 *)(chunk + 512 + g * 4) = scales;
    if (worst > 128) asm volatile("red.global.max.u32 [%0], %1;" ::"l"(p.worst), "r"(worst) : "memory");
  }
}

// NF4 and FP4, blocks along the inputs.
KERNEL(256, 4) packCodes(const PackParams p) {
  Place at = placeOf(p);
  if (!at.ok) return;
  int g = at.lane >> 2, t = at.lane & 3;
  u32 word[4];
  i64 number = (i64)at.tile * p.chunks + at.chunk;
  u8 *chunk = p.tiles + number * (p.scaleCodes ? chunkBytes(nested) : chunkBytes(absmax));
  UNROLL for (int h = 0; h < 2; h++) {
    SourceRow r = sourceRow(p, at.tile * 16 + g + 8 * h);
    i64 run = r.row * p.chunks + at.chunk, scale = (r.before + run) / p.block;
    UNROLL for (int b = 0; b < 2; b++) word[2 * b + h] = *(const u32 *)(r.values + run * 32 + b * 16 + t * 4);
    if (t != 0) continue;
    if (p.scaleCodes) p.scaleCodes[number * scaleCodeBytes + g * 2 + h] = r.scales[scale];
    else ((float *)(chunk + 512))[g * 2 + h] = ((const float *)r.scales)[scale];
  }
  *(U4 *)(chunk + at.lane * 16) = {word[0], word[1], word[2], word[3]};
}

// NF4 and FP4, stored [inputs, outputs] with blocks along the outputs.
KERNEL(256, 4) packColumns(const PackParams p) {
  Place at = placeOf(p);
  if (!at.ok) return;
  int g = at.lane >> 2, t = at.lane & 3;
  u32 word[4];
  UNROLL for (int h = 0; h < 2; h++) {
    int row = at.tile * 16 + g + 8 * h;
    UNROLL for (int b = 0; b < 2; b++) {
      u32 w = 0;
      UNROLL for (int i = 0; i < 8; i++) {
        i64 element = (i64)(at.chunk * 64 + 32 * b + 8 * t + i) * p.rows + row;
        u32 code = p.even[element >> 1] >> (row & 1 ? 0 : 4) & 15;
        w |= code << (8 * (i / 2) + (i % 2 ? 0 : 4));
      }
      word[2 * b + h] = w;
    }
  }
  int chunk = p.firstChunk + at.chunk;
  *(U4 *)(p.tiles + ((i64)at.tile * p.chunks + chunk) * chunkBytes(columns) + at.lane * 16) = {word[0], word[1], word[2], word[3]};
  if ((at.tile & 3) != 0) return;
  UNROLL for (int i = 0; i < 2; i++) {
    int input = at.lane + 32 * i, group = at.tile >> 2;
    i64 run = (i64)(at.chunk * 64 + input) * (p.rows >> 6) + group;
    p.scales[(i64)group * (p.chunks * 64) + chunk * 64 + input] = ((const float *)p.evenScales)[(p.evenBefore + run) / p.block];
  }
}

KERNEL(256, 4) packBF16(const PackParams p) {
  Place at = placeOf(p);
  if (!at.ok) return;
  int g = at.lane >> 2, t = at.lane & 3;
  u8 *chunk = p.tiles + ((i64)at.tile * p.chunks + at.chunk) * chunkBytes(bf16) + at.lane * 16;
  UNROLL for (int h = 0; h < 2; h++) {
    SourceRow r = sourceRow(p, at.tile * 16 + g + 8 * h);
    UNROLL for (int b = 0; b < 2; b++) *(U4 *)(chunk + (2 * b + h) * 512) = *(const U4 *)(r.values + (r.row * p.chunks + at.chunk) * 128 + b * 64 + t * 16);
  }
}

// BF16 stored [inputs, outputs].
KERNEL(256, 4) packBF16Transposed(const PackParams p) {
  Place at = placeOf(p);
  if (!at.ok) return;
  int g = at.lane >> 2, t = at.lane & 3;
  u8 *chunk = p.tiles + ((i64)at.tile * p.chunks + p.firstChunk + at.chunk) * chunkBytes(bf16) + at.lane * 16;
  UNROLL for (int h = 0; h < 2; h++) {
    UNROLL for (int b = 0; b < 2; b++) {
      const u16 *from = (const u16 *)p.even + (i64)(at.chunk * 64 + 32 * b + 8 * t) * p.rows + at.tile * 16 + g + 8 * h;
      u32 w[4];
      UNROLL for (int i = 0; i < 4; i++) w[i] = from[(i64)(2 * i) * p.rows] | (u32)from[(i64)(2 * i + 1) * p.rows] << 16;
      *(U4 *)(chunk + (2 * b + h) * 512) = {w[0], w[1], w[2], w[3]};
    }
  }
}
