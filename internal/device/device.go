// Package device is the contract between the model and the hardware that runs it: a session holds the weights, the
// paged KV cache and the activations of one model, and supplies the dozen fused operations of its forward pass.
// Two packages implement it (cpu, cuda) and one uses it (model). It holds no code that computes and never chooses a
// device.
package device

import (
	"errors"

	"hearth/internal/dtype"
)

// ErrNotSupported is wrapped by every refusal that another device, driver or processor could have met. A caller may
// fall back on it, and says so; a test may skip on it and on nothing else.
var ErrNotSupported = errors.New("not supported by this device")

// Refuse gives an error that wraps ErrNotSupported and says what err says, no more: for refusals that name their way out.
func Refuse(err error) error { return refusal{err} }

type refusal struct{ error }

func (r refusal) Unwrap() error      { return r.error }
func (refusal) Is(target error) bool { return target == ErrNotSupported }

// ErrLost is wrapped by the error of a step, or of loading, after which the session is dead: the hardware has failed, and
// no later step can succeed. Close still works and does not wait.
var ErrLost = errors.New("the device is lost")

// Device is a piece of hardware that can hold models.
type Device interface {
	Info() Info
	// NewSession reserves the KV cache and the activations for a model of the given spec. Weights are loaded after.
	NewSession(Spec, Limits) (Session, error)
}

// Info describes a device for people and for planning.
type Info struct {
	Name     string       // "cpu", "NVIDIA GeForce RTX 3090"
	Kind     string       // "cpu" or "cuda"
	Detail   string       // cores and vector level, or compute capability and driver
	Memory   int64        // bytes in all
	Free     int64        // bytes available now
	KVFormat dtype.Format // how keys and values are kept
}

// Spec is what a device must know of a GPT-OSS model: sizes and constants, no weights.
type Spec struct {
	Layers       int
	Hidden       int // H
	Intermediate int // I
	Heads        int // query heads
	KVHeads      int
	HeadDim      int // even
	Experts      int // E
	TopK         int // experts used for a token
	Vocab        int

	Eps         float32 // RMSNorm
	SwigluAlpha float32 // 1.702
	SwigluLimit float32 // 7

	// Windows has one entry a layer: how many keys a query sees, itself included; 0 is full attention.
	Windows []int

	// InvFreq holds the HeadDim/2 rotary frequencies after YaRN; RopeScale multiplies cosine and sine.
	InvFreq   []float32
	RopeScale float32
}

// Limits is what a session must have room for.
type Limits struct {
	MaxTokens   int // rows of one batch
	MaxSeqs     int // sequences in one batch
	MaxLogits   int // logit rows in one batch
	PageSize    int // positions in a page
	FullPages   int // pages shared by the full-attention layers
	WindowPages int // pages shared by the sliding-window layers
	MaxBlocks   int // pages of one sequence, of each kind; 0: as many as there are
}

// Linear is a dense projection: y = Weight x + Bias. Bias is [Weight.Rows], or nil.
type Linear struct {
	Weight dtype.Plane
	Bias   []float32
}

// Experts is one projection of all experts of a layer. Bias is [experts, rows].
type Experts struct {
	Weight dtype.Stack
	Bias   []float32
}

// Layer is the host's view of one transformer layer in canonical form: every weight [out, in], gate and up rows
// interleaved (even gate, odd up).
type Layer struct {
	AttnNorm   []float32 // [Hidden]
	Q, K, V, O Linear
	Sinks      []float32 // [Heads], one logit a query head
	MLPNorm    []float32 // [Hidden]
	Router     Linear    // [Experts, Hidden]
	GateUp     Experts   // [Experts, 2*Intermediate, Hidden]
	Down       Experts   // [Experts, Hidden, Intermediate]
}

// Session runs one model. It is not safe for concurrent use: one goroutine owns it.
//
// Loading comes first, once for each part. A device that reads weights in place keeps the planes, so the checkpoint
// stays open as long as the session.
//
// A step is Begin, the operations in the order in which the model names them, and Finish. Operations do not return
// errors: the first failure is kept and comes out of Finish, so that a device may run behind the host. The
// activations are the session's own; the comments name them: x is the residual stream [tokens, Hidden], kept in
// float32 or BF16, never in FP16.
type Session interface {
	LoadEmbedding(dtype.Plane) error
	LoadLayer(l int, w *Layer) error
	LoadHead(norm []float32, w dtype.Plane) error

	// Begin takes the frozen batch of the step. The device may read it until Finish returns.
	Begin(*Batch) error

	// Embed: x = E[token].
	Embed()
	// QKV: t = norm(x); q, k, v = W t + b; rotate q and k; write k and v to the pages of layer l.
	QKV(l int)
	// Attend: a = softmax(q·k/sqrt(HeadDim), with the head's sink) v, over the window of layer l.
	Attend(l int)
	// AttnOut: x = x + Wo a + bo.
	AttnOut(l int)
	// Route: t = norm(x); the TopK experts of each token and the softmax over their logits alone.
	Route(l int)
	// GateUp: h = swiglu(W1[e] t + b1[e]) for each chosen expert e.
	GateUp(l int)
	// Down: x = x + sum over e of weight[e] (W2[e] h[e] + b2[e]).
	Down(l int)
	// Head: logits = U norm(x) for the rows that ask for them.
	Head()

	// Finish waits for the step and fills one Output for each of the batch's logit rows.
	Finish([]Output) error

	// Residual copies x, [tokens, Hidden], to the host. For tests and diagnosis, between Embed and Finish.
	Residual(dst []float32)

	// Memory tells what the session holds, Reads what steps need of it once everything is loaded.
	Memory() Memory
	Reads() Reads
	Close() error
}

// Noter is a session that made decisions worth telling while the model was loaded: what is lossy above all.
type Noter interface{ Notes() []string }

// Memory is a session's use of its device, in bytes.
type Memory struct {
	Weights    int64 // in the device's own memory
	Mapped     int64 // read in place from the file's mapping: all of them, or the embedding alone
	KV         int64
	Activation int64
}
