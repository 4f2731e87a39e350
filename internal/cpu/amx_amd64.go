//go:build !noasm

package cpu

import (
	"unsafe"

	"golang.org/x/sys/cpu"

	"hearth/internal/dtype"
)

//go:generate go -C _asm run . -level amx -out ../amx_amd64.s -stubs ../amx_stubs_amd64.go -pkg cpu

// amxLevel is AVX-512 with VNNI and with tiles of BF16, for activations rounded to that.
func amxLevel() level {
	l := vnniLevel()
	l.name, l.title, l.kernels.pairs = "amx", "AVX-512 with VNNI and AMX", amxPairs
	l.missing = missing(append(vnniFeatures(), feature{"AMX-TILE", cpu.X86.HasAMXTile}, feature{"AMX-BF16", cpu.X86.HasAMXBF16}))
	if l.missing == "" {
		l.missing = missingTiles()
	}
	return l
}

// tileConfig is the shape of AMX's eight tiles, as LDTILECFG reads it.
type tileConfig struct {
	palette, startRow byte
	_                 [14]byte
	rowBytes          [8]uint16
	_                 [8]uint16
	rows              [8]byte
	_                 [8]byte
}

// shapeTiles is for r rows of weights and blocks of activations, n rows in the last: the tiles of _asm/amx.go.
func (c *tileConfig) shapeTiles(r, blocks, n int) {
	c.palette = 1
	for t := range 8 {
		switch t {
		case 0, 1, 2, 3: // sums, two for each block
			c.rows[t], c.rowBytes[t] = byte(r), 4*pairRows
			if t/2 == blocks-1 {
				c.rowBytes[t] = uint16(4 * n)
			}
		case 4: // weights
			c.rows[t], c.rowBytes[t] = byte(r), 64
		case 6: // a whole block of activations
			c.rows[t], c.rowBytes[t] = pairRows, 4*pairRows
		case 7: // and the last
			c.rows[t], c.rowBytes[t] = pairRows, uint16(4*n)
		}
	}
}

// tileScratch is a worker's memory for products of tiles.
type tileScratch struct {
	config  tileConfig
	sums    [2 * tileBlocks * tileRows * pairRows]float32
	steps   [4][tileRows * stepCols]uint16 // decoded weights of the last steps
	weights []uint16                       // or whole rows of them
}

// tileBlocks is how many blocks of activations share the loading of weights.
const tileBlocks = 2

// storedKernel multiplies by so many blocks, the last of which may be smaller.
type storedKernel = func(c *[1024]float32, config *[64]byte, whole, last *uint32, lastStride, step int, data *byte, stride, steps, ahead int)

var amxStored = [tileBlocks + 1]storedKernel{1: amxStoredx1, 2: amxStoredx2}

// decodedKernel multiplies rows of four bits by one block or two.
type decodedKernel = func(c *[1024]float32, config *[64]byte, whole, last *uint32, lastStride, step int, data *byte, stride int, scales *byte, scaleStride, rows, steps int, a *byte, aStride, aStep, aMask, ahead int)

type amxKernel struct {
	bytes, scales int // of a step
	mul           [tileBlocks + 1]decodedKernel
}

var amxRows = [...]amxKernel{
	dtype.MXFP4:       {32, 2, [tileBlocks + 1]decodedKernel{1: amxMXFP4x1, 2: amxMXFP4x2}},
	dtype.MXFP4GGML:   {34, 0, [tileBlocks + 1]decodedKernel{1: amxMXFP4GGMLx1, 2: amxMXFP4GGMLx2}},
	dtype.MXFP4Ollama: {34, 0, [tileBlocks + 1]decodedKernel{1: amxMXFP4Ollamax1, 2: amxMXFP4Ollamax2}},
}

// mxfp4Words holds, for every scale, the sixteen values as BF16, twice. Read only.
var mxfp4Words = func() (t [256][32]uint16) {
	for e := range t {
		for c := range 32 {
			t[e][c] = dtype.ToBF16(dtype.E2M1[c%16] * dtype.FromE8M0(uint8(e)))
		}
	}
	return t
}()

// amxPairs decodes the weights while it multiplies the first block of activations; if there are more, these take what it
// left, several blocks at a time.
func amxPairs(w *worker, x []uint32, n int, p *dtype.Plane, first, r int) {
	steps := (p.Cols + stepCols - 1) / stepCols
	blockPairs := pairRows * steps * stepCols / 2
	data, stride := w.pairData(p, first, r, steps), 2*steps*stepCols
	t := w.tiles
	config, sums := (*[64]byte)(unsafe.Pointer(&t.config)), &t.sums
	for i := 0; i < n; {
		left := (n - i + pairRows - 1) / pairRows
		blocks := min(left, tileBlocks)
		begin := i + (blocks-1)*pairRows // of the last block
		rows := min(pairRows, n-begin)
		t.config.shapeTiles(r, blocks, rows)
		whole, last := &x[i*blockPairs/pairRows], &x[begin*blockPairs/pairRows : (begin+rows)*blockPairs/pairRows][0]
		if data != nil {
			amxStored[blocks](sums, config, whole, last, 4*rows, 4*rows*pairRows, data, stride, steps, r*stride)
		} else {
			to := decodedTo{(*byte)(unsafe.Pointer(&t.steps)), 2 * stepCols, 2 * tileRows * stepCols, 2*tileRows*stepCols*len(t.steps) - 1}
			if left > blocks {
				to = decodedTo{(*byte)(unsafe.Pointer(&t.weights[0])), stride, 2 * stepCols, -1}
				data = to.a
			}
			w.amxDecoded(config, blocks, whole, last, rows, p, first, r, steps, to)
		}
		for b := range blocks {
			columns := min(pairRows, n-i)
			transposeTile(&w.y[i*tileRows : (i+columns)*tileRows][0], &t.sums[b*tileRows*pairRows], columns)
			i += columns
		}
	}
}

// pairData gives rows as BF16, or nil where a kernel decodes them.
func (w *worker) pairData(p *dtype.Plane, first, r, steps int) *byte {
	whole := !p.Transposed && p.Cols%stepCols == 0
	switch {
	case whole && p.Format == dtype.BF16:
		return &p.Data[2*first*p.Cols : 2*(first+r)*p.Cols][0]
	case whole && (hasCodes(p) || p.Format != dtype.NF4 && p.Format != dtype.FP4):
		return nil
	}
	return w.decodePairs(p, first, r, steps)
}

// decodedTo is where decoded weights go, as amxDecoded's kernels take it.
type decodedTo struct {
	a                  *byte
	stride, step, mask int
}

// amxDecoded multiplies one or two blocks of activations, n rows in the last, by r rows of a format of four bits.
func (w *worker) amxDecoded(config *[64]byte, blocks int, whole, last *uint32, n int, p *dtype.Plane, first, r, steps int, to decodedTo) {
	sums, bStride, bStep := &w.tiles.sums, 4*n, 4*n*pairRows
	if p.Format == dtype.NF4 || p.Format == dtype.FP4 {
		stride := p.Cols / 2
		scales := w.stepScales(p, first, r)
		data := &p.Data[first*stride : (first+r)*stride][0]
		mul := amxCodesx1
		if blocks == 2 {
			mul = amxCodesx2
		}
		mul(sums, config, whole, last, bStride, bStep, data, stride, bytesOf(scales), 4*steps, r, steps, to.a, to.stride, to.step, to.mask, r*stride, codeTable(p))
		return
	}
	k := &amxRows[p.Format]
	stride, scales := steps*k.bytes, (*byte)(nil)
	data := &p.Data[first*stride : (first+r)*stride][0]
	if k.scales > 0 {
		scales = &p.Scales[first*steps*k.scales : (first+r)*steps*k.scales][0]
	}
	k.mul[blocks](sums, config, whole, last, bStride, bStep, data, stride, scales, steps*k.scales, r, steps, to.a, to.stride, to.step, to.mask, r*stride)
}

// decodePairs decodes rows that no kernel reads.
func (w *worker) decodePairs(p *dtype.Plane, first, r, steps int) *byte {
	raw, width := w.raw[:r*p.Cols], steps*stepCols
	p.DecodeRows(raw, first, r)
	for i := range r {
		storePairs(w.tiles.weights[i*width:(i+1)*width], raw[i*p.Cols:(i+1)*p.Cols])
	}
	return (*byte)(unsafe.Pointer(&w.tiles.weights[0]))
}

// multiplyTiles does four products of whole tiles a round, multiplyTilesOps operations.
func multiplyTiles(rounds int) {
	var c tileConfig
	c.shapeTiles(tileRows, tileBlocks, pairRows)
	tileProducts((*[64]byte)(unsafe.Pointer(&c)), rounds)
}

const multiplyTilesOps = 4 * 2 * tileRows * pairRows * 32

// newTileScratch is for rows of up to width weights.
func newTileScratch(width int) *tileScratch {
	return &tileScratch{weights: make([]uint16, tileRows*width)}
}
