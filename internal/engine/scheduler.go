package engine

import (
	"slices"
	"time"

	"hearth/internal/kvcache"
)

// scheduler decides what the next batch computes. The package comment states its policy.
type scheduler struct {
	shape      Shape
	cache      *kvcache.Cache
	maxRunning int    // each running sequence can have its token and its logits in every batch
	waiting    []*job // the first in line first; preempted jobs stand before those that never ran
	running    []*job // in the order of admission
	ended      bool   // a sequence has ended since the last plan
	counters   Stats

	// The plan: grants in the order of admission, then the frozen batch and its parts, parallel to batch.Seqs.
	grants []grant
	room   room
	batch  Batch
	parts  []part
}

// grant is a job's share of the next batch: its next n positions, which have pages.
type grant struct {
	job *job
	n   int
}

// room is what is left of a batch.
type room struct{ tokens, logits int }

// part tells where a sequence's answers are.
type part struct {
	job         *job
	from, to    int // positions
	first, rows int // in batch.Logits
}

func (s *scheduler) init(shape Shape, cache *kvcache.Cache) {
	s.shape, s.cache = shape, cache
	s.maxRunning = min(shape.MaxSeqs, shape.MaxTokens, shape.MaxLogits)
	s.batch = Batch{
		Tokens: make([]int32, 0, shape.MaxTokens), Positions: make([]int32, 0, shape.MaxTokens),
		Seqs: make([]Seq, 0, shape.MaxSeqs), Logits: make([]LogitRow, 0, shape.MaxLogits),
	}
}

func (s *scheduler) idle() bool { return len(s.waiting) == 0 && len(s.running) == 0 }

// plan fills the batch. Afterwards s.batch and s.parts stay as they are until the step is published.
func (s *scheduler) plan() {
	s.grants = s.grants[:0]
	s.room = room{s.shape.MaxTokens, s.shape.MaxLogits}
	for _, j := range s.running {
		s.cache.Slide(j.seq)
		s.setAside(j, 1)
	}
	for i := 0; i < len(s.running); i++ { // preemption shortens the list
		s.proceed(i)
	}
	for len(s.waiting) > 0 && len(s.running) < s.maxRunning && s.room.tokens > 0 && s.room.logits > 0 {
		if !s.admit(s.waiting[0]) {
			break
		}
	}
	s.ended = false
	s.freeze()
}

// setAside keeps room for a job with one token to compute (n = 1), or gives it back (n = -1): prefill takes only
// what decoding leaves.
func (s *scheduler) setAside(j *job, n int) {
	if j.pending() == 1 {
		s.room.tokens -= n
		s.room.logits -= n
	}
}

// proceed grants running[i] its next positions, at the cost of those admitted after it if need be.
func (s *scheduler) proceed(i int) {
	j := s.running[i]
	s.setAside(j, -1)
	n := s.chunk(j)
	if n == 0 {
		return
	}
	fit := s.cache.Fit(j.seq, n)
	for fit == 0 && len(s.running)-1 > i {
		s.preempt()
		fit = s.cache.Fit(j.seq, n)
	}
	if fit == 0 || !s.cache.Grow(j.seq, fit) {
		return
	}
	s.grant(j, fit)
}

// chunk is how many of a job's next tokens the rest of the batch has room for.
func (s *scheduler) chunk(j *job) int {
	from := j.seq.Len()
	to := from + min(j.pending(), s.room.tokens)
	if first, end := j.promptRows(from, to); end-first > s.room.logits {
		to = first + s.room.logits
	}
	if s.rows(j, from, to) > s.room.logits {
		to--
	}
	return to - from
}

// rows is how many logit rows positions [from, to) of a job ask for.
func (s *scheduler) rows(j *job, from, to int) int {
	first, end := j.promptRows(from, to)
	if j.samples(to) {
		return end - first + 1
	}
	return end - first
}

// grant takes the next n positions of a job into the batch.
func (s *scheduler) grant(j *job, n int) {
	from := j.seq.Len()
	s.room.tokens -= n
	s.room.logits -= s.rows(j, from, from+n)
	s.grants = append(s.grants, grant{j, n})
}

// preempt takes the pages of the sequence that was admitted last.
func (s *scheduler) preempt() {
	last := len(s.running) - 1
	j := s.running[last]
	s.running[last] = nil
	s.running = s.running[:last]
	s.setAside(j, -1)
	s.cache.Close(j.seq)
	j.seq = nil
	j.preemptions++
	s.counters.Preemptions++
	s.waiting = slices.Insert(s.waiting, 0, j)
}

// admit lets the first in line run, if its pages are there.
func (s *scheduler) admit(j *job) bool {
	alone := len(s.running) == 0
	if !alone && s.counters.Steps < j.retry && !s.ended {
		return false
	}
	j.seq = s.cache.Open(j.tokens, j.reusable(), len(j.Prompt)+j.MaxTokens)
	n := 0
	if alone || s.enterable(j) {
		n = s.cache.Fit(j.seq, s.chunk(j))
	}
	if n == 0 || !s.cache.Grow(j.seq, n) {
		s.cache.Close(j.seq)
		j.seq = nil
		j.retry = s.counters.Steps + uint64(len(j.tokens)/lookupTokens)
		return false
	}
	s.enter(j)
	s.grant(j, n)
	return true
}

// lookupTokens bounds the cost of looking a waiting prompt up in the prefix cache: one that is k times as long is
// tried every k-th step only, or when a sequence has ended.
const lookupTokens = 4096

// enterable reports whether the pages are there to admit a job beside others: those of its first chunk or, if it was
// preempted, of all its tokens, and one for every sequence that runs.
func (s *scheduler) enterable(j *job) bool {
	full, window := s.cache.Need(j.seq, min(j.pending(), s.shape.MaxTokens, s.cache.MaxChunk()))
	if j.resumed() {
		full, _ = s.cache.Need(j.seq, j.pending())
	}
	f, w, spare := s.cache.Full(), s.cache.Window(), len(s.running)
	return full+spare <= f.Free+f.Cached && window+spare <= w.Free+w.Cached
}

// enter moves the first in line to the running sequences.
func (s *scheduler) enter(j *job) {
	s.waiting[0] = nil
	s.waiting = s.waiting[1:]
	s.running = append(s.running, j)
	if j.resumed() {
		return
	}
	j.admitted = time.Now()
	j.cached = j.seq.Len()
	// From here on the tokens are the engine's own, with room for all that may come.
	j.tokens = append(make([]int32, 0, len(j.Prompt)+j.MaxTokens), j.Prompt...)
	s.counters.PromptTokens += uint64(len(j.Prompt))
	if j.reusable() > 0 {
		s.counters.PrefixQueries += uint64(len(j.Prompt))
		s.counters.PrefixHits += uint64(j.cached)
	}
}

// remove takes a job out of whatever list it is in; its pages have been given back.
func (s *scheduler) remove(j *job) {
	if i := slices.Index(s.running, j); i >= 0 {
		s.running = slices.Delete(s.running, i, i+1)
		s.ended = true
	} else if i := slices.Index(s.waiting, j); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
}
