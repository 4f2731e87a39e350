package convert

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"hearth/internal/dtype"
	"hearth/internal/testmodel"
)

// bigModel writes a model whose matrices are large enough to be read and written past the page cache, and longer than
// a piece: experts in BF16, one tensor for each. The fixtures' are smaller.
func bigModel(t testing.TB) string {
	t.Helper()
	const layers, size, experts, vocab = 1, 1024, 2, 640
	shapes := map[string][]int{"lm_head.weight": {vocab, size}, "model.embed_tokens.weight": {vocab, size}, "model.norm.weight": {size}}
	for n := range layers {
		p := fmt.Sprintf("model.layers.%d.", n)
		maps.Copy(shapes, map[string][]int{
			p + "input_layernorm.weight": {size}, p + "post_attention_layernorm.weight": {size}, p + "self_attn.sinks": {4},
			p + "mlp.router.weight": {experts, size}, p + "mlp.router.bias": {experts},
		})
		for name, rows := range map[string]int{"q_proj": 256, "k_proj": 128, "v_proj": 128} {
			shapes[p+"self_attn."+name+".weight"], shapes[p+"self_attn."+name+".bias"] = []int{rows, size}, []int{rows}
		}
		shapes[p+"self_attn.o_proj.weight"], shapes[p+"self_attn.o_proj.bias"] = []int{size, 256}, []int{size}
		for e := range experts {
			for name, rows := range map[string]int{"gate_up_projs": 2 * size, "down_projs": size} {
				stem := fmt.Sprintf("%smlp.experts.%s.%d.", p, name, e)
				shapes[stem+"weight"], shapes[stem+"bias"] = []int{rows, size}, []int{rows}
			}
		}
	}
	var list []*Tensor
	b := &builder{plan: &Plan{}}
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		list = append(list, b.floatTensor(name, dtype.BF16, "", shapes[name]...))
	}
	f := safetensors("model.safetensors", 0, list)
	whole := append(f.header, make([]byte, f.size-int64(len(f.header)))...)
	random := rand.New(rand.NewPCG(1, 2))
	v := make([]float32, (len(whole)-len(f.header))/2)
	for i := range v {
		v[i] = float32(random.NormFloat64()) * 0.05
	}
	dtype.EncodeBF16(whole[len(f.header):], v)

	raw, err := os.ReadFile(filepath.Join(testmodel.Dir(t, "tiny-a/per-expert-bf16"), "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	maps.Copy(config, map[string]any{
		"num_hidden_layers": layers, "hidden_size": size, "intermediate_size": size, "num_local_experts": experts, "vocab_size": vocab,
		"layer_types": []string{"sliding_attention"}, "experts_per_token": 2, "num_experts_per_tok": 2,
	})
	dir := t.TempDir()
	for name, data := range map[string][]byte{"model.safetensors": whole, "config.json": indented(config)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The round trips of the fixtures, in pieces and past the page cache.
func TestBigRoundTrips(t *testing.T) {
	if testmodel.Race {
		t.Skip("the race detector is on: TestRoundTrips runs a round trip, TestShrunkSource this model")
	}
	start := bigModel(t)
	tokenizer := filepath.Join(testmodel.Dir(t, "tiny-a/hf-mxfp4"), "tokenizer.json")
	for _, x := range []struct {
		begin Options
		via   []Options
	}{
		{Options{To: HFMXFP4}, []Options{{To: OpenAI}, {To: GGUF, Tokenizer: tokenizer}, {To: HFMXFP4}}},
		{Options{To: UnslothBNB, Experts: NF4DQ}, []Options{{To: FusedNF4, KeepNested: true}, {To: UnslothBNB}}},
		{Options{To: UnslothBNB, Experts: NF4}, []Options{{To: FusedNF4}, {To: UnslothBNB}}},
		{Options{To: UnslothBNB, Experts: BF16}, []Options{{To: HFBF16}, {To: GGUF, Tokenizer: tokenizer}, {To: UnslothBNB, Experts: BF16}}},
	} {
		first := convert(t, convert(t, start, x.begin), x.begin) // again: quantising leaves room in the quant state
		at := first
		for _, o := range x.via {
			o.RequireExact = true
			at = convert(t, at, o)
		}
		sameTensors(t, readTensors(t, at), readTensors(t, first))
	}
}
