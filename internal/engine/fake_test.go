package engine

import (
	"errors"
	"fmt"
	"slices"

	"hearth/internal/device"
)

// fakeModel answers like a model whose next token depends on every key that the last query can read. It keeps its
// keys in pages and finds them through the block tables of the batch, so a wrong table, a page released too early or
// a prefix reused wrongly gives other tokens than fakeAlone.
type fakeModel struct {
	shape  Shape
	full   []uint64 // [page*PageSize+offset]
	window []uint64
	stamp  []int // by full slot: the step that wrote it last
	steps  int

	forced  map[uint64][]int32 // by seed: the tokens to draw, where they are not banned
	poison  int32              // an id after which a sequence's logits are NaN; 0: none
	fail    error              // the next step's failure
	onStep  func(*Batch)       // called first
	problem error              // the first batch that broke the contract
}

const fakeTop = 3 // ids that fakeTops can tell

func newFake(s Shape) *fakeModel {
	return &fakeModel{
		shape: s, full: make([]uint64, s.FullPages*s.PageSize), window: make([]uint64, s.WindowPages*s.PageSize),
		stamp: make([]int, s.FullPages*s.PageSize), forced: make(map[uint64][]int32),
	}
}

func (m *fakeModel) Shape() Shape { return m.shape }

func (m *fakeModel) Step(b *Batch, out []Output) error {
	m.steps++
	if m.onStep != nil {
		m.onStep(b)
	}
	if err := m.fail; err != nil {
		m.fail = nil
		return err
	}
	if err := m.check(b, out); err != nil {
		m.problem = errors.Join(m.problem, err)
		return err
	}
	for i := range b.Seqs {
		if err := m.claim(b, &b.Seqs[i]); err != nil {
			m.problem = errors.Join(m.problem, err)
			return err
		}
	}
	row := 0
	for i := range b.Seqs {
		q := &b.Seqs[i]
		for r := q.First; r < q.First+q.Count; r++ {
			state, nan := m.compute(q, b.Tokens[r], int(b.Positions[r]))
			if row < len(b.Logits) && b.Logits[row].Row == r {
				answer(&out[row], &b.Logits[row], state, m.shape.Vocab, m.forced)
				if nan {
					out[row].Err = errors.New("logits are NaN")
				}
				row++
			}
		}
	}
	return nil
}

func (m *fakeModel) check(b *Batch, out []Output) error {
	s := m.shape
	if len(out) != len(b.Logits) {
		return fmt.Errorf("%d answers for %d logit rows", len(out), len(b.Logits))
	}
	return b.Check(&device.Spec{Vocab: s.Vocab}, &device.Limits{
		MaxTokens: s.MaxTokens, MaxSeqs: s.MaxSeqs, MaxLogits: s.MaxLogits,
		PageSize: s.PageSize, FullPages: s.FullPages, WindowPages: s.WindowPages,
	})
}

// claim marks the slots that a sequence writes: no two may write the same.
func (m *fakeModel) claim(b *Batch, q *Seq) error {
	for r := q.First; r < q.First+q.Count; r++ {
		p := int(b.Positions[r])
		slot := int(q.Full[p/m.shape.PageSize])*m.shape.PageSize + p%m.shape.PageSize
		if m.stamp[slot] == m.steps {
			return fmt.Errorf("two sequences write full slot %d", slot)
		}
		m.stamp[slot] = m.steps
		if q.Window[p/m.shape.PageSize] < 0 {
			return fmt.Errorf("position %d has no window page", p)
		}
	}
	return nil
}

// nanMark in a key spreads to every key and state that reads it.
const nanMark = 1

// compute reads all keys that position p can see, writes its own, and returns what its logits are made of.
func (m *fakeModel) compute(q *Seq, token int32, p int) (state uint64, nan bool) {
	size := m.shape.PageSize
	nan = m.poison != 0 && token == m.poison
	read := func(key uint64) {
		state = mix(state, key)
		nan = nan || key == nanMark
	}
	for k := range p {
		read(m.full[int(q.Full[k/size])*size+k%size])
	}
	for k := visibleFrom(p, m.shape.Window); k < p; k++ {
		page := q.Window[k/size]
		if page < 0 {
			read(2) // released: the answer will be wrong
			continue
		}
		read(m.window[int(page)*size+k%size])
	}
	key := fullKey(token, p, state)
	wkey := windowKey(key)
	if nan {
		key, wkey = nanMark, nanMark
	}
	m.full[int(q.Full[p/size])*size+p%size] = key
	m.window[int(q.Window[p/size])*size+p%size] = wkey
	return mix(state, key), nan
}

// fakeAlone is the same model without pages, running one request from its beginning to its end.
func fakeAlone(s Shape, r Request) (tokens []int32, prompt []PromptToken) {
	var full, window []uint64
	all := slices.Clone(r.Prompt)
	for p := 0; p < len(all); p++ {
		var state uint64
		for _, k := range full {
			state = mix(state, k)
		}
		for _, k := range window[visibleFrom(p, s.Window):] {
			state = mix(state, k)
		}
		key := fullKey(all[p], p, state)
		full, window = append(full, key), append(window, windowKey(key))
		state = mix(state, key)
		var out Output
		if p < len(r.Prompt)-1 {
			answer(&out, &LogitRow{Target: r.Prompt[p+1], Top: max(0, r.PromptLogprobs)}, state, s.Vocab, nil)
			prompt = append(prompt, PromptToken{ID: r.Prompt[p+1], LogProb: out.TargetLogProb, Top: out.Top})
			continue
		}
		if len(tokens) == r.MaxTokens {
			break
		}
		sampling := r.Sampling
		sampling.Prompt, sampling.Output = r.Prompt, tokens
		if len(tokens) < r.MinTokens {
			sampling.Banned = slices.Concat(sampling.Banned, r.EOS, r.Stop)
		}
		answer(&out, &LogitRow{Target: -1, Sample: &sampling}, state, s.Vocab, nil)
		tokens, all = append(tokens, out.Token), append(all, out.Token)
		if slices.Contains(r.Stop, out.Token) || !r.IgnoreEOS && slices.Contains(r.EOS, out.Token) {
			break
		}
	}
	if r.PromptLogprobs < 0 {
		return tokens, nil
	}
	return tokens, append([]PromptToken{{ID: r.Prompt[0]}}, prompt...)
}

func visibleFrom(p, window int) int {
	if window == 0 {
		return 0
	}
	return max(0, p-window+1)
}

func mix(a, b uint64) uint64 {
	a ^= b + 0x9e3779b97f4a7c15 + a<<6 + a>>2
	a *= 0xff51afd7ed558ccd
	return a ^ a>>33
}

func fullKey(token int32, p int, state uint64) uint64 {
	return mix(mix(uint64(token), uint64(p)), state) | 4 // never a mark
}

func windowKey(full uint64) uint64 { return mix(full, 7) | 4 }

// answer fills in a row from the state of its position.
func answer(out *Output, row *LogitRow, state uint64, vocab int, forced map[uint64][]int32) {
	*out = Output{Token: -1, Top: out.Top[:0]}
	logProb := func(id int32) float32 { return -float32(mix(state, uint64(id))%1000) / 100 }
	if row.Target >= 0 {
		out.TargetLogProb = logProb(row.Target)
	}
	for i := range min(row.Top, fakeTop) {
		id := int32(mix(state, uint64(1000+i)) % uint64(vocab))
		out.Top = append(out.Top, TokenLogProb{ID: id, LogProb: logProb(id)})
	}
	if row.Sample == nil {
		return
	}
	p := row.Sample
	last := vocab - 1 // never drawn, unless forced: tests use it as poison
	id := int32(mix(mix(state, p.Seed), uint64(len(p.Output))) % uint64(last))
	if f := forced[p.Seed]; len(p.Output) < len(f) {
		id = f[len(p.Output)]
	}
	for tries := 0; slices.Contains(p.Banned, id); tries++ {
		if tries == last {
			out.Err = errors.New("every token is masked or banned")
			return
		}
		id = (id + 1) % int32(last)
	}
	out.Token, out.LogProb = id, logProb(id)
}
