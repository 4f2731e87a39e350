package device

import "hearth/internal/dtype"

// Reads is what a session's steps must read of its memory, in bytes as they lie there: the measure of its speed. Steps
// read everything once, experts as far as their tokens choose them; activations count as free.
type Reads struct {
	Dense   int64 // by every step: attention, routers, norms, sinks and biases of all layers
	Experts int64 // of all layers and all experts, with scales and biases
	Head    int64 // by a step with logits: the head and the final norm
	Row     int64 // of the embedding, by each token
	Key     int64 // of one position in one layer: the key and the value of all heads, with their scales
}

// AddLayer counts a layer that is kept as it is stored.
func (r *Reads) AddLayer(w *Layer) {
	r.Dense += 4 * int64(len(w.AttnNorm)+len(w.MLPNorm)+len(w.Sinks))
	for _, x := range [...]*Linear{&w.Q, &w.K, &w.V, &w.O, &w.Router} {
		r.Dense += x.Weight.Bytes() + 4*int64(len(x.Bias))
	}
	for _, x := range [...]*Experts{&w.GateUp, &w.Down} {
		for _, planes := range [...][]dtype.Plane{x.Weight.Even, x.Weight.Odd} {
			for i := range planes {
				r.Experts += planes[i].Bytes()
			}
		}
		r.Experts += 4 * int64(len(x.Bias))
	}
}

// AddEmbedding counts a token's row of the embedding.
func (r *Reads) AddEmbedding(p dtype.Plane) { r.Row = p.Bytes() / int64(max(p.Rows, 1)) }

// AddHead counts the head and the norm before it.
func (r *Reads) AddHead(norm []float32, p dtype.Plane) { r.Head = p.Bytes() + 4*int64(len(norm)) }
