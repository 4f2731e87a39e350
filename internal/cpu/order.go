package cpu

// A level may take the products of a row in another sequence than weights are stored in: one that its way of decoding
// codes of four bits gives for nothing, and that other formats can be brought into cheaply. Activations are written in
// that order by whoever computes them, once for each operation. It is the same for every format, so a model in another
// format gives the same bits.
//
// Rows are filled up with zeros to whole steps of 64 and cut into chains, which a kernel sums apart. A step is a number
// of groups of as many values as the level's vectors have lanes; they go to the chains in turn.
type order uint8

const (
	natural order = iota // as stored, no chains
	woven8               // eight lanes
	woven16              // sixteen lanes
)

const (
	// chains is how many sums a vector kernel keeps of a row: enough that one row of weights fills the pipelines.
	chains = 4
	// stepCols is how many weights of a row a round of a kernel takes.
	stepCols = 64
)

// width is the length of a row of n values in the order.
func (o order) width(n int) int {
	if o == natural {
		return n
	}
	return (n + stepCols - 1) / stepCols * stepCols
}

// place gives where value i of a row lies that has the given width in the order.
func (o order) place(i, width int) int {
	if o == natural {
		return i
	}
	if o == woven16 {
		// The number of a weight in its step is b d q k: two bits for d and q, one for each other. A byte of codes holds k 0
		// and 1, a word of 32 bits all of q, sixteen bytes all of d: each of the vector's four quarters takes one q.
		k, q, d, b := i&1, i>>1&3, i>>3&3, i>>5&1
		return (2*b+k)*(width/chains) + i/stepCols*16 + 4*q + d
	}
	// Here it is q u d p k: two bits for d, one for each other. A byte of codes holds k 0 and 1; sixteen of them make a
	// lane of bytes, q; eight are widened at once, u; those at even places apart from others, p.
	k, p, d, u, q := i&1, i>>1&1, i>>2&3, i>>4&1, i>>5&1
	group, lane := 4*k+2*u+p, 4*q+d
	return group%chains*(width/chains) + (i/stepCols*2+group/chains)*8 + lane
}

// lanes is how many sums a vector of the level holds.
func (o order) lanes() int {
	switch o {
	case woven8:
		return 8
	case woven16:
		return 16
	}
	return 1
}

// places gives where each of a row's n values lies in the order; nil where that is its own place.
func (o order) places(n int) []int32 {
	if o == natural {
		return nil
	}
	at := make([]int32, n)
	for i := range at {
		at[i] = int32(o.place(i, o.width(n)))
	}
	return at
}

// arrange copies a row to its places.
func arrange(dst, src []float32, places []int32) {
	if places == nil {
		copy(dst, src)
		return
	}
	for i, at := range places {
		dst[at] = src[i]
	}
}
