package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"hearth/internal/cpu"
	"hearth/internal/cuda"
	"hearth/internal/device"
	"hearth/internal/model"
)

// deviceFlags say where a model runs, and how a GPU's memory is used.
type deviceFlags struct {
	device      string
	threads     int
	gpuMemory   float64
	kvCacheType string
	denseQuant  string
	activations string

	gpus openGPU
}

// gpu is a GPU in use.
type gpu interface {
	device.Device
	device.Sizer
	io.Closer
}

// openGPU makes GPU number ordinal ready. Its error wraps device.ErrNotSupported where another machine could.
type openGPU func(ordinal int, o cuda.Options) (gpu, error)

func openCUDA(ordinal int, o cuda.Options) (gpu, error) {
	d, err := cuda.Open(ordinal, o)
	if err != nil {
		return nil, err // and not a device that is nil
	}
	return d, nil
}

func (f *deviceFlags) add(fs *pflag.FlagSet, s Streams) {
	f.gpus = s.gpus
	fs.StringVar(&f.device, "device", "auto", "where to run: auto, cuda, cuda:N or cpu")
	fs.IntVar(&f.threads, "threads", 0, "CPU threads (default: every core)")
	fs.Float64Var(&f.gpuMemory, "gpu-memory-utilization", 0, "share of the GPU's memory that may be used (default 0.9)")
	fs.StringVar(&f.kvCacheType, "kv-cache-dtype", "auto", "keys and values on a GPU: auto (bfloat16), bfloat16 or int8 (half the room, lossy); the CPU keeps float32")
	fs.StringVar(&f.denseQuant, "dense-quantization", "none", "attention and head on the GPU: none (as stored) or int8 (lossy, faster)")
	fs.StringVar(&f.activations, "cpu-activations", "float32", "activations on the CPU: float32; bf16x3 (as exact, faster prompts and batches where there is AMX), bfloat16 (lossy, faster still) or int8 where weights are MXFP4 or Q8_0 (lossy)")
}

// gpuTokens is how many tokens a GPU computes in one step unless a flag says so: tensor cores want full tiles.
const gpuTokens = 2048

// ordinal is the GPU that the flag names, or whether none or any will do.
func (f *deviceFlags) ordinal() (n int, gpu, must bool, err error) {
	switch number, ok := strings.CutPrefix(f.device, "cuda:"); {
	case f.device == "cpu":
		return 0, false, false, nil
	case f.device == "auto":
		return 0, true, false, nil
	case f.device == "cuda":
		return 0, true, true, nil
	case ok:
		if n, err := strconv.Atoi(number); err == nil && n >= 0 {
			return n, true, true, nil
		}
	}
	return 0, false, false, fmt.Errorf("--device %q: want auto, cuda, cuda:N with N from 0, or cpu", f.device)
}

// gpuOnly names the flags that only a GPU can follow.
func (f *deviceFlags) gpuOnly() (names []string, err error) {
	switch f.kvCacheType {
	case "auto", "":
	case "bfloat16", "int8":
		names = append(names, "--kv-cache-dtype "+f.kvCacheType)
	default:
		return nil, fmt.Errorf("--kv-cache-dtype %q: want auto, bfloat16 or int8", f.kvCacheType)
	}
	switch f.denseQuant {
	case "none", "":
	case "int8":
		names = append(names, "--dense-quantization int8")
	default:
		return nil, fmt.Errorf("--dense-quantization %q: want none or int8", f.denseQuant)
	}
	return names, nil
}

// rounding says whether activations are to be rounded, which the flag asks of the CPU alone.
func (f *deviceFlags) rounding() (cpu.Activations, error) {
	switch f.activations {
	case "float32", "":
		return cpu.Float32, nil
	case "bfloat16":
		return cpu.BFloat16, nil
	case "bf16x3":
		return cpu.BF16x3, nil
	case "int8":
		return cpu.Int8, nil
	}
	return 0, fmt.Errorf("--cpu-activations %q: want float32, bf16x3, bfloat16 or int8", f.activations)
}

// openGPU opens the GPU that the flags name. It returns none, and the reason in words, where auto has to do without.
func (f *deviceFlags) openGPU(log *slog.Logger) (d gpu, why string, err error) {
	n, gpu, must, err := f.ordinal()
	if err != nil {
		return nil, "", err
	}
	only, err := f.gpuOnly()
	if err != nil {
		return nil, "", err
	}
	rounding, err := f.rounding()
	if err != nil {
		return nil, "", err
	}
	if !(f.gpuMemory >= 0 && f.gpuMemory <= 1) { // nor NaN
		return nil, "", fmt.Errorf("--gpu-memory-utilization %v: want a share between 0 and 1", f.gpuMemory)
	}
	if rounding != cpu.Float32 && gpu && f.device != "auto" {
		return nil, "", fmt.Errorf("--cpu-activations %s is for the CPU, not for --device %s: use --device cpu", f.activations, f.device)
	}
	if gpu {
		open := f.gpus
		if open == nil {
			open = openCUDA
		}
		d, err = open(n, cuda.Options{Log: log, Int8KV: f.kvCacheType == "int8", Int8Dense: f.denseQuant == "int8"})
		if err == nil && rounding != cpu.Float32 {
			name := d.Info().Name
			return nil, "", errors.Join(fmt.Errorf("--cpu-activations %s is for the CPU, and --device auto takes %s: use --device cpu", f.activations, name), d.Close())
		}
		if err == nil {
			return d, "", nil
		}
		if must {
			return nil, "", fmt.Errorf("--device %s: %w", f.device, err)
		}
		why = err.Error()
	}
	if len(only) > 0 {
		return nil, "", fmt.Errorf("%s needs a GPU%s", strings.Join(only, " and "), because(why))
	}
	return nil, why, nil
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

func (f *deviceFlags) openCPU() (device.Device, error) {
	rounding, err := f.rounding()
	if err != nil {
		return nil, err
	}
	return cpu.New(cpu.Options{Threads: f.threads, Activations: rounding})
}

// open picks the device for a program that plans its memory itself. why tells of a GPU that auto passed over.
func (f *deviceFlags) open(log *slog.Logger) (d device.Device, why string, err error) {
	gpu, why, err := f.openGPU(log)
	if err != nil {
		return nil, "", err
	}
	if gpu != nil {
		return gpu, "", nil
	}
	d, err = f.openCPU()
	return d, why, err
}

// closeDevice gives back what a device holds, where it holds anything.
func closeDevice(d device.Device) error {
	if c, ok := d.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// place opens a device and plans the model's memory on it. Where auto finds that the GPU cannot hold the model, it says
// why and takes the CPU.
func (r *loaded) place(f *modelFlags, log *slog.Logger) error {
	if f.blockSize%16 != 0 { // keys that kernels take at once, on either device
		return fmt.Errorf("--block-size %d: want a multiple of 16", f.blockSize)
	}
	gpu, why, err := f.where.openGPU(log)
	if err != nil {
		return err
	}
	if gpu != nil {
		err := r.planOn(gpu, f)
		if err == nil || f.where.device != "auto" || !errors.Is(err, device.ErrNotSupported) {
			r.gpu = gpu
			return err
		}
		if only, _ := f.where.gpuOnly(); len(only) > 0 {
			r.gpu = gpu
			return err
		}
		why = err.Error()
		if err := gpu.Close(); err != nil {
			return err
		}
	}
	d, err := f.where.openCPU()
	if err != nil {
		return err
	}
	if err := r.planOn(d, f); err != nil {
		return err
	}
	if why != "" {
		r.plan.Notes = append(r.plan.Notes, "on the CPU: "+why)
	}
	return nil
}

// planOn plans the model's memory on d, which becomes its device.
func (r *loaded) planOn(d device.Device, f *modelFlags) error {
	info := d.Info()
	q := model.Request{
		MaxContext: f.maxModelLen, MaxSeqs: f.maxSeqs, MaxTokens: f.maxTokens, PageSize: f.blockSize, KVBytes: int64(f.kvBytes),
		Fraction: f.where.gpuMemory,
	}
	if s, ok := d.(device.Sizer); ok {
		if q.MaxTokens == 0 {
			q.MaxTokens = gpuTokens
		}
		limits, err := q.Limits()
		if err != nil {
			return err
		}
		w := model.Weights(r.checkpoint)
		if r.weights.Changes() {
			w = r.weights
		}
		need, err := model.NewFootprint(w, s, limits)
		if err != nil {
			return fmt.Errorf("%s: %w", r.checkpoint.Path(), err)
		}
		q.Fixed = need.Bytes()
	}
	plan, err := model.NewPlan(f.off.Config(r.checkpoint.Config()), info, q)
	if err != nil {
		return err
	}
	r.on, r.device, r.plan = d, info, plan
	return nil
}
