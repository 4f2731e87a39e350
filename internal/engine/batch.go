package engine

// freeze turns the grants into the batch: decode rows first, then prefill chunks.
func (s *scheduler) freeze() {
	b := &s.batch
	b.Tokens, b.Positions, b.Seqs, b.Logits = b.Tokens[:0], b.Positions[:0], b.Seqs[:0], b.Logits[:0]
	s.parts = s.parts[:0]
	for _, decode := range [2]bool{true, false} {
		for _, g := range s.grants {
			if decode == (g.job.pending() == 1) {
				s.add(g)
			}
		}
	}
}

// add puts a grant into the batch.
func (s *scheduler) add(g grant) {
	j, b := g.job, &s.batch
	from := j.seq.Len()
	to := from + g.n
	p := part{job: j, from: from, to: to, first: len(b.Logits)}
	base := len(b.Tokens) - from // row of position 0
	b.Seqs = append(b.Seqs, Seq{First: len(b.Tokens), Count: g.n, Full: j.seq.Full(), Window: j.seq.Window()})
	b.Tokens = append(b.Tokens, j.tokens[from:to]...)
	for pos := from; pos < to; pos++ {
		b.Positions = append(b.Positions, int32(pos))
	}
	for pos, end := j.promptRows(from, to); pos < end; pos++ {
		b.Logits = append(b.Logits, LogitRow{Row: base + pos, Target: j.Prompt[pos+1], Top: j.PromptLogprobs})
	}
	if j.samples(to) {
		b.Logits = append(b.Logits, LogitRow{Row: base + to - 1, Target: -1, Top: max(0, j.Logprobs), Sample: j.draw()})
	}
	p.rows = len(b.Logits) - p.first
	s.parts = append(s.parts, p)
}
