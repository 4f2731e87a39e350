package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hearth/internal/checkpoint"
	"hearth/internal/cpu"
	"hearth/internal/cuda"
	"hearth/internal/device"
	"hearth/internal/dtype"
	"hearth/internal/testmodel"
)

// fakeGPU computes on the CPU and says that it is a GPU.
type fakeGPU struct {
	device.Device
	memory, free int64
	options      cuda.Options
	steps        *atomic.Int64 // that its sessions have left before it is lost; nil: never
	closed       *atomic.Int64
}

// fakeGPUs opens one with so much memory. closed counts how often it was given back.
func fakeGPUs(memory int64, steps *atomic.Int64) (open openGPU, closed *atomic.Int64) {
	closed = &atomic.Int64{}
	return func(ordinal int, o cuda.Options) (gpu, error) {
		if ordinal > 0 {
			return nil, fmt.Errorf("there is no GPU %d: this machine has 1, counted from 0", ordinal)
		}
		d, err := cpu.New(cpu.Options{Level: "portable"})
		if err != nil {
			return nil, err
		}
		return &fakeGPU{d, memory, memory - 1<<28, o, steps, closed}, nil
	}, closed
}

func (g *fakeGPU) Info() device.Info {
	return device.Info{Name: "Fake RTX", Kind: "cuda", Detail: "of a test", Memory: g.memory, Free: g.free, KVFormat: dtype.BF16}
}
func (g *fakeGPU) LayerBytes(*device.Layer) (int64, error)             { return 1 << 20, nil }
func (g *fakeGPU) HeadBytes(dtype.Plane) (int64, error)                { return 2 << 20, nil }
func (g *fakeGPU) StepBytes(device.Spec, device.Limits) (int64, error) { return 3 << 20, nil }
func (g *fakeGPU) Close() error                                        { g.closed.Add(1); return nil }
func (g *fakeGPU) NewSession(s device.Spec, l device.Limits) (device.Session, error) {
	x, err := g.Device.NewSession(s, l)
	if err != nil || g.steps == nil {
		return x, err
	}
	return &mortal{x, g.steps}, nil
}

// mortal is a session whose device is lost after some steps.
type mortal struct {
	device.Session
	left *atomic.Int64
}

func (m *mortal) Finish(out []device.Output) error {
	if m.left.Add(-1) < 0 {
		return fmt.Errorf("Fake RTX: %w: cuGraphLaunch: CUDA_ERROR_ECC_UNCORRECTABLE (214)", device.ErrLost)
	}
	return m.Session.Finish(out)
}

// Inspect judges the GPU that is here without being asked, and gives it back; where there is none it says nothing of it.
func TestInspectHere(t *testing.T) {
	dir := testmodel.Dir(t, "tiny-a/hf-mxfp4")
	open, closed := fakeGPUs(1<<30, nil)
	for _, x := range []struct {
		gpus       openGPU
		want, lack string
	}{
		{gpus: open, want: "this machine's Fake RTX: fits; needs 74.0 MiB"},
		{gpus: func(int, cuda.Options) (gpu, error) { return nil, fmt.Errorf("none: %w", device.ErrNotSupported) }, want: "this machine's CPU", lack: "GPU"},
		{gpus: func(int, cuda.Options) (gpu, error) { return nil, errors.New("none") }, want: "this machine's CPU", lack: "GPU"},
	} {
		var out, log bytes.Buffer
		if status := Main(t.Context(), []string{"inspect", dir}, Streams{Out: &out, Err: &log, gpus: x.gpus}); status != 0 {
			t.Errorf("exit status %d: %s", status, &log)
		}
		if !strings.Contains(out.String(), x.want) || x.lack != "" && strings.Contains(out.String(), x.lack) {
			t.Errorf("want %q and not %q:\n%s", x.want, x.lack, &out)
		}
	}
	if n := closed.Load(); n != 1 {
		t.Errorf("given back %d times", n)
	}
}

// Bench on a GPU compares its plan of the card's memory with the books and the driver's count.
func TestBenchMemory(t *testing.T) {
	open, _ := fakeGPUs(1<<30, nil)
	args := []string{"bench", "--shape", "tiny", "--batch", "1", "--context", "0", "--prompt", "none", "--tokens", "1", "--limits", "0"}
	var out, log bytes.Buffer
	if status := Main(t.Context(), args, Streams{Out: &out, Err: &log, gpus: open}); status != 0 {
		t.Fatalf("exit status %d: %s", status, &log)
	}
	// 2 layers of 1 MiB, the head's 2, 3 for steps, and few pages; the fake's count never changes.
	if !regexp.MustCompile(`(?m)^GPU memory +7\.\d MiB planned, .* allocated, 0 B taken by the driver's count; 256\.0 MiB with the 256\.0 MiB before it$`).Match(out.Bytes()) {
		t.Errorf("%s", &out)
	}
}

// Bench takes no more of the card than the flag allows.
func TestBenchShareOfMemory(t *testing.T) {
	open, _ := fakeGPUs(1<<30, nil)
	args := []string{"bench", "--shape", "tiny", "--batch", "1", "--context", "0", "--prompt", "none", "--tokens", "1", "--limits", "0", "--gpu-memory-utilization"}
	for share, refusal := range map[string]string{
		"0.26": "", // the fake's others hold a quarter of it
		"0.25": `^hearth: [7-9]\.\d MiB are needed, --gpu-memory-utilization 0\.25 allows 0 B of Fake RTX: raise it, or use a smaller --batch or --context\n$`,
	} {
		var log bytes.Buffer
		status := Main(t.Context(), append(args, share), Streams{Out: io.Discard, Err: &log, gpus: open})
		if (refusal == "") != (status == 0) || refusal != "" && !regexp.MustCompile(refusal).Match(log.Bytes()) {
			t.Errorf("%s: exit status %d: %s", share, status, &log)
		}
	}
}

// readiness is a log that tells when the server answers, and where.
type readiness struct {
	mu   sync.Mutex
	text bytes.Buffer
	url  chan string
}

func (r *readiness) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.text.Write(b)
	if m := regexp.MustCompile(`(?m)^ready +(http://\S+)/v1 `).FindSubmatch(r.text.Bytes()); m != nil && r.url != nil {
		r.url <- string(m[1])
		r.url = nil
	}
	return n, err
}

func (r *readiness) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// When the GPU is lost under a server, the request under way gets a 500 that says so, the process gives the GPU back and
// ends with status 1, and the last thing that it says is one line with the cause: its supervisor starts it anew.
func TestServeEndsWhenGPUIsLost(t *testing.T) {
	steps := &atomic.Int64{}
	steps.Store(3)
	open, closed := fakeGPUs(1<<30, steps)
	url := make(chan string, 1)
	log := &readiness{url: url}
	status := make(chan int)
	dir := testmodel.Dir(t, "tiny-a/hf-mxfp4")
	go func() {
		status <- Main(t.Context(), []string{"serve", dir, "--port", "0", "--device", "cuda", "--max-model-len", "256", "--api-key", "k"}, Streams{Out: io.Discard, Err: log, gpus: open})
	}()
	var base string
	select {
	case base = <-url:
	case s := <-status:
		t.Fatalf("exit status %d: %s", s, log)
	}
	q, err := http.NewRequestWithContext(t.Context(), "POST", base+"/v1/completions", strings.NewReader(`{"prompt": [1, 2, 3], "max_tokens": 50, "ignore_eos": true}`))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer k")
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil || answer.StatusCode != http.StatusInternalServerError || !strings.Contains(string(body), "the device is lost") {
		t.Errorf("status %d, %v: %s", answer.StatusCode, err, body)
	}
	if s := <-status; s != 1 {
		t.Errorf("exit status %d", s)
	}
	if !regexp.MustCompile(`(?m)^workspace +[\d.]+ [KMG]iB for steps of at most 2048 tokens$`).MatchString(log.String()) {
		t.Errorf("nothing of the workspace in\n%s", log)
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	want := "hearth: the engine has stopped: the model's step failed: Fake RTX: the device is lost: cuGraphLaunch: CUDA_ERROR_ECC_UNCORRECTABLE (214)"
	if last := lines[len(lines)-1]; last != want {
		t.Errorf("the last line is %q, want %q", last, want)
	}
	if n := closed.Load(); n != 1 {
		t.Errorf("the GPU was given back %d times", n)
	}
}

// What stands in the way of a GPU is one line on the terminal, and status 1; --device auto goes on without it and says why.
func TestServeWithoutGPU(t *testing.T) {
	refused := device.Refuse(errors.New("no NVIDIA driver: install one"))
	fails := func(err error) openGPU { return func(int, cuda.Options) (gpu, error) { return nil, err } }
	small, _ := fakeGPUs(260<<20, nil)
	fine, _ := fakeGPUs(1<<30, nil)
	dir := testmodel.Dir(t, "tiny-a/hf-mxfp4")
	for _, x := range []struct {
		name string
		gpus openGPU
		args []string
		want string
	}{
		{"refused", fails(refused), []string{"--device", "cuda"}, "hearth: --device cuda: no NVIDIA driver: install one"},
		{"failed", fails(errors.New("cuInit: broken")), []string{"--device", "cuda:0"}, "hearth: --device cuda:0: cuInit: broken"},
		{"which", fine, []string{"--device", "cuda:1"}, "hearth: --device cuda:1: there is no GPU 1: this machine has 1, counted from 0"},
		{"lossy", fails(refused), []string{"--kv-cache-dtype", "int8"}, "hearth: --kv-cache-dtype int8 needs a GPU: no NVIDIA driver: install one"},
		{"bfloat16", fine, []string{"--device", "cpu", "--kv-cache-dtype", "bfloat16"}, "hearth: --kv-cache-dtype bfloat16 needs a GPU"},
		{"pages", fine, []string{"--device", "cpu", "--block-size", "24"}, "hearth: --block-size 24: want a multiple of 16"},
		{"rounded", fine, []string{"--device", "cuda", "--cpu-activations", "int8"}, "hearth: --cpu-activations int8 is for the CPU, not for --device cuda: use --device cpu"},
		{"rounded on any", fine, []string{"--cpu-activations", "int8"}, "hearth: --cpu-activations int8 is for the CPU, and --device auto takes Fake RTX: use --device cpu"},
		{"unknown", fails(refused), []string{"--cpu-activations", "int4"}, `hearth: --cpu-activations "int4": want float32, bf16x3, bfloat16 or int8`},
		{"small", small, []string{"--device", "cuda"}, "hearth: weights and activations need 8.0 MiB, 0 B may be used of Fake RTX (4.0 MiB free of 260.0 MiB, --gpu-memory-utilization 0.90): " +
			"free memory on it, or use --dense-quantization int8, a smaller --max-num-batched-tokens, or --device cpu"},
		{"long", fine, []string{"--device", "cuda", "--gpu-memory-utilization", "0.27", "--max-model-len", "131072"}, "hearth: a sequence of 131072 positions needs 66.0 MiB of KV cache, " +
			"12.5 MiB is planned for it: use --max-model-len 21392 or --kv-cache-dtype int8, --gpu-memory-utilization, --dense-quantization int8"},
	} {
		var log bytes.Buffer
		status := Main(t.Context(), append([]string{"serve", dir, "--port", "0"}, x.args...), Streams{Out: io.Discard, Err: &log, gpus: x.gpus})
		if got := strings.TrimSpace(log.String()); status != 1 || got != x.want {
			t.Errorf("%s: exit status %d\n got %s\nwant %s", x.name, status, got, x.want)
		}
	}
	for name, gpus := range map[string]openGPU{"refused": fails(refused), "small": small} {
		var log bytes.Buffer
		r := &loaded{}
		c, err := checkpoint.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		r.checkpoint = c
		f := &modelFlags{where: deviceFlags{device: "auto", gpus: gpus}}
		if err := r.chooseWeights(f, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
			t.Fatal(err)
		}
		err = r.place(f, nil)
		if notes := strings.Join(r.plan.Notes, "\n"); err != nil || r.device.Kind != "cpu" || !strings.Contains(notes, "on the CPU: ") {
			t.Errorf("%s: %v, on %s, notes %q", name, err, r.device.Kind, notes)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}
