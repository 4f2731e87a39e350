package cli

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"

	"hearth/internal/checkpoint"
	"hearth/internal/device"
	"hearth/internal/dtype"
	"hearth/internal/model"
)

// benchShapes are the models that bench can make up, by the name that --shape takes.
func benchShapes() map[string]checkpoint.Config {
	published := checkpoint.Config{
		Layers: 24, Hidden: 2880, Intermediate: 2880, Heads: 64, KVHeads: 8, HeadDim: 64, Experts: 32, TopK: 4, Vocab: 201088,
		MaxPosition: 131072, Eps: 1e-5, SwigluAlpha: 1.702, SwigluLimit: 7, Pad: -1, BOS: -1,
		Rope: checkpoint.Rope{Theta: 150000, Yarn: true, Factor: 32, BetaFast: 32, BetaSlow: 1, OriginalContext: 4096},
	}
	large, tiny := published, published
	large.Layers, large.Experts = 36, 128
	tiny.Layers, tiny.Hidden, tiny.Intermediate, tiny.Heads, tiny.KVHeads, tiny.Experts, tiny.TopK, tiny.Vocab = 2, 128, 128, 4, 2, 8, 2, 1024
	return map[string]checkpoint.Config{"gpt-oss-20b": published, "gpt-oss-120b": large, "tiny": tiny}
}

// benchFormats are what the experts may be stored in, by the name that --format takes. All but the last have the rest in BF16.
func benchFormats() map[string]string {
	return map[string]string{
		"mxfp4": "MXFP4", "nf4": "NF4 with float32 scales", "nf4-dq": "NF4 with double-quantised scales", "bf16": "BF16",
		ggufFormat: "MXFP4 as llama.cpp's files have it",
	}
}

// ggufFormat is what most GGUF files of GPT-OSS have: blocks of MXFP4 with their scales among them, and the rest in Q8_0.
const ggufFormat = "gguf"

// made is a model with made-up weights of a real model's shapes and formats: what speed is measured on where the real
// weights are not at hand. What it says is noise, but nothing overflows, and what layers add to the residual stream is
// small beside the token's embedding: so tokens stay different, and choose their experts as if at random, in every layer.
// Each layer is memory of its own, as in the real model. Only the embedding, of which a step reads one row for each token,
// shares the head's bytes.
type made struct {
	name, format string
	config       checkpoint.Config
	into         pools // of weights that read the residual stream
	back         pools // of those that add to it
	at           int   // where in the pools the next tensor begins
	head         dtype.Plane
	outline      bool // large tensors have shapes and no content
}

// madeThere is the same model for a device that makes up large weights itself. The embedding, which stays with the host,
// is made here.
type madeThere struct{ *made }

func (m madeThere) Embedding() (dtype.Plane, error) {
	return m.content(&m.into, m.config.Vocab, m.config.Hidden), nil
}

// Pools gives the device what to make weights of.
func (m madeThere) Pools() (into, back *device.Pools) { return &m.into.Pools, &m.back.Pools }

// newMade makes up a model; layers limits its depth, 0 keeps all.
func newMade(shape, format string, layers int, seed uint64) (*made, error) {
	c, ok := benchShapes()[shape]
	if !ok {
		return nil, fmt.Errorf("--shape %q: want %s", shape, names(benchShapes()))
	}
	if _, ok := benchFormats()[format]; !ok {
		return nil, fmt.Errorf("--format %q: want %s", format, names(benchFormats()))
	}
	if layers < 0 || layers > c.Layers {
		return nil, fmt.Errorf("--layers %d: %s has %d", layers, shape, c.Layers)
	}
	if layers > 0 {
		c.Layers = layers
	}
	c.Windows = make([]int, c.Layers)
	for l := 0; l < c.Layers; l += 2 {
		c.Windows[l] = 128
	}
	m := &made{name: shape, format: format, config: c, into: newPools(seed, 0), back: newPools(seed+1, 10)}
	return m, nil
}

func names[V any](m map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}

func (m *made) Path() string               { return m.name }
func (m *made) Config() *checkpoint.Config { return &m.config }

// String says what was made.
func (m *made) String() string {
	rest := dtype.BF16
	if m.format == ggufFormat {
		rest = dtype.Q8_0
	}
	s := fmt.Sprintf("%s, made up: experts in %s, the rest in %v", m.name, benchFormats()[m.format], rest)
	if full := benchShapes()[m.name].Layers; m.config.Layers < full {
		s += fmt.Sprintf("; %d of %d layers", m.config.Layers, full)
	}
	return s
}

// bytes is the memory that all weights take, before any is made.
func (m *made) bytes() int64 {
	r, _ := model.StoredReads(m.outlined()) // which cannot fail here
	return r.Dense + r.Experts + r.Head
}

// outlined is the same model without content.
func (m *made) outlined() *made {
	outline := *m
	outline.outline, outline.head = true, dtype.Plane{}
	return &outline
}

func (m *made) headBytes() int64 {
	head := m.outlined().dense(&m.into, m.config.Vocab, m.config.Hidden)
	return head.Bytes()
}

func (m *made) Head() (dtype.Plane, error) {
	if m.head.Rows == 0 {
		m.head = m.dense(&m.into, m.config.Vocab, m.config.Hidden)
	}
	return m.head, nil
}

func (m *made) Embedding() (dtype.Plane, error) { return m.Head() }
func (m *made) FinalNorm() ([]float32, error)   { return ones(m.config.Hidden), nil }

func (m *made) Layer(int) (*checkpoint.Layer, error) {
	c := &m.config
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	return &checkpoint.Layer{
		AttnNorm: ones(c.Hidden), MLPNorm: ones(c.Hidden), Sinks: m.floats(c.Heads),
		Q: m.linear(&m.into, q, c.Hidden), K: m.linear(&m.into, kv, c.Hidden), V: m.linear(&m.into, kv, c.Hidden), O: m.linear(&m.back, c.Hidden, q),
		Router: checkpoint.Linear{Weight: m.filled(&m.into, c.Experts, c.Hidden), Bias: m.floats(c.Experts)},
		GateUp: m.experts(&m.into, 2*c.Intermediate, c.Hidden), Down: m.experts(&m.back, c.Hidden, c.Intermediate),
	}, nil
}

func (m *made) linear(from *pools, rows, cols int) checkpoint.Linear {
	return checkpoint.Linear{Weight: m.dense(from, rows, cols), Bias: m.floats(rows)}
}

func (m *made) dense(from *pools, rows, cols int) dtype.Plane {
	switch {
	case !m.outline:
		return m.content(from, rows, cols)
	case m.format == ggufFormat:
		return dtype.Plane{Format: dtype.Q8_0, Rows: rows, Cols: cols}
	}
	return dtype.Plane{Format: dtype.BF16, Rows: rows, Cols: cols}
}

// content makes a dense weight, whether large ones have content or not.
func (m *made) content(from *pools, rows, cols int) dtype.Plane {
	if m.format == ggufFormat {
		return dtype.Plane{Format: dtype.Q8_0, Rows: rows, Cols: cols, Data: m.takeBlocks(from.q8, rows*cols, dtype.Q8_0)}
	}
	return m.filled(from, rows, cols)
}

func (m *made) filled(from *pools, rows, cols int) dtype.Plane {
	return dtype.Plane{Format: dtype.BF16, Rows: rows, Cols: cols, Data: m.take(from.Values, 2*rows*cols)}
}

// experts makes all of a layer's, several at a time.
func (m *made) experts(from *pools, rows, cols int) checkpoint.Experts {
	x := checkpoint.Experts{Bias: m.floats(m.config.Experts * rows)}
	x.Weight.Even = make([]dtype.Plane, m.config.Experts)
	var wg sync.WaitGroup
	turns := make(chan struct{}, runtime.GOMAXPROCS(0))
	for e := range x.Weight.Even {
		part := *m // its own place in the pools
		m.at += 4099
		turns <- struct{}{}
		wg.Go(func() {
			x.Weight.Even[e] = part.expert(from, rows, cols)
			<-turns
		})
	}
	wg.Wait()
	return x
}

func (m *made) expert(from *pools, rows, cols int) dtype.Plane {
	n := rows * cols
	p := dtype.Plane{Format: dtype.NF4, Rows: rows, Cols: cols}
	take := m.take
	if m.outline {
		take = func([]byte, int) []byte { return []byte{} }
	}
	switch m.format {
	case "bf16":
		return m.dense(from, rows, cols)
	case ggufFormat:
		p.Format = dtype.MXFP4GGML
		if !m.outline {
			p.Data = m.takeBlocks(from.ggml, n, p.Format)
		}
		return p
	case "mxfp4":
		p.Format, p.Scales = dtype.MXFP4, take(from.Exponents, n/32)
	case "nf4":
		p.Quant = &dtype.Quant{Block: 64, Round: dtype.BF16, Absmax: take(from.Absmax, n/64*4)}
	case "nf4-dq":
		p.Quant = &dtype.Quant{
			Block: 64, Round: dtype.BF16, Codes: take(from.Nested, n/64), Map: &dtype.NestedMap,
			Nested: take(from.Absmax, (n/64+255)/256*4), NestedBlock: 256, Offset: from.offset,
		}
	}
	p.Data = take(from.Codes, n/2)
	return p
}

func ones(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = 1
	}
	return v
}

// floats are biases and sinks: near 0.
func (m *made) floats(n int) []float32 {
	v := make([]float32, n)
	b := m.take(m.back.Values, 2*n)
	for i := range len(b) / 2 {
		v[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[2*i:])) << 16)
	}
	return v
}

// take makes n bytes of a kind, from another place in its pool than the last.
func (m *made) take(pool []byte, n int) []byte { return m.takeFrom(pool, m.at*8%len(pool), n) }

// takeBlocks is take for n weights of a format whose blocks hold their scales.
func (m *made) takeBlocks(pool []byte, n int, f dtype.Format) []byte {
	size := f.BlockBytes()
	return m.takeFrom(pool, m.at*size%len(pool), n/f.BlockElems()*size)
}

func (m *made) takeFrom(pool []byte, at, n int) []byte {
	b := make([]byte, n)
	m.at += 4099 // a prime: tensors begin at places of their own
	const part = 64 << 20
	var wg sync.WaitGroup
	for first := 0; first < n; first += part {
		wg.Go(func() {
			to, at := b[first:min(first+part, n)], (at+first)%len(pool)
			for done := 0; done < len(to); at = 0 {
				done += copy(to[done:], pool[at:])
			}
		})
	}
	wg.Wait()
	return b
}

// pools hold random bytes of each kind; tensors are copied from them round and round. BF16 is about 1/60, E8M0 about
// 2^-8, absmax from 0.02 to 0.04; codes of double-quantised scales are those near 0, to which offset is added. Blocks are
// MXFP4's and Q8_0's with their scales, of the same sizes as the others.
type pools struct {
	device.Pools
	ggml, q8 []byte
	offset   float32 // 0.02
}

// newPools makes values halvings times halved.
func newPools(seed uint64, halvings int) pools {
	const n = 1 << 18
	r := rand.New(rand.NewPCG(seed, 20))
	scale := math.Ldexp(1, -halvings)
	p := pools{offset: float32(0.02 * scale)}
	for range n {
		p.Codes = binary.LittleEndian.AppendUint64(p.Codes, r.Uint64())
		p.Values = binary.LittleEndian.AppendUint16(p.Values, uint16(math.Float32bits(float32(scale*r.NormFloat64()/60))>>16))
		p.Exponents = append(p.Exponents, byte(118-halvings+r.IntN(3)))
		p.Absmax = binary.LittleEndian.AppendUint32(p.Absmax, math.Float32bits(float32(scale*(0.02+0.02*r.Float64()))))
		p.Nested = append(p.Nested, byte(100+r.IntN(60)))
	}
	p.addBlocks(r, n/16, halvings)
	return p
}

// addBlocks makes n of each kind. The scales of Q8_0 are normal numbers in F16, so it is halved seven times at most.
func (p *pools) addBlocks(r *rand.Rand, n, halvings int) {
	shift, least := 0, float32(1./60/90)
	if halvings > 0 {
		shift, least = 6, least/2
	}
	for range n {
		p.ggml = append(p.ggml, byte(118-halvings+r.IntN(3)))
		at := len(p.q8)
		p.q8 = append(p.q8, 0, 0)
		dtype.EncodeF16(p.q8[at:], []float32{least * (1 + r.Float32())})
		for i := range 32 {
			if i < 16 {
				p.ggml = append(p.ggml, byte(r.Uint32()))
			}
			p.q8 = append(p.q8, byte(int8(r.Uint32())>>shift))
		}
	}
}
