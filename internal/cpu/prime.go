package cpu

import "math/rand/v2"

// Prime fills the pages of all layers with keys and values between -1 and 1.
func (s *session) Prime(seed uint64) error {
	const period = 1<<20 - 1 // odd, so that pages differ
	r := rand.New(rand.NewPCG(seed, 0))
	values := make([]float32, period)
	for i := range values {
		values[i] = 2*r.Float32() - 1
	}
	for l := range s.keys {
		for _, dst := range [2][]float32{s.keys[l], s.values[l]} {
			for at := 0; at < len(dst); {
				at += copy(dst[at:], values[at%period:])
			}
		}
	}
	return nil
}
