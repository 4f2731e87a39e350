package cuda

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"hearth/internal/checkpoint"
	"hearth/internal/device"
	"hearth/internal/model"
	"hearth/internal/testgpu"
	"hearth/internal/testmodel"
)

// startSession opens a device on a driver that runs no kernel, loads a model and decodes: everything that calls the
// driver.
func startSession(d *driver, m *sim, c *checkpoint.Checkpoint, steps int) (err error) {
	dev, err := open(d, 0, Options{NoCache: true})
	if err != nil {
		return err
	}
	dev.c.memory.granule = 0
	m.c = dev.c
	defer func() { err = errors.Join(err, dev.Close()) }()
	p := model.Plan{Limits: device.Limits{MaxTokens: 32, MaxSeqs: 4, MaxLogits: 4, PageSize: 16, FullPages: 4, WindowPages: 4}}
	loaded, err := model.Load(c, dev, p, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, loaded.Close()) }()
	for i := range steps {
		b := &device.Batch{
			Tokens: []int32{1}, Positions: []int32{int32(i)}, Seqs: []device.Seq{{Count: 1, Full: []int32{0}, Window: []int32{0}}},
			Logits: []device.LogitRow{{Target: -1, Sample: &device.Sampling{}}},
		}
		if err := loaded.Step(b, make([]device.Output, 1)); err != nil {
			return err
		}
	}
	return nil
}

func openTiny(t testing.TB, folder string) *checkpoint.Checkpoint {
	t.Helper()
	c, err := checkpoint.Open(testmodel.Dir(t, folder))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Whichever call of the driver fails, and whenever: the error names it, nothing stays behind, and nothing waits.
func TestEveryCallMayFail(t *testing.T) {
	c := openTiny(t, "tiny-a/hf-mxfp4")
	m, d := newSim(testgpu.Config{})
	m.idle = true
	if err := startSession(d, m, c, 2); err != nil {
		t.Fatal(err)
	}
	if left := m.leaks(); len(left) > 0 {
		t.Fatalf("left behind: %v", left)
	}
	calls := m.calls
	names := 0
	for call, n := range calls {
		names++
		for _, at := range slices.Compact([]int{1, 2, 3, n / 2, n - 1, n}) {
			if at < 1 || at > n {
				continue
			}
			m, d := newSim(testgpu.Config{})
			m.idle = true
			m.failAfter(call, at, invalidValue)
			err := startSession(d, m, c, 2)
			// What only informs may fail unseen.
			if (err == nil || !strings.Contains(err.Error(), call)) && call != "cuMemGetInfo" && call != "cuDriverGetVersion" {
				t.Errorf("%s, call %d of %d: error %v", call, at, n, err)
			}
			// What could not be given back is missing (a graph with its executable), and everything of a context that cannot
			// be made current; all else is not.
			if left := m.leaks(); call != "cuCtxSetCurrent" && call != "cuGraphDestroy" && (len(left) > 1 || len(left) == 1 && !strings.Contains(call, "Free") && !strings.Contains(call, "Destroy") && !strings.Contains(call, "Unload")) {
				t.Errorf("%s, call %d of %d: left behind: %v", call, at, n, left)
			}
		}
	}
	if names < 20 {
		t.Errorf("only %d different calls were made", names)
	}
}

// After a sticky error the session answers at once, and closing it makes no call.
func TestLostDevice(t *testing.T) {
	c := openTiny(t, "tiny-a/hf-mxfp4")
	m, d := newSim(testgpu.Config{})
	m.idle = true
	if err := startSession(d, m, c, 2); err != nil {
		t.Fatal(err)
	}
	calls := m.calls
	for call, fromEnd := range map[string]int{"cuGraphLaunch": 0, "cuLaunchKernel": 0, "cuMemcpyDtoHAsync": 0, "cuMemAlloc": 0, "cuStreamQuery": 4, "cuCtxSetCurrent": 8} {
		m, d := newSim(testgpu.Config{})
		m.idle = true
		m.failAfter(call, calls[call]-fromEnd, launchFailed)
		if err := startSession(d, m, c, 2); !errors.Is(err, device.ErrLost) || !strings.Contains(err.Error(), call) {
			t.Errorf("%s: error %v", call, err)
		}
		if len(m.late) > 0 {
			t.Errorf("%s: calls after the loss: %v", call, m.late)
		}
	}
}

func TestUnsupportedShapes(t *testing.T) {
	sp := device.Spec{
		Layers: 1, Hidden: 64, Intermediate: 64, Heads: 2, KVHeads: 1, HeadDim: 64, Experts: 4, TopK: 2, Vocab: 100,
		Windows: []int{0}, InvFreq: make([]float32, 32),
	}
	lim := device.Limits{MaxTokens: 8, MaxSeqs: 2, MaxLogits: 2, PageSize: 16, FullPages: 2, WindowPages: 2}
	if _, err := newShape(sp, lim, 82); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*device.Spec, *device.Limits){
		"head size 128, want 64":                                     func(s *device.Spec, _ *device.Limits) { s.HeadDim = 128 },
		"hidden size 65, want a multiple of 64":                      func(s *device.Spec, _ *device.Limits) { s.Hidden = 65 },
		"intermediate size 32, want a multiple of 64":                func(s *device.Spec, _ *device.Limits) { s.Intermediate = 32 },
		"3 query heads for 2 KV heads, want a multiple":              func(s *device.Spec, _ *device.Limits) { s.Heads, s.KVHeads = 3, 2 },
		"9 query heads to a KV head, want 1 to 8, or 16":             func(s *device.Spec, _ *device.Limits) { s.Heads = 9 },
		"9 experts a token, want at most 8":                          func(s *device.Spec, _ *device.Limits) { s.TopK, s.Experts = 9, 10 },
		"257 experts, want at most 256":                              func(s *device.Spec, _ *device.Limits) { s.Experts = 257 },
		"pages of 8 positions, want a multiple of 16 (--block-size)": func(_ *device.Spec, l *device.Limits) { l.PageSize = 8 },
		"hidden size is 0: want 1 to 1073741824":                     func(s *device.Spec, _ *device.Limits) { s.Hidden = 0 },
		"pages is -1: want 1 to 1073741824":                          func(_ *device.Spec, l *device.Limits) { l.FullPages = -1 },
		"5 experts a token of only 4":                                func(s *device.Spec, _ *device.Limits) { s.TopK = 5 },
		"2 windows for 1 layers":                                     func(s *device.Spec, _ *device.Limits) { s.Windows = []int{0, 0} },
		"31 rotary frequencies for heads of 64":                      func(s *device.Spec, _ *device.Limits) { s.InvFreq = s.InvFreq[:31] },
	} {
		s, l := sp, lim
		change(&s, &l)
		_, err := newShape(s, l, 82)
		supported := !strings.Contains(want, "want") || strings.Contains(want, ": want")
		if err == nil || !strings.HasPrefix(err.Error(), want) || errors.Is(err, device.ErrNotSupported) == supported {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// Operations out of order, and steps without end or beginning, are errors of Finish.
func TestOrderOfOperations(t *testing.T) {
	_, c := simContext(t, testgpu.Config{})
	_, d := loadOn(t, &Device{c: c}, "tiny-square/hf-mxfp4")
	s := d.session
	b := &device.Batch{Tokens: []int32{1}, Positions: []int32{0}, Seqs: []device.Seq{{Count: 1, Full: []int32{0}, Window: []int32{0}}}}
	begin := func() {
		t.Helper()
		if err := s.Begin(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Finish(nil); err == nil || err.Error() != "Finish without Begin" {
		t.Errorf("error %v", err)
	}
	begin()
	if err := s.Begin(b); err == nil || !strings.Contains(err.Error(), "before the last one was finished") {
		t.Errorf("error %v", err)
	}
	s.Embed()
	s.QKV(1)
	if err := s.Finish(nil); err == nil || !strings.Contains(err.Error(), "operation QKV(1) is out of order, QKV(0) comes next") {
		t.Errorf("error %v", err)
	}
	begin()
	s.Embed()
	s.QKV(0)
	if err := s.Finish(nil); err != nil { // a part of a step may be run
		t.Errorf("error %v", err)
	}
	b.Logits = []device.LogitRow{{Target: -1}}
	begin()
	s.Embed()
	for l := range 3 {
		for _, op := range []func(int){s.QKV, s.Attend, s.AttnOut, s.Route, s.GateUp, s.Down} {
			op(l)
		}
	}
	s.Head()
	if err := s.Finish(nil); err == nil || err.Error() != "room for 0 outputs, the batch has 1 logit rows" {
		t.Errorf("error %v", err)
	}
	b.Tokens[0] = -1
	if err := s.Begin(b); err == nil || !strings.Contains(err.Error(), "batch token 0 is id -1") {
		t.Errorf("error %v", err)
	}
}

// The residual stream after every operation is the oracle's, on both paths: what localises a mistake.
func TestResidual(t *testing.T) {
	for name, c := range parityContexts(t) {
		t.Run(name, func(t *testing.T) { testResidual(t, c) })
	}
}

func testResidual(t *testing.T, c *context) {
	_, want := loadOn(t, cpuDevice(t), "tiny-a/hf-mxfp4")
	_, got := loadOn(t, &Device{c: c}, "tiny-a/hf-mxfp4")
	ids := prompts(t, "tiny-a", 48)[0]
	table := []int32{3, 1, 2}
	at := 0
	for _, n := range []int{21, 1, 1, 13} {
		b := &device.Batch{Tokens: ids[at : at+n], Seqs: []device.Seq{{Count: n, Full: table, Window: table}}}
		for i := range n {
			b.Positions = append(b.Positions, int32(at+i))
		}
		at += n
		compareResiduals(t, want.session, got.session, b, 3, 192)
	}
}

func compareResiduals(t *testing.T, want, got device.Session, b *device.Batch, layers, hidden int) {
	t.Helper()
	n := len(b.Tokens)
	x, y := make([]float32, n*hidden), make([]float32, n*hidden)
	for _, s := range []device.Session{want, got} {
		if err := s.Begin(b); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string) {
		t.Helper()
		want.Residual(x)
		got.Residual(y)
		var sum, diff float64
		for i := range x {
			sum, diff = sum+float64(x[i])*float64(x[i]), diff+math.Pow(float64(x[i])-float64(y[i]), 2)
		}
		t.Logf("%d tokens, %s: off by %.2g of the stream's size", n, what, math.Sqrt(diff/sum))
	}
	for _, s := range []device.Session{want, got} {
		s.Embed()
	}
	check("embedding")
	for l := range layers {
		for i, op := range []func(device.Session, int){
			device.Session.QKV, device.Session.Attend, device.Session.AttnOut, device.Session.Route, device.Session.GateUp, device.Session.Down,
		} {
			op(want, l)
			op(got, l)
			if i != opAttnOut || n == 1 { // which Route completes for several tokens
				check(fmt.Sprintf("layer %d after %s", l, opNames[i]))
			}
		}
	}
	for _, s := range []device.Session{want, got} {
		if err := s.Finish(nil); err != nil {
			t.Fatal(err)
		}
	}
}

// What StepBytes, LayerBytes and HeadBytes say is what a session takes, on a card that hands out granules; loading takes no
// more.
func TestSizes(t *testing.T) {
	_, c := simContext(t, testgpu.Config{})
	c.memory.granule = 2 << 20
	staging, copyIn := int64(0), c.d.copyIn
	c.d.copyIn = func(dst devptr, src []byte, stream uintptr) status {
		staging = max(staging, c.memory.taken[useStaging])
		return copyIn(dst, src, stream)
	}
	defer func() {
		if staging > 0 {
			t.Errorf("loading took %d bytes more", staging)
		}
	}()
	for _, o := range []Options{{}, {Int8KV: true, Int8Dense: true}} {
		d := &Device{c: c, options: o}
		for _, folder := range []string{"tiny-a/hf-mxfp4", "tiny-a/unsloth-nf4-dq", "tiny-a/gguf-q8_0", "tiny-a/hf-bf16"} {
			cp := openTiny(t, folder)
			lim := device.Limits{MaxTokens: 600, MaxSeqs: 3, MaxLogits: 5, PageSize: 16, FullPages: 400, WindowPages: 9, MaxBlocks: 100}
			planned := lim
			planned.FullPages, planned.WindowPages = 0, 0
			need, err := model.NewFootprint(cp, d, planned)
			if err != nil {
				t.Fatal(err)
			}
			m, err := model.Load(cp, d, model.Plan{Limits: lim}, nil)
			if err != nil {
				t.Fatal(err)
			}
			mem := m.Memory()
			full, window := model.KVPerToken(cp.Config(), d.Info().KVFormat)
			if kv := full*400*16 + window*9*16; mem.KV < kv || mem.KV > kv+4<<20 {
				t.Errorf("%s %+v: %d bytes of KV, planned %d", folder, o, mem.KV, kv)
			}
			fixed := need.Bytes()
			if took := mem.Weights + mem.Activation; took > fixed || fixed-took > int64(cp.Config().Layers+4)*c.memory.granule { // each part rounds up
				t.Errorf("%s %+v: %d bytes, planned %d", folder, o, took, fixed)
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// The driver's own count agrees with the books: nothing is taken that was not planned, but for compiled kernels and graphs.
func TestDriverCount(t *testing.T) {
	for name, c := range parityContexts(t) {
		t.Run(name, func(t *testing.T) {
			c.memory.granule = granule
			defer func() { c.memory.granule = 0 }()
			extra := int64(64 << 20)
			if name == "sim" {
				extra = 4 << 20 // its page-locked memory
			}
			free := func() int64 { n, _, _ := c.d.memoryInfo(); return n }
			d := &Device{c: c}
			c.enter()
			defer c.leave()
			start := free()
			cp := openTiny(t, "tiny-a/hf-mxfp4")
			lim := device.Limits{MaxTokens: 64, MaxSeqs: 2, MaxLogits: 2, PageSize: 16, FullPages: 40, WindowPages: 9}
			need, err := model.NewFootprint(cp, d, lim)
			if err != nil {
				t.Fatal(err)
			}
			m, err := model.Load(cp, d, model.Plan{Limits: lim}, nil)
			if err != nil {
				t.Fatal(err)
			}
			table := []int32{4, 2}
			for at, n := range []int{1, 1, 7} {
				b := &device.Batch{Seqs: []device.Seq{{Count: n, Full: table, Window: table}}, Logits: []device.LogitRow{{Row: n - 1, Target: -1, Sample: &device.Sampling{}}}}
				for i := range n {
					b.Tokens, b.Positions = append(b.Tokens, 7), append(b.Positions, int32(at+i))
				}
				if err := m.Step(b, make([]device.Output, 1)); err != nil {
					t.Fatal(err)
				}
			}
			full, window := model.KVPerToken(cp.Config(), d.Info().KVFormat)
			held, taken, planned := m.Memory(), start-free(), need.Bytes()+full*40*16+window*9*16
			t.Logf("planned %d, allocated %d, taken %d, %d of the card before", planned, held.Weights+held.KV+held.Activation, taken, d.Info().Memory-start)
			if taken < held.Weights+held.KV+held.Activation || taken > planned+granule+extra {
				t.Errorf("the driver counts %d bytes, planned %d, allocated %+v", taken, planned, held)
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
			if left := start - free(); left > extra {
				t.Errorf("%d bytes stay taken", left)
			}
		})
	}
}
