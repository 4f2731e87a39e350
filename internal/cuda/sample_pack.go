package cuda

import (
	"cmp"
	"math"
	"slices"
	"unsafe"

	"hearth/internal/device"
)

// sampleRow mirrors Row of kernels/sample.cuh.
type sampleRow struct {
	draw, topP                          uint64
	scale, floor, perLogit              float32
	topK, target, top, topAt, mask, ids int32
	banned, biased, prompt, output      int32
	presence, frequency, repetition     float32
}

// The lists of rows that launches are for.
const (
	listAll     = iota // every logit row
	listTops           // rows that want the most likely ids
	listTouched        // rows with banned ids, biases or a history
	listChanged        // those and rows with a mask
	listWhole          // rows drawn from all ids
	listPicked         // rows drawn from the most likely ids
	lists
)

// samplePack is one step's wishes as the device reads them: rows, lists, and the words that rows point at.
type samplePack struct {
	rows  []sampleRow
	list  [lists][]int32
	bytes []byte // what is uploaded; the words are appended first, rows and lists come in front of them
	front int    // bytes before the words
	tops  int    // ids to report, of all rows together
	bias  []device.Bias
	vocab int
}

// pack lays out the wishes of b's logit rows.
func (p *samplePack) pack(b *device.Batch, vocab int) {
	p.vocab, p.tops, p.rows = vocab, 0, p.rows[:0]
	for k := range p.list {
		p.list[k] = p.list[k][:0]
	}
	n := len(b.Logits)
	p.front = n * (int(unsafe.Sizeof(sampleRow{})) + 4*lists)
	p.bytes = slices.Grow(p.bytes[:0], p.front)[:p.front]
	for i := range b.Logits {
		p.add(i, &b.Logits[i])
	}
	at := copy(p.bytes, bytesOf(p.rows))
	for k := range p.list {
		copy(p.bytes[at+4*k*n:], bytesOf(p.list[k]))
	}
}

// rowsAt and listAt are offsets in the upload.
func (p *samplePack) listAt(k int) int {
	return len(p.rows) * (int(unsafe.Sizeof(sampleRow{})) + 4*k)
}

func (p *samplePack) add(i int, l *device.LogitRow) {
	r := sampleRow{target: l.Target, top: int32(min(l.Top, p.vocab)), topAt: int32(p.tops), mask: -1, repetition: 1}
	p.tops += int(r.top)
	p.join(listAll, i)
	if r.top > 0 {
		p.join(listTops, i)
	}
	if s := l.Sample; s != nil {
		p.addChanges(i, &r, s)
		if s.Temperature > 0 {
			p.addDraw(i, &r, s)
		}
	}
	p.rows = append(p.rows, r)
}

func (p *samplePack) join(list, row int) { p.list[list] = append(p.list[list], int32(row)) }

// addChanges writes the ids whose logits change, and the mask.
func (p *samplePack) addChanges(i int, r *sampleRow, s *device.Sampling) {
	r.ids = p.word()
	r.banned = p.addIDs(s.Banned)
	p.bias = p.bias[:0]
	for _, b := range s.Bias {
		if b.ID >= 0 && int(b.ID) < p.vocab {
			p.bias = append(p.bias, b)
		}
	}
	slices.SortStableFunc(p.bias, func(a, b device.Bias) int { return cmp.Compare(a.ID, b.ID) })
	for _, b := range p.bias {
		p.addWord(uint32(b.ID))
	}
	r.biased = int32(len(p.bias))
	repeat := s.Repetition != 0 && s.Repetition != 1
	if repeat {
		r.repetition = s.Repetition
		r.prompt = p.addIDs(s.Prompt)
	}
	r.presence, r.frequency = s.Presence, s.Frequency
	if repeat || s.Presence != 0 || s.Frequency != 0 {
		r.output = p.addIDs(s.Output)
	}
	for _, b := range p.bias {
		p.addWord(math.Float32bits(b.Value))
	}
	touched := p.word() > r.ids
	if touched {
		p.join(listTouched, i)
	}
	if s.Mask != nil {
		r.mask = p.word()
		words := (p.vocab + 31) / 32
		n := min(words, len(s.Mask))
		p.bytes = append(p.bytes, bytesOf(s.Mask[:n])...)
		for range words - n { // ids past the mask's end are not allowed
			p.addWord(0)
		}
	}
	if touched || s.Mask != nil {
		p.join(listChanged, i)
	}
}

// Bins reach as far down as a probability counts, or 64 units of logit where that is farther.
const (
	spreadBins   = 2048
	spreadLogits = 64
	probability  = 45   // the exponent of two past which a probability is 0
	steepest     = 1e30 // of scales: colder is greedy but for logits that differ in their last bit near zero
)

func (p *samplePack) addDraw(i int, r *sampleRow, s *device.Sampling) {
	scale := min(math.Log2E/float64(s.Temperature), steepest)
	r.scale = float32(scale)
	r.perLogit = float32(max(spreadBins/float64(spreadLogits), spreadBins*scale/probability))
	r.floor = float32(math.Log2(float64(s.MinP))) // log2(0) is -Inf: everything is kept
	r.draw = uniform(s.Seed, uint64(len(s.Output)))
	r.topK = int32(p.vocab)
	if s.TopK > 0 {
		r.topK = int32(min(s.TopK, p.vocab))
	}
	if s.TopP > 0 && s.TopP < 1 {
		r.topP = max(1, uint64(math.Ldexp(float64(s.TopP), 64)))
	}
	if int(r.topK) < p.vocab || r.topP > 0 {
		p.join(listPicked, i)
	} else {
		p.join(listWhole, i)
	}
}

// word is the offset of the next word.
func (p *samplePack) word() int32 { return int32((len(p.bytes) - p.front) / 4) }

func (p *samplePack) addWord(w uint32) {
	p.bytes = append(p.bytes, byte(w), byte(w>>8), byte(w>>16), byte(w>>24))
}

// addIDs appends those of the ids that are in the vocabulary.
func (p *samplePack) addIDs(ids []int32) int32 {
	n := 0
	for _, id := range ids {
		if id >= 0 && int(id) < p.vocab {
			p.addWord(uint32(id))
			n++
		}
	}
	return int32(n)
}

// uniform is the n-th number of a seed's sequence as a fraction of 2^64, to 53 bits: SplitMix64 as package cpu has it.
func uniform(seed, n uint64) uint64 {
	z := seed + (n+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return (z ^ z>>31) >> 11 << 11
}
