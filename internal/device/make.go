package device

// Pools are random bytes of every kind that weights consist of, for models that are made up. The length of each is a power
// of two, 16 at least.
type Pools struct {
	Codes     []byte // any byte is two codes of 4 bits
	Values    []byte // BF16
	Exponents []byte // E8M0
	Absmax    []byte // float32: scales of NF4, and scales of its scales
	Nested    []byte // 8-bit codes of double-quantised scales
}

// Maker is a device that can make up large weights where they are to lie.
type Maker interface {
	// NewMadeSession is NewSession for a model whose large weights come as outlines: planes with a shape, a format and no
	// content. They are filled at random from pools: Wo and W2, whose products are added to the residual stream, from back,
	// all others from into. The embedding comes as it is.
	NewMadeSession(s Spec, l Limits, into, back *Pools) (Session, error)
}
