package dtype

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sync"
)

// QuantizeNF4 packs src, a flattened tensor, as bitsandbytes does on a CPU: codes holds two a byte, the first one high
// ((len(src)+1)/2 bytes, an odd last nibble is 0), absmax one scale for each block of so many values, the last block
// possibly short. It fails on lengths that do not fit and on values that are not finite.
func QuantizeNF4(codes []byte, absmax, src []float32, block int) error {
	return quantize4(&nf4Steps, codes, absmax, src, block)
}

// QuantizeFP4 is QuantizeNF4 with FP4's codes.
func QuantizeFP4(codes []byte, absmax, src []float32, block int) error {
	return quantize4(&fp4Steps, codes, absmax, src, block)
}

// steps4 is a code table in the order of its values: code[i] is for what lies above i of the thresholds. [-1, 1] is cut
// into buckets with at most one threshold each, so one comparison is enough: below[b] thresholds lie in buckets before b.
type steps4 struct {
	threshold [16]float32 // the last one is above everything
	code      [16]uint8
	below     [buckets + 1]uint8
}

const buckets = 1024

var nf4Steps, fp4Steps = newSteps4(&NF4Table), newSteps4(&FP4Table)

// newSteps4 puts a threshold in the middle of neighbours, rounded to float32. Equal values keep the order of their
// codes: FP4's 0 stands before its 8.
func newSteps4(table *[16]float32) (s steps4) {
	for i := range s.code {
		s.code[i] = uint8(i)
	}
	slices.SortStableFunc(s.code[:], func(a, b uint8) int { return cmp.Compare(table[a], table[b]) })
	for i := range 15 {
		s.threshold[i] = (table[s.code[i]] + table[s.code[i+1]]) / 2
	}
	s.threshold[15] = float32(math.Inf(1))
	n := 0
	for b := range s.below {
		for bucket(s.threshold[n]) < b {
			n++
		}
		s.below[b] = uint8(n)
	}
	return s
}

// bucket never falls as x in [-1, 1] rises, whatever is rounded on the way, and the infinity is in none.
func bucket(x float32) int { return int(min((x+1)*(buckets/2), buckets+1)) }

// nearest is the code for x in [-1, 1]; on a threshold the lower value is taken.
func (s *steps4) nearest(x float32) uint8 {
	n := s.below[bucket(x)]
	if x > s.threshold[n&15] {
		n++
	}
	return s.code[n&15]
}

func quantize4(s *steps4, codes []byte, absmax, src []float32, block int) error {
	if block <= 0 || len(codes) != ceil(len(src), 2) || len(absmax) != ceil(len(src), block) {
		return fmt.Errorf("%d values do not make %d bytes of codes and %d scales of %d values", len(src), len(codes), len(absmax), block)
	}
	clear(codes)
	for b := range absmax {
		from, to := b*block, min((b+1)*block, len(src))
		amax, err := absMax(src[from:to], from)
		if err != nil {
			return err
		}
		absmax[b] = amax
		inverse := 1 / max(amax, 1e-38)
		for i := from; i < to; i++ {
			codes[i/2] |= s.nearest(float32(src[i]*inverse)) << (4 * (^i & 1)) // converted: see Quant.Scale
		}
	}
	return nil
}

// QuantizeScales quantises float32 scales a second time, as bitsandbytes does on a CPU: less their mean, offset, they
// become 8-bit codes into NestedMap under one float32 scale for each block of so many. Reading gives
// float32(NestedMap[codes[i]]*nested[i/block]) + offset. It fails where a scale is not finite.
func QuantizeScales(absmax []float32, block int) (codes []byte, nested []float32, offset float32, err error) {
	if block <= 0 || len(absmax) == 0 {
		return nil, nil, 0, fmt.Errorf("%d scales cannot be quantised in blocks of %d", len(absmax), block)
	}
	offset = pairwiseSum(absmax) / float32(len(absmax))
	if !isFinite(offset) {
		return nil, nil, 0, fmt.Errorf("mean of the scales is %v, which is not finite", offset)
	}
	codes = make([]byte, len(absmax))
	nested = make([]float32, ceil(len(absmax), block))
	rest := make([]float32, min(block, len(absmax)))
	table := nestedCodes()
	for b := range nested {
		from := b * block
		rest := rest[:min(block, len(absmax)-from)]
		for i := range rest {
			rest[i] = absmax[from+i] - offset
		}
		if nested[b], err = absMax(rest, from); err != nil {
			return nil, nil, 0, err
		}
		if nested[b] == 0 {
			continue // bitsandbytes writes code 0
		}
		inverse := 1 / nested[b]
		for i, d := range rest {
			x := float32(d * inverse) // unconverted, the product would fuse with the sum
			codes[from+i] = table[uint16(float32((x+1)/2*65535)+0.5)]
		}
	}
	return codes, nested, offset, nil
}

// nestedCodes is how bitsandbytes finds the code of a number in [-1, 1] on a CPU: the number is rounded to one of 65,536
// steps, and each step has a code, the count of the map's midpoints below it.
var nestedCodes = sync.OnceValue(func() *[1 << 16]uint8 {
	codes, n := new([1 << 16]uint8), 0
	for step := range codes {
		v := float32(-1 + 2*float64(step)/65535)
		for n < 255 && (NestedMap[n]+NestedMap[n+1])/2 < v {
			n++
		}
		codes[step] = uint8(n)
	}
	return codes
})

// pairwiseSum adds in the order of numpy: eight running sums for up to 128 values, halves beyond. The order shows in
// the last bit of the mean.
func pairwiseSum(s []float32) float32 {
	if len(s) < 8 {
		sum := float32(0)
		for _, v := range s {
			sum += v
		}
		return sum
	}
	if len(s) > 128 {
		half := len(s) / 2 / 8 * 8
		return pairwiseSum(s[:half]) + pairwiseSum(s[half:])
	}
	var r [8]float32
	copy(r[:], s)
	i := 8
	for ; i+8 <= len(s); i += 8 {
		for j := range r {
			r[j] += s[i+j]
		}
	}
	sum := ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]))
	for _, v := range s[i:] {
		sum += v
	}
	return sum
}
