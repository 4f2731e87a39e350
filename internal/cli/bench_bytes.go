package cli

import (
	"math"

	"hearth/internal/checkpoint"
	"hearth/internal/device"
)

// cost is what a step must read and compute at least: the model that speeds are judged by, on every device. What of the
// weights, keys and values a step reads, and in which form they lie there, is the session's to say.
type cost struct {
	device.Reads
	config *checkpoint.Config
}

// share is the part of the experts that rows tokens choose between them, if each token chooses at random.
func (c *cost) share(rows int) float64 {
	return 1 - math.Pow(1-float64(c.config.TopK)/float64(c.config.Experts), float64(rows))
}

// weights is what a step of so many tokens reads of the layers, in bytes.
func (c *cost) weights(rows int) float64 {
	return float64(c.Dense) + c.share(rows)*float64(c.Experts) + float64(rows)*float64(c.Row)
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

// decodeBytes is what a step reads that adds one token to each of batch sequences at a position.
func (c *cost) decodeBytes(batch, position int) float64 {
	return math.Round(c.weights(batch) + float64(c.Head) + float64(batch)*float64(c.keys(position))*float64(c.Key))
}

// prefillBytes is what a prompt's steps read: the weights for each chunk, and the keys that are there before it.
func (c *cost) prefillBytes(prompt, chunk int) (sum float64) {
	for first := 0; first < prompt; first += chunk {
		n := min(chunk, prompt-first)
		sum += c.weights(n) + float64(c.keys(first+n-1))*float64(c.Key)
	}
	return math.Round(sum + float64(c.Head))
}

// rowFlops is what the layers compute for a token, without attention over its keys.
func (c *cost) rowFlops() float64 {
	k := c.config
	q, kv := k.Heads*k.HeadDim, k.KVHeads*k.HeadDim
	return 2 * float64(k.Layers) * float64(k.Hidden*(q+2*kv)+q*k.Hidden+k.Experts*k.Hidden+k.TopK*3*k.Hidden*k.Intermediate)
}

// prefillFlops is what a prompt's steps compute: products with weights, scores and sums over keys, one row of logits.
func (c *cost) prefillFlops(prompt int) float64 {
	keys := 0
	for p := range prompt {
		keys += c.keys(p)
	}
	return float64(prompt)*c.rowFlops() + 4*float64(c.config.Heads*c.config.HeadDim)*float64(keys) + 2*float64(c.config.Vocab*c.config.Hidden)
}
