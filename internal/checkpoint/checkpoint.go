// Package checkpoint opens GPT-OSS checkpoints in every layout people hold (OpenAI's own, Hugging Face's MXFP4 and
// BF16, Unsloth's and fused bitsandbytes, GGUF) and gives one canonical view of them: matrices [out, in], gate and up
// rows interleaved, one matrix per expert. Planes point into memory mappings of the files; nothing is copied or
// converted on the way, and values are never changed. Everything is checked when a checkpoint is opened. It never
// reaches the network and never picks a device.
package checkpoint

import (
	"errors"
	"fmt"

	"hearth/internal/dtype"
)

// Checkpoint is an open checkpoint. Its methods other than Close are safe for
// concurrent use. Planes stay valid until Close; reading one faults if another program shortens its file meanwhile or
// the disk fails, which Guard turns into an error.
type Checkpoint struct {
	path          string
	layout        Layout
	config        *Config
	notes         []string
	files         []*mapping
	infos         []TensorInfo
	tokenizerFile string
	vocabulary    *vocabulary // of a GGUF file
	binder        *binder
}

// Linear is a dense projection: y = Weight x + Bias. Bias is [Weight.Rows].
type Linear struct {
	Weight dtype.Plane
	Bias   []float32
}

// Experts is one projection of all experts of a layer. Bias is [experts, rows].
type Experts struct {
	Weight dtype.Stack
	Bias   []float32
}

// Layer is one transformer layer in canonical form: every weight [out, in], gate and up rows interleaved (even gate,
// odd up).
type Layer struct {
	AttnNorm   []float32 // [Hidden]
	Q, K, V, O Linear
	Sinks      []float32 // [Heads], one logit a query head
	MLPNorm    []float32 // [Hidden]
	Router     Linear    // [Experts, Hidden]
	GateUp     Experts   // [Experts, 2*Intermediate, Hidden]
	Down       Experts   // [Experts, Hidden, Intermediate]
}

// TensorInfo describes one tensor of the files.
type TensorInfo struct {
	Name      string       // as stored
	Canonical Role         // what the model uses it for; "" if it does not
	Format    dtype.Format // of the values; side tensors (scales, tables) have the format of the weight they serve
	Stored    string       // the file's own name of the element type: "BF16", "U8", "MXFP4"
	Shape     []int        // outermost axis first
	Bytes     int64
	File      string // base name
}

// Role is the part of the model that a tensor belongs to.
type Role string

// The roles.
const (
	RoleEmbed     Role = "embed"
	RoleHead      Role = "head"
	RoleAttention Role = "attention"
	RoleRouter    Role = "router"
	RoleExperts   Role = "experts"
	RoleVectors   Role = "norms and biases"
)

// Path is the path given to Open.
func (c *Checkpoint) Path() string { return c.path }

// Layout says how the tensors are named and stored.
func (c *Checkpoint) Layout() Layout { return c.layout }

// Config is the model's configuration. The caller must not change it.
func (c *Checkpoint) Config() *Config { return c.config }

// Notes are remarks for the user: defaults that were taken, tensors that nobody uses, doubtful settings.
func (c *Checkpoint) Notes() []string { return c.notes }

// Tensors lists every tensor of the checkpoint by file and offset.
func (c *Checkpoint) Tensors() []TensorInfo { return c.infos }

// TokenizerFile is the path of tokenizer.json beside the weights, "" if there is none.
func (c *Checkpoint) TokenizerFile() string { return c.tokenizerFile }

// Size is the number of bytes in all weight files together.
func (c *Checkpoint) Size() int64 {
	var n int64
	for _, f := range c.files {
		n += int64(len(f.data))
	}
	return n
}

// errClosed is returned by what would read the files of a closed checkpoint.
var errClosed = errors.New("the checkpoint is closed")

// Close unmaps the files. No plane of the checkpoint may be used afterwards, and none may be in use.
func (c *Checkpoint) Close() error {
	c.binder = nil
	var first error
	for _, f := range c.files {
		if err := f.close(); err != nil && first == nil {
			first = err
		}
	}
	c.files = nil
	return first
}

// bind runs f over the tensors.
func bind[T any](c *Checkpoint, f func(b *binder) T) (v T, err error) {
	if c.binder == nil {
		return v, errClosed
	}
	b := c.binder.run()
	err = Guard(func() error {
		v = f(b)
		return b.err
	})
	return v, err
}

// Embedding is the token embedding, [Vocab, Hidden].
func (c *Checkpoint) Embedding() (dtype.Plane, error) { return bind(c, (*binder).embedding) }

// FinalNorm is the weight of the norm before the head, [Hidden].
func (c *Checkpoint) FinalNorm() ([]float32, error) { return bind(c, (*binder).finalNorm) }

// Head is the output projection, [Vocab, Hidden].
func (c *Checkpoint) Head() (dtype.Plane, error) { return bind(c, (*binder).head) }

// Layer gives layer n. Vectors are decoded to float32; planes point into the mapping.
func (c *Checkpoint) Layer(n int) (*Layer, error) {
	if n < 0 || n >= c.config.Layers {
		return nil, fmt.Errorf("layer %d: the model has %d", n, c.config.Layers)
	}
	l, err := bind(c, func(b *binder) *Layer { return b.layer(n) })
	if err != nil {
		return nil, fmt.Errorf("layer %d: %w", n, err)
	}
	return l, nil
}
