package cuda

import (
	"fmt"

	"hearth/internal/device"
)

// shape is what every group of operations knows of a session.
type shape struct {
	device.Spec
	device.Limits
	qkvRows   int // (Heads+2*KVHeads)*64: rows of q, k and v stacked
	group     int // query heads of one KV head
	sms       int // multiprocessors of the card
	maxBlocks int // entries of a sequence's block table
}

// headDim is the only size of a head that the kernels are written for, as in every GPT-OSS.
const headDim = 64

// newShape checks that the kernels are made for these sizes. The error names the first value that they are not made for.
func newShape(sp device.Spec, l device.Limits, sms int) (*shape, error) {
	s := &shape{Spec: sp, Limits: l, sms: sms, maxBlocks: max(l.FullPages, l.WindowPages)}
	if l.MaxBlocks > 0 {
		s.maxBlocks = min(s.maxBlocks, l.MaxBlocks)
	}
	for _, p := range []struct {
		name  string
		value int
	}{
		{"layers", sp.Layers}, {"hidden size", sp.Hidden}, {"intermediate size", sp.Intermediate}, {"heads", sp.Heads},
		{"KV heads", sp.KVHeads}, {"experts", sp.Experts}, {"experts a token", sp.TopK}, {"vocabulary", sp.Vocab},
		{"batch tokens", l.MaxTokens}, {"batch sequences", l.MaxSeqs}, {"batch logit rows", l.MaxLogits},
		{"page size", l.PageSize}, {"pages", l.FullPages}, {"window pages", l.WindowPages},
	} {
		if p.value < 1 || p.value > 1<<30 {
			return nil, fmt.Errorf("%s is %d: want 1 to %d", p.name, p.value, 1<<30)
		}
	}
	s.group = sp.Heads / sp.KVHeads
	for _, r := range []struct {
		bad  bool
		what string
	}{
		{sp.HeadDim != headDim, fmt.Sprintf("head size %d, want %d", sp.HeadDim, headDim)},
		{sp.Hidden%64 != 0, fmt.Sprintf("hidden size %d, want a multiple of 64", sp.Hidden)},
		{sp.Intermediate%64 != 0, fmt.Sprintf("intermediate size %d, want a multiple of 64", sp.Intermediate)},
		{sp.Heads%sp.KVHeads != 0, fmt.Sprintf("%d query heads for %d KV heads, want a multiple", sp.Heads, sp.KVHeads)},
		{s.group > 8 && s.group != 16, fmt.Sprintf("%d query heads to a KV head, want 1 to 8, or 16", s.group)},
		{sp.TopK > 8, fmt.Sprintf("%d experts a token, want at most 8", sp.TopK)},
		{sp.Experts > 256, fmt.Sprintf("%d experts, want at most 256", sp.Experts)},
		{l.PageSize%16 != 0, fmt.Sprintf("pages of %d positions, want a multiple of 16 (--block-size)", l.PageSize)},
	} {
		if r.bad {
			return nil, fmt.Errorf("%s: %w", r.what, device.ErrNotSupported)
		}
	}
	switch {
	case sp.TopK > sp.Experts:
		return nil, fmt.Errorf("%d experts a token of only %d", sp.TopK, sp.Experts)
	case len(sp.Windows) != sp.Layers:
		return nil, fmt.Errorf("%d windows for %d layers", len(sp.Windows), sp.Layers)
	case len(sp.InvFreq) != headDim/2:
		return nil, fmt.Errorf("%d rotary frequencies for heads of %d", len(sp.InvFreq), headDim)
	}
	s.qkvRows = (sp.Heads + 2*sp.KVHeads) * headDim
	return s, nil
}

// denseFormat is how a dense weight lies in the GPU's memory.
type denseFormat int32

const (
	denseBF16 denseFormat = iota // [rows, cols]
	denseF16                     // [rows, cols]
	denseQ8                      // int8 codes [rows, cols], F16 scales [rows, cols/32]
)

// denseWeight is one dense projection.
type denseWeight struct {
	format     denseFormat
	rows, cols int
	data       devptr
	scales     devptr // denseQ8 only
	bias       devptr // float32 [rows]; 0: none
}

// bytes is what the weight takes, bias included.
func (w *denseWeight) bytes() int64 {
	n := w.rows * w.cols
	size := w.format.codeBytes(n) + w.format.scaleBytes(n)
	if w.bias != 0 {
		size += 4 * int64(w.rows)
	}
	return size
}

// layerWeights is one layer.
type layerWeights struct {
	attnNorm, mlpNorm devptr      // float32 [Hidden]
	mlpNormMost       float32     // greatest magnitude in mlpNorm
	sinks             devptr      // float32 [Heads]
	qkv, o            denseWeight // q, k and v rows stacked
	router            devptr      // float32 [Hidden, Experts]: transposed
	routerBias        devptr      // float32 [Experts]
	gateUp, down      expertWeight
}

// kvLayer is the KV cache of one layer.
type kvLayer struct {
	k, v           devptr // [pages, KVHeads, PageSize, 64], BF16 or int8
	kScale, vScale devptr // float32 [pages, KVHeads, PageSize]; int8 only
	table          devptr // the block tables of this layer's kind
	window         int
}

// stepBuffers are the addresses of a step's inputs. They are constant for a session; Begin fills them.
type stepBuffers struct {
	positions, seqOf       devptr // int32 [MaxTokens]
	logitRows              devptr // int32 [MaxLogits]
	fullTable, windowTable devptr // int32 [MaxSeqs, maxBlocks]; -1 in the window's where no key is needed
	decodeRow              devptr // int32 [MaxSeqs]: rows of sequences with exactly one token in this step
	tiles                  devptr // int32 [.., 4]: prefill query tiles {sequence, first row, rows, first position}
	rope                   devptr // float32 [MaxTokens, 64]: 32 cosines, 32 sines, times RopeScale
}

// stepShape is all of a step that the size of a launch may depend on.
type stepShape struct {
	tokens, seqs, rows, decodes, tiles int // rows: logit rows
}
