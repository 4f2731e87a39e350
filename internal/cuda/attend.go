package cuda

import (
	"fmt"
	"unsafe"

	"hearth/internal/device"
)

// attendOps keeps keys and values in pages and attends to them. Products are BF16 with float32 sums, the softmax is
// float32. The cache holds BF16, or int8 codes with a float32 scale for each token and head: greatest magnitude / 127.
type attendOps struct {
	c     *context
	shape *shape
	int8  bool

	ropes, ropeKVs *kernel
	row, rows      *kernel // decode: one token, not yet rotated; any
	tiles          *kernel

	frequency buffer // float32 [32]
	work      buffer // partial, stats, counters of splits
	offset    attendLayout
}

// kvCache mirrors Cache of kernels/attend.cuh.
type kvCache struct {
	k, v, kScale, vScale, table  devptr
	maxBlocks, kvHeads, pageSize int32
	pageReciprocal               uint32
	window, padding              int32
}

// ropeTableParams and ropeKVParams mirror those of kernels/rope.cu.
type ropeTableParams struct {
	positions, frequency, table devptr
	scale                       float32
	tokens                      int32
}

type ropeKVParams struct {
	cache                                   kvCache
	planes, bias, rope, positions, seqOf, q devptr
	tokens, heads, split, padding           int32
}

// decodeParams mirrors DecodeParams of kernels/attend_decode.cuh, attendTileParams that of kernels/attend_prefill.cuh.
type decodeParams struct {
	cache                             kvCache
	qkv, rope, q, sinks               devptr
	positions, seqOf, decodeRow       devptr
	out, clear                        devptr
	partial, stats, counters          devptr
	heads, group, outBF16, clearWords int32
}

type attendTileParams struct {
	cache                kvCache
	q, sinks, tiles, out devptr
	heads, group         int32
	groupReciprocal      uint32
	padding              int32
}

// Sizes of the kernels.
const (
	groupKeys       = 16                          // keys that a warp of decode takes at a time
	splitKeys       = 2 * decodeWarps * groupKeys // as many are worth a block
	decodeWarps     = 8
	mostDecodeWarps = 12 // for windows of up to so many groups of keys
	mostSplits      = 32
	decodeNewBytes  = 272    // shared memory of the new token and a flag
	decodeOutBytes  = 4 * 68 // and of a head's sums, for each warp
	prefillRows     = 128
	prefillKeys     = 64
	prefillThreads  = 128
	ropeThreads     = 256
	ropePlanes      = 4
)

// attendLayout tells where the parts of the workspace begin.
type attendLayout struct{ stats, counters, size int64 }

func newAttendLayout(s *shape) attendLayout {
	slots, counters := 0, 0
	for n := 1; n <= s.MaxSeqs; n++ {
		splits := s.decodeSplits(n, s.maxBlocks*s.PageSize)
		if splits == 1 {
			break
		}
		slots, counters = max(slots, n*s.KVHeads*splits), n*s.KVHeads
	}
	l := attendLayout{stats: roundUp(int64(slots*s.group*headDim)*4, alignment)}
	l.counters = l.stats + roundUp(int64(slots*s.group)*8, alignment)
	l.size = l.counters + max(roundUp(int64(counters)*4, alignment), alignment)
	return l
}

// decodeSplits is how many blocks may share the keys of a KV head when n sequences of up to keys keys decode: enough to
// give every multiprocessor two blocks, or four in case that not all sequences are as long; none with fewer than two
// groups of keys for each warp.
func (s *shape) decodeSplits(n, keys int) int {
	worth := (keys + splitKeys - 1) / splitKeys
	blocks := 4 * s.sms
	if n == 1 {
		blocks = 2 * s.sms
	}
	return max(1, min(blocks/(n*s.KVHeads), worth, mostSplits))
}

// newAttend prepares the kernels for a BF16 cache, or one in int8.
func newAttend(c *context, s *shape, int8KV bool) (*attendOps, error) {
	if err := checkCache(s); err != nil {
		return nil, err
	}
	a := &attendOps{c: c, shape: s, int8: int8KV, offset: newAttendLayout(s)}
	format, suffix := "BF16", "_bf16"
	if int8KV {
		format, suffix = "Int8", "_int8"
	}
	decode := "attend_decode" + suffix
	if s.group > 8 {
		decode = "attend_decode_wide" + suffix
	}
	shared := a.decodeShared(a.mostWarps())
	for _, k := range []struct {
		to *(*kernel)
		kernelSpec
	}{
		{&a.ropes, kernelSpec{module: "rope", name: "ropeTable", params: unsafe.Sizeof(ropeTableParams{})}},
		{&a.ropeKVs, kernelSpec{module: "rope", name: "ropeKV" + format, params: unsafe.Sizeof(ropeKVParams{})}},
		{&a.row, kernelSpec{module: decode, name: "decodeRow", shared: shared, params: unsafe.Sizeof(decodeParams{})}},
		{&a.rows, kernelSpec{module: decode, name: "decodeRows", shared: shared, params: unsafe.Sizeof(decodeParams{})}},
		{&a.tiles, kernelSpec{module: "attend_prefill" + suffix, name: "prefill", shared: a.prefillShared(), params: unsafe.Sizeof(attendTileParams{})}},
	} {
		var err error
		if *k.to, err = c.kernel(k.kernelSpec); err != nil {
			return nil, err
		}
	}
	var err error
	if a.frequency, err = c.alloc(headDim/2*4, useWorkspace); err != nil {
		return nil, err
	}
	if a.work, err = c.alloc(a.offset.size, useWorkspace); err != nil {
		a.close()
		return nil, err
	}
	c.queue.upload(a.frequency.ptr, bytesOf(s.InvFreq))
	c.queue.zero(a.work.ptr+devptr(a.offset.counters), a.offset.size-a.offset.counters)
	return a, nil
}

// checkCache refuses a cache whose rows the kernels cannot number: they divide positions by the page size with a 32-bit
// reciprocal, and count rows in 32 bits.
func checkCache(s *shape) error {
	positions := int64(s.maxBlocks) * int64(s.PageSize)
	excess := int64(pageReciprocal(s.PageSize))*int64(s.PageSize) - 1<<32
	if positions > 1<<30 || excess*positions >= 1<<32 {
		return fmt.Errorf("%d pages of %d positions for a sequence, too many for the kernels (--block-size): %w", s.maxBlocks, s.PageSize, device.ErrNotSupported)
	}
	if pages := int64(max(s.FullPages, s.WindowPages)); pages*int64(s.KVHeads)*int64(s.PageSize) >= 1<<32-1 {
		return fmt.Errorf("a KV cache of %d pages of %d positions and %d heads, want less than 2^32 rows: %w", pages, s.PageSize, s.KVHeads, device.ErrNotSupported)
	}
	return nil
}

func pageReciprocal(size int) uint32 { return uint32((1<<32 + int64(size) - 1) / int64(size)) }

// close frees the workspace.
func (a *attendOps) close() {
	a.c.free(a.frequency)
	a.c.free(a.work)
	a.frequency, a.work = buffer{}, buffer{}
}

func (a *attendOps) cache(kv *kvLayer) kvCache {
	s := a.shape
	return kvCache{
		k: kv.k, v: kv.v, kScale: kv.kScale, vScale: kv.vScale, table: kv.table, maxBlocks: int32(s.maxBlocks), kvHeads: int32(s.KVHeads),
		pageSize: int32(s.PageSize), pageReciprocal: pageReciprocal(s.PageSize), window: int32(kv.window),
	}
}

// ropeTable fills st.rope for T tokens: once a step, before anything is rotated.
func (a *attendOps) ropeTable(q *queue, st *stepBuffers, T int) {
	p := ropeTableParams{positions: st.positions, frequency: a.frequency.ptr, table: st.rope, scale: a.shape.RopeScale, tokens: int32(T)}
	launch(q, a.ropes, dim{(T*headDim/2 + ropeThreads - 1) / ropeThreads, 1, 1}, dim{ropeThreads, 1, 1}, 0, &p)
}

// ropeKV finishes a product with the q, k and v rows, T >= 1 tokens: sums planes, float32 [split, T, qkvRows], and the bias;
// rotates q and k; writes q to qOut, BF16 [T, Heads*64], and k and v to the pages.
func (a *attendOps) ropeKV(q *queue, st *stepBuffers, T int, planes devptr, split int, bias devptr, kv *kvLayer, qOut devptr) {
	if split < 1 || split > ropePlanes {
		q.fail(fmt.Errorf("%d planes of q, k and v, want 1 to %d", split, ropePlanes))
		return
	}
	p := ropeKVParams{
		cache: a.cache(kv), planes: planes, bias: bias, rope: st.rope, positions: st.positions, seqOf: st.seqOf, q: qOut,
		tokens: int32(T), heads: int32(a.shape.Heads), split: int32(split),
	}
	const perBlock = ropeThreads / 16 // heads
	launch(q, a.ropeKVs, dim{T, (a.shape.qkvRows/headDim + perBlock - 1) / perBlock, 1}, dim{ropeThreads, 1, 1}, 0, &p)
}

// decodeArgs is what decode attends from and where the result goes. Either qkv or q is set.
type decodeArgs struct {
	qkv     devptr // one token: float32 [qkvRows] with bias, not rotated; k and v not yet in the pages
	q       devptr // BF16 [T, Heads*64], rotated; k and v are in the pages
	sinks   devptr // float32 [Heads]
	kv      *kvLayer
	out     devptr // [T, Heads*64], float32 or BF16; only the rows that decode are written
	outBF16 bool
	acc     devptr // uint64 [Experts+1] to set to zero; 0: none
}

// decode attends for the n rows that st.decodeRow lists; with qkv for row 0, whose k and v it also writes to the pages.
// The launch does not depend on how long the sequences are. The sum over splits has a fixed order.
func (a *attendOps) decode(q *queue, st *stepBuffers, n int, in decodeArgs) {
	s := a.shape
	k := a.rows
	p := decodeParams{
		cache: a.cache(in.kv), qkv: in.qkv, rope: st.rope, q: in.q, sinks: in.sinks, positions: st.positions, seqOf: st.seqOf, decodeRow: st.decodeRow,
		out: in.out, clear: in.acc, partial: a.work.ptr, stats: a.work.ptr + devptr(a.offset.stats), counters: a.work.ptr + devptr(a.offset.counters),
		heads: int32(s.Heads), group: int32(s.group),
	}
	if in.qkv != 0 {
		k = a.row
		if n != 1 {
			q.fail(fmt.Errorf("%d rows decode from one row of q, k and v", n))
			return
		}
	}
	if in.outBF16 {
		p.outBF16 = 1
	}
	if in.acc != 0 {
		p.clearWords = int32(s.Experts + 1)
	}
	splits, warps := a.decodePlan(n, in.kv.window)
	launch(q, k, dim{splits, s.KVHeads, n}, dim{32 * warps, 1, 1}, a.decodeShared(warps), &p)
}

// decodePlan chooses the splits and the warps of a block. Where a few groups of 16 keys are all that a query can see, each
// gets a warp of one block, if that leaves a multiprocessor for every block: with more than 8 warps only one fits.
func (a *attendOps) decodePlan(n, window int) (splits, warps int) {
	keys := a.shape.maxBlocks * a.shape.PageSize
	if window > 0 {
		keys = min(keys, window)
	}
	groups := (keys+groupKeys-2)/groupKeys + 1 // wherever the first key lies in its group
	if groups > decodeWarps && groups <= a.mostWarps() && n*a.shape.KVHeads <= a.shape.sms {
		return 1, groups
	}
	return a.shape.decodeSplits(n, keys), decodeWarps
}

// mostWarps bounds the warps of a block by its shared memory.
func (a *attendOps) mostWarps() int {
	if a.shape.group > 8 {
		return decodeWarps
	}
	return mostDecodeWarps
}

// decodeShared is the shared memory of a block: queries, the new token, and of each warp statistics and sums.
func (a *attendOps) decodeShared(warps int) int {
	rows := (a.shape.group + 7) &^ 7
	return rows*2*headDim + decodeNewBytes + warps*(8*rows+a.shape.group*decodeOutBytes)
}

// tileRows is the most tokens of a prefill tile.
func (a *attendOps) tileRows() int { return prefillRows / a.shape.group }

// prefillShared is the shared memory of a block: queries, and two stages of keys and values.
func (a *attendOps) prefillShared() int {
	row := 2 * headDim
	if a.int8 {
		row = headDim + 4
	}
	return prefillRows*2*headDim + 2*2*prefillKeys*row
}

// prefill attends for the tiles that st.tiles lists, at most tileRows tokens each: out, BF16 [T, Heads*64], from q of the
// same shape. k and v of all tokens are in the pages.
func (a *attendOps) prefill(q *queue, st *stepBuffers, tiles int, queries, sinks devptr, kv *kvLayer, out devptr) {
	s := a.shape
	p := attendTileParams{
		cache: a.cache(kv), q: queries, sinks: sinks, tiles: st.tiles, out: out,
		heads: int32(s.Heads), group: int32(s.group), groupReciprocal: uint32((1<<16 + s.group - 1) / s.group),
	}
	launch(q, a.tiles, dim{s.KVHeads, tiles, 1}, dim{prefillThreads, 1, 1}, a.prefillShared(), &p)
}
