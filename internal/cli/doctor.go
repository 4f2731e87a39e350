package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hearth/internal/cpu"
	"hearth/internal/cuda"
	"hearth/internal/hub"
	"hearth/internal/model"
)

func newDoctor(s Streams) *cobra.Command {
	var (
		asJSON bool
		limits time.Duration
	)
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Show what this machine has to serve with, and what is in the way",
		Long: `Doctor shows on one page what hearth finds here: the processor and its kernels, memory and its bandwidth, every GPU and
why it can or cannot be used, where downloads and compiled kernels lie, and which environment variables are set. It fails if
nothing here can serve.`,
		Args: exactly(0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			if limits < 0 {
				return fmt.Errorf("--limits %v: want a time, or 0 for no measurement", limits)
			}
			d := examine(limits, os.Getenv)
			if asJSON {
				e := json.NewEncoder(s.Out)
				e.SetIndent("", "  ")
				if err := e.Encode(d); err != nil {
					return err
				}
			} else {
				d.print(s.Out)
			}
			if len(d.ServesOn) == 0 {
				return errors.New("nothing here can serve")
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().DurationVar(&limits, "limits", 500*time.Millisecond, "time for measuring the memory's bandwidth; 0: do not")
	return c
}

// diagnosis is what doctor found; its JSON form is for scripts.
type diagnosis struct {
	Version     buildInfo       `json:"version"`
	System      string          `json:"system"`
	Processor   processorState  `json:"processor"`
	Memory      memoryState     `json:"memory"`
	GPU         gpuState        `json:"gpu"`
	KernelCache folderState     `json:"kernel_cache"`
	Downloads   folderState     `json:"downloads"`
	Environment []variableState `json:"environment"`
	ServesOn    []string        `json:"serves_on"` // devices, as --device takes them, the one that auto takes first
}

type processorState struct {
	Name    string       `json:"name"`
	Cores   int          `json:"cores"`
	Threads int          `json:"threads"`
	Forced  string       `json:"forced_level,omitempty"` // by HEARTH_CPU
	Level   string       `json:"level"`
	Levels  []levelState `json:"levels"`
	Error   string       `json:"error,omitempty"`
}

type levelState struct {
	Name   string `json:"name"`
	Usable bool   `json:"usable"`
	Reason string `json:"reason,omitempty"`
}

// memoryState is in bytes; 0 where the system does not say.
type memoryState struct {
	Total      int64   `json:"total_bytes"`
	Free       int64   `json:"free_bytes"`
	GroupLimit int64   `json:"control_group_limit_bytes"`
	Bandwidth  float64 `json:"read_bandwidth_bytes_per_second"`
}

type gpuState struct {
	Driver string      `json:"driver"`
	Error  string      `json:"error,omitempty"`
	Cards  []cardState `json:"cards"`
}

type cardState struct {
	Ordinal    int    `json:"ordinal"`
	Name       string `json:"name"`
	Capability string `json:"compute_capability"`
	SMs        int    `json:"multiprocessors"`
	Memory     int64  `json:"memory_bytes"`
	Free       int64  `json:"free_bytes"`
	Bandwidth  int64  `json:"data_sheet_bytes_per_second"`
	Display    bool   `json:"display"`
	Usable     bool   `json:"usable"`
	Reason     string `json:"reason,omitempty"`
}

type folderState struct {
	Path  string `json:"path"`
	Items int    `json:"items"`
	Bytes int64  `json:"bytes"`
	Error string `json:"error,omitempty"`
}

type variableState struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// examine looks at everything; limits is the time for measuring.
func examine(limits time.Duration, getenv func(string) string) *diagnosis {
	d := &diagnosis{Version: readBuild(), System: strings.TrimSpace(runtime.GOOS + " " + systemRelease()), Environment: variables(getenv), ServesOn: []string{}}
	d.GPU = examineGPUs()
	for _, c := range d.GPU.Cards {
		if c.Usable {
			d.ServesOn = append(d.ServesOn, fmt.Sprintf("cuda:%d", c.Ordinal))
		}
	}
	d.examineCPU(limits, getenv("HEARTH_CPU"))
	d.KernelCache = sizeOf(cuda.DefaultCacheDir(), "*")
	home, _ := os.UserHomeDir()
	o, err := hub.FromEnvironment(getenv, home)
	d.Downloads = sizeOf(o.CacheDir, "models--*")
	if err != nil {
		d.Downloads.Error = err.Error()
	}
	return d
}

func (d *diagnosis) examineCPU(limits time.Duration, forced string) {
	p := &d.Processor
	*p = processorState{Name: processorName(), Cores: runtime.NumCPU(), Forced: forced, Levels: []levelState{}}
	dev, err := cpu.New(cpu.Options{})
	if err != nil {
		p.Error = err.Error()
		if dev, err := cpu.New(cpu.Options{Level: "portable"}); err == nil { // which works everywhere
			d.examineMemory(dev, 0)
		}
		return
	}
	d.ServesOn = append(d.ServesOn, "cpu")
	p.Threads = dev.Threads()
	for _, l := range dev.Levels() {
		s := levelState{Name: l.Name, Usable: l.Err == nil}
		if l.Err != nil {
			s.Reason = l.Err.Error()
		}
		if l.Chosen {
			p.Level = l.Name
		}
		p.Levels = append(p.Levels, s)
	}
	d.examineMemory(dev, limits)
}

func (d *diagnosis) examineMemory(dev *cpu.Device, limits time.Duration) {
	info := dev.Info()
	d.Memory = memoryState{Total: info.Memory, Free: info.Free}
	if limit, _, ok := cpu.GroupMemory(); ok {
		d.Memory.GroupLimit = limit
	}
	if limits > 0 {
		var err error
		if d.Memory.Bandwidth, err = dev.ReadBandwidth(limits); err != nil {
			d.Processor.Error = err.Error()
		}
	}
}

// examineGPUs lists the cards and opens each that may be used, since only then it is known that it can be.
func examineGPUs() gpuState {
	s := gpuState{Cards: []cardState{}}
	cards, driver, err := cuda.List()
	s.Driver = driver
	if err != nil {
		s.Error = err.Error()
	}
	for _, c := range cards {
		x := cardState{
			Ordinal: c.Ordinal, Name: c.Name, Capability: fmt.Sprintf("%d.%d", c.Major, c.Minor), SMs: c.SMs, Memory: c.Memory,
			Bandwidth: c.Bandwidth, Display: c.Display,
		}
		err := c.Err
		if err == nil {
			x.Free, err = freeMemory(c.Ordinal)
		}
		if x.Usable = err == nil; err != nil {
			x.Reason = err.Error()
		}
		s.Cards = append(s.Cards, x)
	}
	return s
}

func freeMemory(ordinal int) (int64, error) {
	d, err := cuda.Open(ordinal, cuda.Options{})
	if err != nil {
		return 0, err
	}
	free := d.Info().Free
	return free, d.Close()
}

// sizeOf counts the entries of a folder that match, and all bytes below it; links are not followed.
func sizeOf(dir, pattern string) folderState {
	s := folderState{Path: dir}
	if dir == "" {
		return s
	}
	items, _ := filepath.Glob(filepath.Join(dir, pattern))
	s.Items = len(items)
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			s.Bytes += info.Size()
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.Error = err.Error()
	}
	return s
}

// known are the environment variables that hearth, or the parts that it is made of, read.
func known() []string {
	return []string{
		"HEARTH_CPU", "HEARTH_API_KEY", "HEARTH_CUDA_GRAPHS", "CUDA_VISIBLE_DEVICES",
		"HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HF_ENDPOINT", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH",
		"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_SYMLINKS", "HF_HUB_DISABLE_IMPLICIT_TOKEN",
		"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "GOMAXPROCS", "GOMEMLIMIT", "GOGC", "GODEBUG",
	}
}

// variables are those that are set; of secrets only that they are.
func variables(getenv func(string) string) []variableState {
	set := []variableState{}
	for _, name := range known() {
		value := getenv(name)
		if value == "" {
			continue
		}
		switch {
		case strings.HasSuffix(name, "_TOKEN"), strings.HasSuffix(name, "_KEY"):
			value = "(set, not shown)"
		case strings.Contains(value, "://"):
			if u, err := url.Parse(value); err == nil {
				value = u.Redacted()
			}
		}
		set = append(set, variableState{name, value})
	}
	return set
}

// print writes the page.
func (d *diagnosis) print(w io.Writer) {
	p := printer{w, 13}
	commit := ""
	if c := d.Version.Commit; c != "" {
		commit = " (" + c[:min(12, len(c))] + ")"
	}
	p.line("version", "hearth %s%s, %s %s", d.Version.Version, commit, d.Version.Go, d.Version.Platform)
	p.line("system", "%s", d.System)
	d.Processor.print(&p)
	d.Memory.print(&p)
	d.GPU.print(&p)
	d.KernelCache.print(&p, "kernel cache", "file")
	d.Downloads.print(&p, "downloads", "model")
	label := "environment"
	for _, v := range d.Environment {
		p.line(label, "%s=%s", v.Name, v.Value)
		label = ""
	}
	if len(d.Environment) == 0 {
		p.line(label, "none of hearth's variables is set")
	}
	switch on := strings.Join(d.ServesOn, ", "); len(d.ServesOn) {
	case 0:
		p.line("serves on", "nothing")
	case 1:
		p.line("serves on", "%s", on)
	default:
		p.line("serves on", "%s; --device auto takes the first that holds the model", on)
	}
}

func (s *processorState) print(p *printer) {
	name := s.Name
	if name == "" {
		name = "unnamed"
	}
	p.line("processor", "%s, %d cores", name, s.Cores)
	if s.Error != "" {
		p.line("", "cannot be used: %s", s.Error)
	}
	if s.Level == "" {
		return
	}
	chosen := "the best that works"
	if s.Forced != "" {
		chosen = "forced by HEARTH_CPU"
	}
	p.line("kernels", "%s on %d threads: %s", s.Level, s.Threads, chosen)
	for _, l := range slices.Backward(s.Levels) {
		switch {
		case l.Name == s.Level:
		case l.Usable:
			p.line("", "%s works too", l.Name)
		default:
			p.line("", "cannot be used: %s", l.Reason) // which begins with the level's name
		}
	}
}

func (s *memoryState) print(p *printer) {
	if s.Total == 0 {
		p.line("memory", "this system does not say how much there is")
	} else {
		limit := "no limit by a control group"
		if s.GroupLimit > 0 {
			limit = "limited to " + model.Bytes(s.GroupLimit) + " by the control group"
		}
		p.line("memory", "%s, %s free, %s", model.Bytes(s.Total), model.Bytes(s.Free), limit)
	}
	if s.Bandwidth > 0 {
		p.line("", "%.1f GB/s read by the processor, measured now", s.Bandwidth/1e9)
	}
}

func (s *gpuState) print(p *printer) {
	if s.Driver != "" {
		p.line("GPU driver", "%s", s.Driver)
	}
	if s.Error != "" {
		p.line("GPU", "none: %s", s.Error)
	}
	for _, c := range s.Cards {
		more := ""
		if c.Bandwidth > 0 {
			more += fmt.Sprintf(", %d GB/s by its clock", c.Bandwidth/1e9)
		}
		if c.Display {
			more += ", drives a display"
		}
		p.line(fmt.Sprintf("GPU %d", c.Ordinal), "%s: compute capability %s, %d multiprocessors, %s%s", c.Name, c.Capability, c.SMs, model.Bytes(c.Memory), more)
		if c.Usable {
			p.line("", "usable, %s free", model.Bytes(c.Free))
		} else {
			p.line("", "cannot be used: %s", c.Reason)
		}
	}
}

func (s *folderState) print(p *printer, label, what string) {
	switch {
	case s.Path == "":
		p.line(label, "nowhere: no home folder is known")
	case s.Error != "":
		p.line(label, "%s: %s", s.Path, s.Error)
	case s.Items == 1:
		p.line(label, "%s: %s in 1 %s", s.Path, model.Bytes(s.Bytes), what)
	default:
		p.line(label, "%s: %s in %d %ss", s.Path, model.Bytes(s.Bytes), s.Items, what)
	}
}
