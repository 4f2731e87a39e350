package cuda

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"hearth/internal/checkpoint"
	"hearth/internal/cpu"
	"hearth/internal/device"
	"hearth/internal/model"
	"hearth/internal/testgpu"
	"hearth/internal/testmodel"
)

// tap keeps the session that a model makes.
type tap struct {
	device.Device
	session device.Session
}

func (d *tap) NewSession(s device.Spec, l device.Limits) (device.Session, error) {
	n, err := d.Device.NewSession(s, l)
	d.session = n
	return n, err
}

const (
	parityPages = 24 // of each kind: enough for the schedules below
	parityTop   = 640
)

// loadOn loads a tiny model on a device. The context is small, so that the interpreter has little to copy.
func loadOn(t testing.TB, d device.Device, folder string) (*model.Model, *tap) {
	t.Helper()
	c, err := checkpoint.Open(testmodel.Dir(t, folder))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	p := model.Plan{Limits: device.Limits{
		MaxTokens: 64, MaxSeqs: 4, MaxLogits: 64, PageSize: 16, FullPages: parityPages, WindowPages: parityPages,
	}}
	d0 := &tap{Device: d}
	m, err := model.Load(c, d0, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m, d0
}

// prompts are the fixtures' own: no router decision in them is a near tie.
func prompts(t testing.TB, kind string, most int) [][]int32 {
	t.Helper()
	var e struct {
		Prompts []struct {
			Name string
			IDs  []int32
		}
	}
	if err := json.Unmarshal(testmodel.Expected(t, kind+"/mxfp4.json"), &e); err != nil {
		t.Fatal(err)
	}
	var all [][]int32
	for _, p := range e.Prompts {
		if n := len(p.IDs); n > 1 && n <= most {
			all = append(all, p.IDs)
		}
	}
	if len(all) < 2 {
		t.Fatalf("%s: %d prompts of at most %d tokens", kind, len(all), most)
	}
	return all
}

// schedule cuts prompts into steps at random: chunks and single tokens of several sequences in one batch, and steps of one
// token alone. Pages are handed out in no order; those behind the window are taken back, as the engine does.
func schedule(r *rand.Rand, ids [][]int32, window int) []*device.Batch {
	at := make([]int, len(ids))
	pages := [2][]int32{}
	for k := range pages {
		for _, p := range r.Perm(parityPages) {
			pages[k] = append(pages[k], int32(p))
		}
	}
	var full, win [4][]int32
	var all []*device.Batch
	for {
		b := &device.Batch{}
		room := 64
		alone := r.IntN(4) == 0 // one token of one sequence
		for _, i := range r.Perm(len(ids)) {
			n := min([]int{0, 1, 1, 1 + r.IntN(5), 1 + r.IntN(33)}[r.IntN(5)], len(ids[i])-at[i], room)
			if alone {
				n = min(1, len(ids[i])-at[i])
			}
			if n == 0 {
				continue
			}
			for len(full[i])*16 < at[i]+n {
				full[i], pages[0] = append(full[i], pages[0][0]), pages[0][1:]
				win[i], pages[1] = append(win[i], pages[1][0]), pages[1][1:]
			}
			for k, p := range win[i] {
				if p >= 0 && (k+1)*16 <= at[i]-window+1 {
					pages[1], win[i][k] = append(pages[1], p), -1
				}
			}
			b.Seqs = append(b.Seqs, device.Seq{First: len(b.Tokens), Count: n, Full: slices.Clone(full[i]), Window: slices.Clone(win[i])})
			for range n {
				b.Logits = append(b.Logits, device.LogitRow{Row: len(b.Tokens), Target: -1})
				b.Tokens, b.Positions = append(b.Tokens, ids[i][at[i]]), append(b.Positions, int32(at[i]))
				at[i]++
			}
			room -= n
			if alone {
				break
			}
		}
		if len(b.Tokens) > 0 {
			all = append(all, b)
		}
		left := 0
		for i := range ids {
			left += len(ids[i]) - at[i]
		}
		if left == 0 {
			return all
		}
	}
}

// distributions runs the batches and returns each row's log-probabilities, by id. A GPU's logits are read where they lie,
// which spares the interpreter sorting them.
func distributions(t testing.TB, m *model.Model, d *tap, batches []*device.Batch) (all [][]float64) {
	t.Helper()
	gpu, direct := d.session.(*session)
	for i, b := range batches {
		asked := *b
		asked.Logits = slices.Clone(b.Logits)
		for j := range asked.Logits {
			asked.Logits[j].Top = parityTop
			if direct {
				asked.Logits[j].Top = 1
			}
		}
		out := make([]device.Output, len(b.Logits))
		if err := m.Step(&asked, out); err != nil {
			t.Fatalf("step %d of %d tokens: %v", i, len(b.Tokens), err)
		}
		logits := make([]float32, len(out)*parityTop)
		if direct {
			q := gpu.c.queue
			q.download(bytesOf(logits), gpu.act.logits)
			if err := q.sync(); err != nil {
				t.Fatal(err)
			}
		}
		for j := range out {
			if out[j].Err != nil {
				t.Fatalf("step %d row %d: %v", i, j, out[j].Err)
			}
			row := logits[j*parityTop : (j+1)*parityTop]
			if !direct {
				for _, x := range out[j].Top {
					row[x.ID] = x.LogProb
				}
			}
			lp := logSoftmax(widened(row))
			if best := out[j].Top[0]; math.Abs(lp[best.ID]-float64(best.LogProb)) > 1e-4 || lp[best.ID] != slices.Max(lp) {
				t.Fatalf("step %d row %d: %+v is not the likeliest, or not by as much: %v", i, j, best, slices.Max(lp))
			}
			all = append(all, lp)
		}
	}
	return all
}

// distance tells how far distributions are apart. The error of a row is the mean, over all ids, of the difference of
// log-probabilities.
type distance struct {
	median, tenth float64 // error of the row in the middle, and of the row that a tenth of the rows exceed
	worst         float64 // greatest KL divergence of a row, nats
}

func (d distance) String() string {
	return fmt.Sprintf("error %.2g in the median row, %.2g in the tenth worst of a hundred, KL %.2g at most", d.median, d.tenth, d.worst)
}

func compare(want, got [][]float64) (d distance) {
	var errs []float64
	for i := range want {
		sum, kl := 0.0, 0.0
		for id, w := range want[i] {
			sum += math.Abs(w - got[i][id])
			kl += math.Exp(w) * (w - got[i][id])
		}
		errs = append(errs, sum/float64(len(want[i])))
		d.worst = max(d.worst, kl) // a NaN stays
	}
	slices.Sort(errs)
	if math.IsNaN(errs[0]) { // they come first
		return distance{math.Inf(1), math.Inf(1), math.Inf(1)}
	}
	d.median, d.tenth = errs[len(errs)/2], errs[len(errs)*9/10]
	return d
}

// Activations, queries, keys, values and probabilities are rounded to BF16 before products. How far this moves the tiny
// models is measured, not guessed: by the float64 reference with the same roundings (about 0.015 in the median row). A
// router decision that it tips moves a single row by up to 0.16 nats; a wrong key, weight or place moves one by several.
const (
	parityShare = 1.4 // of the reference's error, in the median and the tenth
	parityWorst = 0.4 // nats
)

// roundingError is what BF16 explains.
func roundingError(t testing.TB, kind string, ids [][]int32) distance {
	t.Helper()
	r := newReference(t, openTiny(t, kind+"/hf-mxfp4"))
	var exact, rounded [][]float64
	for _, p := range ids {
		exact, rounded = append(exact, r.run(p, false)...), append(rounded, r.run(p, true)...)
	}
	return compare(exact, rounded)
}

// parityFolders has every layout and format once.
func parityFolders() []string {
	return []string{
		"tiny-a/hf-mxfp4", "tiny-a/openai-original", "tiny-a/hf-bf16", "tiny-a/per-expert-split-bf16", "tiny-a/gguf-bf16", "tiny-a/gguf-ollama-v0.11.1",
		"tiny-a/gguf-ollama-v0.12.6", "tiny-a/gguf-q8_0", "tiny-a/unsloth-nf4-dq", "tiny-a/unsloth-nf4-dq-attn", "tiny-a/unsloth-nf4",
		"tiny-a/unsloth-fp4-dq", "tiny-a/fused-nf4", "tiny-a/fused-nf4-dq",
		"tiny-square/hf-mxfp4", "tiny-square/hf-bf16", "tiny-square/unsloth-nf4-dq", "tiny-square/fused-nf4",
	}
}

func cpuDevice(t testing.TB) device.Device {
	t.Helper()
	d, err := cpu.New(cpu.Options{Level: "portable"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The whole model, in every format, gives the CPU oracle's distributions as closely as BF16 allows: several sequences,
// chunks and single tokens in one batch, windows and page borders, graphs replayed. The interpreter reads whole prompts
// in a few formats, and a few tokens in the others.
func TestParity(t *testing.T) {
	whole := map[string]bool{"tiny-a/hf-mxfp4": true}
	limits := map[string]distance{}
	for name, c := range parityContexts(t) {
		for i, folder := range parityFolders() {
			t.Run(name+"/"+folder, func(t *testing.T) {
				kind, _, _ := strings.Cut(folder, "/")
				ids := prompts(t, kind, 48)[:2]
				limit, ok := limits[kind]
				if !ok {
					limit = roundingError(t, kind, ids)
					limits[kind] = limit
					t.Logf("BF16 explains: %v", limit)
				}
				if name == "sim" && !whole[folder] {
					ids = [][]int32{ids[0][:12], ids[1][:3]}
				}
				batches := schedule(rand.New(rand.NewPCG(uint64(i), 1)), ids, 16)
				want, host := loadOn(t, cpuDevice(t), folder)
				got, card := loadOn(t, &Device{c: c}, folder)
				d := compare(distributions(t, want, host, batches), distributions(t, got, card, batches))
				t.Logf("%d steps: %v", len(batches), d)
				share := parityShare
				if len(ids[0]) < 20 { // few rows spread more
					share = 2
				}
				if d.median > share*limit.median || d.tenth > share*limit.tenth || d.worst > parityWorst {
					t.Errorf("%v; BF16 explains %v", d, limit)
				}
			})
		}
	}
}

// parityContexts is testContexts with a smaller interpreted card, whose launches have fewer blocks.
func parityContexts(t testing.TB) map[string]*context {
	all := testContexts(t)
	_, all["sim"] = simContext(t, testgpu.Config{SMs: 6})
	return all
}

// A decode step that is replayed from its graph gives the bits of one that is enqueued kernel by kernel.
func TestReplayEqualsEager(t *testing.T) {
	ids := prompts(t, "tiny-square", 48)[:2]
	var batches []*device.Batch
	for step := range 8 { // a chunk of each, three tokens of both, four of the first alone
		b := &device.Batch{}
		for i := range ids {
			first, n := step+14, 1
			if step == 0 {
				first, n = 0, 15
			}
			if i == 1 && step > 3 {
				continue
			}
			table := []int32{int32(i), int32(i + 2)}
			b.Seqs = append(b.Seqs, device.Seq{First: len(b.Tokens), Count: n, Full: table, Window: table})
			for j := first; j < first+n; j++ {
				b.Tokens, b.Positions = append(b.Tokens, ids[i][j]), append(b.Positions, int32(j))
			}
			b.Logits = append(b.Logits, device.LogitRow{Row: len(b.Tokens) - 1, Target: -1})
		}
		batches = append(batches, b)
	}
	var runs [2][][]float64
	for i, o := range []Options{{}, {NoGraphs: true}} {
		m, c := simContext(t, testgpu.Config{SMs: 6})
		got, card := loadOn(t, &Device{c: c, options: o}, "tiny-square/hf-mxfp4")
		runs[i] = distributions(t, got, card, batches)
		if want := 7 * (1 - i); m.calls["cuGraphLaunch"] != want || len(m.execs) != min(want, 2) {
			t.Errorf("%+v: %d replays of %d graphs", o, m.calls["cuGraphLaunch"], len(m.execs))
		}
	}
	for i := range runs[0] {
		if !slices.Equal(runs[0][i], runs[1][i]) {
			t.Fatalf("row %d differs: %v", i, compare(runs[0][i:i+1], runs[1][i:i+1]))
		}
	}
}

// The lossy options cost what 8 bits cost, and say so: a code's error of 1/254 of the greatest of its block is about
// seven times BF16's, of some of the roundings.
func TestLossyOptions(t *testing.T) {
	ids := prompts(t, "tiny-square", 48)[:2]
	ids = [][]int32{ids[0][:14], ids[1][:6]}
	batches := schedule(rand.New(rand.NewPCG(3, 1)), ids, 16)
	want, host := loadOn(t, cpuDevice(t), "tiny-square/hf-mxfp4")
	exact := distributions(t, want, host, batches)
	limit := roundingError(t, "tiny-square", ids)
	for name, c := range parityContexts(t) {
		for note, o := range map[string]Options{
			"keys and values: rounded to int8, with a scale for each token and head": {Int8KV: true},
			"attention: BF16 quantised to 8 bits in blocks of 32":                    {Int8Dense: true},
		} {
			m, card := loadOn(t, &Device{c: c, options: o}, "tiny-square/hf-mxfp4")
			d := compare(exact, distributions(t, m, card, batches))
			t.Logf("%s, %s: %v", name, note, d)
			if d.median > 4*limit.median || d.median < 1.15*limit.median || d.worst > parityWorst {
				t.Errorf("%s, %s: %v; BF16 explains %v", name, note, d, limit)
			}
			if !slices.Contains(m.Notes(), note) {
				t.Errorf("notes %q", m.Notes())
			}
		}
	}
}
