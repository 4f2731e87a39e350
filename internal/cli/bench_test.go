package cli

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hearth/internal/cuda"
	"hearth/internal/device"
	"hearth/internal/dtype"
	"hearth/internal/model"
)

var rewriteBench = flag.Bool("rewrite-bench", false, "write testdata/bench.json anew")

// The JSON of bench, with what a machine measures replaced by its type. What follows from the model alone stays: bytes,
// operations, sizes.
func TestBenchJSON(t *testing.T) {
	var out, log bytes.Buffer
	args := []string{"bench", "--shape", "tiny", "--batch", "1,3", "--context", "0,200", "--prompt", "70", "--tokens", "2", "--repeat", "2", "--limits", "1us", "--device", "cpu", "--json"}
	if status := Main(t.Context(), args, Streams{Out: &out, Err: &log}); status != 0 {
		t.Fatalf("exit status %d: %s", status, &log)
	}
	var got any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(structure("", got), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "bench.json")
	if *rewriteBench {
		if err := os.WriteFile(golden, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.TrimSpace(string(want)), string(b)); d != "" {
		t.Errorf("JSON differs (-rewrite-bench accepts it):\n%s", d)
	}
}

// structure replaces measured values by the names of their types.
func structure(key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = structure(k, v[k])
		}
	case []any:
		for i := range v {
			v[i] = structure("", v[i])
		}
	case float64:
		for _, measured := range []string{"_per_second", "_ms", "_share_", "_seconds"} {
			if strings.Contains(key, measured) {
				return "number"
			}
		}
	case string:
		if key == "detail" || key == "version" {
			return "text"
		}
	}
	return v
}

// The published model costs what spec/performance.md 0 counts by hand.
func TestBenchCost(t *testing.T) {
	m, err := newMade("gpt-oss-20b", "mxfp4", 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	m = m.outlined()
	r, err := model.StoredReads(m)
	if err != nil {
		t.Fatal(err)
	}
	r.Key = 2 * 8 * 64 * 2 // BF16
	c := &cost{r, &m.config}
	for _, x := range []struct {
		name      string
		got, want float64
		tolerance float64
	}{
		{"one stream, GB a token", c.decodeBytes(1, 0) / 1e9, 3.70, 0.005},
		{"tokens/s at 936 GB/s", 936e9 / c.decodeBytes(1, 0), 253, 0.005},
		{"batch 8", 8 * 936e9 / c.decodeBytes(8, 0), 823, 0.01},
		{"batch 32", 32 * 936e9 / c.decodeBytes(32, 0), 2407, 0.01},
		{"batch 128", 128 * 936e9 / c.decodeBytes(128, 0), 9520, 0.01},
		{"context 4,096", 936e9 / c.decodeBytes(1, 4096), 246, 0.005},
		{"context 131,071", 936e9 / c.decodeBytes(1, 131071), 135, 0.01},
		{"experts of 32 that 8 tokens choose", 32 * c.share(8), 21.0, 0.005},
		{"GFLOP a prompt token", c.rowFlops() / 1e9, 6.05, 0.002},
		{"all weights and the embedding, GB", float64(m.bytes()+2*int64(m.config.Vocab*m.config.Hidden)) / 1e9, 13.76, 0.01},
	} {
		if math.Abs(x.got/x.want-1) > x.tolerance {
			t.Errorf("%s: %.4g, want %.4g", x.name, x.got, x.want)
		}
	}
	if got, want := c.prefillFlops(3), 3*c.rowFlops()+4*64*64*24*(1+2+3)+2*201088*2880; got != want {
		t.Errorf("a prompt of 3 tokens computes %v operations, want %v", got, want)
	}
	if got, want := c.prefillBytes(5, 4), math.Round(c.weights(4)+c.weights(1)+float64(c.Head)+(4+5)*24*float64(c.Key)); got != want {
		t.Errorf("a prompt of 5 tokens reads %v bytes in steps of 4, want %v", got, want)
	}
}

// What is made up is sound, takes the memory that was announced, and no two tensors are the same memory or content.
func TestMade(t *testing.T) {
	for format := range benchFormats() {
		m, err := newMade("tiny", format, 0, 7)
		if err != nil {
			t.Fatal(err)
		}
		planned := m.bytes()
		there := 4 * m.config.Hidden // bytes, beginning with the final norm
		var planes []dtype.Plane
		for l := range m.config.Layers {
			x, err := m.Layer(l)
			if err != nil {
				t.Fatal(err)
			}
			planes = slices.Concat(planes, []dtype.Plane{x.Q.Weight, x.K.Weight, x.V.Weight, x.O.Weight, x.Router.Weight}, x.GateUp.Weight.Even, x.Down.Weight.Even)
			for _, v := range [][]float32{x.AttnNorm, x.MLPNorm, x.Sinks, x.Q.Bias, x.K.Bias, x.V.Bias, x.O.Bias, x.Router.Bias, x.GateUp.Bias, x.Down.Bias} {
				there += 4 * len(v)
			}
		}
		head, _ := m.Head()
		planes = append(planes, head)
		for _, p := range planes {
			there += len(p.Data) + len(p.Scales)
			if q := p.Quant; q != nil {
				there += len(q.Absmax) + len(q.Codes) + len(q.Nested)
			}
		}
		if int64(there) != planned {
			t.Errorf("%s: %d bytes were announced, %d are there", format, planned, there)
		}
		seen := map[string]bool{}
		for i := range planes {
			p := &planes[i]
			if err := p.Check(); err != nil {
				t.Fatalf("%s: plane %d: %v", format, i, err)
			}
			row := make([]float32, p.Cols)
			sum := 0.0
			for r := range p.Rows {
				p.DecodeRows(row, r, 1)
				for _, v := range row {
					sum += float64(v) * float64(v)
				}
			}
			if rms := math.Sqrt(sum / float64(p.Rows*p.Cols)); !(rms > 0.003/1024 && rms < 0.1) {
				t.Errorf("%s: plane %d has a root mean square of %v", format, i, rms)
			}
			if seen[string(p.Data[:64])] {
				t.Errorf("%s: plane %d begins as another one", format, i)
			}
			seen[string(p.Data[:64])] = true
		}
	}
}

// For a device that makes up large weights itself, those have no content; all else is as on the host.
func TestMadeThere(t *testing.T) {
	for format := range benchFormats() {
		m, err := newMade("tiny", format, 0, 7)
		if err != nil {
			t.Fatal(err)
		}
		there := madeThere{m.outlined()}
		here, err := m.Layer(0)
		if err != nil {
			t.Fatal(err)
		}
		x, err := there.Layer(0)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range []dtype.Plane{x.Q.Weight, x.O.Weight, x.GateUp.Weight.Even[3], x.Down.Weight.Even[0]} {
			q := []dtype.Plane{here.Q.Weight, here.O.Weight, here.GateUp.Weight.Even[3], here.Down.Weight.Even[0]}[i]
			if !p.Outline() || q.Outline() || p.Format != q.Format || p.Bytes() != q.Bytes() {
				t.Errorf("%s: plane %d is %v with %d bytes of data, here %v", format, i, p.Format, len(p.Data), q.Format)
			}
		}
		embedding, err := there.Embedding()
		if err != nil || embedding.Check() != nil || x.Router.Weight.Check() != nil || len(x.GateUp.Bias) != len(here.GateUp.Bias) || x.GateUp.Bias[5] == 0 {
			t.Errorf("%s: %v, embedding %v, router %v", format, err, embedding.Check(), x.Router.Weight.Check())
		}
		if into, back := there.Pools(); len(into.Codes) != 1<<21 || len(back.Values) != 1<<19 {
			t.Errorf("pools of %d codes and %d values", len(into.Codes), len(back.Values))
		}
	}
}

// Sequences share no page, and no two positions that one step can see share one.
func TestBenchPages(t *testing.T) {
	m, err := newMade("tiny", "mxfp4", 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	work := &benchWork{batches: sizes{1, 3}, contexts: sizes{0, 15, 500}, prompts: sizes{1, 333}, tokens: 40, repeat: 1, chunk: 100}
	work.choose(&m.config, dtype.F32, 0)
	limits := work.room(&m.config)
	spec, err := model.NewSpec(&m.config)
	if err != nil {
		t.Fatal(err)
	}
	run := newBenchRun(nil, &m.config, limits)
	check := func(b *model.Batch) {
		t.Helper()
		if err := b.Check(&spec, &limits); err != nil {
			t.Fatal(err)
		}
		full, window := map[int32]bool{}, map[int32]bool{}
		for _, s := range b.Seqs {
			end := int(b.Positions[s.First]) + s.Count
			oldest := max(0, int(b.Positions[s.First])-127)
			for block := range (end + limits.PageSize - 1) / limits.PageSize {
				if p := s.Full[block]; full[p] {
					t.Fatalf("full page %d twice", p)
				}
				full[s.Full[block]] = true
				p := s.Window[block]
				if p < 0 && (block+1)*limits.PageSize > oldest {
					t.Fatalf("block %d of a step from position %d has no window page", block, b.Positions[s.First])
				}
				if p >= 0 && window[p] {
					t.Fatalf("window page %d twice", p)
				}
				window[p] = p >= 0
			}
		}
	}
	for _, at := range work.contexts {
		end := at + warmSteps + work.tokens
		for p := at; p < end; p++ {
			check(run.batch(3, p, 1, end, true))
		}
	}
	for first := 0; first < 333; first += work.chunk {
		check(run.batch(1, first, min(work.chunk, 333-first), 333, false))
	}
}

// Room that is not there is refused before anything is made.
func TestBenchFits(t *testing.T) {
	m, err := newMade("gpt-oss-20b", "bf16", 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	f := &benchFlags{shape: "gpt-oss-20b", format: "bf16"}
	err = f.fits(m, fakeMemory{12 << 30}, 1<<30)
	if err == nil || !strings.Contains(err.Error(), "use --layers 6, a smaller --batch") {
		t.Errorf("%v", err)
	}
	if err := f.fits(m, fakeMemory{80 << 30}, 1<<30); err != nil {
		t.Errorf("%v", err)
	}
}

// Defaults that do not fit are left out; what the user asked for is not.
func TestBenchTrims(t *testing.T) {
	m, err := newMade("gpt-oss-20b", "mxfp4", 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		free int64
		want []benchPoint
	}{
		{80 << 30, nil},
		{24 << 30, []benchPoint{{128, 4096}}},
		{16 << 30, []benchPoint{{32, 4096}, {128, 4096}}},
	} {
		work := benchWork{}
		work.fillDefaults("cuda")
		p, err := cuda.OnPaper(cuda.Card{Name: "card", Major: 8, Minor: 6, SMs: 82, Memory: x.free}, 0, cuda.Options{})
		if err != nil {
			t.Fatal(err)
		}
		info := p.Info()
		f := &benchFlags{work: work}
		budget, err := f.budget(m, &info, p)
		if err != nil {
			t.Fatal(err)
		}
		out := work.choose(&m.config, dtype.BF16, budget)
		if d := cmp.Diff(x.want, out, cmp.AllowUnexported(benchPoint{})); d != "" {
			t.Errorf("%d GiB free:\n%s", x.free>>30, d)
		}
		if len(out)+len(work.points) != 8 {
			t.Errorf("%d left out and %d kept", len(out), len(work.points))
		}
	}
	work := benchWork{batches: sizes{128}, contexts: sizes{4096}}
	work.fillDefaults("cuda")
	if out := work.choose(&m.config, dtype.BF16, 1); out != nil {
		t.Errorf("%v was asked for and left out", out)
	}
}

type fakeMemory struct{ free int64 }

func (m fakeMemory) Info() device.Info { return device.Info{Kind: "cpu", Free: m.free} }
func (m fakeMemory) NewSession(device.Spec, device.Limits) (device.Session, error) {
	return nil, device.ErrNotSupported
}
