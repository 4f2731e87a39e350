// Command synth writes a checkpoint of a real model's shapes with made-up values: what loading, converting and memory
// are measured on where the real weights are not at hand. The values have sane magnitudes, so that the model runs
// without overflow; its text is noise.
//
//	go run ./tools/synth -layout hf-mxfp4 -out DIR            # 13.8 GB, gpt-oss-20b in MXFP4
//	go run ./tools/synth -layout unsloth-nf4-dq -out DIR      # 13.5 GB, Unsloth's per-expert NF4
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// sizes are those of gpt-oss-20b unless a flag says otherwise.
type sizes struct {
	layers, hidden, inter, heads, kvHeads, headDim, experts, topK, vocab int
}

func main() {
	s := sizes{}
	layout := flag.String("layout", "hf-mxfp4", "hf-mxfp4 or unsloth-nf4-dq")
	out := flag.String("out", "", "folder to write (must not exist)")
	seed := flag.Uint64("seed", 1, "seed of the made-up values")
	flag.IntVar(&s.layers, "layers", 24, "transformer layers")
	flag.IntVar(&s.hidden, "hidden", 2880, "hidden size")
	flag.IntVar(&s.inter, "intermediate", 2880, "expert intermediate size")
	flag.IntVar(&s.heads, "heads", 64, "query heads")
	flag.IntVar(&s.kvHeads, "kv-heads", 8, "KV heads")
	flag.IntVar(&s.headDim, "head-dim", 64, "head size")
	flag.IntVar(&s.experts, "experts", 32, "experts a layer")
	flag.IntVar(&s.topK, "top-k", 4, "experts a token")
	flag.IntVar(&s.vocab, "vocab", 201088, "vocabulary")
	flag.Parse()
	log.SetFlags(0)
	if *out == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := write(*out, *layout, s, *seed); err != nil {
		log.Fatal(err)
	}
}

// tensor is one entry of the file and what fills it.
type tensor struct {
	name  string
	dtype string
	shape []int
	fill  filler
}

// filler makes the next n bytes of a tensor.
type filler func(p []byte)

func (t *tensor) bytes() int64 {
	n := map[string]int64{"U8": 1, "BF16": 2, "F32": 4}[t.dtype]
	for _, d := range t.shape {
		n *= int64(d)
	}
	return n
}

func write(dir, layout string, s sizes, seed uint64) error {
	v := newValues(seed)
	var list []tensor
	switch layout {
	case "hf-mxfp4":
		list = v.model(s, v.mxfp4)
	case "unsloth-nf4-dq":
		list = v.model(s, v.unsloth)
	default:
		return fmt.Errorf("-layout %q: want hf-mxfp4 or unsloth-nf4-dq", layout)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := writeConfig(dir, layout, s); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if err := writeTensors(w, list); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

func writeTensors(w io.Writer, list []tensor) error {
	type entry struct {
		Dtype   string   `json:"dtype"`
		Shape   []int    `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	var at, total int64
	for i := range list {
		t := &list[i]
		header[t.name] = entry{t.dtype, t.shape, [2]int64{total, total + t.bytes()}}
		total += t.bytes()
	}
	h, err := json.Marshal(header)
	if err != nil {
		return err
	}
	for len(h)%8 != 0 {
		h = append(h, ' ')
	}
	if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(h)))); err != nil {
		return err
	}
	if _, err := w.Write(h); err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	shown := int64(-1)
	for i := range list {
		t := &list[i]
		for n := t.bytes(); n > 0; {
			p := buf[:min(n, int64(len(buf)))]
			t.fill(p)
			if _, err := w.Write(p); err != nil {
				return err
			}
			n -= int64(len(p))
			at += int64(len(p))
		}
		if gb := at >> 30; gb != shown {
			shown = gb
			fmt.Fprintf(os.Stderr, "%d of %d GiB\n", gb, total>>30)
		}
	}
	return nil
}

// values make bytes cheaply: each kind is a pool of random values that is read round and round.
type values struct {
	codes, scales, weights, nested, ones *ring
}

type ring struct {
	pool []byte
	at   int
}

func (r *ring) fill(p []byte) {
	for len(p) > 0 {
		n := copy(p, r.pool[r.at:])
		p, r.at = p[n:], (r.at+n)%len(r.pool)
	}
}

func newValues(seed uint64) *values {
	r := rand.New(rand.NewPCG(seed, 20))
	pool := func(n int, f func(i int) byte) *ring {
		p := make([]byte, n)
		for i := range p {
			p[i] = f(i)
		}
		return &ring{pool: p}
	}
	bf16 := func(n int, f func() float64) *ring {
		p := make([]byte, 0, 2*n)
		for range n {
			p = binary.LittleEndian.AppendUint16(p, uint16(math.Float32bits(float32(f()))>>16))
		}
		return &ring{pool: p}
	}
	const odd = 1<<21 + 1 // not a multiple of any row, so that rows differ
	return &values{
		codes:   pool(odd, func(int) byte { return byte(r.Uint32()) }),
		scales:  pool(odd, func(int) byte { return byte(118 + r.IntN(3)) }), // weights of about 2^-7
		weights: bf16(odd, func() float64 { return r.NormFloat64() / 60 }),
		nested:  pool(odd, func(int) byte { return byte(100 + r.IntN(60)) }),
		ones:    bf16(64, func() float64 { return 1 }),
	}
}

func (v *values) model(s sizes, experts func(prefix string, s sizes) []tensor) []tensor {
	q, kv := s.heads*s.headDim, s.kvHeads*s.headDim
	w := func(name string, shape ...int) tensor { return tensor{name, "BF16", shape, v.weights.fill} }
	list := []tensor{
		w("model.embed_tokens.weight", s.vocab, s.hidden), w("lm_head.weight", s.vocab, s.hidden),
		{"model.norm.weight", "BF16", []int{s.hidden}, v.ones.fill},
	}
	for l := range s.layers {
		p := fmt.Sprintf("model.layers.%d.", l)
		list = append(list,
			tensor{p + "input_layernorm.weight", "BF16", []int{s.hidden}, v.ones.fill},
			tensor{p + "post_attention_layernorm.weight", "BF16", []int{s.hidden}, v.ones.fill},
			w(p+"self_attn.q_proj.weight", q, s.hidden), w(p+"self_attn.q_proj.bias", q),
			w(p+"self_attn.k_proj.weight", kv, s.hidden), w(p+"self_attn.k_proj.bias", kv),
			w(p+"self_attn.v_proj.weight", kv, s.hidden), w(p+"self_attn.v_proj.bias", kv),
			w(p+"self_attn.o_proj.weight", s.hidden, q), w(p+"self_attn.o_proj.bias", s.hidden),
			w(p+"self_attn.sinks", s.heads),
		)
		list = append(list, experts(p+"mlp.", s)...)
	}
	return list
}

func (v *values) mxfp4(p string, s sizes) []tensor {
	list := []tensor{
		{p + "router.weight", "BF16", []int{s.experts, s.hidden}, v.weights.fill}, {p + "router.bias", "BF16", []int{s.experts}, v.weights.fill},
	}
	for _, x := range projections(s) {
		name := p + "experts." + x.name
		list = append(list,
			tensor{name + "_blocks", "U8", []int{s.experts, x.out, x.in / 32, 16}, v.codes.fill},
			tensor{name + "_scales", "U8", []int{s.experts, x.out, x.in / 32}, v.scales.fill},
			tensor{name + "_bias", "BF16", []int{s.experts, x.out}, v.weights.fill},
		)
	}
	return list
}

type projection struct {
	name    string
	out, in int
}

func projections(s sizes) []projection {
	return []projection{{"gate_up_proj", 2 * s.inter, s.hidden}, {"down_proj", s.hidden, s.inter}}
}

// unsloth is one bitsandbytes tensor for each expert, double-quantised, with its six side tensors.
func (v *values) unsloth(p string, s sizes) []tensor {
	list := []tensor{
		{p + "router.linear.weight", "BF16", []int{s.experts, s.hidden}, v.weights.fill}, {p + "router.linear.bias", "BF16", []int{s.experts}, v.weights.fill},
	}
	for _, x := range projections(s) {
		for e := range s.experts {
			list = append(list, v.nf4(fmt.Sprintf("%sexperts.%ss.%d.", p, x.name, e), x.out, x.in)...)
		}
	}
	return list
}

func (v *values) nf4(p string, out, in int) []tensor {
	blocks := out * in / 64
	state, _ := json.Marshal(map[string]any{
		"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": []int{out, in},
		"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.02,
	})
	fixed := func(b []byte) filler { r := &ring{pool: b}; return r.fill }
	return []tensor{
		{p + "weight", "U8", []int{out * in / 2, 1}, v.codes.fill},
		{p + "weight.absmax", "U8", []int{blocks}, v.nested.fill},
		{p + "weight.nested_absmax", "F32", []int{(blocks + 255) / 256}, fixed(floats(0.01))},
		{p + "weight.quant_map", "F32", []int{16}, fixed(nf4Map())},
		{p + "weight.nested_quant_map", "F32", []int{256}, fixed(dynamicMap())},
		{p + "weight.quant_state.bitsandbytes__nf4", "U8", []int{len(state)}, fixed(state)},
		{p + "bias", "BF16", []int{out}, v.weights.fill},
	}
}

func floats(f ...float32) (b []byte) {
	for _, v := range f {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}
