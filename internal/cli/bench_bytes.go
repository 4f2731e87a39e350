package cli

import (
	"math"

	"hearth/internal/checkpoint"
	"hearth/internal/dtype"
	"hearth/internal/model"
)

// cost is what a step must read and compute at least: the model that speeds are judged by. Weights are read once a step,
// experts as far as they are chosen; activations count as free.
type cost struct {
	config *checkpoint.Config
	kv     dtype.Format

	dense    int64 // bytes of attention and routers
	experts  int64 // bytes of all experts
	head     int64 // bytes
	row      int64 // bytes of one row of the embedding
	rowFlops int64 // of one token in the layers, without attention over its keys
}

// weighed passes a model's weights on and adds up their cost.
type weighed struct {
	model.Weights
	cost *cost
}

func weigh(w model.Weights, kv dtype.Format) weighed {
	return weighed{w, &cost{config: w.Config(), kv: kv}}
}

func (w weighed) Layer(n int) (*checkpoint.Layer, error) {
	l, err := w.Weights.Layer(n)
	if err != nil {
		return nil, err
	}
	for _, x := range [...]*checkpoint.Linear{&l.Q, &l.K, &l.V, &l.O, &l.Router} {
		w.cost.dense += x.Weight.Bytes() + 4*int64(len(x.Bias))
		w.cost.rowFlops += 2 * int64(x.Weight.Rows) * int64(x.Weight.Cols)
	}
	for _, x := range [...]*checkpoint.Experts{&l.GateUp, &l.Down} {
		for _, planes := range [...][]dtype.Plane{x.Weight.Even, x.Weight.Odd} {
			for i := range planes {
				w.cost.experts += planes[i].Bytes()
			}
		}
		w.cost.experts += 4 * int64(len(x.Bias))
		rows, cols := x.Weight.Shape()
		w.cost.rowFlops += 2 * int64(w.cost.config.TopK) * int64(rows) * int64(cols)
	}
	return l, nil
}

func (w weighed) Head() (dtype.Plane, error) {
	p, err := w.Weights.Head()
	w.cost.head = p.Bytes()
	return p, err
}

func (w weighed) Embedding() (dtype.Plane, error) {
	p, err := w.Weights.Embedding()
	w.cost.row = p.Bytes() / int64(max(p.Rows, 1))
	return p, err
}

// share is the part of the experts that rows tokens choose between them, if each token chooses at random.
func (c *cost) share(rows int) float64 {
	return 1 - math.Pow(1-float64(c.config.TopK)/float64(c.config.Experts), float64(rows))
}

// weights is what a step of so many tokens reads of the layers, in bytes.
func (c *cost) weights(rows int) float64 {
	return float64(c.dense) + c.share(rows)*float64(c.experts) + float64(rows)*float64(c.row)
}

// keys is how many keys a token at a position sees, over all layers.
func (c *cost) keys(position int) (n int) {
	for _, w := range c.config.Windows {
		if w == 0 {
			w = position + 1
		}
		n += min(w, position+1)
	}
	return n
}

// keyBytes is one key and its value.
func (c *cost) keyBytes() float64 {
	return 2 * float64(c.config.KVHeads*c.config.HeadDim) * c.kv.Bits() / 8
}

// decodeBytes is what a step reads that adds one token to each of batch sequences at a position.
func (c *cost) decodeBytes(batch, position int) float64 {
	return math.Round(c.weights(batch) + float64(c.head) + float64(batch)*float64(c.keys(position))*c.keyBytes())
}

// prefillBytes is what a prompt's steps read: the weights for each chunk, and the keys that are there before it.
func (c *cost) prefillBytes(prompt, chunk int) (sum float64) {
	for first := 0; first < prompt; first += chunk {
		n := min(chunk, prompt-first)
		sum += c.weights(n) + float64(c.keys(first+n-1))*c.keyBytes()
	}
	return math.Round(sum + float64(c.head))
}

// prefillFlops is what a prompt's steps compute: products with weights, scores and sums over keys, one row of logits.
func (c *cost) prefillFlops(prompt int) float64 {
	keys := 0
	for p := range prompt {
		keys += c.keys(p)
	}
	return float64(prompt)*float64(c.rowFlops) + 4*float64(c.config.Heads*c.config.HeadDim)*float64(keys) + 2*float64(c.config.Vocab*c.config.Hidden)
}
