package convert

import (
	"fmt"

	"hearth/internal/checkpoint"
	"hearth/internal/dtype"
)

// openAI spells the names of OpenAI's own files: q, k and v in one matrix, experts in MXFP4, one file.
func (b *builder) openAI() *dialect {
	b.plan.opt.ShardBytes = 1 << 62 // gpt-oss-20b's is one file
	return &dialect{
		embedding: "embedding.weight", head: "unembedding.weight", norm: "norm.scale", layer: "block.%d.",
		attnNorm: "attn.norm.scale", sinks: "attn.sinks", mlpNorm: "mlp.norm.scale", qkv: "attn.qkv", o: "attn.out", router: "mlp.gate",
		experts: func(prefix string, n int) {
			b.openAIExperts(prefix+"mlp.mlp1", weight{gateUp, n})
			b.openAIExperts(prefix+"mlp.mlp2", weight{down, n})
		},
	}
}

// openAIHolds says whether OpenAI's configuration has fields for all that this model needs.
func openAIHolds(c *checkpoint.Config) error {
	lost := func(what string, v any) error {
		return fmt.Errorf("OpenAI's config.json has no field for %s %v: the model would be another one; use hf-mxfp4", what, v)
	}
	switch r := c.Rope; {
	case c.Eps != publishedEps:
		return lost("rms_norm_eps", c.Eps)
	case c.SwigluAlpha != publishedAlpha:
		return lost("swiglu_alpha", c.SwigluAlpha)
	case !alternates(c.Windows):
		return lost("a pattern of sliding layers other than every second from the first:", c.Windows)
	case !r.Yarn:
		return lost("rotary embedding without", "YaRN")
	case r.Truncate:
		return lost("rope_scaling.truncate", true)
	case float64(c.MaxPosition) != float64(r.OriginalContext)*r.Factor:
		return lost("max_position_embeddings", c.MaxPosition)
	}
	return nil
}

// The constants of GPT-OSS that some formats have no field for.
const (
	publishedEps   = float32(1e-5)
	publishedAlpha = float32(1.702)
	publishedLimit = float32(7)
)

// alternates says whether even layers slide, all with one window, and odd layers see everything.
func alternates(windows []int) bool {
	for i, w := range windows {
		if i%2 == 0 && w != windows[0] || i%2 == 1 && w != 0 {
			return false
		}
	}
	return windows[0] > 0
}

// fusedQKV plans one matrix of the rows of q, k and v.
func (b *builder) fusedQKV(name string, n int) {
	if b.err != nil {
		return
	}
	var planes [3]*dtype.Plane
	var choices [3]choice
	f := dtype.Invalid
	rows := 0
	for i, which := range []which{projQ, projK, projV} {
		s, err := b.plan.src.stack(weight{which, n})
		if err != nil {
			b.fail(err)
			return
		}
		planes[i] = &s.Even[0]
		choices[i] = b.dense(weight{which, n}, planes[i])
		rows += planes[i].Rows
		switch have := choices[i].codec.(floatCodec).format; {
		case f == dtype.Invalid:
			f = have
		case f != have:
			f = dtype.F32 // holds them all
		}
	}
	cols := planes[0].Cols
	t := b.floatTensor(name, f, "q, k and v one after another", rows, cols)
	line := int64(cols * f.BlockBytes())
	at := int64(0)
	for i, which := range []which{projQ, projK, projV} {
		c := floats(f, false, planes[i])
		it := &item{weight: weight{which, n}, codec: c.codec, exact: c.exact, from: formatName(planes[i]), to: c.to, at: at}
		size := int64(planes[i].Rows) * line
		it.out, it.shape, it.share, it.bytes = [][]*Tensor{{t}}, [3]int{1, planes[i].Rows, cols}, []int64{size}, size
		b.plan.items = append(b.plan.items, it)
		at += size
	}
}

func (b *builder) openAIExperts(name string, w weight) {
	it, s := b.newItem(w)
	if it == nil {
		return
	}
	b.mxTensors(it, s, name+"_weight.blocks", name+"_weight.scales")
	rows, _ := s.Shape()
	b.vector(name+"_bias", w.layer, layerVector(w.layer, expertsBias(w.which)), s.Experts(), rows)
}
