package device

import "fmt"

// Batch is one step's work, frozen: prefill chunks and decode rows of many sequences in one ragged run of tokens.
type Batch struct {
	Tokens    []int32 // token ids, the sequences' runs one after another
	Positions []int32 // absolute position of each token
	Seqs      []Seq
	Logits    []LogitRow
}

// Seq is the part of a batch that belongs to one sequence: Tokens[First:First+Count], at consecutive positions.
type Seq struct {
	First, Count int
	// Block tables: position p lies in page table[p/PageSize], at offset p%PageSize. Window's entries that no key
	// can be read from any more are -1.
	Full, Window []int32
}

// LogitRow asks for the distribution after one token of the batch.
type LogitRow struct {
	Row    int       // index in Tokens; rows are ascending
	Target int32     // report the log-probability of this id; -1: none
	Top    int       // report this many most likely ids
	Sample *Sampling // draw a token; nil: do not
}

// Sampling says how to draw a token. The zero value is greedy. Order: mask and banned ids, bias, penalties,
// temperature, top-k, top-p, min-p.
type Sampling struct {
	Temperature float32 // 0: greedy, the lowest id of equals
	TopK        int     // 0: all
	TopP        float32 // 0 or 1: all
	MinP        float32 // share of the most likely id's probability; 0: none
	Presence    float32 // subtracted once from ids already in Output
	Frequency   float32 // subtracted for each time an id stands in Output
	Repetition  float32 // divides positive logits of ids in Prompt or Output, multiplies negative; 0 or 1: none
	Bias        []Bias
	Banned      []int32  // ids that may not be drawn
	Mask        []uint32 // bit id%32 of word id/32 allows an id; nil: all
	Seed        uint64
	// History, read by the penalties and, by its length, as the number of the draw: the same seed gives the same
	// tokens whatever else is in the batch.
	Prompt, Output []int32
}

// Bias is added to one id's logit.
type Bias struct {
	ID    int32
	Value float32
}

// Output answers a LogitRow. Log-probabilities are natural logarithms under the model's own distribution, before
// any sampling parameter.
type Output struct {
	Token         int32 // the drawn id; -1 where none was asked for
	LogProb       float32
	TargetLogProb float32
	Top           []TokenLogProb // descending; equals by ascending id
	// Err is set when this row's logits are unusable (NaN); the rest of the batch is unharmed.
	Err error
}

// TokenLogProb is an id with its log-probability.
type TokenLogProb struct {
	ID      int32
	LogProb float32
}

// Check reports the first thing in the batch that does not fit the spec and the limits.
func (b *Batch) Check(s *Spec, l *Limits) error {
	switch {
	case len(b.Tokens) == 0:
		return fmt.Errorf("batch is empty")
	case len(b.Tokens) != len(b.Positions):
		return fmt.Errorf("batch has %d tokens and %d positions", len(b.Tokens), len(b.Positions))
	case len(b.Tokens) > l.MaxTokens:
		return fmt.Errorf("batch has %d tokens, the session has room for %d", len(b.Tokens), l.MaxTokens)
	case len(b.Seqs) > l.MaxSeqs:
		return fmt.Errorf("batch has %d sequences, the session has room for %d", len(b.Seqs), l.MaxSeqs)
	case len(b.Logits) > l.MaxLogits:
		return fmt.Errorf("batch asks for %d logit rows, the session has room for %d", len(b.Logits), l.MaxLogits)
	}
	for i, id := range b.Tokens {
		if id < 0 || int(id) >= s.Vocab {
			return fmt.Errorf("batch token %d is id %d, the vocabulary ends at %d", i, id, s.Vocab-1)
		}
	}
	next := 0
	for i := range b.Seqs {
		if err := b.checkSeq(i, next, l); err != nil {
			return err
		}
		next += b.Seqs[i].Count
	}
	if next != len(b.Tokens) {
		return fmt.Errorf("batch sequences cover %d of %d tokens", next, len(b.Tokens))
	}
	last := -1
	for i, r := range b.Logits {
		if r.Row <= last || r.Row >= len(b.Tokens) {
			return fmt.Errorf("batch logit row %d points at token %d of %d, after token %d", i, r.Row, len(b.Tokens), last)
		}
		if int(r.Target) >= s.Vocab || r.Top < 0 {
			return fmt.Errorf("batch logit row %d asks for target %d and top %d", i, r.Target, r.Top)
		}
		last = r.Row
	}
	return nil
}

func (b *Batch) checkSeq(i, next int, l *Limits) error {
	q := &b.Seqs[i]
	if q.First != next || q.Count < 1 || q.First+q.Count > len(b.Tokens) {
		return fmt.Errorf("batch sequence %d covers tokens %d to %d, expected to start at %d", i, q.First, q.First+q.Count, next)
	}
	for j := 1; j < q.Count; j++ {
		if b.Positions[q.First+j] != b.Positions[q.First]+int32(j) {
			return fmt.Errorf("batch sequence %d has a gap after position %d", i, b.Positions[q.First+j-1])
		}
	}
	end := int(b.Positions[q.First]) + q.Count
	blocks := (end + l.PageSize - 1) / l.PageSize
	if b.Positions[q.First] < 0 || blocks > len(q.Full) || blocks > len(q.Window) {
		return fmt.Errorf("batch sequence %d ends at position %d, its block tables hold %d and %d pages of %d", i, end, len(q.Full), len(q.Window), l.PageSize)
	}
	for j := range blocks {
		if p := q.Full[j]; p < 0 || int(p) >= l.FullPages {
			return fmt.Errorf("batch sequence %d block %d is full page %d of %d", i, j, p, l.FullPages)
		}
		if p := q.Window[j]; p < -1 || int(p) >= l.WindowPages {
			return fmt.Errorf("batch sequence %d block %d is window page %d of %d", i, j, p, l.WindowPages)
		}
	}
	return nil
}
