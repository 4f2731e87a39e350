// What the host knows of a step, from page-locked host memory to where all kernels read it.
#include "common.cuh"

// One step's inputs: counts, then positions, seqOf [tokens], logitRows [rows], decodeRow [decodes], tiles
// [tiles, 4], and pairs {index, page} of changed block table entries: full first, then window.
struct Header {
  int tokens, rows, decodes, tiles, full, window;
  int pad[2];
};

struct Unpack {
  const int *block;  // in host memory: Header, then the arrays
  int *positions, *seqOf, *logitRows, *decodeRow, *tiles;
  int *fullTable, *windowTable;
};

DEVICE void copyInts(int *to, const int *from, int n) {
  for (int i = blockX * threadsX + threadX; i < n; i += blocksX * threadsX) to[i] = from[i];
}

DEVICE void scatter(int *table, const int *pairs, int n) {
  for (int i = blockX * threadsX + threadX; i < n; i += blocksX * threadsX) table[pairs[2 * i]] = pairs[2 * i + 1];
}

KERNEL(256, 1) unpackStep(Unpack p) {
  const Header h = *(const Header *)p.block;
  const int *at = p.block + sizeof(Header) / 4;
  copyInts(p.positions, at, h.tokens);
  copyInts(p.seqOf, at += h.tokens, h.tokens);
  copyInts(p.logitRows, at += h.tokens, h.rows);
  copyInts(p.decodeRow, at += h.rows, h.decodes);
  copyInts(p.tiles, at += h.decodes, 4 * h.tiles);
  scatter(p.fullTable, at += 4 * h.tiles, h.full);
  scatter(p.windowTable, at += 2 * h.full, h.window);
}
